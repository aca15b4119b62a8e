"""Batches over requests: what waits is run together, and each gets its own rows."""

import threading
from concurrent.futures import Future

import numpy as np
import pytest

from headstart.serving.batches import Batcher, ClosedError


class Network:
    """Sums each view; waits in the first batch until it may go on."""

    def __init__(self) -> None:
        self.busy, self.go_on = threading.Event(), threading.Event()

    def run(self, views: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        self.busy.set()
        self.go_on.wait(10)
        if (views == 255).all():
            raise ValueError("it is too bright")
        sums = views.reshape(len(views), -1).sum(1, keepdims=True).astype(np.float32)
        return sums, -sums


def views(*values: int) -> np.ndarray:
    return np.stack([np.full((2, 2, 3), value, np.uint8) for value in values])


def held() -> tuple[Network, Batcher, list[int], Future]:
    """A batcher whose network works on a first job, so that others wait."""
    network, sizes = Network(), list[int]()
    batcher = Batcher(network.run, 4, sizes.append)
    first = batcher.submit(views(1))
    assert network.busy.wait(10)
    return network, batcher, sizes, first


def test_what_waits_is_run_together_and_in_parts_of_the_limit() -> None:
    network, batcher, sizes, first = held()
    waiting = [batcher.submit(views(2)), batcher.submit(views(3, 4)), batcher.submit(views(5, 6))]
    last = batcher.submit(views(7))
    network.go_on.set()
    assert [each.result()[0].ravel().tolist() for each in (first, *waiting, last)] == [
        [12.0], [24.0], [36.0, 48.0], [60.0, 72.0], [84.0],
    ]  # fmt: skip
    assert waiting[1].result()[1].ravel().tolist() == [-36.0, -48.0]
    # one; then 2, 3, 4 and 5, 6 in parts of four and one; then the last
    assert sizes == [1, 4, 1, 1]
    batcher.close()


def test_a_job_that_nobody_waits_for_is_passed_over() -> None:
    network, batcher, sizes, _ = held()
    gone, kept = batcher.submit(views(2, 2)), batcher.submit(views(3))
    assert gone.cancel()
    network.go_on.set()
    assert kept.result()[0].tolist() == [[36.0]]
    assert sizes == [1, 1]
    batcher.close()


def test_an_error_reaches_who_asked_and_the_next_job_runs() -> None:
    network, batcher, _, first = held()
    network.go_on.set()
    first.result()
    with pytest.raises(ValueError, match="too bright"):
        batcher.submit(views(255)).result()
    assert batcher.submit(views(1)).result()[0].tolist() == [[12.0]]
    batcher.close()


def test_closing_finishes_what_waits_and_takes_no_more() -> None:
    network, batcher, _, first = held()
    waiting = batcher.submit(views(2))
    network.go_on.set()
    batcher.close()
    assert first.result()[0].tolist() == [[12.0]]
    assert waiting.result()[0].tolist() == [[24.0]]
    with pytest.raises(ClosedError):
        batcher.submit(views(1))
