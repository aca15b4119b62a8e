"""`Raster`: the values of an image as its file holds them, and how they become RGB."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from headstart.data.ranges import own_range, to_8_bits
from headstart.data.reading import Reading

Status = Literal[
    "ok", "unreadable", "truncated", "not_an_image", "too_large", "needs_extra", "no_memory"
]

THUMBNAIL = 64
"""Side in pixels of the square grey thumbnails by which the audit finds near duplicates."""
THUMBNAIL_BYTES = THUMBNAIL**2
"""Size of one thumbnail."""

_BLOCK = 1 << 20
"""Number of values that become 8 bits at once."""


class BadImageError(Exception):
    """A file that gives no pixels; becomes facts in a data set and a `DataError` elsewhere."""

    def __init__(self, status: Status, reason: str) -> None:
        super().__init__(reason)
        self.status: Status = status
        self.reason = reason


@dataclass(frozen=True)
class Raster:
    """The values of one page of an image file.

    Attributes:
        values: (H, W, C), of any type; NaN where a value is missing.
        sample: Type of the values in the file, such as `uint16`.
        alpha: Opacity (H, W) from 0 to 1; None where the image has none.
        inverted: Whether low values are bright.
        window: Lowest and highest value that the file itself wants to be shown.
    """

    values: NDArray[Any]
    sample: str
    alpha: NDArray[np.float32] | None = None
    inverted: bool = False
    window: tuple[float, float] | None = None

    @property
    def is_deep(self) -> bool:
        """Whether its values need a range to become 8 bits."""
        return self.values.dtype not in (np.uint8, np.bool_)

    @property
    def missing(self) -> int:
        """Number of values that are not numbers."""
        kind = self.values.dtype.kind
        if kind != "f":
            return 0
        blocks = (np.isfinite(self.values[rows]) for rows in _blocks(self.values))
        return sum(int(np.count_nonzero(~finite)) for finite in blocks)

    @property
    def range(self) -> tuple[float, float]:
        """Lowest and highest value that matter: the file's own window, or all without outliers."""
        return self.window or own_range(self.values)


@dataclass(frozen=True)
class Learned:
    """What was learned about an image from its pixels.

    Attributes:
        sample: Type of its values, such as `uint16`.
        range: Lowest and highest value without outliers, or the window that the file wants; None
            for 8-bit values.
        missing: Number of values that are not numbers or that the file calls missing.
        pages: Number of its pages or frames.
        unused: Number of channels that are neither seen nor opacity.
        not_alpha: Whether its fourth channel is called opacity and looks like data.
    """

    sample: str = "uint8"
    range: tuple[float, float] | None = None
    missing: int = 0
    pages: int = 1
    unused: int = 0
    not_alpha: bool = False


def without_nodata(values: NDArray[Any], nodata: object) -> NDArray[Any]:
    """Returns values with NaN where they equal GDAL's nodata; as they are where none do."""
    try:
        missing = float(str(nodata).strip().strip("\x00"))
    except ValueError:
        return values
    found = values == missing
    if values.dtype == np.uint8 or not np.isfinite(missing) or not found.any():
        return values
    return np.where(found, np.float32(np.nan), values.astype(np.float32))


def pick_channels(raster: Raster, channels: tuple[int, ...] | None) -> Raster:
    """Returns an image of one or three channels.

    Args:
        raster: Any number of channels.
        channels: The channels to take, from 0; two are shown as red and green. None takes the
            first three as RGB, or the first as grey where there are fewer than three.

    Raises:
        BadImageError: If a channel is not there.
    """
    count = raster.values.shape[2]
    if channels is None:
        return replace(raster, values=raster.values[..., : 3 if count >= 3 else 1])
    check_channels(count, channels)
    values = raster.values[..., list(channels)]
    if len(channels) == 2:
        values = np.concatenate([values, np.zeros_like(values[..., :1])], 2)
    return replace(raster, values=values, alpha=None)


def check_channels(count: int, channels: tuple[int, ...]) -> None:
    """Refuses channels that an image of `count` channels does not have.

    Raises:
        BadImageError: If a channel is not there.
    """
    if max(channels) >= count:
        raise BadImageError(
            "unreadable",
            f"it has {count} channel{'' if count == 1 else 's'}, numbered from 0, and channel "
            f"{max(channels)} was asked for",
        )


def page_number(page: int | Literal["middle", "max"] | None, pages: int, default: int = 0) -> int:
    """Returns the number of the page to read first.

    Raises:
        BadImageError: If it is not there.

    Example:
        >>> page_number("middle", 5)
        2
    """
    if page is None or page == "max":
        return default
    if page == "middle":
        return pages // 2
    if page >= pages:
        raise BadImageError(
            "unreadable",
            f"it has {pages} page{'' if pages == 1 else 's'}, numbered from 0, and page {page} was "
            "asked for",
        )
    return page


def to_rgb(raster: Raster, reading: Reading) -> Image.Image:
    """Returns an image of one or three channels as RGB uint8."""
    values = raster.values
    deep = raster.is_deep
    low, high = _range(raster, reading) if deep else (0.0, 0.0)
    result = np.empty(values.shape, np.uint8)
    for rows in _blocks(values):
        block = values[rows]
        if block.dtype == np.bool_:
            block = block.astype(np.uint8) * 255
        elif deep:
            block = to_8_bits(block, low, high)
        if raster.inverted:
            block = 255 - block
        if raster.alpha is not None:
            opacity = raster.alpha[rows][..., None]
            block = np.rint(block * opacity + 255 * (1 - opacity)).astype(np.uint8)
        result[rows] = block
    if values.shape[2] == 1:
        return Image.fromarray(result[..., 0]).convert("RGB")
    return Image.fromarray(result)


def _blocks(values: NDArray[Any]) -> Iterator[slice]:
    """Yields rows of an image, few at a time: arithmetic on all of them takes much memory."""
    step = max(1, _BLOCK // max(1, values[:1].size))
    for start in range(0, len(values), step):
        yield slice(start, start + step)


def _range(raster: Raster, reading: Reading) -> tuple[float, float]:
    if reading.range == "each":
        return raster.range
    if reading.range == "own":
        low, high = raster.range
        return (min(low, 0.0), high)
    if reading.range is not None:
        return reading.range
    if raster.window is not None:
        return raster.window
    lows, highs = [], []
    for rows in _blocks(raster.values):
        finite = np.nan_to_num(raster.values[rows].astype(np.float64))
        lows.append(float(finite.min()))
        highs.append(float(finite.max()))
    low, high = min(lows), max(highs)
    tops = (1, 255) if raster.values.dtype.kind == "f" else (65535,)
    top = next((top for top in tops if low >= 0 and high <= top), None)
    return (low, high) if top is None else (0.0, float(top))
