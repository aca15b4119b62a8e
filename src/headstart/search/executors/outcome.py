"""How a job of the search ended, in whatever process it ran."""

import os
import sys
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from headstart.errors import HeadstartError

S = TypeVar("S")

J = TypeVar("J")

T = TypeVar("T")

T_co = TypeVar("T_co", covariant=True)

FAILURES = (HeadstartError, RuntimeError, MemoryError, ArithmeticError)
"""What fails a job alone; anything else is a mistake in the program and ends the run."""


@dataclass(frozen=True)
class Outcome(Generic[T_co]):
    """How a job ended: with a value, or why there is none.

    Attributes:
        value: What the work returned.
        cause: Why there is no value, in one line for people; empty where it went well.
        traceback: Where it was raised; empty where nothing was, as in a killed process.
        out_of_memory: Whether it failed because there was no more memory, here or on the GPU.
        seconds: From its start to its end.
    """

    value: T_co | None = None
    cause: str = ""
    traceback: str = ""
    out_of_memory: bool = False
    seconds: float = 0.0


def attempt(work: Callable[[S, J], T], shared: S, job: J) -> Outcome[T]:
    """Does a job in this process and returns how it ended."""
    began = time.monotonic()
    try:
        value = work(shared, job)
    except FAILURES as error:
        return Outcome(
            cause=first_line(error),
            traceback=traceback.format_exc(),
            out_of_memory=is_out_of_memory(error),
            seconds=time.monotonic() - began,
        )
    return Outcome(value, seconds=time.monotonic() - began)


def first_line(error: BaseException) -> str:
    """Returns the first line of an error's message, or its name where it has none."""
    lines = [line for line in str(error).splitlines() if line.strip()]
    return lines[0] if lines else type(error).__name__


def is_out_of_memory(error: BaseException) -> bool:
    """Returns whether an error says that there is no more memory, in the machine or on its GPU."""
    torch = _loaded_torch()
    return (
        isinstance(error, MemoryError)
        or (torch is not None and isinstance(error, torch.OutOfMemoryError))
        # PyTorch has no class for this one.
        or "DefaultCPUAllocator: can't allocate memory" in str(error)
    )


def use_threads(threads: int) -> None:
    """Lets the work of this process compute in so many threads."""
    os.environ["OMP_NUM_THREADS"] = str(threads)
    if (torch := _loaded_torch()) is not None:
        torch.set_num_threads(threads)


def _loaded_torch() -> Any:
    """Returns PyTorch where the work has imported it: to do so here would take a second."""
    return sys.modules.get("torch")
