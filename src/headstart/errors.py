"""What can go wrong, as people see it.

    HeadstartError                      the machine or the work failed: exit code 1
    ├── InputError (also ValueError)    nothing can be done with what was given: exit code 2
    │   ├── DataError                   the images, labels, manifest or split
    │   ├── RecipeError                 a recipe, option or method
    │   ├── BackboneError               an unknown backbone, or weights that cannot be loaded
    │   ├── BudgetError                 a budget below the cheapest path
    │   └── RunError                    an output folder in use, a run or bundle that cannot be read
    └── DiskFullError                   no space left

Every message is one or two sentences: what is wrong, where, and what to do.
"""

from collections.abc import Iterable
from difflib import get_close_matches


class HeadstartError(Exception):
    """Base of every error that headstart raises on purpose."""

    exit_code = 1


class InputError(HeadstartError, ValueError):
    """What was given cannot be used."""

    exit_code = 2


class DataError(InputError):
    """The images, labels, manifest or split cannot be used."""


class RecipeError(InputError):
    """A recipe, an option or a method's name or value is wrong."""


class BackboneError(InputError):
    """The backbone is unknown, or its weights cannot be loaded."""


class BudgetError(InputError):
    """The time budget is below the cheapest path."""


class RunError(InputError):
    """A run folder is in use, or a run or bundle cannot be read."""


class DiskFullError(HeadstartError):
    """There is no space left on the disk."""


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Returns `"; did you mean 'x'?"` for the closest known name, or an empty string."""
    close = get_close_matches(name.lower(), list(known), n=1)
    return f"; did you mean {close[0]!r}?" if close else ""
