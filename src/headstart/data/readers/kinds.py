"""Formats that Pillow does not read, or cuts: which they are, and who reads them.

NIfTI needs nothing but NumPy; the others need `headstart[scientific]`.
"""

import gzip
import importlib.util
import struct
from functools import cache
from typing import BinaryIO, Literal

from headstart.data.rasters import BadImageError, Raster, page_number
from headstart.data.readers import dicom, jpeg2000, nifti, png, tiff
from headstart.data.readers.description import Description
from headstart.data.reading import Page

Kind = Literal["DICOM", "NIfTI", "TIFF", "PNG", "JPEG2000"]

NEEDS_EXTRA = "pip install 'headstart[scientific]'"

_PACKAGES: dict[Kind, tuple[str, ...]] = {
    "DICOM": ("pydicom",),
    "NIfTI": (),
    "TIFF": ("tifffile", "imagecodecs"),
    "PNG": ("imagecodecs",),
    "JPEG2000": ("imagecodecs",),
}

EXTRA_KINDS: tuple[Kind, ...] = ("DICOM", "TIFF", "PNG", "JPEG2000")
"""Formats that are read only where packages of the extra are installed."""

_WHAT: dict[Kind, str] = {
    "DICOM": "it is a DICOM file",
    "NIfTI": "it is a NIfTI file",
    "TIFF": "it is a TIFF file of a kind that Pillow does not read",
    "PNG": "it is a PNG file of 16-bit colours",
    "JPEG2000": "it is a JPEG 2000 file of more than 8 bits a colour",
}


@cache
def has_extra(kind: Kind) -> bool:
    """Returns whether the packages that a format needs are installed."""
    return all(importlib.util.find_spec(name) is not None for name in _PACKAGES[kind])


def sniff(file: BinaryIO) -> Kind | None:
    """Returns the format of a file that Pillow does not read at all, by its first bytes."""
    start = file.read(352)
    file.seek(0)
    if start[128:132] == b"DICM" or _is_bare_dicom(start):
        return "DICOM"
    if start[:2] == b"\x1f\x8b":
        try:
            with gzip.GzipFile(fileobj=file) as unpacked:
                start = unpacked.read(352)
        except (OSError, EOFError):
            start = b""
        file.seek(0)
    is_nifti = start[344:348] == b"n+1\x00" or start[4:8] == b"n+2\x00"
    return "NIfTI" if is_nifti else None


def _is_bare_dicom(start: bytes) -> bool:
    """Returns whether this is DICOM without its preamble: a first element of group 2 or 8."""
    if len(start) < 12:
        return False
    known = {0x0000, 0x0001, 0x0002, 0x0005, 0x0008, 0x0012, 0x0016}
    pairs = (struct.unpack(order + "HH", start[:4]) for order in "<>")
    return any(group in {2, 8} and element in known for group, element in pairs)


def is_tiff(file: BinaryIO) -> bool:
    """Returns whether a file starts like a TIFF or BigTIFF."""
    file.seek(0)
    start = file.read(4)
    file.seek(0)
    return start in (b"II*\x00", b"MM\x00*", b"II+\x00", b"MM\x00+")


def describe(file: BinaryIO, kind: Kind) -> Description:
    """Reads what a file says of its image.

    Raises:
        BadImageError: If the extra is not installed, or the file holds no picture.
    """
    if not has_extra(kind):
        raise BadImageError("needs_extra", f"{_WHAT[kind]}, which needs {NEEDS_EXTRA}")
    file.seek(0)
    match kind:
        case "DICOM":
            return dicom.describe(file)
        case "NIfTI":
            return nifti.describe(file)
        case "TIFF":
            return tiff.describe(file)
        case "PNG":
            return png.describe(file)
        case "JPEG2000":
            return jpeg2000.describe(file)


def read_raster(file: BinaryIO, kind: Kind, page: Page | None) -> Raster:
    """Reads the values of a page, with all channels.

    Raises:
        BadImageError: If there is no such page, or the values are of a kind that is not read.
    """
    known = describe(file, kind)
    number = page_number(page, known.pages, known.pages // 2 if known.volume else 0)
    numbers = range(known.pages) if page == "max" else [number]
    file.seek(0)
    match kind:
        case "DICOM":
            return dicom.read(file, numbers)
        case "NIfTI":
            return nifti.read(file, numbers)
        case "TIFF":
            return tiff.read(file, numbers)
        case "PNG":
            return png.read(file)
        case "JPEG2000":
            return jpeg2000.read(file)
