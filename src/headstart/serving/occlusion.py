"""Where a network looks, without gradients: parts of a view are hidden one after the other.

Occlusion (Zeiler and Fergus, ECCV 2014): what a class loses where a part is hidden, it had from
there.
"""

import numpy as np
from numpy.typing import NDArray

CELLS = 7
"""Cells of the grid along a side."""

_PATCH = 2
"""Side of what is hidden, in cells."""


def hidden_views(view: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Returns copies (36, R, R, 3) of a view (R, R, 3), in each of which a square is hidden.

    The squares are two cells wide, one cell apart, and get the mean colour of the view.
    """
    edges = _edges(view.shape[0])
    spots = CELLS - _PATCH + 1
    views = np.repeat(view[None], spots * spots, axis=0)
    colour = view.reshape(-1, 3).mean(0).round().astype(np.uint8)
    for number in range(spots * spots):
        row, column = divmod(number, spots)
        across = slice(edges[column], edges[column + _PATCH])
        views[number, edges[row] : edges[row + _PATCH], across] = colour
    return views


def heat_of(
    logits: NDArray[np.floating], hidden: NDArray[np.floating], label: int
) -> list[list[float]]:
    """Returns what the log-odds of a class lose in each cell (7, 7) of the view when it is hidden.

    Args:
        logits: Logits (C,) of the view, divided by the temperature.
        hidden: Those (36, C) of `hidden_views`.
        label: Number of the class.

    Returns:
        Mean loss of the squares that hide a cell, row by row.
    """
    return lost_by_cell(_log_odds(logits[None], label), _log_odds(hidden, label))


def lost_by_cell(whole: NDArray[np.floating], hidden: NDArray[np.floating]) -> list[list[float]]:
    """Returns what log-odds lose in each cell (7, 7) of the view when it is hidden.

    Args:
        whole: Log-odds (1,) for the view.
        hidden: Those (36,) for `hidden_views`.

    Returns:
        Mean loss of the squares that hide a cell, row by row.
    """
    spots = CELLS - _PATCH + 1
    lost = (whole - hidden).reshape(spots, spots)
    total, times = np.zeros((CELLS, CELLS)), np.zeros((CELLS, CELLS))
    for row in range(spots):
        for column in range(spots):
            part = np.s_[row : row + _PATCH, column : column + _PATCH]
            total[part] += lost[row, column]
            times[part] += 1
    means: list[list[float]] = (total / times).tolist()
    return means


def _log_odds(logits: NDArray[np.floating], label: int) -> NDArray[np.float64]:
    """Returns log p - log (1 - p) of a class, for logits (N, C)."""
    values = np.asarray(logits, np.float64)
    others = np.delete(values, label, axis=1)
    top = others.max(axis=1, keepdims=True)
    return np.asarray(values[:, label] - np.log(np.exp(others - top).sum(1)) - top[:, 0])


def _edges(side: int) -> list[int]:
    return [round(side * cell / CELLS) for cell in range(CELLS + 1)]
