"""Jobs in monitored processes on this machine; their failure does not affect the driver.

The processes are programs of their own (`process_worker`): unlike a fork they are safe beside
threads and CUDA, and unlike `multiprocessing`'s spawn they never run the caller's script again.
Each leads a group of its own, so that Ctrl-C goes to the driver alone and what a job starts is
ended with it.
"""

import os
import pickle
import signal
import subprocess
import sys
import tempfile
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from multiprocessing import Pipe
from multiprocessing.connection import Connection, wait
from typing import IO, Any, Generic, TypeVar

import psutil

from headstart.data.memory import free_memory
from headstart.search.executors.outcome import Outcome

S = TypeVar("S")

J = TypeVar("J")

T = TypeVar("T")

_LOOK_S = 0.1
"""Seconds between two checks of the memory of the processes."""

_SHARE = 0.8
"""Share of the free memory for all processes together, if no limit is given."""

_STRAY = (-signal.SIGKILL, -signal.SIGTERM)
"""Exit codes of a process that another one ended, for a reason that may not come again."""


@dataclass(eq=False)
class _Child:
    """A process, the driver's end of its pipe, and its current job, if any."""

    process: "subprocess.Popen[bytes]"
    connection: "Connection[Any, Any]"
    position: int | None = None
    began: float = 0.0


@contextmanager
def open_processes(
    work: Callable[[S, J], T], shared: S, jobs: int, threads: int, memory_limit: int
) -> Iterator["Processes[J, T]"]:
    """Opens an executor whose processes start with their first job and end with the context.

    Args:
        work: A function of a module, called with `shared` and a job.
        shared: Data for all jobs, sent once to every process.
        jobs: Number of processes.
        threads: Threads per process.
        memory_limit: Bytes of private memory that each may use.
    """
    with tempfile.TemporaryFile() as packed:
        pickle.dump((work, shared), packed)
        packed.flush()
        processes: Processes[J, T] = Processes(packed, jobs, threads, memory_limit)
        try:
            yield processes
        finally:
            processes.end()


class Processes(Generic[J, T]):
    """Runs jobs in processes; a process that dies fails its own job, and another takes its place.

    A job whose process was killed from outside runs once more as it is. If that is killed, too, the
    system lacks memory for it.

    Attributes:
        slots: Jobs that run at a time.
    """

    def __init__(self, packed: IO[bytes], jobs: int, threads: int, memory_limit: int) -> None:
        self.slots = jobs
        self._packed = packed
        self._threads = threads
        self._memory_limit = memory_limit
        self._children: list[_Child] = []

    def run(self, jobs: Sequence[J]) -> Iterator[tuple[int, Outcome[T]]]:
        """Yields the position and the outcome of every job as it ends."""
        waiting = deque(enumerate(jobs))
        killed: set[int] = set()
        try:
            while waiting or self._busy():
                while waiting and len(self._busy()) < self.slots:
                    self._give(*waiting.popleft())
                wait([child.connection for child in self._busy()], timeout=_LOOK_S)
                for child in self._busy():
                    if (ended := self._look_at(child)) is None:
                        continue
                    position, outcome = ended
                    if outcome.killed and position not in killed:
                        killed.add(position)
                        waiting.appendleft((position, jobs[position]))
                    else:
                        yield ended
        finally:  # If the iterator is closed early, the rest is not needed.
            for child in self._busy():
                self._end(child)

    def end(self) -> None:
        """Kills all processes."""
        for child in list(self._children):
            self._end(child)

    def _busy(self) -> list[_Child]:
        return [child for child in self._children if child.position is not None]

    def _give(self, position: int, job: J) -> None:
        packed = pickle.dumps(job)
        for child in [child for child in self._children if child.position is None]:
            if child.process.poll() is None:
                break
            self._end(child)  # It was killed while idle.
        else:
            child = _start(self._packed, self._threads)
            self._children.append(child)
        child.position, child.began = position, time.monotonic()
        with suppress(ConnectionError):  # It is ending; the next check finds it.
            child.connection.send_bytes(packed)

    def _look_at(self, child: _Child) -> tuple[int, Outcome[T]] | None:
        """Returns a job's position and outcome if it ended; kills what uses too much memory."""
        assert child.position is not None
        position, seconds = child.position, time.monotonic() - child.began
        if child.connection.poll():
            if (packed := _received(child.connection)) is not None:
                child.position = None
                return position, _unpack(packed)
        elif private_memory(child.process.pid) > self._memory_limit:
            self._end(child)
            cause = f"used more than {self._memory_limit / 1e9:.1f} GB of memory"
            return position, Outcome(cause=cause, out_of_memory=True, seconds=seconds)
        elif child.process.poll() is None:
            return None
        return position, _death(self._end(child), seconds)

    def _end(self, child: _Child) -> int:
        """Kills a process with all that it started, and returns its exit code."""
        with suppress(ProcessLookupError):
            os.killpg(child.process.pid, signal.SIGKILL)
        code = child.process.wait()
        child.connection.close()
        self._children.remove(child)
        return code


def private_memory(process: int) -> int:
    """Returns the bytes that only this process has: not files that it maps, nor shared memory.

    macOS does not tell them apart: there it is all that the process has in memory.
    """
    try:
        memory = psutil.Process(process).memory_info()
    except psutil.NoSuchProcess:
        return 0
    return int(memory.rss - getattr(memory, "shared", 0))


def default_memory_limit(jobs: int) -> int:
    """Returns the bytes that each process may use: its share of the free memory."""
    return int(_SHARE * free_memory() / jobs)


def _start(packed: IO[bytes], threads: int) -> _Child:
    ours, theirs = Pipe()
    environment = {
        # Threads that wait for another by spinning take the cores that this one needs: if anything
        # else runs on two cores, training with two threads takes 30 times longer.
        "OMP_WAIT_POLICY": "PASSIVE",
        **os.environ,
        "PYTHONPATH": os.pathsep.join(path for path in sys.path if path),
        "OMP_NUM_THREADS": str(threads),
        "OPENBLAS_NUM_THREADS": str(threads),
    }
    numbers = [theirs.fileno(), packed.fileno(), threads, os.getpid()]
    with theirs:
        process = subprocess.Popen(
            [
                sys.executable,
                "-P",
                "-m",
                "headstart.search.executors.process_worker",
                *map(str, numbers),
            ],
            stdin=subprocess.DEVNULL,
            env=environment,
            pass_fds=[theirs.fileno(), packed.fileno()],
            process_group=0,
        )
    return _Child(process, ours)


def _received(connection: "Connection[Any, Any]") -> bytes | None:
    """Returns an answer, or None if the process died before it was complete."""
    try:
        return connection.recv_bytes()
    except (EOFError, OSError):
        return None


def _unpack(packed: bytes) -> Outcome[Any]:
    """Returns an outcome; raises errors that are not the failure of the job alone."""
    answer = pickle.loads(packed)
    if isinstance(answer, Exception):
        raise answer
    outcome: Outcome[Any] = answer
    return outcome


def _death(code: int, seconds: float) -> Outcome[Any]:
    if code >= 0:
        return Outcome(cause=f"its process ended by itself (exit code {code})", seconds=seconds)
    return Outcome(
        cause=f"its process was killed (signal {-code})",
        out_of_memory=code == -signal.SIGKILL,  # So the system kills if memory runs out.
        killed=code in _STRAY,
        seconds=seconds,
    )
