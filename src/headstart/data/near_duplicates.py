"""Near duplicates: the same photograph saved again, retoned, marked, mirrored or cropped.

Two steps. *Candidates*: every image and a grid of its crops are described by a few whitened DCT
coefficients, and each image proposes those that agree best with it. *Proof*: a candidate's crop is
moved until it lies on the other image, and then the fine structure of the two must agree.
Lookalikes (two dandelions, two pieces of steel) agree in their coarse structure, but not in their
fine one: on flowers17 the same photograph scores above 0.75 there and all others below 0.7.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy.fft import dctn
from scipy.ndimage import gaussian_filter

FINE_AGREEMENT = 0.75
"""Correlation of the fine structure from which two images are taken for the same photograph."""

_Region = tuple[float, float, float, float]

_SIDE = 16  # Candidates are compared at 16 x 16 pixels,
_DIAGONALS = 12  # by the DCT coefficients whose indices add up to less than this,
_MIN_SIMILARITY = 0.45  # and are worth a proof from this cosine similarity.
_PROPOSALS = 5
_MAX_PROOFS = 12_000
_MAX_PRODUCTS = 3e11  # Multiplications for candidates: some 5 s on two cores.
_BLOCK = 1024

_FINE_SIDE = 32  # Proofs are made at 32 x 32 pixels.
_STEPS = (3.0, 1.5, 0.75)  # Thumbnail pixels by which a crop is moved.
_ROUNDS = 6
_SMALLEST_CROP = 0.4
_HOPELESS = 0.35  # Fine agreement after the coarsest steps below which a proof is given up.


@dataclass(frozen=True)
class Pair:
    """Two images that show the same photograph.

    Attributes:
        first: Index of the one.
        second: Index of the other, larger.
        agreement: Correlation of their fine structure, at most 1.
        mirrored: Whether one is the mirror image of the other.
    """

    first: int
    second: int
    agreement: float
    mirrored: bool


def near_duplicates(thumbnails: NDArray[np.uint8], labels: NDArray[np.int64]) -> list[Pair]:
    """Returns the pairs of images that show the same photograph, exact duplicates included.

    Crops are looked for among images of one label only, and fewer of them in large sets; whole
    images among all.

    Args:
        thumbnails: (N, S, S) grey images, squeezed to squares.
        labels: (N,) class numbers.
    """
    if len(thumbnails) < 2:
        return []
    regions = _regions(_counts(labels), thumbnails.shape[1])
    described = np.stack([_describe(thumbnail, regions) for thumbnail in thumbnails])
    whole = described[:, 0]
    # Mirroring an image changes the sign of its odd columns of DCT coefficients.
    mirror = np.where(_kept()[1] % 2 == 0, 1, -1).astype(np.float32)
    everyone = np.arange(len(thumbnails))
    candidates = _candidates(described[:, :1], whole, whole * mirror, everyone)
    for label in np.unique(labels):
        members = np.flatnonzero(labels == label)
        mine = described[members]
        candidates |= _candidates(mine, mine[:, 0], mine[:, 0] * mirror, members)
    pairs: dict[tuple[int, int], Pair] = {}
    for _, cropped, target, mirrored, region in sorted(candidates, reverse=True)[:_MAX_PROOFS]:
        key = (min(cropped, target), max(cropped, target))
        if key in pairs:
            continue
        image = thumbnails[cropped]
        other = thumbnails[target][:, ::-1] if mirrored else thumbnails[target]
        agreement = fine_agreement(image, other, regions[region])
        if agreement >= FINE_AGREEMENT:
            pairs[key] = Pair(*key, agreement, mirrored)
    return sorted(pairs.values(), key=lambda pair: (pair.first, pair.second))


def _counts(labels: NDArray[np.int64]) -> NDArray[np.int64]:
    return np.unique(labels, return_counts=True)[1]


def _regions(counts: NDArray[np.int64], side: int) -> list[_Region]:
    """Returns the crops to describe, the whole image first: as many as there is time for."""
    grids = ((1.0, 1), (0.85, 3), (0.7, 3), (0.55, 4))
    coefficients = len(_kept()[0])
    regions: list[_Region] = []
    for scale, places in grids:
        # Quarters of a pixel, so that few different weights are ever needed.
        offsets = np.round(np.linspace(0, side * (1 - scale), places) * 4) / 4
        length = round(side * scale)
        more = [(x, y, x + length, y + length) for x in offsets for y in offsets]
        work = float((counts.astype(np.float64) ** 2).sum()) * 2 * coefficients
        if regions and work * (len(regions) + len(more)) > _MAX_PRODUCTS:
            break
        regions += more
    return regions


def _kept() -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Returns rows and columns of the DCT coefficients of a description, without the mean."""
    rows, columns = np.indices((_SIDE, _SIDE))
    total = rows + columns
    kept = np.nonzero((total > 0) & (total < _DIAGONALS))
    return kept[0], kept[1]


def _describe(thumbnail: NDArray[np.uint8], regions: Sequence[_Region]) -> NDArray[np.float32]:
    """Returns (regions, D) unit vectors: DCT coefficients times their frequency.

    Natural images lose amplitude in proportion to frequency (Field 1987); undoing that gives each
    coefficient the same say, and takes from all bright blobs on dark grounds their likeness.
    """
    rows, columns = _kept()
    crops = _cut(thumbnail.astype(np.float32), regions, _SIDE)
    spectrum = dctn(crops, axes=(1, 2), norm="ortho")[:, rows, columns]
    return _scaled(spectrum * np.hypot(rows, columns))


