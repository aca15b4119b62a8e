"""A long list of small jobs on a Ray cluster, by Ray Data: processes that keep what they loaded."""

import logging
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import Any, Protocol

from headstart.errors import HeadstartError, InputError
from headstart.search.executors.ray import ray_session

_SLICE = 100_000
"""Jobs that are sent at a time, so that the list is never held as a whole."""

_BATCH = 16


class Work(Protocol):
    """Does jobs in a process of the cluster."""

    def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
        """Returns the results of the jobs in the column `job`, as the column `result`."""


def map_on_ray(
    work: type[Work],
    arguments: Sequence[Any],
    jobs: Iterable[bytes],
    cpus: int,
    address: str | None = None,
) -> Iterator[list[bytes]]:
    """Yields the results of jobs, some at a time, as they come and in no order.

    A process with one CPU makes its own `work` and keeps it for up to 100,000 jobs. What a lost
    machine had begun is done again by another.

    Args:
        work: Class of a module, made once in each process.
        arguments: What it is made with.
        jobs: Any number of jobs; they are taken in slices.
        cpus: CPUs, if Ray is started here.
        address: Running cluster; None starts Ray on this machine.

    Raises:
        InputError: If Ray is not installed, or there is no cluster at the address.
    """
    with ray_session(cpus, address) as ray:
        data = _ray_data()
        slots = max(1, int(ray.cluster_resources().get("CPU", 0)))
        left = iter(jobs)
        while part := list(islice(left, _SLICE)):
            blocks = max(1, min(len(part) // _BATCH, 8 * slots))
            most = min(slots, blocks)
            # All start at once; with one that is left, the work goes on.
            actors = data.ActorPoolStrategy(min_size=1, initial_size=most, max_size=most)
            results = data.from_items(
                [{"job": job} for job in part], override_num_blocks=blocks
            ).map_batches(
                work, batch_size=_BATCH, compute=actors, num_cpus=1, fn_constructor_args=arguments
            )
            try:
                for batch in results.iter_batches(batch_size=None, batch_format="numpy"):
                    yield list(batch["result"])
            except ray.exceptions.RayError as error:
                raise _explained(error) from None


def _ray_data() -> Any:
    """Returns Ray Data, which writes nothing but what fails."""
    try:
        import ray.data  # noqa: PLC0415 - an optional dependency
    except ImportError:
        raise InputError("Ray Data is not installed: pip install 'headstart[ray]'.") from None
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    logging.getLogger("ray.data").setLevel(logging.ERROR)
    return ray.data


def _explained(error: Exception) -> Exception:
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, HeadstartError):
            return cause
        cause = getattr(cause, "cause", None) or cause.__cause__
    return error
