"""The errors that headstart raises on purpose.

    HeadstartError                      the machine or the work failed: exit code 1
    ├── InputError (also ValueError)    the input cannot be used: exit code 2
    │   ├── DataError                   invalid images, labels, manifest or split
    │   ├── RecipeError                 an invalid recipe, option or method
    │   ├── BackboneError               an unknown backbone, or weights that cannot be loaded
    │   ├── BudgetError                 a time budget that is too short for any path
    │   └── RunError                    a run folder in use, or an unreadable run or bundle
    └── DiskFullError                   no disk space left

A message is one or two sentences: what is wrong, where, and what to do.
"""

from collections.abc import Iterable
from difflib import get_close_matches


class HeadstartError(Exception):
    """Base of every error that headstart raises on purpose.

    Example:
        >>> issubclass(RunError, HeadstartError), HeadstartError.exit_code
        (True, 1)
    """

    exit_code = 1


class InputError(HeadstartError, ValueError):
    """The input cannot be used.

    Example:
        >>> issubclass(DataError, InputError), issubclass(InputError, ValueError)
        (True, True)
    """

    exit_code = 2


class DataError(InputError):
    """The images, labels, manifest or split cannot be used."""


class RecipeError(InputError):
    """A recipe, an option, or the name or value of a method is invalid."""


class BackboneError(InputError):
    """The backbone is unknown, or its weights cannot be loaded."""


class BudgetError(InputError):
    """The time budget is too short for the cheapest path."""


class RunError(InputError):
    """A run folder is in use, or a run or bundle cannot be read."""


class DiskFullError(HeadstartError):
    """No space is left on the disk."""


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Returns `"; did you mean 'x'?"` for the closest known name, or an empty string.

    Example:
        >>> did_you_mean("adamm", ["sgd", "adam"]), did_you_mean("xyz", ["sgd", "adam"])
        ("; did you mean 'adam'?", '')
    """
    close = get_close_matches(name.lower(), list(known), n=1)
    return f"; did you mean {close[0]!r}?" if close else ""
