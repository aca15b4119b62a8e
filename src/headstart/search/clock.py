"""The time budget, from the start of the process to its end."""

import time
from dataclasses import dataclass


@dataclass(frozen=True)
class Clock:
    """When the work began and, under a budget, when it must have ended.

    Attributes:
        started: On `time.monotonic`.
        budget_s: The budget in seconds, or None where only the recipe says how long to train.
        earlier_s: Seconds of earlier goes at the same work, which no budget counts.
    """

    started: float
    budget_s: float | None = None
    earlier_s: float = 0.0

    def elapsed(self) -> float:
        """Returns the seconds since the start."""
        return time.monotonic() - self.started

    def total(self) -> float:
        """Returns the seconds that the work has taken, earlier goes included."""
        return self.earlier_s + self.elapsed()

    def left(self) -> float | None:
        """Returns the seconds until the budget ends, or None where there is none."""
        return None if self.budget_s is None else self.budget_s - self.elapsed()
