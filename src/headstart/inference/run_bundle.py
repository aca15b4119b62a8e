"""The outputs of a bundle for image files."""

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from io import BytesIO
from itertools import islice
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from headstart.artifacts.bundle_graph import RunBatch
from headstart.artifacts.bundle_spec import BundleSpec
from headstart.data.eval_view import eval_view
from headstart.data.images import see_image
from headstart.data.types import Box
from headstart.errors import DataError
from headstart.inference.bundle import Bundle
from headstart.inference.image_inputs import ImageInput
from headstart.inputs.large_arrays import large_array
from headstart.progress import SILENT, Progress

ImageSource = Path | bytes

_View = tuple[NDArray[np.uint8], str]

_BATCH = 16

_AHEAD = 3 * _BATCH
"""Images that are decoded, or wait for it, while the network runs."""


@dataclass(frozen=True)
class Outputs:
    """The outputs of a classifier; rows of images that cannot be read are NaN.

    Attributes:
        logits: Logits (N, C).
        embeddings: Inputs of the last layer of the head (N, E).
        failed: Why an image cannot be read, by row.
        depths: Type of the values in each image that could be read, by row.
    """

    logits: NDArray[np.float32]
    embeddings: NDArray[np.float32]
    failed: dict[int, str]
    depths: dict[int, str]


def run_bundle(
    bundle: Bundle,
    images: Sequence[ImageSource],
    boxes: Sequence[Box | None] | None = None,
    progress: Progress = SILENT,
    description: str = "predicting",
) -> Outputs:
    """Returns logits and embeddings of image files or their bytes, in float32.

    Args:
        bundle: Classifier.
        images: Paths, or the bytes of image files.
        boxes: Box to crop from each image first, or None.
        progress: Progress display.
        description: Text of the progress bar.
    """
    count = len(images)
    logits, embeddings = (
        large_array((count, width)) for width in (len(bundle.spec.classes), bundle.embedding)
    )
    all_of = Outputs(logits, embeddings, {}, {})
    wanted = (
        ImageInput("", source, box)
        for source, box in zip(images, boxes or [None] * count, strict=True)
    )
    batches = run_batches(bundle, wanted, count)
    start = 0
    for given, part in progress.track(batches, description, -(-count // _BATCH)):
        all_of.logits[start : start + len(given)] = part.logits
        all_of.embeddings[start : start + len(given)] = part.embeddings
        all_of.failed.update({start + row: reason for row, reason in part.failed.items()})
        all_of.depths.update({start + row: depth for row, depth in part.depths.items()})
        start += len(given)
    return all_of


def run_batches(
    bundle: Bundle, images: Iterable[ImageInput], count: int, size: int = _BATCH
) -> Iterator[tuple[list[ImageInput], Outputs]]:
    """Yields images in batches with their outputs; the next ones are worked on meanwhile.

    Args:
        bundle: Classifier.
        images: Images; only the next few are taken.
        count: About how many there are.
        size: Images in a batch.
    """
    run = bundle.runner(count)
    decoders, runners = ThreadPoolExecutor(), ThreadPoolExecutor(bundle.at_once)
    running = deque[tuple[list[ImageInput], "Future[Outputs]"]]()
    try:
        decoded = _decoded(decoders, images, bundle.spec)
        while batch := list(islice(decoded, size)):
            views = [future for _, future in batch]
            future = runners.submit(_outputs, bundle, run, views)
            running.append(([image for image, _ in batch], future))
            if len(running) > bundle.at_once:
                given, future = running.popleft()
                yield given, future.result()
        for given, future in running:
            yield given, future.result()
    finally:
        for pool in (runners, decoders):
            pool.shutdown(cancel_futures=True)


def _outputs(bundle: Bundle, run: RunBatch, decoding: Sequence["Future[_View]"]) -> Outputs:
    """Returns the outputs for views, when they are decoded."""
    logits = np.full((len(decoding), len(bundle.spec.classes)), np.nan, np.float32)
    embeddings = np.full((len(decoding), bundle.embedding), np.nan, np.float32)
    failed, views, depths = dict[int, str](), list[NDArray[np.uint8]](), dict[int, str]()
    for row, future in enumerate(decoding):
        try:
            view, depths[row] = future.result()
            views.append(view)
        except DataError as error:
            failed[row] = str(error)
    if views:
        logits[list(depths)], embeddings[list(depths)] = run(np.stack(views))
    return Outputs(logits, embeddings, failed, depths)


def view_of(source: ImageSource, spec: BundleSpec, box: Box | None = None) -> _View:
    """Returns the evaluation view (R, R, 3) of an image, and the type of its values.

    Args:
        source: Path, or the bytes of an image file.
        spec: Description of the classifier.
        box: Box to crop from the image first.

    Raises:
        DataError: If it cannot be read.
    """
    file = BytesIO(source) if isinstance(source, bytes) else source
    image, learned = see_image(file, box, spec.preprocessing.resize, spec.reading)
    return eval_view(image, spec.preprocessing), learned.sample


def _decoded(
    pool: ThreadPoolExecutor, images: Iterable[ImageInput], spec: BundleSpec
) -> Iterator[tuple[ImageInput, "Future[_View]"]]:
    """Yields each image with its view, which a thread may still be at."""
    ahead = deque[tuple[ImageInput, "Future[_View]"]]()
    for image in images:
        ahead.append((image, pool.submit(view_of, image.source, spec, image.box)))
        if len(ahead) > _AHEAD:
            yield ahead.popleft()
    yield from ahead
