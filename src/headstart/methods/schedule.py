"""Schedules: the learning rate as a pure function of progress, applied at every step."""

import math
from typing import Annotated, ClassVar, Literal

from pydantic import Field

from headstart.methods.method import Choices, Method, Range, family


def _cosine(start: float, end: float, share: float) -> float:
    """Returns the value `share` of the way along half a cosine from `start` to `end`."""
    return end + (start - end) * (1 + math.cos(math.pi * share)) / 2


class Constant(Method):
    """A constant learning rate (the simplest case of Robbins & Monro 1951)."""

    advice: ClassVar[str] = "Leaves the weights noisy at the end; combine it with averaging."
    is_baseline: ClassVar[bool] = True
    name: Literal["constant"] = "constant"

    def factor(self, progress: float) -> float:
        """Returns the factor of the learning rate at `progress` in [0, 1]."""
        return 1.0


class OneCycle(Method):
    """A cosine rise to the peak rate, then a fall far below the initial one (Smith 2018)."""

    advice: ClassVar[str] = "The safe choice for short schedules."
    name: Literal["onecycle"] = "onecycle"
    rise: Annotated[
        float,
        Field(ge=0, lt=1, description="share of the schedule before the peak"),
        Range(0.1, 0.4),
    ] = 0.25
    start: Annotated[float, Field(gt=0, le=1, description="first factor")] = 0.04
    end: Annotated[float, Field(ge=0, le=1, description="last factor")] = 1e-4

    def factor(self, progress: float) -> float:
        """Returns the factor of the learning rate at `progress` in [0, 1].

        Example:
            >>> [round(OneCycle().factor(progress), 4) for progress in (0, 0.25, 1)]
            [0.04, 1.0, 0.0001]
        """
        if progress < self.rise:
            return _cosine(self.start, 1.0, progress / self.rise)
        return _cosine(1.0, self.end, (progress - self.rise) / (1 - self.rise))


class CosineAnnealing(Method):
    """A linear warm-up, then a cosine fall, once or with restarts.

    SGDR (Loshchilov & Hutter, ICLR 2017).
    """

    advice: ClassVar[str] = "As good as OneCycle; restarts need a long schedule."
    name: Literal["cosine"] = "cosine"
    warmup: Annotated[
        float, Field(ge=0, lt=1, description="share of the schedule for the warm-up"), Range(0, 0.2)
    ] = 0.05
    end: Annotated[float, Field(ge=0, le=1, description="factor at the end of each fall")] = 0.0
    cycles: Annotated[
        int,
        Field(ge=1, le=20, description="number of falls; the rate restarts in between"),
        Choices((1, 2)),
    ] = 1
    growth: Annotated[
        float,
        Field(ge=1, le=4, description="each cycle is this many times as long as the one before"),
    ] = 1.0

    def factor(self, progress: float) -> float:
        """Returns the factor of the learning rate at `progress` in [0, 1].

        Example:
            >>> schedule = CosineAnnealing(warmup=0, cycles=2)
            >>> [round(schedule.factor(progress), 2) for progress in (0, 0.25, 0.5, 1)]
            [1.0, 0.5, 1.0, 0.0]
        """
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
