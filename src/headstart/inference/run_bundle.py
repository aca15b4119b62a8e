"""The outputs of a bundle for image files."""

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from headstart.artifacts.bundle_spec import BundleSpec
from headstart.data.eval_view import eval_view
from headstart.data.images import see_image
from headstart.data.types import Box
from headstart.errors import DataError
from headstart.inference.bundle import Bundle
from headstart.progress import SILENT, Progress

ImageSource = Path | bytes


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
    spec = bundle.spec
    failed: dict[int, str] = {}
    depths: dict[int, str] = {}
    logits = np.full((len(images), len(spec.classes)), np.nan, np.float32)
    embeddings = np.full((len(images), bundle.embedding), np.nan, np.float32)

    def view(row: int) -> NDArray[np.uint8] | None:
        try:
            seen, depths[row] = view_of(images[row], spec, boxes[row] if boxes else None)
        except DataError as error:
            failed[row] = str(error)
            return None
        return seen

    run = bundle.runner(len(images))
    with ThreadPoolExecutor() as pool:
        batches = _in_batches(pool, view, len(images), size=16)
        total = -(-len(images) // 16)
        for start, views in progress.track(batches, description, total):
            good = [position for position, v in enumerate(views) if v is not None]
            if good:
                rows = [start + position for position in good]
                logits[rows], embeddings[rows] = run(np.stack([v for v in views if v is not None]))
    return Outputs(logits, embeddings, failed, depths)


def view_of(
    source: ImageSource, spec: BundleSpec, box: Box | None = None
) -> tuple[NDArray[np.uint8], str]:
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


def _in_batches(
    pool: ThreadPoolExecutor, view: Any, rows: int, size: int
) -> Iterator[tuple[int, list[NDArray[np.uint8] | None]]]:
    """Yields (first row, views) while the next batch is decoded."""
    ahead = [
        (start, [pool.submit(view, row) for row in range(start, min(start + size, rows))])
        for start in range(0, min(2 * size, rows), size)
    ]
    for start in range(0, rows, size):
        _, futures = ahead.pop(0)
        following = start + 2 * size
        if following < rows:
            end = min(following + size, rows)
            ahead.append((following, [pool.submit(view, row) for row in range(following, end)]))
        yield start, [future.result() for future in futures]