_Candidate = tuple[float, int, int, bool, int]
"""Similarity, the image that is cropped, the other one, whether mirrored, number of the crop."""


def _candidates(
    described: NDArray[np.float32],
    whole: NDArray[np.float32],
    mirrored: NDArray[np.float32],
    names: NDArray[np.int64],
) -> set[_Candidate]:
    """Returns for each whole image the few images, one of whose crops it is most like."""
    found: set[_Candidate] = set()
    images, crops, _ = described.shape
    for start in range(0, images, _BLOCK):
        stop = min(start + _BLOCK, images)
        best = np.full((stop - start, images), -1, dtype=np.float32)
        which = np.zeros(best.shape, dtype=np.int16)
        for crop in range(crops):
            for flip, targets in enumerate((whole, mirrored)):
                similar = targets[start:stop] @ described[:, crop].T
                better = similar > best
                np.copyto(best, similar, where=better)
                which[better] = 2 * crop + flip
        best[np.arange(stop - start), np.arange(start, stop)] = -1
        count = min(_PROPOSALS, images - 1)
        if count < 1:
            continue
        top = np.argpartition(best, images - count, axis=1)[:, images - count :]
        for row, column in zip(np.repeat(np.arange(stop - start), count), top.ravel(), strict=True):
            similarity = float(best[row, column])
            if similarity >= _MIN_SIMILARITY:
                crop, flip = divmod(int(which[row, column]), 2)
                pair = (int(names[column]), int(names[start + row]))
                found.add((similarity, *pair, bool(flip), crop))
    return found


def fine_agreement(
    image: NDArray[np.uint8], target: NDArray[np.uint8], region: _Region
) -> float:
    """Returns how well the fine structure of a crop of `image` agrees with all of `target`.

    The crop starts as `region` and is shifted and scaled to where the correlation of the two is
    highest. What is compared then is what remains after subtracting a blurred copy.
    """
    side = image.shape[0]
    source = image.astype(np.float32)
    goal = _cut(target.astype(np.float32), [(0, 0, side, side)], _FINE_SIDE)
    goal_unit, goal_fine = _flat(goal)[0], _fine(goal)[0]
    best = float(_flat(_cut(source, [region], _FINE_SIDE))[0] @ goal_unit)
    agreement = 0.0
    for step in _STEPS:
        for _ in range(_ROUNDS):
            moved = _moves(region, step, side)
            if not moved:
                break
            alike = _flat(_cut(source, moved, _FINE_SIDE)) @ goal_unit
            if alike.max() <= best:
                break
            best, region = float(alike.max()), moved[int(alike.argmax())]
        agreement = float(_fine(_cut(source, [region], _FINE_SIDE))[0] @ goal_fine)
        if agreement < _HOPELESS:
            break
    return agreement


def _moves(region: _Region, step: float, side: int) -> list[_Region]:
    """Returns the region shifted each way, and with one side moved in or out."""
    left, top, right, bottom = region
    moved = [
        (left + a * step, top + b * step, right + c * step, bottom + d * step)
        for a, b, c, d in _DIRECTIONS
    ]
    smallest = _SMALLEST_CROP * side
    return [
        (left, top, right, bottom)
        for left, top, right, bottom in moved
        if min(left, top) >= 0
        and max(right, bottom) <= side
        and min(right - left, bottom - top) >= smallest
    ]


_DIRECTIONS = (
    *((1, 0, 1, 0), (-1, 0, -1, 0), (0, 1, 0, 1), (0, -1, 0, -1)),
    *((1, 0, 0, 0), (-1, 0, 0, 0), (0, 0, 1, 0), (0, 0, -1, 0)),
    *((0, 1, 0, 0), (0, -1, 0, 0), (0, 0, 0, 1), (0, 0, 0, -1)),
)


def _cut(
    image: NDArray[np.float32], regions: Sequence[_Region], side: int
) -> NDArray[np.float32]:
    """Returns (regions, side, side) crops, resized."""
    size = image.shape[0]
    columns = np.stack([_weights(left, right, size, side) for left, _, right, _ in regions])
    rows = np.stack([_weights(top, bottom, size, side) for _, top, _, bottom in regions])
    return rows @ image @ columns.transpose(0, 2, 1)


@lru_cache(maxsize=20_000)
def _weights(start: float, stop: float, size: int, side: int) -> NDArray[np.float32]:
    """Returns the (side, size) matrix that resizes `start`..`stop` of `size` pixels to `side`.

    Linear interpolation, antialiased by a triangle as wide as two target pixels. Thousands of crops
    at few places are cut: as matrix products of known weights they cost a tenth of a resize each.
    """
    scale = (stop - start) / side
    centres = start + (np.arange(side)[:, None] + 0.5) * scale
    distance = np.abs(np.arange(size)[None] + 0.5 - centres) / max(scale, 1)
    weights = np.maximum(0, 1 - distance)
    return (weights / weights.sum(axis=1, keepdims=True)).astype(np.float32)


def _fine(crops: NDArray[np.float32]) -> NDArray[np.float32]:
    return _flat(crops - gaussian_filter(crops, (0, 2, 2), mode="nearest"))


def _flat(crops: NDArray[np.float32]) -> NDArray[np.float32]:
    """Returns crops as vectors of mean 0 and length 1."""
    vectors = crops.reshape(len(crops), -1)
    return _scaled(vectors - vectors.mean(axis=1, keepdims=True))


def _scaled(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    """Returns vectors of length 1; those without any contrast become 0."""
    length = np.linalg.norm(vectors, axis=-1, keepdims=True)
    return np.where(length > 1e-3, vectors / np.maximum(length, 1e-3), 0).astype(np.float32)
