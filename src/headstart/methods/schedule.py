"""Schedules: the learning rate as a pure function of progress, applied at every step."""

import math
from typing import Annotated, Literal

from pydantic import Field

from headstart.methods.method import Method, Range, family


def _cosine(start: float, end: float, share: float) -> float:
    """Returns the value `share` of the way along half a cosine from `start` to `end`."""
    return end + (start - end) * (1 + math.cos(math.pi * share)) / 2


class Constant(Method):
    """The same learning rate throughout."""

    name: Literal["constant"] = "constant"

    def factor(self, progress: float) -> float:
        """Returns what the learning rate is multiplied by at `progress` in [0, 1]."""
        return 1.0


class OneCycle(Method):
    """Rises along a cosine to the full rate, then falls far below where it began (Smith 2018)."""

    name: Literal["onecycle"] = "onecycle"
    rise: Annotated[float, Field(ge=0, lt=1), Range(0.1, 0.4)] = 0.25
    start: Annotated[float, Field(gt=0, le=1)] = 0.04
    end: Annotated[float, Field(ge=0, le=1)] = 1e-4

    def factor(self, progress: float) -> float:
        """Returns what the learning rate is multiplied by at `progress` in [0, 1]."""
        if progress < self.rise:
            return _cosine(self.start, 1.0, progress / self.rise)
        return _cosine(1.0, self.end, (progress - self.rise) / (1 - self.rise))


class CosineAnnealing(Method):
    """Falls along half a cosine to zero after a linear warm-up (Loshchilov & Hutter, ICLR 2017)."""

    name: Literal["cosine"] = "cosine"
    warmup: Annotated[float, Field(ge=0, lt=1), Range(0.0, 0.2)] = 0.05

    def factor(self, progress: float) -> float:
        """Returns what the learning rate is multiplied by at `progress` in [0, 1]."""
        if progress < self.warmup:
            return progress / self.warmup
        return _cosine(1.0, 0.0, (progress - self.warmup) / (1 - self.warmup))


ScheduleUnion = Constant | OneCycle | CosineAnnealing
Schedule = family(ScheduleUnion)
