"""JPEG 2000 with more than 8 bits a colour, by imagecodecs: Pillow reads the upper 8 bits."""

import importlib
import struct
from typing import Any, BinaryIO

import numpy as np

from headstart.data.rasters import BadImageError, Raster
from headstart.data.readers.description import Description, channels_last, with_opacity

_START = b"\xff\x4f\xff\x51"


def _header(file: BinaryIO) -> tuple[int, int, list[int]]:
    """Returns width, height, and for each channel its bits, with the 8th bit set if signed.

    The code stream may lie in boxes; ISO/IEC 15444-1, annexes A.5.1 and I.4.
    """
    file.seek(0)
    while (start := file.read(8))[:4] != _START:
        if len(start) < 8:
            raise BadImageError("unreadable", "the file is damaged (no JPEG 2000 code stream)")
        (length,), kind = struct.unpack(">I", start[:4]), start[4:]
        read = 8
        if length == 1:
            (length,), read = struct.unpack(">Q", file.read(8)), 16
        if kind != b"jp2c":
            if length < read:  # 0: the last box
                raise BadImageError("unreadable", "the file is damaged (no JPEG 2000 code stream)")
            file.seek(length - read, 1)
    # After the start: length and capabilities (of which 4 bytes are read), then the numbers.
    right, bottom, left, top = struct.unpack(">4I", file.read(16))
    file.seek(16, 1)
    (count,) = struct.unpack(">H", file.read(2))
    depths = [file.read(3)[0] for _ in range(count)]
    return right - left, bottom - top, depths


def _bits(depth: int) -> int:
    return (depth & 0x7F) + 1


def bits_of(file: BinaryIO) -> int:
    """Returns the most bits of a channel; the file stays where it is."""
    here = file.tell()
    try:
        return max(map(_bits, _header(file)[2]))
    finally:
        file.seek(here)


def describe(file: BinaryIO) -> Description:
    """Reads what a JPEG 2000 file says of its image."""
    width, height, depths = _header(file)
    bits = max(map(_bits, depths))
    kind = "int" if depths[0] & 0x80 else "uint"
    return Description(width, height, len(depths), 1, f"{kind}{16 if bits <= 16 else 32}")


def read(file: BinaryIO) -> Raster:
    """Reads a JPEG 2000 file with more than 8 bits a colour.

    Raises:
        BadImageError: If its channels have different depths.
    """
    depths = _header(file)[2]
    if len(set(depths)) > 1:
        raise BadImageError("unreadable", "its channels have different depths, which is not read")
    imagecodecs: Any = importlib.import_module("imagecodecs")
    file.seek(0)
    values = channels_last(np.asarray(imagecodecs.jpeg2k_decode(file.read())))
    return with_opacity(values, 2 ** _bits(depths[0]) - 1)
