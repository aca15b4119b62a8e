"""How much memory the decoding of an image takes at most, from its header alone."""

import os
from typing import BinaryIO

from PIL import Image

from headstart.data.readers.description import Description
from headstart.data.readers.kinds import Kind

_SMALL = {"1": 1, "L": 1, "P": 1, "I;16": 2, "I;16L": 2, "I;16B": 2, "I;16N": 2}
"""Bytes a pixel in Pillow's memory; 4 in all other modes."""

_WHOLE = {"WEBP": 8, "AVIF": 8, "HEIF": 8, "JPEG2000": 16, "GIF": 4, "TIFF": 4}
"""Bytes a pixel that a decoder keeps for itself, where it does not go line by line."""


_SCALED: dict[Kind, int] = {"DICOM": 24, "NIfTI": 12}


def bytes_of_picture(image: Image.Image, full: tuple[int, int]) -> int:
    """Returns the bytes that decoding an image by Pillow takes at most.

    Args:
        image: An image whose pixels are not loaded, at the size at which they will be.
        full: Width and height of the image in its file.
    """
    stored = _SMALL.get(image.mode, 4)
    whole = full[0] * full[1]
    # A progressive JPEG keeps the coefficients of all pixels, two bytes for each channel.
    coefficients = 2 * len(image.getbands()) * whole if image.info.get("progressive") else 0
    decoder = _WHOLE.get(image.format or "", 0) * whole + coefficients
    # As it is, as an array or with opacity, and as RGB that is turned and cut.
    plain = image.mode == "RGB" and "transparency" not in image.info
    return image.width * image.height * (10 if plain else 2 * stored + 10) + decoder


def bytes_of_raster(known: Description, kind: Kind, file: BinaryIO) -> int:
    """Returns the bytes that decoding a page takes at most, by other readers than Pillow.

    Args:
        known: What the file says of its image.
        kind: Format of the file.
        file: The file, which some readers hold whole.
    """
    sample = known.sample
    size = 8 if "64" in sample else 4 if "32" in sample else 2 if "16" in sample else 1
    pixels = known.width * known.height
    values = pixels * max(1, known.channels)
    # Values that are scaled are floats of 8 bytes meanwhile.
    return values * (2 * size + 4 + _SCALED.get(kind, 0)) + 8 * pixels + _size(file)


def _size(file: BinaryIO) -> int:
    here = file.tell()
    size = file.seek(0, os.SEEK_END)
    file.seek(here)
    return size
