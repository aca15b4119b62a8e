"""Candidates for near duplicates: the images whose crops are most similar to each whole image.

Images are compared in pairs, up to `PAIRWISE` of them. Larger sets are divided into neighbourhoods
first, so that time and memory grow with the number of images and not with that of their pairs.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

Region = tuple[float, float, float, float]
"""Left, top, right and bottom in pixels of a thumbnail."""

Candidate = tuple[float, int, int, bool, int]
"""Similarity, the image that is cropped, the other one, whether mirrored, number of the crop."""

Floats = NDArray[np.floating[Any]]

PAIRWISE = 10_000
"""Most images that are all compared with each other."""

_SIDE = 16  # Candidates are compared at 16 x 16 pixels,
_DIAGONALS = 12  # by the DCT coefficients whose indices add up to less than this,
_MIN_SIMILARITY = 0.45  # and are worth a proof from this cosine similarity.
_PROPOSALS = 5
_MAX_PRODUCTS = 2e11  # Multiplications for candidates: some 5 s on one core.
_BLOCK = 4_000_000  # Similarities that are held in memory at once.

_NEIGHBOURHOOD = 2_000  # Images of a neighbourhood, at most,
_DIVISIONS = 6  # and how often the set is divided into neighbourhoods.


@dataclass(frozen=True)
class Grid:
    """Square crops of one size at all pairs of some offsets, in pixels."""

    length: int
    offsets: tuple[float, ...]


def propose(
    thumbnails: Sequence[NDArray[np.uint8]], labels: NDArray[np.int64], most: int
) -> tuple[list[Candidate], list[Region]]:
    """Returns the most similar candidates, best first, and the regions that they count.

    Whole images are compared across all labels, crops only within a label. Large sets use fewer
    crops.

    Args:
        thumbnails: N grey images (S, S).
        labels: (N,) class numbers.
        most: Number of candidates to return at most.
    """
    grids = _grids(np.unique(labels, return_counts=True)[1], len(thumbnails[0]))
    whole = np.concatenate([_describe(each, grids[:1]) for each in thumbnails])
    best = _Best(most)
    best.add(whole[:, None], whole, np.arange(len(thumbnails)))
    order = np.argsort(labels, kind="stable")
    for members in np.split(order, np.flatnonzero(np.diff(labels[order])) + 1):
        crops = whole[members][:, None]
        if len(grids) > 1:
            crops = np.stack([_describe(thumbnails[member], grids) for member in members])
        best.add(crops, whole[members], members)
    return best.candidates(), _regions(grids)


def _grids(counts: NDArray[np.int64], side: int) -> list[Grid]:
    """Returns the crops to describe, whole image first, within the limit of `_MAX_PRODUCTS`."""
    steps = ((1.0, 1), (0.85, 3), (0.7, 4), (0.6, 4), (0.5, 6))
    coefficients = len(kept(_SIDE, _DIAGONALS)[0])
    divided = np.minimum(counts, _NEIGHBOURHOOD) * _DIVISIONS
    against = np.where(counts <= PAIRWISE, counts, divided).astype(np.float64)
    work = float((counts * against).sum()) * 2 * coefficients
    grids: list[Grid] = []
    crops = 0
    for scale, places in steps:
        crops += places**2
        if grids and work * crops > _MAX_PRODUCTS:
            break
        # Quarters of a pixel, so that few different weights are ever needed.
        offsets = np.round(np.linspace(0, side * (1 - scale), places) * 4) / 4
        grids.append(Grid(round(side * scale), tuple(map(float, offsets))))
    return grids


def _regions(grids: Sequence[Grid]) -> list[Region]:
    return [
        (x, y, x + grid.length, y + grid.length)
        for grid in grids
        for x in grid.offsets
        for y in grid.offsets
    ]


def _describe(thumbnail: NDArray[np.uint8], grids: Sequence[Grid]) -> Floats:
    """Returns (regions, D) unit vectors: DCT coefficients times their frequency.

    The amplitude of natural images falls in proportion to frequency (Field 1987). Undoing that
    gives each coefficient equal weight, so that coarse brightness alone makes no pair similar.
    """
    rows, columns = kept(_SIDE, _DIAGONALS)
    image = thumbnail.astype(np.float32)
    spectra = []
    for grid in grids:
        places, matrix = len(grid.offsets), _analysis(grid, len(image))
        spectrum = (matrix @ image @ matrix.T).reshape(places, _SIDE, places, _SIDE)
        spectra.append(spectrum.transpose(2, 0, 1, 3)[:, :, rows, columns].reshape(-1, len(rows)))
    return scaled(np.concatenate(spectra) * np.hypot(rows, columns))


@cache
def _analysis(grid: Grid, size: int) -> Floats:
    """Returns the matrix that resizes `size` pixels at each offset and takes their DCT."""
    from scipy.fft import dct  # noqa: PLC0415 - heavy

    parts = [weights(start, start + grid.length, size, _SIDE) for start in grid.offsets]
    matrix: Floats = np.concatenate([dct(part, axis=0, norm="ortho") for part in parts])
    return matrix


class _Best:
    """The most similar candidates so far: hardly more than are wanted, whatever is compared."""

    def __init__(self, most: int) -> None:
        self._most, self._found = most, set[Candidate]()

    def add(self, crops: Floats, whole: Floats, names: NDArray[np.int64]) -> None:
        """Compares the crops (N, R, D) of images with whole images (N, D)."""
        if len(names) <= PAIRWISE:
            self._found.update(_compare(crops, whole, names))
        else:
            for near in neighbourhoods(whole):
                self._found.update(_compare(crops[near], whole[near], names[near]))
                self._drop()
        self._drop()

    def candidates(self) -> list[Candidate]:
        """Returns the candidates, best first."""
        return sorted(self._found, reverse=True)[: self._most]

    def _drop(self) -> None:
        if len(self._found) > 4 * self._most:
            self._found = set(self.candidates())


def _compare(crops: Floats, whole: Floats, names: NDArray[np.int64]) -> Iterator[Candidate]:
    images, regions, width = crops.shape
    # Mirroring an image changes the sign of its odd columns of DCT coefficients.
    mirror = np.where(kept(_SIDE, _DIAGONALS)[1] % 2 == 0, 1, -1).astype(np.float32)
    block = max(1, _BLOCK // (2 * regions * images))
    for start in range(0, images, block):
        part = whole[start : start + block]
        targets = np.concatenate([part, part * mirror])
        # (crop and flip, image, target), so that the target runs fastest.
        alike = crops.reshape(-1, width) @ targets.T
        alike = alike.reshape(images, 2 * regions, len(part))
        best = alike.max(axis=1)
        own = np.arange(len(part))
        best[start + own, own] = -1
        images_found, targets_found = _highest(best)
        flips = alike[images_found, :, targets_found].argmax(axis=1)
        similar = best[images_found, targets_found]
        for row, column, which, similarity in zip(
            images_found, targets_found, flips, similar, strict=True
        ):
            crop, flip = divmod(int(which), 2)
            pair = (int(names[row]), int(names[start + column]))
            # Rounded: the same two images in another block are the same candidate.
            yield round(float(similarity), 5), *pair, bool(flip), crop


def _highest(similar: Floats) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Returns where (N, B) similarities are among the highest of their column and high enough."""
    rows, columns = np.nonzero(similar >= _MIN_SIMILARITY)
    order = np.lexsort((-similar[rows, columns], columns))
    rows, columns = rows[order], columns[order]
    # How many of the same column come before.
    first = np.searchsorted(columns, columns)
    top = np.arange(len(columns)) - first < _PROPOSALS
    return rows[top], columns[top]


