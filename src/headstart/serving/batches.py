"""Batches over requests: one thread runs the network on what waits."""

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from queue import Empty, SimpleQueue

import numpy as np
from numpy.typing import NDArray

from headstart.artifacts.bundle_graph import RunBatch
from headstart.errors import HeadstartError

Arrays = tuple[NDArray[np.float32], NDArray[np.float32]]
"""Logits (N, C) and embeddings (N, E)."""


class ClosedError(HeadstartError):
    """The service ends and takes no more work."""


@dataclass(frozen=True)
class _Job:
    """Views (N, R, R, 3) of one request, and where its outputs go."""

    views: NDArray[np.uint8]
    done: Future[Arrays] = field(default_factory=Future)


class Batcher:
    """Runs a network on the views of many requests, as many at once as wait.

    No request waits for others to come: while the network works, the next batch collects.

    Args:
        run: Maps views (N, R, R, 3) to logits and embeddings.
        most: Most views in a batch.
        saw: Called in the thread of the network with the number of views of each batch.
    """

    def __init__(self, run: RunBatch, most: int, saw: Callable[[int], object]) -> None:
        self._run, self._most, self._saw = run, most, saw
        self._jobs: SimpleQueue[_Job | None] = SimpleQueue()
        self._closed, self._lock = False, threading.Lock()
        self._thread = threading.Thread(target=self._work, name="network", daemon=True)
        self._thread.start()

    def submit(self, views: NDArray[np.uint8]) -> Future[Arrays]:
        """Queues views (N, R, R, 3); the result has their logits and embeddings.

        Who limits the requests limits the queue: each of them has one job in it at a time.

        Raises:
            ClosedError: If the service ends.
        """
        job = _Job(views)
        with self._lock:
            if self._closed:
                raise ClosedError("The service ends.")
            self._jobs.put(job)
        return job.done

    def close(self) -> None:
        """Finishes what was queued, and ends the thread."""
        with self._lock:
            if not self._closed:
                self._closed = True
                self._jobs.put(None)
        self._thread.join()

    def _work(self) -> None:
        going_on = True
        while going_on:
            jobs, going_on = self._waiting()
            if jobs:
                self._answer(jobs)

    def _waiting(self) -> tuple[list[_Job], bool]:
        """Waits for a job; returns it with others that wait, and whether more can come."""
        job, jobs, views = self._jobs.get(), list[_Job](), 0
        while job is not None:
            # What nobody waits for any more is passed over.
            if job.done.set_running_or_notify_cancel():
                jobs.append(job)
                views += len(job.views)
            if views >= self._most:
                return jobs, True
            try:
                job = self._jobs.get_nowait()
            except Empty:
                return jobs, True
        return jobs, False

    def _answer(self, jobs: Sequence[_Job]) -> None:
        views = np.concatenate([job.views for job in jobs])
        try:
            parts = []
            for start in range(0, len(views), self._most):
                part = views[start : start + self._most]
                self._saw(len(part))
                parts.append(self._run(part))
        except Exception as error:
            for job in jobs:
                job.done.set_exception(error)
            return
        logits, embeddings = (np.concatenate(each) for each in zip(*parts, strict=True))
        start = 0
        for job in jobs:
            rows = slice(start, start + len(job.views))
            job.done.set_result((logits[rows], embeddings[rows]))
            start = rows.stop
