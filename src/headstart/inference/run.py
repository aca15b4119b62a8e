"""A finished run, and what it says of new images: predictions, embeddings and similar images."""

from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from headstart.artifacts.embeddings import read_embeddings
from headstart.artifacts.evidence import Neighbour
from headstart.artifacts.records import RunRecord
from headstart.artifacts.run import read_metrics, read_record
from headstart.artifacts.set_results import read_set_metrics
from headstart.errors import DataError, InputError
from headstart.evaluation.label_metrics import SetMetrics
from headstart.evaluation.metrics import Metrics
from headstart.evaluation.retrieval import nearest
from headstart.inference.bundle import Bundle, load_bundle
from headstart.inference.image_inputs import image_inputs
from headstart.inference.notebook import as_html
from headstart.inference.predict import Prediction, embed_images, predict_images
from headstart.progress import SILENT, Progress


@dataclass
class Run:
    """A finished run.

    Attributes:
        folder: Run folder.
        record: Request, plan and outcome of the run.
        metrics: Metrics on the sealed test.

    Example:
        >>> import headstart
        >>> run = headstart.Run.open("runs/flowers")  # doctest: +SKIP
        >>> run.predict(["rose.jpg"], set_coverage=0.95)[0].classes  # doctest: +SKIP
        ('rose', 'tulip')
        >>> run.similar("rose.jpg", k=1)[0].image  # doctest: +SKIP
        'rose/0007.jpg'
    """

    folder: Path
    record: RunRecord = field(repr=False)
    metrics: Metrics | SetMetrics = field(repr=False)

    @classmethod
    def open(cls, folder: str | Path) -> "Run":
        """Opens a run folder.

        Raises:
            RunError: If it is not a finished run.
        """
        path = Path(folder)
        record = read_record(path)
        read = read_set_metrics if record.task == "multilabel" else read_metrics
        return cls(path, record, read(path))

    @cached_property
    def bundle(self) -> Bundle:
        """The classifier, loaded at its first use."""
        return load_bundle(self.folder / "bundle", multilabel=True)

    def _repr_html_(self) -> str:
        """Returns what a notebook shows of the run."""
        return as_html(self.folder, self.record, self.metrics)

    def __getstate__(self) -> dict[str, Any]:
        # The network is loaded again from the folder.
        return {name: value for name, value in vars(self).items() if name != "bundle"}

    def predict(
        self, images: Any, progress: Progress = SILENT, set_coverage: float | None = None
    ) -> list[Prediction]:
        """Classifies images.

        Args:
            images: One image or several: paths, folders, patterns, bytes, Pillow images, arrays or
                a table of one column; see `image_inputs`.
            progress: Progress display.
            set_coverage: Share of images whose prediction set contains the true class: 0.8,
                0.9, 0.95 or 0.99; no prediction sets by default.
        """
        return predict_images(self.bundle, images, progress, set_coverage)

    def embed(self, images: Any, progress: Progress = SILENT) -> NDArray[np.float32]:
        """Returns embeddings (N, E) of images as for `predict`; of unreadable ones, rows of NaN."""
        return embed_images(self.bundle, images, progress)[0]

    def similar(self, image: Any, k: int = 5) -> list[Neighbour]:
        """Returns the training images that are most similar to an image, most similar first.

        Raises:
            DataError: If the image cannot be read.
        """
        return similar_images(self.folder, self.bundle, image, k)


def similar_images(folder: Path, bundle: Bundle, image: Any, k: int = 5) -> list[Neighbour]:
    """Returns the training images of a run that are most similar to an image.

    Args:
        folder: Run folder.
        bundle: Classifier of the run.
        image: One image; see `image_inputs`.
        k: Number of images to return, most similar first.

    Raises:
        DataError: If the image cannot be read.
        InputError: If it is not one image.
        RunError: If the run kept no embeddings.
    """
    given = image_inputs(image)
    if len(given) != 1:
        raise InputError(f"There are {len(given)} images. Give one to find those similar to it.")
    if k < 1:
        raise InputError(f"The number of similar images is {k}; it must be at least 1.")
    known = read_embeddings(folder / "embeddings.safetensors")
    vectors, failed = embed_images(bundle, given)
    if failed:
        raise DataError(failed[0])
    rows, cosines = nearest(vectors, known.vectors, k)
    return [
        Neighbour(image=known.images[row], label=known.labels[row], similarity=float(cosine))
        for row, cosine in zip(rows[0], cosines[0], strict=True)
    ]
