"""Trains, tests and ships an image classifier from a small folder of labelled images."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from headstart.errors import HeadstartError, InputError

if TYPE_CHECKING:
    from headstart.api.check import check
    from headstart.api.compare import compare
    from headstart.api.diff import diff
    from headstart.api.fit import fit
    from headstart.api.resume import resume
    from headstart.api.show import show
    from headstart.api.suspects import suspects
    from headstart.artifacts.evidence import Neighbour
    from headstart.inference.predict import Prediction, Run
    from headstart.integrations.sklearn import HeadstartClassifier
    from headstart.recipes.recipe import Recipe

__version__ = "0.1.0"

_HOMES = {
    "HeadstartClassifier": "headstart.integrations.sklearn",
    "Neighbour": "headstart.artifacts.evidence",
    "Prediction": "headstart.inference.predict",
    "Recipe": "headstart.recipes.recipe",
    "Run": "headstart.inference.predict",
    "check": "headstart.api.check",
    "compare": "headstart.api.compare",
    "diff": "headstart.api.diff",
    "fit": "headstart.api.fit",
    "resume": "headstart.api.resume",
    "show": "headstart.api.show",
    "suspects": "headstart.api.suspects",
}

__all__ = [
    "HeadstartClassifier",
    "HeadstartError",
    "InputError",
    "Neighbour",
    "Prediction",
    "Recipe",
    "Run",
    "check",
    "compare",
    "diff",
    "fit",
    "resume",
    "show",
    "suspects",
]


def __getattr__(name: str) -> Any:
    """Imports a public name at its first use, because torch takes seconds to load."""
    if name not in _HOMES:
        raise AttributeError(f"module 'headstart' has no attribute {name!r}")
    value = getattr(import_module(_HOMES[name]), name)
    globals()[name] = value
    return value
