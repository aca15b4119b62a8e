"""What every reader says of a file before it decodes the pixels, and what readers share."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from headstart.data.rasters import BadImageError, Raster


@dataclass(frozen=True)
class Description:
    """What a file says of its image before its pixels are decoded.

    Attributes:
        width: In pixels.
        height: In pixels.
        channels: Number of channels.
        pages: Number of pages, frames or slices.
        sample: Type of the values.
        volume: Whether the pages are slices of one body, of which the middle one tells most.
        orientation: As EXIF counts it.
        patient: Anonymous mark of the patient; empty if unknown.
    """

    width: int
    height: int
    channels: int
    pages: int
    sample: str
    volume: bool = False
    orientation: int = 1
    patient: str = ""


def largest_of(pages: Iterable[NDArray[Any]]) -> NDArray[Any]:
    """Returns the largest value of each pixel over pages of one shape, NaN aside."""
    result: NDArray[Any] | None = None
    for values in pages:
        if result is not None and values.shape != result.shape:
            raise BadImageError("unreadable", "its pages have different sizes")
        result = values if result is None else np.fmax(result, values)
    assert result is not None
    return result


def channels_last(values: NDArray[Any]) -> NDArray[Any]:
    """Returns (H, W, C) in the byte order of this machine."""
    values = values if values.ndim == 3 else values[..., None]
    return values.astype(values.dtype.newbyteorder("="), copy=False)


def with_opacity(values: NDArray[Any], top: int) -> Raster:
    """Returns values (H, W, C) whose second or fourth channel is opacity.

    Args:
        values: Grey or colours, with opacity or without.
        top: The value of what is opaque.
    """
    sample = values.dtype.name
    if values.shape[2] not in (2, 4):
        return Raster(values, sample)
    alpha = values[..., -1].astype(np.float32) / np.float32(top)
    return Raster(values[..., :-1], sample, None if (alpha == 1).all() else alpha)
