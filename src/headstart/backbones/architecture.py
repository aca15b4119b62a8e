"""What two networks have in common that compute the same of other weights."""

from collections.abc import Hashable
from typing import Any

from torch import nn


def architecture(model: nn.Module) -> Hashable:
    """Returns what equals another network's where both differ in nothing but their weights.

    It holds every module's path, type and plain attributes (sizes, probabilities, switches), and
    the shape of every tensor of the state. Whether a module trains is left out, and so is code
    that somebody put in a module's place: who relies on it must check.
    """
    modules = tuple((name, type(each), _plain(vars(each))) for name, each in model.named_modules())
    state = tuple((name, tuple(each.shape)) for name, each in model.state_dict().items())
    return modules, state


def _plain(attributes: dict[str, Any]) -> tuple[tuple[str, str], ...]:
    return tuple(
        (name, repr(value))
        for name, value in sorted(attributes.items())
        if name != "training" and _is_plain(value)
    )


def _is_plain(value: Any) -> bool:
    if isinstance(value, tuple | list):
        return all(map(_is_plain, value))
    return value is None or isinstance(value, bool | int | float | str)
