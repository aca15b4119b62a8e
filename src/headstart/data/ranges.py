"""The range of the values of deep images: of one, of many, and what it makes of them."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

OUTLIERS = 0.001
"""Share of the values of an image that may lie below its range, and as many above it."""

ODD_IMAGES = 0.01
"""Share of the images whose own range may reach below the range of the data set, or above it."""

EXPOSURES = 3.0
"""How much brighter a tenth of the images may be than another before each has its own range."""

_NEARLY = 0.8
"""Share of a full range (255, 4,095, 1.0, ...) from which on the values are taken to fill it."""


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
    low = float(np.quantile(lows, ODD_IMAGES, method="nearest"))
    high = float(np.quantile(highs, 1 - ODD_IMAGES, method="nearest"))
    if 0 <= low <= high / 4:
        low = 0.0
        full = [1.0, *(2.0**bits - 1 for bits in range(8, 33))]
        high = next((top for top in full if _NEARLY * top <= high <= top), high)
    if high <= low:
        high = low + 1
    return float(f"{low:.6g}"), float(f"{high:.6g}")


def usual_whites(ranges: Sequence[tuple[float, float]]) -> tuple[float, float]:
    """Returns the whites that a tenth of the images do not reach, and that a tenth exceed.

    Example:
        >>> usual_whites([(0, white) for white in range(1, 22)])
        (3.0, 19.0)
    """
    highs = [high for _, high in ranges]
    dark = float(np.quantile(highs, 0.1, method="higher"))
    return dark, float(np.quantile(highs, 0.9, method="lower"))


def exposures_differ(ranges: Sequence[tuple[float, float]]) -> bool:
    """Returns whether the whites of images lie too far apart for one range.

    Values must start near zero, and a tenth of the images must have more than three times the white
    of another tenth. In six sets of photographs and micrographs of 8 bits, this ratio is at most
    2.0; one range would leave the darkest images few of the 256 levels.

    Args:
        ranges: Lowest and highest value of each image, without outliers.

    Example:
        >>> exposures_differ([(0, 1), (0, 9)] * 9), exposures_differ([(0, 2), (0, 4)] * 9)
        (True, False)
    """
    dark, bright = usual_whites(ranges)
    from_zero = 0 <= min(low for low, _ in ranges) <= bright / 4
    return from_zero and bright > EXPOSURES * dark > 0


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
