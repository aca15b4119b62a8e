"""Jobs on a Ray cluster (Moritz et al., OSDI 2018): other machines, or this one.

Every machine needs the same headstart, and sees the folders that jobs name. A job may use its
machine's GPUs, all of them, as a process on this machine may.

Who talks to a Ray cluster can run code on it, and Ray listens on every network interface. So a Ray
that is started here wants a token (Ray 2.52 and newer), which is made for this process unless the
user has one.
"""

import logging
import os
import secrets
import socket
import sys
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from headstart.errors import HeadstartError, InputError, first_line
from headstart.search.executors.outcome import Outcome, attempt, use_threads
from headstart.text import counted

if TYPE_CHECKING:
    import ray


S = TypeVar("S")

J = TypeVar("J")

T = TypeVar("T")

_RETRIES = 3
"""Number of retries after a lost machine or process."""

_KNOCK_S = 10.0


@contextmanager
def open_ray(
    work: Callable[[S, J], T], shared: S, jobs: int, threads: int, address: str | None
) -> Iterator["OnRay[J, T]"]:
    """Opens an executor on the Ray that runs in this process, at an address, or else a new one.

    Args:
        work: A function of a module, called with `shared` and a job.
        shared: Data for all jobs, put into Ray's object store once.
        jobs: Jobs that run at a time, if Ray is started here.
        threads: Threads and CPUs per job.
        address: Running cluster, such as `auto`, `10.0.0.1:6379` or `ray://10.0.0.1:10001`.

    Raises:
        InputError: If Ray is not installed, or there is no cluster at the address.
    """
    with ray_session(jobs * threads, address) as ray:
        _check_threads(threads)
        yield OnRay(work, ray.put(shared), threads)


@contextmanager
def ray_session(cpus: int, address: str | None) -> Iterator[Any]:
    """Yields Ray: the one that runs in this process, one at an address, or else a new one.

    Args:
        cpus: CPUs, if Ray is started here.
        address: Running cluster, as for `open_ray`.

    Raises:
        InputError: If Ray is not installed, or there is no cluster at the address.
    """
    if address is None:
        _want_token()
    try:
        ray = _ray()
    except ModuleNotFoundError:
        raise InputError("Ray is not installed: pip install 'headstart[ray]'.") from None
    ours = not ray.is_initialized()
    if ours:
        _connect(cpus, address)
    try:
        yield ray
    except LostRayError:
        ours = False  # with its daemon gone, `ray.shutdown` ends this process without a word
        raise
    finally:
        if ours:
            ray.shutdown()


class LostRayError(HeadstartError):
    """Ray itself ended on this machine; its jobs have not failed."""


class OnRay(Generic[J, T]):
    """Runs jobs as Ray's tasks; those of a machine that is lost are run again on another."""

    def __init__(
        self, work: Callable[[Any, J], T], shared: "ray.ObjectRef[Any]", threads: int
    ) -> None:
        self._work = work
        self._shared = shared
        self._threads = threads

    @property
    def slots(self) -> int:
        """How many jobs run at a time on the cluster as it is now."""
        return max(1, int(_ray().cluster_resources().get("CPU", 0)) // self._threads)

    def in_order(self, jobs: Iterable[J]) -> Iterator[Outcome[T]]:
        """Yields the outcomes of any number of jobs in their order.

        Not many more jobs than run at a time are sent before their outcomes are taken.

        Raises:
            LostRayError: If Ray itself ended on this machine.
        """
        task = _ray().remote(num_cpus=self._threads, max_retries=_RETRIES)(_do)
        sent: deque[ray.ObjectRef[Outcome[T]]] = deque()
        try:
            for job in jobs:
                sent.append(task.remote(self._work, [self._shared], job, self._threads))
                if len(sent) > 2 * self.slots:
                    yield _outcome(sent.popleft())
            while sent:
                yield _outcome(sent.popleft())
        except LostRayError:
            sent.clear()
            raise
        finally:  # If the iterator is closed early, the rest is not needed, but the processes are.
            for unwanted in sent:
                _ray().cancel(unwanted)

    def run(self, jobs: Sequence[J]) -> Iterator[tuple[int, Outcome[T]]]:
        """Yields the position and the outcome of every job as it ends.

        Raises:
            LostRayError: If Ray itself ended on this machine.
        """
        ray = _ray()
        task = ray.remote(num_cpus=self._threads, max_retries=_RETRIES)(_do)
        # In a list, Ray does not send what is shared with every job: see `_fetch`.
        running = {
            task.remote(self._work, [self._shared], job, self._threads): position
            for position, job in enumerate(jobs)
        }
        try:
            while running:
                (ended, *_), _ = ray.wait(list(running))
                yield running.pop(ended), _outcome(ended)
        except LostRayError:
            running.clear()
            raise
        finally:  # If the iterator is closed early, the rest is not needed.
            for unwanted in running:
                ray.cancel(unwanted, force=True)


def _ray() -> Any:
    """Returns the Ray package, an optional dependency whose import takes a second."""
    import ray  # noqa: PLC0415

    return ray


def _want_token() -> None:
    """Makes a Ray that starts in this process refuse whoever lacks its token.

    Ray reads the mode when it is imported; where that is done, it is left as it is.
    """
    if "ray" not in sys.modules:
        os.environ.setdefault("RAY_AUTH_MODE", "token")
    with suppress(RuntimeError):  # no home folder
        if (Path.home() / ".ray" / "auth_token").exists():
            return
    if "RAY_AUTH_TOKEN_PATH" not in os.environ:  # Otherwise Ray writes one into the home folder.
        os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))


