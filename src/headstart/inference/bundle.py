"""Bundles that are ready for use. PyTorch is imported only for those without `model.onnx`."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from headstart.artifacts.bundle_graph import RunBatch, open_graph
from headstart.artifacts.bundle_spec import (
    BACKGROUND,
    GALLERY,
    BundleSpec,
    read_background,
    read_gallery,
    read_spec,
)
from headstart.backbones.sessions import thread_count
from headstart.errors import RunError

IN_PYTORCH = (
    "The bundle has no model.onnx, so PyTorch runs the network. That takes longer to start; the "
    "notes of the run may say why."
)


@dataclass(frozen=True)
class Bundle:
    """A classifier that is ready for use.

    Attributes:
        spec: Description of the classifier.
        embedding: Length E of its embeddings.
        runner: Returns what runs batches, for a number of images.
        gallery: Training embeddings (G, E) of length 1 for the out-of-distribution check; None if
            the bundle has no range.
        background: Embeddings (B, E) of images of no class, of length 1; None if it knows none.
        note: Why this is not the fastest way to run it; empty if it is.
        at_once: Number of batches that may run at the same time.
    """

    spec: BundleSpec
    embedding: int
    runner: Callable[[int], RunBatch]
    gallery: NDArray[np.float32] | None = None
    background: NDArray[np.float32] | None = None
    note: str = ""
    at_once: int = 1


def open_bundle(folder: str | Path, many: bool = False, multilabel: bool = False) -> Bundle:
    """Opens the classifier of a run folder or of a bundle folder.

    Args:
        folder: The folder.
        many: Whether it is for many images: each batch has one thread, and as many batches as
            there are threads run at the same time. None waits for another, as parts of one do.
        multilabel: Whether the caller knows what to do with several labels an image.

    Raises:
        RunError: If the folder has none.
    """
    return load_bundle(bundle_folder(folder), many, multilabel)


def bundle_folder(folder: str | Path) -> Path:
    """Returns the bundle folder of a run folder; any other folder stands for itself."""
    path = Path(folder)
    inner = path / "bundle"
    return inner if inner.is_dir() else path


def load_bundle(folder: Path, many: bool = False, multilabel: bool = False) -> Bundle:
    """Opens the classifier of a bundle folder.

    Args:
        folder: The folder.
        many: As for `open_bundle`.
        multilabel: As for `open_bundle`.

    Raises:
        RunError: If it is not a bundle, is of a newer format, or is damaged.
    """
    spec = read_spec(folder)
    if spec.multilabel and not multilabel:
        raise RunError(
            f"The classifier in {folder} gives an image any number of labels (multi-label), which "
            "this cannot use yet. `headstart predict` can."
        )
    if spec.distribution is None:
        return _opened(folder, spec, many)
    with ThreadPoolExecutor(1) as thread:  # both take as long, mostly in hashes
        reading = thread.submit(read_gallery, folder, spec.distribution)
        bundle = _opened(folder, spec, many)
    gallery, background = reading.result(), read_background(folder, spec)
    for name, found in ((GALLERY, gallery), (BACKGROUND, background)):
        if found is not None and found.shape[1] != bundle.embedding:
            raise RunError(
                f"{folder / name} is damaged: its gallery has the shape {found.shape}, and "
                f"embeddings have {bundle.embedding} numbers."
            )
    return replace(bundle, gallery=gallery, background=background)


def _opened(folder: Path, spec: BundleSpec, many: bool) -> Bundle:
    """Opens the network of a bundle."""
    if spec.onnx_sha256:
        graph = open_graph(folder, spec, 1 if many else None)
        at_once = thread_count() if many else 1
        return Bundle(spec, graph.embedding, lambda _: graph.run, at_once=at_once)
    from headstart.inference.pytorch import open_network  # noqa: PLC0415 - imports torch

    network = open_network(folder, spec)
    return Bundle(spec, network.embedding, network.runner, note=IN_PYTORCH)
