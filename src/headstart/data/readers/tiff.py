"""TIFF beyond what Pillow reads, by tifffile."""

import importlib
import logging
from collections.abc import Sequence
from functools import cache
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from headstart.data.rasters import BadImageError, Raster, without_nodata
from headstart.data.readers.description import Description, channels_last, largest_of


@cache
def _tifffile() -> Any:
    logging.getLogger("tifffile").setLevel(logging.CRITICAL)
    return importlib.import_module("tifffile")


def _pages(tiff: Any) -> list[Any]:
    """Returns the pages that are pictures in full size, without thumbnails and overviews."""
    pages = [page for page in tiff.pages if not page.is_reduced and not page.is_mask]
    return pages or [tiff.pages[0]]


def describe(file: BinaryIO) -> Description:
    """Reads what a TIFF file says of its first page, and how many pages it has."""
    with _tifffile().TiffFile(file) as tiff:
        pages = _pages(tiff)
        first = pages[0]
        count = len(pages)
        if tiff.is_imagej and len(tiff.pages) == 1:  # all pages lie behind the first one
            count = int((tiff.imagej_metadata or {}).get("images", 1))
        orientation = int(first.tags.valueof(274) or 1)
        return Description(
            first.imagewidth,
            first.imagelength,
            first.samplesperpixel,
            count,
            str(first.dtype),
            orientation=orientation,
        )


def read(file: BinaryIO, numbers: Sequence[int]) -> Raster:
    """Reads pages of a TIFF file; of several, the largest value of each pixel.

    Raises:
        BadImageError: If the values are complex numbers, or the pages volumes.
    """
    with _tifffile().TiffFile(file) as tiff:
        pages = _pages(tiff)
        first = pages[0]
        if first.imagedepth > 1:
            raise BadImageError("unreadable", "its pages are volumes, which are not read")

        def page(number: int) -> NDArray[Any]:
            if len(pages) == 1 and number > 0:
                return _page_values(tiff.asarray()[number], first)
            return _page_values(pages[number].asarray(), pages[number])

        values = _real(largest_of(page(number) for number in numbers))
        nodata = first.nodata if 42113 in first.tags else None
        inverted = int(first.photometric or 1) == 0
        photometric, colours = int(first.photometric or 1), first.colormap
    if photometric == 3 and colours is not None:
        return Raster(
            (colours[:, values[..., 0]] >> 8).astype(np.uint8).transpose(1, 2, 0), "uint8"
        )
    sample = str(first.dtype)
    return Raster(without_nodata(values, nodata), sample, inverted=inverted)


def _real(values: NDArray[Any]) -> NDArray[Any]:
    if values.dtype.kind == "c":
        raise BadImageError("unreadable", "its values are complex numbers")
    return values.astype(np.float32) if values.dtype == np.float16 else values


def _page_values(values: NDArray[Any], page: Any) -> NDArray[Any]:
    if page.samplesperpixel > 1 and int(page.planarconfig) == 2:
        values = np.moveaxis(values, 0, -1)
    return channels_last(values)