def _connect(cpus: int, address: str | None) -> None:
    ray = _ray()
    quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}
    if address is None:
        ray.init("local", num_cpus=cpus, include_dashboard=False, **quiet)
        return
    try:
        _knock(address)
        ray.init(address, **quiet)
    except (OSError, ValueError, RuntimeError) as error:
        raise InputError(
            f"Cannot join a Ray cluster at {address} ({first_line(error).rstrip('.')}). Start one "
            "with `ray start --head`, or leave the address out to use this machine alone."
        ) from None


def _knock(address: str) -> None:
    """Raises OSError if nothing answers; Ray itself would try for two minutes and then exit."""
    host, _, port = address.rpartition("://")[2].rpartition(":")
    if host and port.isdigit():
        socket.create_connection((host.strip("[]"), int(port)), timeout=_KNOCK_S).close()


def _check_threads(threads: int) -> None:
    """Checks that jobs fit the cluster: Ray would silently let them wait forever."""
    ray = _ray()
    cpus = [int(node["Resources"].get("CPU", 0)) for node in ray.nodes() if node["Alive"]]
    if 0 < max(cpus) < threads:
        raise InputError(
            f"No machine of the Ray cluster has {counted(threads, 'CPU')} for one job. "
            f"Request {max(cpus)} or fewer."
        )


def _do(
    work: Callable[[Any, J], T], shared: "list[ray.ObjectRef[Any]]", job: J, threads: int
) -> Outcome[T]:
    """Runs a job in one of Ray's processes."""
    use_threads(threads)
    return attempt(work, _fetch(shared[0]), job)


@lru_cache(maxsize=1)
def _fetch(shared: "ray.ObjectRef[Any]") -> Any:
    """Returns the shared data of the jobs, read once per process."""
    return _ray().get(shared)


def _outcome(ended: "ray.ObjectRef[Outcome[T]]") -> Outcome[T]:
    errors = _ray().exceptions
    try:
        outcome: Outcome[T] = _ray().get(ended)
    except errors.RayTaskError as error:  # Raised by the job, but not its own failure.
        if isinstance(error.cause, HeadstartError):
            raise error.cause from None
        raise  # a bug
    except (errors.LocalRayletDiedError, errors.RaySystemError):
        raise LostRayError(
            "Ray has ended on this machine. No trial has failed for it: resume the run, after "
            "starting Ray again if it is a cluster with an address."
        ) from None
    except errors.OutOfMemoryError as error:
        return Outcome(
            cause="its machine ran out of memory", traceback=str(error), out_of_memory=True
        )
    except errors.RayError as error:
        lost = isinstance(error, errors.WorkerCrashedError | errors.NodeDiedError)
        cause = f"its process or machine was lost {_RETRIES + 1} times"
        return Outcome(cause=cause if lost else first_line(error), traceback=str(error))
    return outcome
