"""The outcome of a job, for every executor."""

import os
import sys
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from headstart.errors import DiskFullError, HeadstartError, RunError, first_line, is_out_of_memory

S = TypeVar("S")

J = TypeVar("J")

T = TypeVar("T")

T_co = TypeVar("T_co", covariant=True)

FAILURES = (HeadstartError, RuntimeError, MemoryError, ArithmeticError)
"""Errors that fail only their job; any other error is a bug and ends the run."""

ENDING = (DiskFullError, RunError)
"""Of these, the ones that no other job would escape: the run ends, and can be resumed."""


@dataclass(frozen=True)
class Outcome(Generic[T_co]):
    """The outcome of a job: its value or the cause of its failure.

    Attributes:
        value: Return value of the work.
        cause: Cause of the failure in one readable line; empty on success.
        traceback: Traceback of the error; empty without one, as for a killed process.
        out_of_memory: True if the machine or its GPU ran out of memory.
        killed: True if another process killed that of the job.
        seconds: Duration of the job.
    """

    value: T_co | None = None
    cause: str = ""
    traceback: str = ""
    out_of_memory: bool = False
    killed: bool = False
    seconds: float = 0.0


def attempt(work: Callable[[S, J], T], shared: S, job: J) -> Outcome[T]:
    """Runs a job in this process and returns its outcome."""
    began = time.monotonic()
    try:
        value = work(shared, job)
    except ENDING:
        raise
    except FAILURES as error:
        return Outcome(
            cause=first_line(error),
            traceback=traceback.format_exc(),
            out_of_memory=is_out_of_memory(error),
            seconds=time.monotonic() - began,
        )
    return Outcome(value, seconds=time.monotonic() - began)


def use_threads(threads: int) -> None:
    """Sets the number of threads for the work of this process."""
    os.environ["OMP_NUM_THREADS"] = str(threads)
    if (torch := _loaded_torch()) is not None:
        torch.set_num_threads(threads)


def _loaded_torch() -> Any:
    """Returns PyTorch if the work has imported it; the import takes a second."""
    return sys.modules.get("torch")
