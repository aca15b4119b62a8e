"""Readable image formats: those that Pillow decodes alone, and HEIF with its plugin."""

import importlib
import importlib.util
import os
from functools import cache
from pathlib import Path

from PIL import Image

# Pillow only recognises these without outside help: the stubs and MPEG have no decoder, WMF is
# drawn by Windows alone, and EPS is a program that Ghostscript would run.
_NOT_READ = frozenset({"BUFR", "EPS", "GRIB", "HDF5", "MPEG", "WMF"})


HEIF_EXTENSIONS = frozenset({".heic", ".heics", ".heif", ".heifs", ".hif"})

SCIENTIFIC_EXTENSIONS = frozenset({".dcm", ".dicom", ".nii", ".btf", ".tf8"})
"""Endings of files that `readers` read: DICOM, NIfTI and BigTIFF."""


@cache
def readable_formats() -> tuple[str, ...]:
    """Returns the sorted Pillow names of the readable formats, for `Image.open(formats=…)`.

    Loads Pillow's plugins in this process, and `pillow-heif` if it is installed.
    """
    Image.init()
    if importlib.util.find_spec("pillow_heif") is not None:
        importlib.import_module("pillow_heif").register_heif_opener()
    return tuple(sorted(set(Image.OPEN) - _NOT_READ))


@cache
def readable_extensions() -> frozenset[str]:
    """Returns the file name extensions of images, in lower case with their dot."""
    formats = readable_formats()
    known = {ending for ending, name in Image.registered_extensions().items() if name in formats}
    # Pillow opens MPO (two pictures in one JPEG file) through its JPEG plugin.
    return frozenset(known | {".mpo"} | SCIENTIFIC_EXTENSIONS)


def has_image_name(name: str) -> bool:
    """Returns whether a file name has the extension of an image.

    Example:
        >>> has_image_name("scan.NII.gz"), has_image_name("table.csv.gz")
        (True, False)
    """
    lower = name.lower()
    return lower[lower.rfind(".") :] in readable_extensions() or lower.endswith(".nii.gz")


def is_image_file(path: Path) -> bool:
    """Returns whether a regular file is an image, by its extension or as DICOM without one.

    Only files without an extension are opened, for the 132 bytes that tell DICOM.
    """
    return has_image_name(path.name) or (_lacks_extension(path.name) and _is_dicom(path))


def _lacks_extension(name: str) -> bool:
    """Returns whether a name is that of an image in a DICOM export.

    Digits after the last dot are the end of an identifier. The index of a medium is no image.

    Example:
        >>> [_lacks_extension(name) for name in ("IM000001", "CT.1.2.840.17", "a.txt", "DICOMDIR")]
        [True, True, False, False]
    """
    _, dot, ending = name.rpartition(".")
    return (not dot or ending.isdecimal()) and not name.upper().startswith("DICOMDIR")


def _is_dicom(path: Path) -> bool:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError:  # What cannot be opened cannot be read as an image either.
        return False
    try:
        return os.read(descriptor, 132)[128:] == b"DICM"
    except OSError:
        return False
    finally:
        os.close(descriptor)
