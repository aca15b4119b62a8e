"""NIfTI volumes, plain or compressed by gzip."""

import gzip
import struct
from collections.abc import Sequence
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from headstart.data.rasters import BadImageError, Raster
from headstart.data.readers.description import Description, channels_last, largest_of

_NIFTI_TYPES = {
    2: "u1", 4: "i2", 8: "i4", 16: "f4", 64: "f8", 128: "rgb", 256: "i1", 512: "u2", 768: "u4",
    1024: "i8", 1280: "u8",
}  # fmt: skip


def describe(file: BinaryIO) -> Description:
    """Reads what a file says of its volume.

    Raises:
        BadImageError: If its values are of a type that is not read.
    """
    return _nifti(file)[0]


def _nifti(file: BinaryIO) -> tuple[Description, dict[str, Any]]:
    data = file.read(2)
    file.seek(0)
    stream: Any = gzip.GzipFile(fileobj=file) if data == b"\x1f\x8b" else file
    head = stream.read(540)
    order = "<" if struct.unpack("<i", head[:4])[0] in (348, 540) else ">"
    if struct.unpack(order + "i", head[:4])[0] == 540:
        code = struct.unpack(order + "h", head[12:14])[0]
        dims = struct.unpack(order + "8q", head[16:80])
        offset = struct.unpack(order + "q", head[168:176])[0]
        slope, base = struct.unpack(order + "2d", head[176:192])
    else:
        code = struct.unpack(order + "h", head[70:72])[0]
        dims = struct.unpack(order + "8h", head[40:56])
        offset = int(struct.unpack(order + "f", head[108:112])[0])
        slope, base = struct.unpack(order + "2f", head[112:120])
    if code not in _NIFTI_TYPES:
        raise BadImageError("unreadable", f"its NIfTI data type {code} is not read")
    name = _NIFTI_TYPES[code]
    sizes = [int(size) for size in dims[1 : dims[0] + 1]] + [1, 1, 1]
    width, height = sizes[0], sizes[1]
    pages = int(np.prod(sizes[2:]))
    sample = "uint8" if name == "rgb" else np.dtype(name).name
    known = Description(width, height, 3 if name == "rgb" else 1, pages, sample, volume=True)
    scale = (slope, base) if slope not in (0.0, 1.0) or (slope == 1.0 and base != 0.0) else None
    if scale is not None and not np.isfinite(scale).all():
        scale = None
    dtype = "u1" if name == "rgb" else order + name
    return known, {"stream": stream, "offset": offset, "dtype": dtype, "scale": scale}


def read(file: BinaryIO, numbers: Sequence[int]) -> Raster:
    """Reads slices across the third axis; of several, the largest value of each pixel.

    Raises:
        BadImageError: If the values are of a type that is not read.
    """
    known, how = _nifti(file)
    dtype = np.dtype(how["dtype"])
    size = known.width * known.height * known.channels * dtype.itemsize
    stream = how["stream"]

    def page(number: int) -> NDArray[Any]:
        stream.seek(how["offset"] + number * size)
        data = stream.read(size)
        if len(data) < size:
            raise EOFError
        # x is the fastest axis and y points away from the feet of the picture.
        values = np.frombuffer(data, dtype).reshape(known.height, known.width, known.channels)
        return channels_last(values[::-1])

    values = largest_of(page(number) for number in numbers)
    if how["scale"] is not None:
        slope, base = how["scale"]
        values = (values * slope + base).astype(np.float32)
    return Raster(values, known.sample)
