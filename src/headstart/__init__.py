"""Trains, tests and ships an image classifier from a small folder of labelled images."""

import os
import sys
import warnings
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, Any

from headstart.errors import HeadstartError, InputError
from headstart.inputs.machine import wrong_system

if TYPE_CHECKING:
    from headstart.api.backbones import backbones
    from headstart.api.benefit import benefit
    from headstart.api.check import check
    from headstart.api.compare import compare
    from headstart.api.diff import diff
    from headstart.api.embed import embed
    from headstart.api.export import export
    from headstart.api.fit import fit
    from headstart.api.label_next import label_next
    from headstart.api.leaderboard import leaderboard
    from headstart.api.predict import predict
    from headstart.api.report import report
    from headstart.api.resume import resume
    from headstart.api.serve import serve
    from headstart.api.show import show
    from headstart.api.similar import similar
    from headstart.api.suspects import suspects
    from headstart.artifacts.evidence import Neighbour
    from headstart.inference.predict import Prediction
    from headstart.inference.run import Run
    from headstart.integrations.sklearn import HeadstartClassifier
    from headstart.recipes.recipe import Recipe

# Libraries read these switches when they are imported, so they are set before any of them is. What
# the user has set stays. Nothing leaves the machine. And threads that wait for each other soon
# sleep: while they spin, they keep a core from the thread that they wait for as soon as other work
# runs beside them, which made training six times slower (benchmarks/shared_cores.py).
for _switch, _value in {
    "ORT_DISABLE_TELEMETRY": "1",
    "RAY_USAGE_STATS_ENABLED": "0",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "GOMP_SPINCOUNT": "3000",
}.items():
    if not (_switch == "GOMP_SPINCOUNT" and "OMP_WAIT_POLICY" in os.environ):
        os.environ.setdefault(_switch, _value)

__version__ = "0.1.0"

_HOMES = {
    "HeadstartClassifier": "headstart.integrations.sklearn",
    "Neighbour": "headstart.artifacts.evidence",
    "Prediction": "headstart.inference.predict",
    "Recipe": "headstart.recipes.recipe",
    "Run": "headstart.inference.run",
    "backbones": "headstart.api.backbones",
    "benefit": "headstart.api.benefit",
    "check": "headstart.api.check",
    "compare": "headstart.api.compare",
    "diff": "headstart.api.diff",
    "embed": "headstart.api.embed",
    "export": "headstart.api.export",
    "fit": "headstart.api.fit",
    "label_next": "headstart.api.label_next",
    "leaderboard": "headstart.api.leaderboard",
    "predict": "headstart.api.predict",
    "report": "headstart.api.report",
    "resume": "headstart.api.resume",
    "serve": "headstart.api.serve",
    "show": "headstart.api.show",
    "similar": "headstart.api.similar",
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
    "backbones",
    "benefit",
    "check",
    "compare",
    "diff",
    "embed",
    "export",
    "fit",
    "label_next",
    "leaderboard",
    "predict",
    "report",
    "resume",
    "serve",
    "show",
    "similar",
    "suspects",
]


def __getattr__(name: str) -> Any:
    """Imports a public name at its first use, because torch takes seconds to load."""
    if name not in _HOMES:
        raise AttributeError(f"module 'headstart' has no attribute {name!r}")
    if why := wrong_system():
        raise InputError(why)
    with warnings.catch_warnings():
        # tqdm's, in a notebook without ipywidgets: it concerns downloads, of which there are none.
        warnings.filterwarnings("ignore", "IProgress not found")
        value = getattr(import_module(_HOMES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    """Lists the public names, also those that are not imported yet."""
    return [*__all__, "__version__"]


class _Package(ModuleType):
    """This package: Python would put a folder such as `report` in the place of the function."""

    def __setattr__(self, name: str, value: Any) -> None:
        if not (name in _HOMES and isinstance(value, ModuleType)):
            super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Package
