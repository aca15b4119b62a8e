"""Arrays in files: reserved, mapped into memory, or read where the file system cannot map them."""

import os
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import DTypeLike, NDArray

from headstart.data.locks import unsupported

_ZEROS = bytes(1 << 20)


def reserve(file: BinaryIO, size: int) -> None:
    """Extends an empty file to `size` bytes that the disk really has.

    Where the system has no call for that (macOS), zeros are written.

    Raises:
        OSError: If there is no space. A file system that cannot reserve runs out of it later.
    """
    allocate = getattr(os, "posix_fallocate", None)
    if allocate is None:
        for start in range(0, size, len(_ZEROS)):
            file.write(_ZEROS[: size - start])
        file.flush()
        file.seek(0)
        return
    try:
        allocate(file.fileno(), 0, size)
    except OSError as error:
        if not unsupported(error):
            raise
        file.truncate(size)


def open_array(path: Path, dtype: DTypeLike, shape: tuple[int, ...]) -> NDArray[Any]:
    """Returns the array in a file, read-only.

    It stays on the disk: mapped, or mapped privately where the file system cannot share a map.
    Without maps it is read into memory.
    """
    array: NDArray[Any]
    try:
        return np.memmap(path, dtype, "r", shape=shape)
    except OSError as error:
        if not unsupported(error):
            raise
    try:
        array = np.memmap(path, dtype, "c", shape=shape)
    except OSError as error:
        if not unsupported(error):
            raise
        array = np.fromfile(path, dtype).reshape(shape)
    array.flags.writeable = False
    return array
