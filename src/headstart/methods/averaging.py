"""Averaging: which weights are kept from a path of many."""

from typing import Annotated, Literal

from pydantic import Field

from headstart.methods.method import Method, Range, family


class NoAveraging(Method):
    """The weights of the last step."""

    name: Literal["none"] = "none"

    def decay(self, step: int, total_steps: int) -> float:
        """Returns the share of the old average that step `step` (from 0) keeps."""
        return 0.0


class EMA(Method):
    """An exponential moving average of the weights (Polyak & Juditsky 1992).

    Over a short schedule the average must forget its start: the decay never exceeds
    (1 + t) / (10 + t), and its half-life is a share of all steps.
    """

    name: Literal["ema"] = "ema"
    half_life: Annotated[float, Field(gt=0, le=1), Range(0.03, 0.3, log=True)] = 0.1

    def decay(self, step: int, total_steps: int) -> float:
        """Returns the share of the old average that step `step` (from 0) keeps."""
        longest: float = 0.5 ** (1 / max(1.0, self.half_life * total_steps))
        return min(longest, (1 + step) / (10 + step))


AveragingUnion = NoAveraging | EMA
Averaging = family(AveragingUnion)
