"""Time budgets as people write them."""

import re

from headstart.errors import BudgetError

_UNITS = {"s": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0}


def parse_budget(text: str) -> float:
    """Reads a budget such as `90s`, `10m`, `1.5h` or `1h30m` into seconds.

    Raises:
        BudgetError: If it is not a positive duration, or a number has no unit.

    Example:
        >>> parse_budget("1h30m")
        5400.0
    """
    bare = re.fullmatch(r"(?:[\d.]+\s*(?:min|[smh])\s*)*(\d+(?:\.\d+)?)", text.strip().lower())
    if bare and float(bare[1]) > 0:
        start = text.strip()
        raise BudgetError(f"The budget {text!r} has no unit: {start}m or {start}s?")
    parts = re.findall(r"(\d+(?:\.\d+)?)\s*(min|[smh])", text.strip().lower())
    seconds = sum(float(number) * _UNITS[unit] for number, unit in parts)
    spelled = "".join(number + unit for number, unit in parts)
    if seconds <= 0 or spelled != re.sub(r"\s", "", text.lower()):
        raise BudgetError(f"Cannot read the budget {text!r}. Write it like 90s, 10m or 1.5h.")
    return seconds


def seconds_of(budget: str | float) -> float:
    """Returns a budget in seconds.

    Raises:
        BudgetError: If a text is not a positive duration.

    Example:
        >>> seconds_of("90s"), seconds_of(5)
        (90.0, 5.0)
    """
    return parse_budget(budget) if isinstance(budget, str) else float(budget)
