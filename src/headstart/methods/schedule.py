"""Schedules: the learning rate as a pure function of progress, applied at every step."""

import math
from typing import Annotated, ClassVar, Literal

from pydantic import Field

from headstart.methods.method import Choices, Method, Range, family


def _cosine(start: float, end: float, share: float) -> float:
    """Returns the value `share` of the way along half a cosine from `start` to `end`."""
    return end + (start - end) * (1 + math.cos(math.pi * share)) / 2


class Constant(Method):
    """The same learning rate throughout (the plainest case of Robbins & Monro 1951)."""

    advice: ClassVar[str] = "Leaves the weights noisy at the end; pair it with averaging."
    is_baseline: ClassVar[bool] = True
    name: Literal["constant"] = "constant"

    def factor(self, progress: float) -> float:
        """Returns what the learning rate is multiplied by at `progress` in [0, 1]."""
        return 1.0


class OneCycle(Method):
    """Rises along a cosine to the full rate, then falls far below where it began (Smith 2018)."""

    advice: ClassVar[str] = "The safe choice for short schedules."
    name: Literal["onecycle"] = "onecycle"
    rise: Annotated[
        float, Field(ge=0, lt=1, description="share of the schedule that rises"), Range(0.1, 0.4)
    ] = 0.25
    start: Annotated[float, Field(gt=0, le=1, description="first factor")] = 0.04
    end: Annotated[float, Field(ge=0, le=1, description="last factor")] = 1e-4

    def factor(self, progress: float) -> float:
        """Returns what the learning rate is multiplied by at `progress` in [0, 1]."""
        if progress < self.rise:
            return _cosine(self.start, 1.0, progress / self.rise)
        return _cosine(1.0, self.end, (progress - self.rise) / (1 - self.rise))


class CosineAnnealing(Method):
    """Falls along half a cosine after a linear warm-up, once or with restarts.

    SGDR (Loshchilov & Hutter, ICLR 2017).
    """

    advice: ClassVar[str] = "As good as OneCycle; restarts want long schedules."
    name: Literal["cosine"] = "cosine"
    warmup: Annotated[
        float, Field(ge=0, lt=1, description="share of the schedule that warms up"), Range(0, 0.2)
    ] = 0.05
    end: Annotated[float, Field(ge=0, le=1, description="factor at the end of each fall")] = 0.0
    cycles: Annotated[
        int, Field(ge=1, le=20, description="falls; the rate restarts in between"), Choices((1, 2))
    ] = 1
    growth: Annotated[
        float, Field(ge=1, le=4, description="each cycle is this much longer than the last")
    ] = 1.0

    def factor(self, progress: float) -> float:
        """Returns what the learning rate is multiplied by at `progress` in [0, 1]."""
        if progress < self.warmup:
            return progress / self.warmup
        lengths = [self.growth**number for number in range(self.cycles)]
        left = (progress - self.warmup) / (1 - self.warmup) * sum(lengths)
        for length in lengths[:-1]:
            if left < length:
                return _cosine(1.0, self.end, left / length)
            left -= length
        return _cosine(1.0, self.end, min(1.0, left / lengths[-1]))


ScheduleUnion = Constant | OneCycle | CosineAnnealing
Schedule = family(ScheduleUnion)
