"""The part of a certificate on more labels: accuracy by their number, and the forecast."""

from itertools import pairwise
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from headstart.inputs.quantities import Count, Finite, FiniteRange, Share


class _Plain(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Expected(_Plain):
    """A forecast; see `certificate.curves.Forecast`."""

    labels: Annotated[Count, Field(ge=1)]
    accuracy: Finite
    interval: FiniteRange
    new_images: FiniteRange
    gain: Finite
    gain_interval: FiniteRange


class HeldBack(_Plain):
    """A tested forecast: made from a part of the labels, for all of them.

    Attributes:
        hidden: Share of the labels that were hidden from the forecast.
        expected: The forecast.
        accuracy: Measured accuracy on the same images.
        held: Whether the measured accuracy lies in the interval of the forecast.
    """

    hidden: Share
    expected: Expected
    accuracy: Share
    held: bool


class LabelForecast(_Plain):
    """Accuracy over the number of labels, for a head on frozen pretrained features.

    Attributes:
        images: Number of images in the cross-fitting.
        sizes: Numbers of labels that heads were trained on.
        accuracy: Accuracy by size.
        low: Lower bounds of the 95% intervals of the accuracy (Wilson).
        high: Upper bounds.
        expected: Forecasts for the present number of labels and for more.
        band: Forecasts in between, for the picture.
        test: Test of the forecast on hidden labels.
        answer: Whether twice as many labels would help.
        why: Explanation in words and numbers.
    """

    images: Annotated[Count, Field(ge=1)]
    sizes: tuple[Annotated[Count, Field(ge=1)], ...]
    accuracy: tuple[Share, ...]
    low: tuple[Share, ...]
    high: tuple[Share, ...]
    expected: Annotated[tuple[Expected, ...], Field(min_length=1)]
    band: tuple[Expected, ...]
    test: HeldBack
    answer: Literal["yes", "no", "cannot tell"]
    why: str

    @model_validator(mode="after")
    def _agree(self) -> Self:
        if {*map(len, (self.accuracy, self.low, self.high))} != {len(self.sizes)}:
            raise ValueError("Each size needs an accuracy and both ends of its interval.")
        if len(self.sizes) < 4 or any(a >= b for a, b in pairwise(self.sizes)):
            raise ValueError("The sizes must be at least four, in increasing order.")
        if all(each.labels < self.sizes[-1] for each in self.band):
            raise ValueError("The band needs a forecast beyond the largest size.")
        return self
