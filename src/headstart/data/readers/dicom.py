"""DICOM, by pydicom."""

import hashlib
import importlib
from collections.abc import Iterator, Sequence
from functools import cache
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from headstart.data.rasters import BadImageError, Raster
from headstart.data.readers.description import Description, channels_last, largest_of
from headstart.data.readers.dicom_display import ShownFrame, show, steps_of


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
        BadImageError: If there are no pixels, or they are to be shown in a way that is not known.
    """
    found = _dicom(file, pixels=True)
    if "PixelData" not in found:
        raise BadImageError("not_an_image", "this DICOM file holds no pixel data")
    pixels: Any = importlib.import_module("pydicom.pixels")
    frames = (pixels.pixel_array(found, index=number) for number in numbers)
    photometric = str(found.get("PhotometricInterpretation", ""))
    inverted = photometric == "MONOCHROME1"
    if int(found.get("SamplesPerPixel", 1)) == 1 and photometric != "PALETTE COLOR":
        if int(found.get("BitsAllocated", 8)) > 1:
            return _grey(found, frames, numbers, inverted)
        return Raster(channels_last(largest_of(frames)).astype(bool), "bool", inverted=inverted)
    stored = largest_of(frames)
    sample = str(stored.dtype.name)
    if photometric == "PALETTE COLOR":
        colours = pixels.apply_color_lut(stored, found)
        deep = colours.dtype.itemsize > 1
        return Raster((colours >> 8).astype(np.uint8) if deep else colours, sample)
    return Raster(channels_last(stored), sample)


def _grey(
    found: Any, frames: Iterator[NDArray[Any]], numbers: Sequence[int], inverted: bool
) -> Raster:
    """Returns the largest shown value of each pixel; the window is that of the first frame."""
    first: ShownFrame | None = None
    sample = ""

    def each() -> Iterator[NDArray[Any]]:
        nonlocal first, sample
        for number, stored in zip(numbers, frames, strict=True):
            shown = show(stored, steps_of(found, number))
            if first is None:
                first, sample = shown, str(stored.dtype.name)
            yield _without_padding(found, stored, shown.values)

    values = channels_last(largest_of(each()))
    assert first is not None
    return Raster(
        values,
        f"{sample} by {first.by}" if first.by and values.dtype != np.uint8 else sample,
        inverted=inverted,
        window=None if values.dtype == np.uint8 else first.window,
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
    return np.where(padded, np.float32(np.nan), values.astype(np.float32))
