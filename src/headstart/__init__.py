"""Trains, tests and ships an image classifier from a small folder of labelled images."""

import os
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

# Nothing leaves the machine: these libraries read their switch when they are imported, so it is set
# before any of them is. What the user has set stays.
for _switch, _off in {
    "ORT_DISABLE_TELEMETRY": "1",
    "RAY_USAGE_STATS_ENABLED": "0",
    "HF_HUB_DISABLE_TELEMETRY": "1",
}.items():
    os.environ.setdefault(_switch, _off)

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
