"""A frozen prefix on the machines of a cluster: images go out in chunks, activations come back.

A machine that sees the cache folder reads the images there, so that only their rows are sent.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from importlib.metadata import version
from pathlib import Path
from socket import gethostname
from typing import Any, Protocol, TypeVar

import numpy as np
import onnxruntime
import torch
from numpy.typing import NDArray

from headstart.backbones.engine import Engine, outputs_of
from headstart.backbones.onnx import run_onnx
from headstart.backbones.preprocessing import Preprocessing
from headstart.backbones.sessions import open_session
from headstart.data.pixels import Pixels, open_pixels
from headstart.data.views import View, view_batch, view_batches
from headstart.errors import HeadstartError

S = TypeVar("S")

J = TypeVar("J")

T = TypeVar("T")

CHUNK = 64
"""Images of a job: about a second of work for one core, and 13 MB where they are sent."""

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
        cache_dir: Cache folder, which the machine may see, too.
        pixels: Key of the pixels in it.
    """

    model: bytes
    preprocessing: Preprocessing
    view: View
    batch_size: int
    versions: tuple[tuple[str, str], ...]
    cache_dir: Path
    pixels: str


@dataclass(frozen=True)
class Chunk:
    """Some images as they are sent.

    Attributes:
        rows: Their rows of the pixels (N,), which views are drawn by.
        images: Their pixels; None where the machine may find them in the cache folder.
    """

    rows: NDArray[np.int64]
    images: tuple[NDArray[np.uint8], ...] | None


def pays(cluster: Cluster, engine: Engine, images: int) -> bool:
    """Returns whether a cluster gives a prefix more cores than this process has.

    Only an engine that keeps its file can be sent.
    """
    return bool(engine.file) and min(cluster.slots, -(-images // CHUNK)) > torch.get_num_threads()


def outputs_on(
    cluster: Cluster,
    engine: Engine,
    cache_dir: Path,
    pixels: Pixels,
    rows: NDArray[np.int64],
    preprocessing: Preprocessing,
    view: View,
) -> Iterator[NDArray[Any]]:
    """Yields the outputs (B, ...) of a prefix for a view of the images at `rows`, in their order.

    What the cluster does not do is done here. Batches are those of `view_batches`, so that the
    values are the same where processors are; elsewhere the last bits may differ.
    """
    size = engine.batch_size
    folder, versions = cache_dir.resolve(), _versions()
    sent = SentPrefix(engine.file, preprocessing, view, size, versions, folder, pixels.key)
    done = 0
    for with_images in (False, True):
        if done == len(rows):
            return
        jobs = _chunks(pixels, rows[done:], with_images)
        for outputs in cluster.map(run_chunk, sent, jobs):
            if not len(outputs):  # its machine does not see the cache folder
                break
            for start in range(0, len(outputs), size):
                yield outputs[start : start + size]
            done += len(outputs)
    left = view_batches(pixels, rows[done:], preprocessing, view, size)
    yield from outputs_of(engine, left)


def run_chunk(prefix: SentPrefix, chunk: Chunk) -> NDArray[np.float32]:
    """Returns the outputs (N, ...) of a prefix for the images of a chunk, with one thread.

    None (0,) if the images are not sent and not in the cache folder either.

    Raises:
        HeadstartError: If this machine has other versions of the packages.
    """
    _check_versions(prefix.versions)
    session, images = _session(prefix.model), chunk.images
    if images is None:
        pixels = _pixels(prefix.cache_dir, prefix.pixels)
        if pixels is None:
            return np.empty(0, np.float32)
        images = _images(pixels, chunk.rows)
    return np.concatenate(
        [
            run_onnx(session, view_batch(some, rows, prefix.preprocessing, prefix.view))
            for some, rows in _batches(images, chunk.rows, prefix.batch_size)
        ]
    )


def _chunks(pixels: Pixels, rows: NDArray[np.int64], with_images: bool) -> Iterator[Chunk]:
    for start in range(0, len(rows), CHUNK):
        some = rows[start : start + CHUNK]
        yield Chunk(some, _images(pixels, some) if with_images else None)


def _images(pixels: Pixels, rows: NDArray[np.int64]) -> tuple[NDArray[np.uint8], ...]:
    """Returns images as plain arrays: a slice of a memory map would be sent as one."""
    return tuple(pixels.image(int(row)).view(np.ndarray) for row in rows)


def _batches(
    images: Sequence[NDArray[np.uint8]], rows: NDArray[np.int64], size: int
) -> Iterator[tuple[Sequence[NDArray[np.uint8]], NDArray[np.int64]]]:
    for start in range(0, len(rows), size):
        yield images[start : start + size], rows[start : start + size]


@lru_cache(maxsize=1)
def _pixels(cache_dir: Path, key: str) -> Pixels | None:
    """Returns the decoded images in the cache, which a process keeps open; None without them."""
    return open_pixels(cache_dir, key)


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
