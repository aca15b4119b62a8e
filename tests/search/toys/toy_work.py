"""Work for executors: functions that other processes import."""

import ctypes
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from headstart.errors import DataError, DiskFullError, RunError


@dataclass
class Shared:
    """Says in a folder how often it was packed and, by process, unpacked."""

    folder: Path
    factor: int = 10

    def __getstate__(self) -> dict[str, Any]:
        self._note("packed")
        return self.__dict__

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__ |= state
        self._note("unpacked")

    def _note(self, what: str) -> None:
        with (self.folder / f"{what}-{os.getpid()}").open("a") as file:
            file.write("x")


class OddError(Exception):
    """Can be packed, but not unpacked."""

    def __init__(self, one: int, two: int) -> None:
        super().__init__(f"{one} and {two}")


def times(shared: Shared, job: int) -> int:
    return shared.factor * job


def fail(shared: Any, job: str) -> str:
    if job == "data":
        raise DataError("the images are gone.\nAnd more that nobody reads.")
    if job == "full":
        raise DiskFullError("there is no space left.")
    if job == "changed":
        raise RunError("the images changed.")
    if job == "arithmetic":
        return str(1 // 0)
    if job == "memory":
        raise MemoryError
    if job == "numpy":
        np.empty(2**60, np.uint8)
    if job == "torch":
        import torch

        torch.empty(10**15)
    if job == "mistake":
        return str(len(3))  # type: ignore[arg-type]
    if job == "odd":
        raise OddError(1, 2)
    if job == "unpackable":
        return lambda: 0  # type: ignore[return-value]
    return job


def die(shared: Any, job: str) -> str:
    if job == "crash":
        ctypes.string_at(0)
    if job == "exit":
        os._exit(3)
    if job == "killed":
        os.kill(os.getpid(), signal.SIGKILL)
    if job == "hungry":
        kept = []
        for _ in range(100):
            kept.append(np.ones(20 * 2**20, np.uint8))
            time.sleep(0.05)
    if job == "mapped":  # A file in memory is the system's to take back.
        mapped = np.memmap(shared, np.uint8, "r")
        mapped.sum()
        time.sleep(0.3)
    if job == "slow":
        time.sleep(0.5)
    return job


def die_at_first(shared: tuple[Path, int], job: str) -> int:
    """Is killed in its first runs, and returns how often it ran."""
    folder, deaths = shared
    with (folder / job).open("a") as file:
        file.write("x")
    runs = len((folder / job).read_text())
    if job != "spared" and runs <= deaths:
        os.kill(os.getpid(), getattr(signal, job))
    return runs


def sleep_long(folder: Path, job: str) -> str:
    """Leaves its process's number, and that of one that it starts, and never ends."""
    if job == "return":
        return job
    started = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(1000)"])
    for process in (os.getpid(), started.pid):
        (folder / str(process)).touch()
    time.sleep(1000)
    return job


def process_and_threads(shared: Any, job: int) -> tuple[int, str, int, bool]:
    """Returns what a process was given: number, threads, and whether Ctrl-C ends it."""
    import torch

    ignored = signal.getsignal(signal.SIGINT) == signal.SIG_IGN
    return os.getpid(), os.environ["OMP_NUM_THREADS"], torch.get_num_threads(), ignored


def square(shared: tuple[Path, str], job: int) -> int:
    """Notes that it began; ends only when another did, and never on one of Ray's nodes."""
    import ray

    folder, endless = shared
    with (folder / str(job)).open("a") as file:
        file.write("x")
    if ray.get_runtime_context().get_node_id() == endless:
        time.sleep(1000)
    while len(list(folder.iterdir())) < 2:
        time.sleep(0.05)
    return job * job


def trial_like(shared: int, job: Any) -> Any:
    """A trial of a search that goes wrong in the ways that trials do, by the recipe's seed.

    Recipes that hold more than eight images a batch with the seed 1 take too much memory.
    """
    from headstart.errors import HeadstartError
    from headstart.search.score import Score

    schedule = job.recipe["schedule"]["name"]
    if job.number == 1 and job.recipe["batch_size"] > 8:
        hog = np.ones(shared, np.uint8)
        time.sleep(20)
        return hog
    if job.number == 2:
        raise HeadstartError("Training diverged in epoch 1: the loss is not finite.")
    if job.number == 3:
        raise RuntimeError("it broke")
    if job.number == 4:
        os.kill(os.getpid(), signal.SIGSEGV)
    loss = 0.3 + 0.01 * job.number + 0.1 * (schedule == "constant")
    return Score(loss, "1" * 70 + "0" * 30, 1.0, False, 0.9, "0" * 100)


def environment(shared: None, job: list[str]) -> list[str]:
    """Values of environment variables in the process of the job."""
    return [os.environ[name] for name in job]
