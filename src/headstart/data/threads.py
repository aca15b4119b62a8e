"""Threads that each do a piece of work of their own, instead of sharing every small product."""

from collections.abc import Iterator
from contextlib import contextmanager

from threadpoolctl import threadpool_info, threadpool_limits  # type: ignore[import-untyped]


@contextmanager
def threads_apart() -> Iterator[int]:
    """Limits linear algebra to one thread for a while; yields the number of threads that it had.

    Threads do not speed up small products, and cost ten times more on a busy machine. What is
    computed does not depend on their number, either.
    """
    pools = [each["num_threads"] for each in threadpool_info() if each["user_api"] == "blas"]
    with threadpool_limits(1, user_api="blas"):
        yield max(pools, default=1)
