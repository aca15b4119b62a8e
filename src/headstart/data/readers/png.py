"""PNG with 16-bit colours, by imagecodecs: Pillow reads the upper 8 bits."""

import importlib
import struct
from typing import Any, BinaryIO

import numpy as np

from headstart.data.rasters import Raster
from headstart.data.readers.description import Description, channels_last, with_opacity


def describe(file: BinaryIO) -> Description:
    """Reads what a PNG file with 16 bits a value says of its image."""
    width, height = struct.unpack(">2I", file.read(24)[16:])
    channels = {0: 1, 2: 3, 4: 2, 6: 4}[file.read(2)[1]]
    return Description(width, height, channels, 1, "uint16")


def read(file: BinaryIO) -> Raster:
    """Reads a PNG file with 16 bits a value."""
    imagecodecs: Any = importlib.import_module("imagecodecs")
    return with_opacity(channels_last(np.asarray(imagecodecs.png_decode(file.read()))), 65535)
