"""The kinds of values in records that are read from files, each with the range that makes sense.

A file can hold any number. What lies outside its range, or is NaN or infinite, is refused where the
file is read, so nothing that computes with a record has to think of it.
"""

from typing import Annotated

from pydantic import AfterValidator, Field

_SLACK = 1e-6  # a sum of float32 shares may exceed 1 a little
_MANY = 10**12
_LARGE = 1e12


def _ordered(ends: tuple[float, float]) -> tuple[float, float]:
    low, high = ends
    if low > high:
        raise ValueError(f"The lower end {low:g} is above the upper end {high:g}.")
    return ends


def _no_nul(text: str) -> str:
    if "\0" in text:
        raise ValueError("The text holds a NUL character.")
    return text


def _unique(names: tuple[str, ...]) -> tuple[str, ...]:
    if "" in names:
        raise ValueError("A name is empty.")
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"{twice!r} is there several times.")
    return names


Count = Annotated[int, Field(ge=0, le=_MANY)]
"""A number of things."""

Finite = Annotated[float, Field(ge=-_LARGE, le=_LARGE, allow_inf_nan=False)]
"""Any number that is neither NaN nor infinite."""

Positive = Annotated[float, Field(gt=0, le=_LARGE, allow_inf_nan=False)]
"""A finite number above 0."""

Size = Annotated[float, Field(ge=0, le=_LARGE, allow_inf_nan=False)]
"""A finite number of at least 0: seconds, a loss, a rate, a distance."""

Share = Annotated[float, Field(ge=0, le=1 + _SLACK, allow_inf_nan=False)]
"""A share or probability, from 0 to 1."""

Difference = Annotated[float, Field(ge=-1 - _SLACK, le=1 + _SLACK, allow_inf_nan=False)]
"""A difference of two shares."""

FiniteRange = Annotated[tuple[Finite, Finite], AfterValidator(_ordered)]
"""An interval of any numbers: lower and upper end."""

ShareRange = Annotated[tuple[Share, Share], AfterValidator(_ordered)]
"""An interval of a share."""

PathText = Annotated[str, AfterValidator(_no_nul)]
"""Text that can be a path: without NUL."""

Bits = Annotated[str, Field(pattern=r"^[01]*$")]
"""One character per image, `1` if it is classified correctly."""

Names = Annotated[tuple[str, ...], AfterValidator(_unique)]
"""Names of which none is empty and none is there twice."""
