"""DICOM, by pydicom."""

import hashlib
import importlib
from collections.abc import Sequence
from functools import cache
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from headstart.data.rasters import BadImageError, Raster
from headstart.data.readers.description import Description, channels_last, largest_of


def describe(file: BinaryIO) -> Description:
    """Reads what a file says of its picture.

    Raises:
        BadImageError: If it holds none.
    """
    return _description(_dicom(file, pixels=False))


@cache
def _pydicom() -> Any:
    pydicom: Any = importlib.import_module("pydicom")
    importlib.import_module("pydicom.pixels")
    importlib.import_module("headstart.data.readers.dicom_codecs").register()
    return pydicom


def _dicom(file: BinaryIO, pixels: bool) -> Any:
    found = _pydicom().dcmread(file, force=True, stop_before_pixels=not pixels)
    if "Rows" not in found or "Columns" not in found:
        name = getattr(found.get("SOPClassUID"), "name", "") or "no SOP class"
        raise BadImageError("not_an_image", f"this DICOM file holds no picture ({name})")
    return found


def _description(found: Any) -> Description:
    bits = int(found.get("BitsAllocated", 8))
    signed = bool(found.get("PixelRepresentation", 0))
    name = str(found.get("PatientID") or "").strip()
    return Description(
        width=int(found.Columns),
        height=int(found.Rows),
        channels=3
        if found.get("PhotometricInterpretation") == "PALETTE COLOR"
        else int(found.get("SamplesPerPixel", 1)),
        pages=int(found.get("NumberOfFrames") or 1),
        sample=f"{'int' if signed else 'uint'}{max(8, bits)}",
        patient=hashlib.sha256(name.encode()).hexdigest()[:12] if name else "",
    )


def read(file: BinaryIO, numbers: Sequence[int]) -> Raster:
    """Reads frames; of several, the largest value of each pixel.

    Raises:
        BadImageError: If there are no pixels.
    """
    found = _dicom(file, pixels=True)
    if "PixelData" not in found:
        raise BadImageError("not_an_image", "this DICOM file holds no pixel data")
    pixels: Any = importlib.import_module("pydicom.pixels")
    stored = largest_of(pixels.pixel_array(found, index=number) for number in numbers)
    photometric = str(found.get("PhotometricInterpretation", ""))
    sample = str(stored.dtype.name)
    if photometric == "PALETTE COLOR":
        colours = pixels.apply_color_lut(stored, found)
        deep = colours.dtype.itemsize > 1
        return Raster((colours >> 8).astype(np.uint8) if deep else colours, sample)
    if int(found.get("BitsAllocated", 8)) == 1:
        return Raster(
            channels_last(stored).astype(bool), "bool", inverted=photometric == "MONOCHROME1"
        )
    values = channels_last(stored)
    if values.shape[2] == 1:
        values = channels_last(np.asarray(pixels.apply_modality_lut(stored, found)))
        if values.dtype == np.float64:
            rounded = np.rint(values)
            whole = np.array_equal(values, rounded) and np.abs(rounded).max() < 2**31
            values = rounded.astype(np.int32) if whole else values.astype(np.float32)
        values = _without_padding(found, stored, values)
    shown = values.dtype == np.uint8 or values.shape[2] > 1
    return Raster(
        values,
        sample,
        inverted=photometric == "MONOCHROME1",
        window=None if shown else _window(found),
    )


def _without_padding(found: Any, stored: NDArray[Any], values: NDArray[Any]) -> NDArray[Any]:
    """Returns values with NaN where the picture was padded."""
    first = found.get("PixelPaddingValue")
    if first is None or values.dtype == np.uint8 or not isinstance(first, int):
        return values
    last = found.get("PixelPaddingRangeLimit", first)
    padded = (stored >= min(first, last)) & (stored <= max(first, last))
    if not padded.any():
        return values
    return np.where(padded[..., None], np.float32(np.nan), values.astype(np.float32))


def _window(found: Any) -> tuple[float, float] | None:
    """Returns the first window that a DICOM file wants to be shown."""

    def first(name: str) -> float | None:
        value = found.get(name)
        if value is None or value == "":
            return None
        return float(value if isinstance(value, float | int | str) else value[0])

    centre, width = first("WindowCenter"), first("WindowWidth")
    if centre is None or width is None or width < 1:
        return None
    if str(found.get("VOILUTFunction", "LINEAR")) == "LINEAR":
        return centre - 0.5 - (width - 1) / 2, centre - 0.5 + (width - 1) / 2
    return centre - width / 2, centre + width / 2
