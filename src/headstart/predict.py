"""Using a run: which class is on an image, and how sure that is."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

from headstart.artifacts.bundle import Bundle, load_bundle, run_bundle
from headstart.artifacts.embeddings import read_embeddings
from headstart.artifacts.run import RunRecord, read_metrics, read_record
from headstart.errors import DataError, InputError
from headstart.evaluate import Metrics, softmax
from headstart.progress import SILENT, Progress
from headstart.retrieval import nearest


class Prediction(BaseModel):
    """What the classifier says of one image.

    Attributes:
        image: The image, as it was named.
        label: The most probable class; empty where the image could not be read.
        probability: Its calibrated probability.
        probabilities: Of every class.
        error: Why the image could not be read.
    """

    model_config = ConfigDict(frozen=True)

    image: str
    label: str = ""
    probability: float = 0.0
    probabilities: dict[str, float] = {}
    error: str = ""


class Neighbour(BaseModel):
    """A training image that is like a given one.

    Attributes:
        image: Its name in the run.
        label: Its class.
        similarity: Cosine of the two embeddings.
    """

    model_config = ConfigDict(frozen=True)

    image: str
    label: str
    similarity: float


@dataclass
class Run:
    """A finished run.

    Attributes:
        folder: Where it lies.
        record: What was asked, planned and done.
        metrics: What the sealed test showed.
    """

    folder: Path
    record: RunRecord = field(repr=False)
    metrics: Metrics = field(repr=False)

    @classmethod
    def open(cls, folder: str | Path) -> "Run":
        """Opens a run folder.

        Raises:
            RunError: If it is no finished run.
        """
        path = Path(folder)
        return cls(path, read_record(path), read_metrics(path))

    @cached_property
    def bundle(self) -> Bundle:
        """The classifier, loaded when it is first used."""
        return load_bundle(self.folder / "bundle")

    def predict(
        self, images: Sequence[str | Path | bytes], progress: Progress = SILENT
    ) -> list[Prediction]:
        """Classifies images: paths, or the bytes of image files."""
        return predict_images(self.bundle, images, progress)

    def embed(
        self, images: Sequence[str | Path | bytes], progress: Progress = SILENT
    ) -> NDArray[np.float32]:
        """Returns embeddings (N, E) of images; NaN in the rows of those that cannot be read."""
        return embed_images(self.bundle, images, progress)[0]

    def similar(self, image: str | Path | bytes, k: int = 5) -> list[Neighbour]:
        """Returns the training images that are most like an image, most alike first.

        Raises:
            DataError: If the image cannot be read.
        """
        return similar_images(self.folder, self.bundle, image, k)


def open_bundle(folder: str | Path) -> Bundle:
    """Loads the classifier of a run folder or of a bundle's own folder.

    Raises:
        RunError: If it holds none.
    """
    path = Path(folder)
    inner = path / "bundle"
    return load_bundle(inner if inner.is_dir() else path)


def predict_images(
    bundle: Bundle, images: Sequence[str | Path | bytes], progress: Progress = SILENT
) -> list[Prediction]:
    """Classifies images; one that cannot be read says why and does not stop the others."""
    sources = [Path(image) if isinstance(image, str) else image for image in images]
    outputs = run_bundle(bundle, sources, progress=progress)
    probabilities = softmax(outputs.logits, bundle.spec.temperature)
    predictions = []
    for row, image in enumerate(images):
        name = f"image {row}" if isinstance(image, bytes) else str(image)
        if row in outputs.failed:
            predictions.append(Prediction(image=name, error=outputs.failed[row]))
            continue
        by_class = dict(zip(bundle.spec.classes, map(float, probabilities[row]), strict=True))
        label = max(by_class, key=by_class.__getitem__)
        predictions.append(
            Prediction(image=name, label=label, probability=by_class[label], probabilities=by_class)
        )
    return predictions


def embed_images(
    bundle: Bundle, images: Sequence[str | Path | bytes], progress: Progress = SILENT
) -> tuple[NDArray[np.float32], dict[int, str]]:
    """Returns embeddings (N, E), and by row why an image cannot be read."""
    sources = [Path(image) if isinstance(image, str) else image for image in images]
    outputs = run_bundle(bundle, sources, progress=progress, description="embedding")
    return outputs.embeddings, outputs.failed


def similar_images(
    folder: Path, bundle: Bundle, image: str | Path | bytes, k: int = 5
) -> list[Neighbour]:
    """Returns the training images of a run that are most like an image, most alike first.

    Args:
        folder: Of the run.
        bundle: Its classifier.
        image: A path, or the bytes of an image file.
        k: How many.

    Raises:
        DataError: If the image cannot be read.
        RunError: If the run kept no embeddings.
    """
    if k < 1:
        raise InputError(f"{k} similar images were asked for; ask for one at least.")
    known = read_embeddings(folder / "embeddings.safetensors")
    vectors, failed = embed_images(bundle, [image])
    if failed:
        raise DataError(failed[0])
    rows, cosines = nearest(vectors, known.vectors, k)
    return [
        Neighbour(image=known.images[row], label=known.labels[row], similarity=float(cosine))
        for row, cosine in zip(rows[0], cosines[0], strict=True)
    ]
