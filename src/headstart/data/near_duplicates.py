"""Near duplicates: copies of a photograph, recompressed, retoned, marked, mirrored or cropped.

The search has three steps. *Candidates*: a few DCT coefficients describe every image and a grid of
its crops; the most similar pairs are candidates. *Alignment*: the crop is shifted and scaled until
it matches the other image. *Proof*: the two must share more than any images of this data set do.
Lookalikes agree in coarse structure (two dandelions), in straight lines (two scratches) or in what
the whole set has in common (the wires of solar cells), but not in other details. On flowers17,
copies of a photograph score above 0.75, and all other pairs below 0.7.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

from headstart.data.similar_crops import Candidate, Floats, Region, cut, kept, propose, scaled

AGREEMENT = 0.75
"""Lowest agreement at which two images count as the same photograph."""

_MAX_PROOFS = 12_000
_BLOCK = 512

_FINE_SIDE = 32  # Alignment and proof are made at 32 x 32 pixels.
_STEPS = (3.0, 1.5, 0.75)  # Thumbnail pixels by which a crop is moved.
_ROUNDS = 6
_SMALLEST_CROP = 0.35
_UNALIKE = 0.6  # An alignment is given up when its correlation,
_HOPELESS = 0.35  # or that of the fine structure, is lower than this after a step.

_COMMON = 48  # Directions that are common to a set: at most this many,
_SHARED_BY = 16  # each shared by this many images and by a fortieth of the set,
_COMMON_FROM = 4000  # learned from at most this many images.
_COMMON_SHARE = 0.25  # and at most this share of the number of images.
_SAME = 0.997  # Correlation of the fine structure from which on images count as one there.
_PRIOR = 20  # Images' worth of belief in a spectrum that falls with frequency.
_RESIDUE = 0.25  # Share of the energy that must be left to agree once they are taken out.


@dataclass(frozen=True)
class DuplicatePair:
    """Two images that show the same photograph.

    Attributes:
        first: Lower index.
        second: Higher index.
        agreement: Correlation after removing what the data set has in common, at most 1.
        mirrored: Whether one is the mirror image of the other.
    """

    first: int
    second: int
    agreement: float
    mirrored: bool


def near_duplicates(
    thumbnails: Sequence[NDArray[np.uint8]], labels: NDArray[np.int64]
) -> list[DuplicatePair]:
    """Returns the pairs of images that show the same photograph, exact duplicates included.

    Whole images are compared across all labels, crops only within a label. Large sets use fewer
    crops, and sets of more than `similar_crops.PAIRWISE` images compare each image with its
    neighbourhoods alone.

    Args:
        thumbnails: N grey images (S, S), resized to squares.
        labels: (N,) class numbers.

    Example:
        >>> noise = np.random.default_rng(0).integers(0, 256, (3, 64, 64)).astype(np.uint8)
        >>> copies = np.concatenate([noise, noise[:1]])
        >>> pair, *others = near_duplicates([*copies], np.zeros(4, np.int64))
        >>> pair.first, pair.second, others
        (0, 3, [])
    """
    if len(thumbnails) < 2:
        return []
    # Threads do not speed up such small products, and cost ten times more on a busy machine.
    with threadpool_limits(1, user_api="blas"):
        candidates, regions = propose(thumbnails, labels, _MAX_PROOFS)
        return _prove(thumbnails, candidates, regions)


def _prove(
    thumbnails: Sequence[NDArray[np.uint8]],
    candidates: Sequence[Candidate],
    regions: Sequence[Region],
) -> list[DuplicatePair]:
    common = _common(thumbnails)
    pairs: dict[tuple[int, int], DuplicatePair] = {}
    for _, cropped, target, mirrored, region in candidates:
        key = (min(cropped, target), max(cropped, target))
        if key in pairs:
            continue
        image = thumbnails[cropped].astype(np.float32)
        other = thumbnails[target].astype(np.float32)
        goal = cut(other[:, ::-1] if mirrored else other, regions[:1], _FINE_SIDE)[0]
        crop = _align(image, goal, regions[region])
        if crop is not None and (agreement := _agreement(crop, goal, common)) >= AGREEMENT:
            pairs[key] = DuplicatePair(*key, agreement, mirrored)
    return sorted(pairs.values(), key=lambda pair: (pair.first, pair.second))


def _align(image: Floats, goal: Floats, region: Region) -> Floats | None:
    """Returns the crop of `image` that matches `goal`; None if no match is likely.

    The crop starts at `region` and is shifted and scaled to maximize the correlation.
    """
    side = image.shape[0]
    goal_unit, goal_fine = _flat(goal[None])[0], _flat(_fine(goal[None]))[0]
    crop = cut(image, [region], _FINE_SIDE)
    best = float(_flat(crop)[0] @ goal_unit)
    for step in _STEPS:
        for _ in range(_ROUNDS):
            moves = _moves(region, step, side)
            if not moves:
                break
            moved = cut(image, moves, _FINE_SIDE)
            alike = _flat(moved) @ goal_unit
            choice = int(alike.argmax())
            if alike[choice] <= best:
                break
            best, region, crop = float(alike[choice]), moves[choice], moved[choice : choice + 1]
        if best < _UNALIKE or _flat(_fine(crop))[0] @ goal_fine < _HOPELESS:
            return None
    aligned: Floats = crop[0]
    return aligned


def _agreement(crop: Floats, goal: Floats, common: "_Common") -> float:
    """Returns the lower of two correlations: without straight lines, without common structure."""
    both = np.stack([crop, goal])
    fine = _fine(both)
    # Subtracting rows' and columns' means takes out all lines that run straight across or down.
    fine = fine - fine.mean(axis=1, keepdims=True) - fine.mean(axis=2, keepdims=True)
    first, second = _flat(fine)
    lineless = float(first @ second)
    spectra = _spectra(both) / common.scale
    rest = spectra - spectra @ common.directions.T @ common.directions
    energy = np.linalg.norm(rest, axis=1).prod()
    floor = _RESIDUE * np.linalg.norm(spectra, axis=1).prod()
    return min(lineless, float(rest[0] @ rest[1] / max(energy, floor, 1e-6)))


@dataclass(frozen=True, eq=False)
class _Common:
    """Structure that the images of a data set have in common.

    Attributes:
        scale: (D,) root mean square of each DCT coefficient.
        directions: (K, D) orthonormal: where the scaled coefficients vary most.
    """

    scale: Floats
    directions: Floats


def _common(thumbnails: Sequence[NDArray[np.uint8]]) -> _Common:
    side = len(thumbnails[0])
    some = thumbnails[:: -(-len(thumbnails) // _COMMON_FROM)]
    whole = [cut(t.astype(np.float32), [(0, 0, side, side)], _FINE_SIDE) for t in some]
    crops = np.concatenate(whole)
    weights = _weights_of_copies(crops)
    images = float(weights.sum())
    spectra = _spectra(crops)
    # In a set of few images their own spectrum says little: it begins as that of natural images.
    prior = 1 / np.hypot(*kept(_FINE_SIDE, _FINE_SIDE)) ** 2
    prior *= _FINE_SIDE**2 / prior.sum()
    power = (weights @ spectra**2 + _PRIOR * prior) / (images + _PRIOR)
    scale = np.sqrt(power).astype(np.float32)
    scaled = spectra / scale
    # Few images differ in few directions, and most of these must be left to tell them by.
    most = min(_COMMON, int(images * _COMMON_SHARE))
    directions = np.linalg.eigh((scaled.T * weights) @ scaled)[1].T[::-1][:most]
    # Copies of one image make a direction of their own, which must stay: what counts is how many
    # images share a direction (the inverse participation ratio of their energies).
    energies = (scaled @ directions.T) ** 2
    # Fewer images than directions leave some without any energy, which nobody shares.
    sharing = (weights @ energies) ** 2 / np.maximum(weights @ energies**2, 1e-30)
    return _Common(scale, directions[sharing >= max(_SHARED_BY, images / 40)])


def _weights_of_copies(crops: Floats) -> Floats:
    """Returns (N,) weights of whole images (N, side, side); the weights of copies sum to 1.

    Copies must agree in their fine structure, as recompressed or brightened files do. If more than
    half of the set agrees, that is common structure, and no image counts as a copy.
    """
    fine = _flat(_fine(crops))
    mirrored = _flat(_fine(crops[:, :, ::-1]))
    copies = np.zeros(len(crops), np.int64)
    for start in range(0, len(crops), _BLOCK):
        block = fine[start : start + _BLOCK]
        alike = (block @ fine.T >= _SAME) | (block @ mirrored.T >= _SAME)
        copies[start : start + _BLOCK] = alike.sum(axis=1)
    copies[copies > len(crops) / 2] = 1
    weights: Floats = 1 / np.maximum(copies, 1).astype(np.float32)
    return weights


def _spectra(crops: Floats) -> Floats:
    """Returns (N, D) DCT coefficients of crops, normalized in brightness and contrast."""
    from scipy.fft import dctn  # noqa: PLC0415 - heavy

    flat = _flat(crops).reshape(crops.shape) * _FINE_SIDE
    rows, columns = kept(_FINE_SIDE, _FINE_SIDE)
    spectra: Floats = dctn(flat, axes=(1, 2), norm="ortho")[:, rows, columns]
    return spectra


def _moves(region: Region, step: float, side: int) -> list[Region]:
    """Returns the region shifted in each direction, and with one side moved in or out."""
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


def _fine(crops: Floats) -> Floats:
    """Returns crops minus a blurred copy of themselves."""
    blur = _blur(crops.shape[-1])
    return np.asarray(crops - blur @ crops @ blur.T)


@cache
def _blur(side: int) -> Floats:
    from scipy.ndimage import gaussian_filter1d  # noqa: PLC0415 - heavy

    matrix: Floats = gaussian_filter1d(np.eye(side, dtype=np.float32), 2.0, axis=0, mode="nearest")
    return matrix


def _flat(crops: Floats) -> Floats:
    """Returns crops as vectors of mean 0 and length 1."""
    vectors = crops.reshape(len(crops), -1)
    return scaled(vectors - vectors.mean(axis=1, keepdims=True))
