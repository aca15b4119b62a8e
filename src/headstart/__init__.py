"""From a small folder of labelled images to a proven, shippable classifier."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from headstart.errors import HeadstartError, InputError

if TYPE_CHECKING:
    from headstart.artifacts.evidence import Neighbour
    from headstart.checking import check
    from headstart.diffing import diff
    from headstart.fitting import fit, resume
    from headstart.ledger import compare
    from headstart.predict import Prediction, Run
    from headstart.recipe import Recipe
    from headstart.showing import show
    from headstart.sklearn import HeadstartClassifier
    from headstart.suspecting import suspects

__version__ = "0.1.0"

_HOMES = {
    "HeadstartClassifier": "headstart.sklearn",
    "Neighbour": "headstart.artifacts.evidence",
    "Prediction": "headstart.predict",
    "Recipe": "headstart.recipe",
    "Run": "headstart.predict",
    "check": "headstart.checking",
    "compare": "headstart.ledger",
    "diff": "headstart.diffing",
    "fit": "headstart.fitting",
    "resume": "headstart.fitting",
    "show": "headstart.showing",
    "suspects": "headstart.suspecting",
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
    """Imports a public name when it is first used: torch takes seconds to load."""
    if name not in _HOMES:
        raise AttributeError(f"module 'headstart' has no attribute {name!r}")
    value = getattr(import_module(_HOMES[name]), name)
    globals()[name] = value
    return value
