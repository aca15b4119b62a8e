"""A frozen prefix on the machines of a cluster: images go out in chunks, activations come back."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from importlib.metadata import version
from socket import gethostname
from typing import Any, Protocol, TypeVar

import numpy as np
import onnxruntime
import torch
from numpy.typing import NDArray

from headstart.backbones.engine import Engine
from headstart.backbones.onnx import run_onnx
from headstart.backbones.preprocessing import Preprocessing
from headstart.backbones.sessions import open_session
from headstart.data.pixels import Pixels
from headstart.data.views import View, view_batch, view_batches
from headstart.errors import HeadstartError

S = TypeVar("S")

J = TypeVar("J")

T = TypeVar("T")

CHUNK = 64
"""Images that are sent at a time: about a second of work for one core, and 13 MB."""

PACKAGES = ("torch", "torchvision", "timm", "pillow", "numpy", "onnxruntime")
"""Packages that make views and run the prefix."""


class Cluster(Protocol):
    """Machines that do jobs; those of a machine that is lost are done by another."""

    @property
    def slots(self) -> int:
        """How many jobs run at a time; 0 if there is nobody to do any."""
        ...

    def map(self, work: Callable[[S, J], T], shared: S, jobs: Iterable[J]) -> Iterator[T]:
        """Yields the values of jobs in their order, of which a few are on their way at a time.

        It ends early, and has said why, with the first job that could not be done.

        Args:
            work: A function of a module, called with `shared` and a job.
            shared: Data for all jobs, sent once to each machine.
            jobs: Any number of jobs.
        """
        ...


@dataclass(frozen=True)
class SentPrefix:
    """A prefix as it is sent to another machine.

    Attributes:
        model: Bytes of its ONNX file.
        preprocessing: How views are made.
        view: View of each image.
        batch_size: Views per batch.
        versions: Names and versions of the packages here.
    """

    model: bytes
    preprocessing: Preprocessing
    view: View
    batch_size: int
    versions: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Chunk:
    """Some images as they are sent: their rows of the pixels, which views are drawn by."""

    rows: NDArray[np.int64]
    images: tuple[NDArray[np.uint8], ...]


def pays(cluster: Cluster, engine: Engine, images: int) -> bool:
    """Returns whether a cluster gives a prefix more cores than this process has.

    Only an engine that keeps its file can be sent.
    """
    return bool(engine.file) and min(cluster.slots, -(-images // CHUNK)) > torch.get_num_threads()


def outputs_on(
    cluster: Cluster,
    engine: Engine,
    pixels: Pixels,
    rows: NDArray[np.int64],
    preprocessing: Preprocessing,
    view: View,
) -> Iterator[NDArray[Any]]:
    """Yields the outputs (B, ...) of a prefix for a view of the images at `rows`, in their order.

    What the cluster does not do is done here. Batches are those of `view_batches`, so that the
    values are the same where the processors are.
    """
    size = engine.batch_size
    sent = SentPrefix(engine.file, preprocessing, view, size, _versions())
    done = 0
    for outputs in cluster.map(run_chunk, sent, _chunks(pixels, rows)):
        for start in range(0, len(outputs), size):
            yield outputs[start : start + size]
        done += len(outputs)
    for batch in view_batches(pixels, rows[done:], preprocessing, view, size):
        yield engine.run(batch)


def run_chunk(prefix: SentPrefix, chunk: Chunk) -> NDArray[np.float32]:
    """Returns the outputs (N, ...) of a prefix for the images of a chunk, with one thread.

    Raises:
        HeadstartError: If this machine has other versions of the packages.
    """
    _check_versions(prefix.versions)
    session = _session(prefix.model)
    return np.concatenate(
        [
            run_onnx(session, view_batch(images, rows, prefix.preprocessing, prefix.view))
            for images, rows in _batches(chunk, prefix.batch_size)
        ]
    )


def _chunks(pixels: Pixels, rows: NDArray[np.int64]) -> Iterator[Chunk]:
    for start in range(0, len(rows), CHUNK):
        some = rows[start : start + CHUNK]
        # A slice of a memory map would be sent as one.
        yield Chunk(some, tuple(pixels.image(int(row)).view(np.ndarray) for row in some))


def _batches(
    chunk: Chunk, size: int
) -> Iterator[tuple[Sequence[NDArray[np.uint8]], NDArray[np.int64]]]:
    for start in range(0, len(chunk.rows), size):
        yield chunk.images[start : start + size], chunk.rows[start : start + size]


@lru_cache(maxsize=2)
def _session(model: bytes) -> onnxruntime.InferenceSession:
    """Returns the session of a prefix, which a process keeps for its next chunks and views."""
    return open_session(model, 1)


@lru_cache(maxsize=1)
def _versions() -> tuple[tuple[str, str], ...]:
    return tuple((package, version(package)) for package in PACKAGES)


def _check_versions(wanted: tuple[tuple[str, str], ...]) -> None:
    for (package, there), (_, here) in zip(wanted, _versions(), strict=True):
        if here != there:
            raise HeadstartError(
                f"{gethostname()} has {package} {here}, and the machine of the run has {there}."
            )
