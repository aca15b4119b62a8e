"""Large arrays: in memory, or in a file without a name that the system writes out as it needs.

So the memory that a process needs for itself does not grow with the number of images.
"""

import os
from collections.abc import Iterable
from contextlib import suppress
from math import prod
from typing import Any, Protocol

import numpy as np
from numpy.typing import DTypeLike, NDArray

IN_MEMORY = 64 * 2**20
"""Bytes up to which an array is held in memory."""

_AT_ONCE = 1 << 19
"""Number of values that are read, or converted, at a time."""


class Rows(Protocol):
    """Rows (N, ...) that are read on demand: an array, or a selection of its rows."""

    @property
    def shape(self) -> tuple[int, ...]:
        """(N, ...)."""

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type of the values."""

    def __getitem__(self, rows: Any, /) -> NDArray[Any]:
        """Returns some rows (M, ...)."""


def large_array(shape: tuple[int, ...], dtype: DTypeLike = np.float32) -> NDArray[Any]:
    """Returns an array to write to, whose values are not set.

    Above `IN_MEMORY` bytes it is a file in the temporary folder, which has no name and is gone with
    the array. It is in memory where that folder lacks the space, or the system has no call that
    reserves it (macOS).

    Args:
        shape: Shape of the array.
        dtype: Type of the values.

    Example:
        >>> large_array((3, 2)).shape
        (3, 2)
    """
    size = prod(shape) * np.dtype(dtype).itemsize
    if size > IN_MEMORY:
        from tempfile import TemporaryFile  # noqa: PLC0415 - a prediction needs none

        # Without its blocks, a map of a file ends the process when the disk is full.
        with suppress(OSError, AttributeError), TemporaryFile(prefix="headstart-") as file:
            os.posix_fallocate(file.fileno(), 0, size)
            return np.asarray(np.memmap(file, dtype, "r+", shape=shape))
    return np.empty(shape, dtype)


def copied(
    source: Rows, rows: NDArray[np.int64] | None = None, dtype: DTypeLike = np.float32
) -> NDArray[Any]:
    """Returns a copy (M, ...) of rows of an array, some of which are read at a time.

    Args:
        source: Rows (N, ...).
        rows: Numbers of the rows to copy (M,); all by default.
        dtype: Type of the copy.

    Example:
        >>> copied(np.array([[1, 2], [3, 4], [5, 6]]), np.array([2, 0])).tolist()
        [[5.0, 6.0], [1.0, 2.0]]
    """
    count = source.shape[0] if rows is None else len(rows)
    found = large_array((count, *source.shape[1:]), dtype)
    at_once = max(1, _AT_ONCE // max(1, prod(source.shape[1:])))
    for start in range(0, count, at_once):
        some = slice(start, start + at_once)
        found[some] = source[some if rows is None else rows[some]]
    return found


def joined(batches: Iterable[NDArray[np.float32]], rows: int) -> NDArray[np.float32]:
    """Returns the rows (N, ...) of all batches, of which only one is held besides the result.

    Args:
        batches: Arrays (B, ...) with N rows together, N at least 1.
        rows: Number of rows N.

    Example:
        >>> joined(iter([np.ones((2, 1)), np.zeros((1, 1))]), 3).ravel().tolist()
        [1.0, 1.0, 0.0]
    """
    found, start = np.empty(0, np.float32), 0
    for batch in batches:
        if not start:
            found = large_array((rows, *batch.shape[1:]))
        found[start : start + len(batch)] = batch
        start += len(batch)
    return found
