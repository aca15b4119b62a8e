"""How the values in a file become the 8-bit RGB that a network sees.

Files of 8 bits a value need no choice. Deeper ones do: 12-bit values in a 16-bit file are nearly
black where 65,535 is taken for white. A range that is measured image by image would hide the
brightness that tells classes apart, so that a data set has one range, measured on its training
images and kept in the bundle.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

Page = int | Literal["middle", "max"]

OUTLIERS = 0.001
"""Share of the values of an image that may lie below its range, and as many above it."""

ODD_IMAGES = 0.01
"""Share of the images whose own range may reach below the range of the data set, or above it."""

_NEARLY = 0.8
"""Share of a full range (255, 4,095, 1.0, ...) from which on the values are taken to fill it."""


@dataclass(frozen=True)
class Reading:
    """How image files are read: the same for training and for prediction.

    Attributes:
        channels: Numbers of the channels to take, from 0: one for grey, three for RGB. None takes
            what a person would see.
        page: Number of the page or frame to take, from 0; `middle`; or `max` for the largest value
            of each pixel over all pages. None takes the first page, and the middle slice of a
            volume.
        range: Values that become black and white in images of more than 8 bits a value. `each`
            measures every image by itself; None goes by the type of the values.
    """

    channels: tuple[int, ...] | None = None
    page: Page | None = None
    range: tuple[float, float] | Literal["each"] | None = None


EACH = Reading(range="each")
"""How a data set is looked at before its range is known."""


def reading_from(known: Mapping[str, Any]) -> Reading:
    """Returns a reading from the lists and names of JSON.

    Example:
        >>> reading_from({"channels": [0, 1, 2], "page": None, "range": [0, 4095]})
        Reading(channels=(0, 1, 2), page=None, range=(0, 4095))
    """
    channels, span = known["channels"], known["range"]
    return Reading(
        None if channels is None else tuple(channels),
        known["page"],
        tuple(span) if isinstance(span, list) else span,
    )


def shipped(reading: Reading) -> Reading:
    """Returns how a classifier reads images: an open range is closed, as no image was deep."""
    return replace(reading, range=None) if reading.range == "each" else reading


def range_notes(reading: Reading) -> list[str]:
    """Returns what the report of a run says of the range.

    Example:
        >>> range_notes(Reading(range=(0, 4095)))
        ['Values from 0 to 4,095 are shown as black to white: the range of the training images.']
    """
    if not isinstance(reading.range, tuple):
        return []
    low, high = reading.range
    return [
        f"Values from {low:,g} to {high:,g} are shown as black to white: the range of the training "
        "images."
    ]


def own_range(values: NDArray[Any]) -> tuple[float, float]:
    """Returns the range of one image: its values without the lowest and highest 0.1%.

    Args:
        values: Any shape; what is not finite is ignored.

    Example:
        >>> own_range(np.array([0, 1, 2, 3, np.nan]))
        (0.0, 3.0)
    """
    # Every k-th value of a large image: a percentile needs no more.
    flat = values.reshape(-1)[:: max(1, values.size // 1_000_000)]
    finite = flat if flat.dtype.kind in "ui" else flat[np.isfinite(flat)]
    if not finite.size:
        return 0.0, 0.0
    places = [OUTLIERS, 1 - OUTLIERS]
    low = np.quantile(finite, places[0], method="lower")
    high = np.quantile(finite, places[1], method="higher")
    return float(low), float(high)


def common_range(ranges: Sequence[tuple[float, float]]) -> tuple[float, float]:
    """Returns the one range of images whose own ranges are given.

    Values that start near zero have zero as black. A white that nearly fills a number of bits, or
    nearly reaches 1.0, is set there, so that few images more or less do not change the range.

    Args:
        ranges: Lowest and highest value of each image, without outliers.

    Example:
        >>> common_range([(3, 4000), (0, 3900)])
        (0.0, 4095.0)
        >>> common_range([(-1024, 2900), (-1000, 3000)])
        (-1024.0, 3000.0)
    """
    lows, highs = np.array(ranges, np.float64).T
    low = float(np.quantile(lows, ODD_IMAGES, method="lower"))
    high = float(np.quantile(highs, 1 - ODD_IMAGES, method="higher"))
    if 0 <= low <= high / 4:
        low = 0.0
        full = [1.0, *(2.0**bits - 1 for bits in range(8, 33))]
        high = next((top for top in full if _NEARLY * top <= high <= top), high)
    if high <= low:
        high = low + 1
    return float(f"{low:.6g}"), float(f"{high:.6g}")


def to_8_bits(values: NDArray[Any], low: float, high: float) -> NDArray[np.uint8]:
    """Returns values with `low` as 0 and `high` as 255; values that are not numbers become 0.

    Example:
        >>> to_8_bits(np.array([-5.0, 0.5, np.nan, 7.0]), 0, 1).tolist()
        [0, 128, 0, 255]
    """
    exact = values.astype(np.result_type(values, np.float32))
    scaled = (exact - low) * (255 / max(high - low, 1e-12))
    known = np.where(np.isfinite(scaled), scaled, 0)
    result: NDArray[np.uint8] = np.rint(np.clip(known, 0, 255)).astype(np.uint8)
    return result