def neighbourhoods(whole: Floats) -> Iterator[NDArray[np.int64]]:
    """Yields groups of similar images that overlap; a copy is in a group of its original.

    The set is halved, and halved again, by where the images lie along a random direction, until the
    parts are small (random projection trees, Dasgupta and Freund 2008), several times. Directions
    are of coefficients that stay the same in the mirror, and of low frequencies rather than high.

    Args:
        whole: (N, D) descriptions of whole images.
    """
    rows, columns = kept(_SIDE, _DIAGONALS)
    strength = np.where(columns % 2 == 0, 1 / np.hypot(rows, columns), 0)
    for seed in range(_DIVISIONS):
        random = np.random.default_rng(seed)
        parts = [np.arange(len(whole))]
        while parts:
            part = parts.pop()
            if len(part) <= _NEIGHBOURHOOD:
                yield part
                continue
            direction = (random.standard_normal(len(strength)) * strength).astype(np.float32)
            order = part[np.argsort(whole[part] @ direction, kind="stable")]
            parts += [order[: len(part) // 2], order[len(part) // 2 :]]


@cache
def kept(side: int, diagonals: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Returns rows and columns of the low-frequency DCT coefficients, without the mean."""
    rows, columns = np.indices((side, side))
    total = rows + columns
    found = np.nonzero((total > 0) & (total < diagonals))
    return found[0], found[1]


def cut(image: Floats, regions: Sequence[Region], side: int) -> Floats:
    """Returns (regions, side, side) crops, resized."""
    size = image.shape[0]
    columns = np.stack([weights(left, right, size, side) for left, _, right, _ in regions])
    rows = np.stack([weights(top, bottom, size, side) for _, top, _, bottom in regions])
    crops: Floats = rows @ image @ columns.transpose(0, 2, 1)
    return crops


@lru_cache(maxsize=20_000)
def weights(start: float, stop: float, size: int, side: int) -> Floats:
    """Returns the (side, size) matrix that resizes `start`..`stop` of `size` pixels to `side`.

    Linear interpolation, antialiased by a triangle as wide as two target pixels. Thousands of crops
    share few positions, so products with cached weights cost a tenth of a resize each.
    """
    scale = (stop - start) / side
    centres = start + (np.arange(side)[:, None] + 0.5) * scale
    distance = np.abs(np.arange(size)[None] + 0.5 - centres) / max(scale, 1)
    matrix = np.maximum(0, 1 - distance)
    matrix /= matrix.sum(axis=1, keepdims=True)
    return np.asarray(matrix, dtype=np.float32)


def scaled(vectors: Floats) -> Floats:
    """Returns vectors scaled to length 1; vectors near zero become 0."""
    length = np.linalg.norm(vectors, axis=-1, keepdims=True)
    return np.where(length > 1e-3, vectors / np.maximum(length, 1e-3), 0).astype(np.float32)
