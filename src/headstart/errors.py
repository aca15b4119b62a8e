"""The errors that headstart raises on purpose.

    HeadstartError                      the machine or the work failed: exit code 1
    ├── InputError (also ValueError)    the input cannot be used: exit code 2
    │   ├── DataError                   invalid images, labels, manifest or split
    │   ├── RecipeError                 an invalid recipe, option or method
    │   ├── BackboneError               an unknown backbone, or weights that cannot be loaded
    │   ├── BudgetError                 a time budget that is too short for any path
    │   ├── ExportError                 an export that does not answer as its run did
    │   └── RunError                    a run folder in use, or an unreadable run or bundle
    ├── DivergedError                   the loss of a training is no longer finite
    ├── DiskFullError                   no disk space left
    └── OutputError                     standard output cannot be written: exit code 1 or 141

A message is one or two sentences: what is wrong, where, and what to do.
"""

import sys
from collections.abc import Iterable


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


class ExportError(InputError):
    """An export does not answer as its run did, so that it was not kept."""


class RunError(InputError):
    """A run folder is in use, or a run or bundle cannot be read."""


class DivergedError(HeadstartError):
    """The loss of a training, or an output of its network, is no longer finite."""


class DiskFullError(HeadstartError):
    """No space is left on the disk."""


class OutputError(HeadstartError):
    """Standard output cannot be written.

    Attributes:
        closed: Whether its reader ended, as `head` does when it has seen enough.

    Example:
        >>> OutputError("Nobody reads it.", closed=True).exit_code
        141
    """

    def __init__(self, message: str, closed: bool = False) -> None:
        super().__init__(message)
        self.closed = closed
        if closed:
            self.exit_code = 141  # as of a program that SIGPIPE ends


def first_line(error: BaseException) -> str:
    """Returns the first line of an error's message, or its name if it has none.

    Example:
        >>> first_line(ValueError("no such class")), first_line(MemoryError())
        ('no such class', 'MemoryError')
    """
    lines = [line for line in str(error).splitlines() if line.strip()]
    return lines[0] if lines else type(error).__name__


def is_out_of_memory(error: BaseException) -> bool:
    """Returns whether an error means that the machine or its GPU is out of memory.

    Example:
        >>> is_out_of_memory(MemoryError()), is_out_of_memory(HeadstartError())
        (True, False)
    """
    torch = sys.modules.get("torch")  # the import takes a second
    return (
        isinstance(error, MemoryError)
        or (torch is not None and isinstance(error, torch.OutOfMemoryError))
        # PyTorch has no class for this one.
        or "DefaultCPUAllocator: can't allocate memory" in str(error)
    )


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Returns `"; did you mean 'x'?"` for the closest known name, or an empty string.

    Example:
        >>> did_you_mean("adamm", ["sgd", "adam"]), did_you_mean("xyz", ["sgd", "adam"])
        ("; did you mean 'adam'?", '')
    """
    from difflib import get_close_matches  # noqa: PLC0415 - most commands need no suggestion

    close = get_close_matches(name.lower(), list(known), n=1)
    return f"; did you mean {close[0]!r}?" if close else ""
