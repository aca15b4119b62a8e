"""The Ray cluster that a run names, for the frozen prefixes of its search."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

from headstart.search.executors.ray import OnRay, ray_session
from headstart.text import counted
from headstart.training.run_context import RunContext

S = TypeVar("S")

J = TypeVar("J")

T = TypeVar("T")


@contextmanager
def open_cluster(run: RunContext) -> Iterator["RayCluster | None"]:
    """Yields the running cluster whose address the options of a run give, or None.

    A Ray that is started on this machine alone would not have more cores than the engine uses here.

    Raises:
        InputError: If Ray is not installed, or there is no cluster at the address.
    """
    if run.options.executor != "ray" or run.options.address is None:
        yield None
        return
    with ray_session(0, run.options.address) as ray:
        cluster = RayCluster(ray, run)
        try:
            yield cluster
        finally:
            cluster.leave()


class RayCluster:
    """A running Ray cluster, which does jobs with one CPU each."""

    def __init__(self, ray: Any, run: RunContext) -> None:
        self._ray = ray
        self._run = run
        self._used = False

    @property
    def slots(self) -> int:
        """How many jobs run at a time on the cluster as it is now; 0 if it was left."""
        return 0 if self._ray is None else int(self._ray.cluster_resources().get("CPU", 0))

    def leave(self) -> None:
        """Gives it no more jobs."""
        self._ray = None

    def map(self, work: Callable[[S, J], T], shared: S, jobs: Iterable[J]) -> Iterator[T]:
        """Yields the values of jobs in their order; a job that fails ends it, with a note.

        Raises:
            LostRayError: If Ray itself ended on this machine.
        """
        if self._ray is None:
            return
        if not self._used:
            self._used = True
            cpus = counted(self.slots, "CPU")
            self._run.say(f"cluster: the frozen part of the network runs on its {cpus}")
        for outcome in OnRay(work, self._ray.put(shared), 1).in_order(jobs):
            if outcome.cause or outcome.value is None:
                self.leave()
                why = (
                    "From some point on, the frozen part of the network ran on this machine and "
                    f"not on the cluster: {outcome.cause.rstrip('.')}."
                )
                self._run.note(why)
                self._run.say(f"note: {why}")
                return
            yield outcome.value
