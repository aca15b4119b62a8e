"""The time budget, from the start of the process to its end."""

import re
import time
from dataclasses import dataclass

from headstart.errors import BudgetError

_UNITS = {"": 1.0, "s": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0}


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


def parse_budget(text: str) -> float:
    """Reads a budget such as `90s`, `10m`, `1.5h` or `1h30m` into seconds.

    Raises:
        BudgetError: If it is not a positive duration.
    """
    parts = re.findall(r"(\d+(?:\.\d+)?)\s*(min|[smh]?)", text.strip().lower())
    seconds = sum(float(number) * _UNITS[unit] for number, unit in parts)
    spelled = "".join(number + unit for number, unit in parts)
    if seconds <= 0 or spelled != re.sub(r"\s", "", text.lower()):
        raise BudgetError(f"cannot read the budget {text!r}; write it like 90s, 10m or 1.5h.")
    return seconds
