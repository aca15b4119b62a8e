"""TIFF beyond what Pillow reads, by tifffile."""

import importlib
import logging
import math
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


def _open(file: BinaryIO) -> Any:
    """Opens a TIFF file; planes that OME says lie in other files are not looked for."""
    return _tifffile().TiffFile(file, _multifile=False)


def _stacks(tiff: Any) -> list[tuple[Any, list[int]]]:
    """Returns the series and the planes of each page, where channels lie on planes of their own.

    The pages are counted along the axes of the series (such as TZCYX) without the channels. Empty
    for all other files.
    """
    if not (tiff.is_ome or tiff.is_imagej):
        return []
    pages = []
    has_channels = False
    for series in tiff.series:
        lead = len(series.axes) - len(series.keyframe.axes)
        shape, axes = series.shape[:lead], series.axes[:lead]
        planes, channels = np.arange(math.prod(shape)).reshape(shape), 1
        if "C" in axes:
            has_channels, channels = True, shape[axes.index("C")]
            planes = np.moveaxis(planes, axes.index("C"), -1)
        pages += [(series, each.tolist()) for each in planes.reshape(-1, channels)]
    return pages if has_channels else []


def describe(file: BinaryIO) -> Description:
    """Reads what a TIFF file says of its first page, and how many pages it has."""
    with _open(file) as tiff:
        pages, stacks = _pages(tiff), _stacks(tiff)
        first = pages[0]
        count = len(stacks or pages)
        if tiff.is_imagej and len(tiff.pages) == 1 and not stacks:  # all lie behind the first one
            count = int((tiff.imagej_metadata or {}).get("images", 1))
        return Description(
            first.imagewidth,
            first.imagelength,
            first.samplesperpixel * (len(stacks[0][1]) if stacks else 1),
            count,
            str(first.dtype),
            orientation=int(first.tags.valueof(274) or 1),
        )


def read(file: BinaryIO, numbers: Sequence[int]) -> Raster:
    """Reads pages of a TIFF file; of several, the largest value of each pixel.

    Raises:
        BadImageError: If the values are complex numbers, or the pages volumes or of other sizes.
    """
    with _open(file) as tiff:
        pages, stacks = _pages(tiff), _stacks(tiff)
        first = pages[0]
        if first.imagedepth > 1:
            raise BadImageError("unreadable", "its pages are volumes, which are not read")

        def page(number: int) -> NDArray[Any]:
            if stacks:
                values = _planes_of(*stacks[number])
            elif len(pages) == 1 and number > 0:
                values = _page_values(tiff.asarray()[number], first)
            else:
                values = _page_values(pages[number].asarray(), pages[number])
            if values.shape[:2] != (first.imagelength, first.imagewidth):
                raise BadImageError("unreadable", "its pages have different sizes")
            return values

        values = _real(largest_of(page(number) for number in numbers))
        nodata = first.nodata if 42113 in first.tags else None
        inverted = int(first.photometric or 1) == 0
        photometric, colours = int(first.photometric or 1), first.colormap
    if photometric == 3 and colours is not None and values.shape[2] == 1:
        return Raster(
            (colours[:, values[..., 0]] >> 8).astype(np.uint8).transpose(1, 2, 0), "uint8"
        )
    sample = str(first.dtype)
    return Raster(without_nodata(values, nodata), sample, inverted=inverted)


def _planes_of(series: Any, numbers: Sequence[int]) -> NDArray[Any]:
    """Returns planes of a series as channels, after one another."""
    key = series.keyframe
    if len(series.pages) > max(numbers):
        planes = [series.pages[number].asarray() for number in numbers]
    else:  # all planes lie behind the first page
        whole = series.asarray().reshape(-1, *key.shape)
        planes = [whole[number] for number in numbers]
    return np.concatenate([_page_values(plane, key) for plane in planes], 2)


def _real(values: NDArray[Any]) -> NDArray[Any]:
    if values.dtype.kind == "c":
        raise BadImageError("unreadable", "its values are complex numbers")
    return values.astype(np.float32) if values.dtype == np.float16 else values


def _page_values(values: NDArray[Any], page: Any) -> NDArray[Any]:
    if page.samplesperpixel > 1 and int(page.planarconfig) == 2:
        values = np.moveaxis(values, 0, -1)
    return channels_last(values)
