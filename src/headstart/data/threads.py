"""Threads that each do a piece of work of their own, instead of sharing every small product."""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache

from threadpoolctl import (  # type: ignore[import-untyped]
    ThreadpoolController,
    threadpool_info,
    threadpool_limits,
)


@contextmanager
def threads_apart() -> Iterator[int]:
    """Limits linear algebra to one thread for a while; yields the number of threads that it had.

    Threads do not speed up small products, and cost ten times more on a busy machine. What is
    computed does not depend on their number, either.
    """
    pools = [each["num_threads"] for each in threadpool_info() if each["user_api"] == "blas"]
    with threadpool_limits(1, user_api="blas"):
        yield max(pools, default=1)


@contextmanager
def scipy_in_one_thread() -> Iterator[None]:
    """Limits the linear algebra of SciPy to one thread for a while; NumPy keeps its threads.

    The wheels of both bring an OpenBLAS of their own, whose threads go on waiting actively after
    each product. Where products of both take turns, they keep each other from working
    (`findings/scipy_blas_threads_fight.sh`). SciPy must have been imported.
    """
    with _of_scipy().limit(limits=1):
        yield


@cache
def _of_scipy() -> ThreadpoolController:
    """Returns the thread pools of SciPy; to look for them takes as long as a small fit."""
    pools = ThreadpoolController()
    of_scipy = [each["filepath"] for each in pools.info() if "scipy.libs" in each["filepath"]]
    return pools.select(filepath=of_scipy)
