"""Executors of jobs: in this process, in other processes of this machine, or on a cluster.

All executors behave alike. A failed job gives an outcome with its cause, and the others continue; a
bug in the program is raised. Shared data is sent once to each process; jobs and their values are
small plain data. Outcomes arrive as jobs end, in any order.
"""

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Generic, Literal, Protocol, TypeVar, get_args

from headstart.errors import InputError, did_you_mean
from headstart.inputs.machine import available_cores
from headstart.search.executors.outcome import Outcome, attempt
from headstart.search.executors.processes import default_memory_limit, open_processes
from headstart.search.executors.ray import open_ray

__all__ = ["Executor", "ExecutorName", "Outcome", "open_executor"]

S = TypeVar("S")

J = TypeVar("J")

T = TypeVar("T")

J_contra = TypeVar("J_contra", contravariant=True)

T_co = TypeVar("T_co", covariant=True)

ExecutorName = Literal["here", "processes", "ray"]


class Executor(Protocol[J_contra, T_co]):
    """Runs jobs."""

    @property
    def slots(self) -> int:
        """How many jobs run at a time."""

    def run(self, jobs: Sequence[J_contra]) -> Iterator[tuple[int, Outcome[T_co]]]:
        """Yields the position and the outcome of every job as it ends.

        Closing the iterator early ends the running jobs.
        """


@contextmanager
def open_executor(
    name: ExecutorName,
    work: Callable[[S, J], T],
    shared: S,
    *,
    jobs: int = 1,
    threads: int | None = None,
    memory_limit: int | None = None,
    address: str | None = None,
) -> Iterator[Executor[J, T]]:
    """Opens an executor; when the context ends, so does every process that it started.

    Args:
        name: `here` does one job after another in this process, as it is. `processes` does them
            in processes of this machine, each of which may die alone. `ray` does them on a Ray
            cluster and runs those of a lost machine again.
        work: A function of a module, called with `shared` and a job.
        shared: Data for all jobs, sent once to each process; pickled unless `here`.
        jobs: Jobs that run at a time. A running cluster decides by its CPUs instead.
        threads: Threads per job; by default this machine's cores, or as many as OMP_NUM_THREADS
            allows, shared by the jobs, and one on a running cluster. Not for `here`.
        memory_limit: Bytes of private memory at which a process is killed; by default a share of
            what is free. For `processes` only: Ray has a limit of its own.
        address: Address of a running Ray cluster; None starts Ray on this machine.

    Raises:
        InputError: If an argument is invalid, Ray is not installed, or there is no such cluster.
    """
    if name not in get_args(ExecutorName):
        names = get_args(ExecutorName)
        raise InputError(f"There is no executor {name!r}{did_you_mean(name, names)}.")
    if jobs < 1:
        raise InputError(f"The number of jobs is {jobs}; it must be at least 1.")
    if threads is not None and threads < 1:
        raise InputError(f"The number of threads per job is {threads}; it must be at least 1.")
    if threads is None:
        threads = 1 if address else max(1, _cores() // jobs)
    if name == "here":
        yield _Here(work, shared)
    elif name == "processes":
        limit = memory_limit or default_memory_limit(jobs)
        with open_processes(work, shared, jobs, threads, limit) as processes:
            yield processes
    else:
        with open_ray(work, shared, jobs, threads, address) as on_ray:
            yield on_ray


def _cores() -> int:
    """Returns the cores of this process that its user allows it to compute with."""
    cores = available_cores()
    asked = os.environ.get("OMP_NUM_THREADS", "").partition(",")[0].strip()
    return min(cores, int(asked)) if asked.isdecimal() and int(asked) else cores


class _Here(Generic[J, T]):
    """Runs jobs in this process, one after another."""

    slots = 1

    def __init__(self, work: Callable[[S, J], T], shared: S) -> None:
        self._do: Callable[[J], Outcome[T]] = partial(attempt, work, shared)

    def run(self, jobs: Sequence[J]) -> Iterator[tuple[int, Outcome[T]]]:
        """Yields the position and the outcome of every job, in order."""
        for position, job in enumerate(jobs):
            yield position, self._do(job)
