"""Alignment: crops that are shifted and scaled until they match another image, many at a time.

Each crop climbs alone, by the best of twelve moves. All crops of a block take their moves together,
because a step of one crop is too little work for a call of the linear algebra library.
"""

from functools import cache

import numpy as np
from numpy.typing import NDArray

from headstart.data.similar_crops import Floats, scaled, weights

FINE_SIDE = 32  # Alignment and proof are made at 32 x 32 pixels.

_STEPS = (3.0, 1.5, 0.75)  # Thumbnail pixels by which a crop is moved.
_ROUNDS = 6
_SMALLEST_CROP = 0.35
_UNALIKE = 0.6  # An alignment is given up when its correlation,
_HOPELESS = 0.35  # or that of the fine structure, is lower than this after a step.

_FLAT = 1.0  # Length up to which a crop has no contrast: a thirtieth of a grey value.

_ALONG = np.array(((1, 1), (-1, -1), (1, 0), (-1, 0), (0, 1), (0, -1)))
"""What a move adds to both ends along its axis: the region shifts, or one side moves."""

_MOVES = np.zeros((2 * len(_ALONG), 4))
"""What a move adds to left, top, right and bottom: first those along x, then those along y."""
_MOVES[: len(_ALONG), [0, 2]] = _MOVES[len(_ALONG) :, [1, 3]] = _ALONG


def aligned(
    images: Floats, goals: Floats, regions: NDArray[np.float64]
) -> tuple[Floats, NDArray[np.int64]]:
    """Returns the crops (B, s, s) of images that match the goals, and which of them do.

    Args:
        images: Thumbnails (B, S, S).
        goals: What their crops should show (B, s, s).
        regions: Where each crop starts: left, top, right and bottom (B, 4).

    Returns:
        The crops, and the numbers of those for which a match is likely.
    """
    side = images.shape[1]
    images = images - images.mean(axis=(1, 2), keepdims=True)  # brightness costs precision
    units, fines = normalized(goals), normalized(fine_structure(goals))
    at = regions.copy()
    crops = cut_all(images, at[:, [0, 2]][:, None], at[:, [1, 3]][:, None])[:, 0]
    best = _dots(normalized(crops)[:, None], units)[:, 0]
    likely = np.arange(len(images))
    for step in _STEPS:
        if not len(likely):
            break
        moving = likely
        for _ in range(_ROUNDS):
            if not len(moving):
                break
            moves = at[moving][:, None] + step * _MOVES
            moved = _moved(images[moving], at[moving], step)
            alike = _correlations(moved.reshape(*moved.shape[:2], -1), units[moving])
            alike[~_allowed(moves, side)] = -np.inf
            choice = alike.argmax(axis=1)
            rows = np.flatnonzero(alike.max(axis=1) > best[moving])
            moving, choice = moving[rows], choice[rows]
            best[moving] = alike[rows, choice]
            at[moving], crops[moving] = moves[rows, choice], moved[rows, choice]
        structure = _dots(normalized(fine_structure(crops[likely]))[:, None], fines[likely])[:, 0]
        likely = likely[(best[likely] >= _UNALIKE) & (structure >= _HOPELESS)]
    return crops, likely


def cut_all(images: Floats, x: NDArray[np.float64], y: NDArray[np.float64]) -> Floats:
    """Returns crops (B, K, s, s) of images (B, S, S), resized.

    Args:
        images: Thumbnails.
        x: Left and right ends of the crops (B, K, 2).
        y: Their upper and lower ends (B, K, 2).
    """
    side = images.shape[1]
    crops: Floats = _weights(y, side) @ images[:, None] @ _weights(x, side).swapaxes(-1, -2)
    return crops


def fine_structure(crops: Floats) -> Floats:
    """Returns crops (N, s, s) minus a blurred copy of themselves."""
    blur = _blur(crops.shape[-1])
    return np.asarray(crops - blur @ crops @ blur.T)


def normalized(crops: Floats) -> Floats:
    """Returns crops (N, s, s) as vectors of mean 0 and length 1."""
    vectors = crops.reshape(len(crops), -1)
    return scaled(vectors - vectors.mean(axis=1, keepdims=True))


@cache
def _blur(side: int) -> Floats:
    from scipy.ndimage import gaussian_filter1d  # noqa: PLC0415 - heavy

    matrix: Floats = gaussian_filter1d(np.eye(side, dtype=np.float32), 2.0, axis=0, mode="nearest")
    return matrix


def _moved(images: Floats, at: NDArray[np.float64], step: float) -> Floats:
    """Returns the crops (B, 12, s, s) after each move; those that are not allowed mean nothing."""
    side, count = images.shape[1], len(_ALONG)
    x, y = at[:, None][..., [0, 2]], at[:, None][..., [1, 3]]
    columns, rows = _weights(x, side).swapaxes(-1, -2), _weights(y, side)
    # A move along one axis leaves the other as it is, so one product serves six moves.
    moved = np.empty((len(images), 2 * count, FINE_SIDE, FINE_SIDE), np.float32)
    along_x = _weights(x + step * _ALONG, side).swapaxes(-1, -2)
    np.matmul(rows @ images[:, None], along_x, out=moved[:, :count])
    along_y = _weights(y + step * _ALONG, side)
    np.matmul(along_y, images[:, None] @ columns, out=moved[:, count:])
    return moved


def _allowed(moves: NDArray[np.float64], side: int) -> NDArray[np.bool_]:
    """Returns which regions (..., 4) lie in the image and are large enough."""
    left, top, right, bottom = np.moveaxis(moves, -1, 0)
    smallest = _SMALLEST_CROP * side
    inside = (np.minimum(left, top) >= 0) & (np.maximum(right, bottom) <= side)
    return np.asarray(inside & (np.minimum(right - left, bottom - top) >= smallest))


def _weights(ends: NDArray[np.float64], size: int) -> Floats:
    """Returns the matrices (..., s, S) that resize what lies between two ends (..., 2)."""
    start = np.clip(ends[..., 0], 0, size - 1)
    stop = np.clip(ends[..., 1], start + 1, size)
    # Ends are quarters of a pixel: pairs of them are few, and found as whole numbers.
    pairs = (4 * start).astype(np.int64) * (4 * size + 1) + (4 * stop).astype(np.int64)
    _, first, place = np.unique(pairs.ravel(), return_index=True, return_inverse=True)
    matrices = np.stack(
        [
            weights(float(a), float(b), size, FINE_SIDE)
            for a, b in zip(start.ravel()[first], stop.ravel()[first], strict=True)
        ]
    )
    return matrices[place].reshape(*start.shape, FINE_SIDE, size)


def _correlations(vectors: Floats, units: Floats) -> Floats:
    """Returns the correlations (B, K) of vectors (B, K, D) with one unit vector (B, D) each."""
    # A unit vector has a mean of 0, so the mean of the others need not be taken from them.
    products = _dots(vectors, units)
    squares = np.einsum("bkd,bkd->bk", vectors, vectors)
    squares -= vectors.shape[-1] * vectors.mean(axis=-1) ** 2
    lengths = np.sqrt(np.maximum(squares, 0))
    return np.where(lengths > _FLAT, products / np.maximum(lengths, _FLAT), 0)


def _dots(vectors: Floats, units: Floats) -> Floats:
    """Returns the products (B, K) of vectors (B, K, D) with one vector (B, D) each."""
    return np.asarray((vectors @ units[..., None])[..., 0])
