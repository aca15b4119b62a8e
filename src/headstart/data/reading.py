"""How the values in a file become the 8-bit RGB that a network sees.

Files of 8 bits a value need no choice. Deeper ones do: 12-bit values in a 16-bit file are nearly
black where 65,535 is taken for white. A range that is measured image by image would hide the
brightness that tells classes apart, so that a data set has one range, measured on its training
images and kept in the bundle.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

Page = int | Literal["middle", "max"]


@dataclass(frozen=True)
class Reading:
    """How image files are read: the same for training and for prediction.

    Attributes:
        channels: Numbers of the channels to take, from 0: one for grey, three for RGB. None takes
            what a person would see.
        page: Number of the page or frame to take, from 0; `middle`; or `max` for the largest value
            of each pixel over all pages. None takes the first page, and the middle slice of a
            volume.
        range: Values that become black and white in images of more than 8 bits a value. `own` takes
            those of each image, where exposures differ too much for one range. `each` does so
            before the range of a data set is known; None goes by the type of the values.
    """

    channels: tuple[int, ...] | None = None
    page: Page | None = None
    range: tuple[float, float] | Literal["each", "own"] | None = None


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
    if reading.range == "own":
        return [
            "Each image is shown from black to its own white: exposures differ too much for one "
            "range."
        ]
    if not isinstance(reading.range, tuple):
        return []
    return [
        f"Values from {shown_range(*reading.range)} are shown as black to white: the range of the "
        "training images."
    ]


def shown_range(low: float, high: float) -> str:
    """Returns a range for people.

    Example:
        >>> shown_range(0, 1.0734921)
        '0 to 1.073'
    """
    ends = [f"{end:,.0f}" if end == round(end) else f"{end:,.4g}" for end in (low, high)]
    return " to ".join(ends)
