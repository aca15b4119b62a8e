"""Inference with a run: predictions with their uncertainty, embeddings and similar images."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

from headstart.artifacts.bundle import Bundle, load_bundle, run_bundle
from headstart.artifacts.embeddings import read_embeddings
from headstart.artifacts.evidence import Neighbour
from headstart.artifacts.records import RunRecord
from headstart.artifacts.run import read_metrics, read_record
from headstart.errors import DataError, InputError
from headstart.evaluation.calibration import softmax
from headstart.evaluation.conformal import Threshold, TrainingDistribution, distance, prediction_set
from headstart.evaluation.metrics import Metrics
from headstart.evaluation.retrieval import nearest
from headstart.progress import SILENT, Progress


class Prediction(BaseModel):
    """The prediction for one image.

    Attributes:
        image: The image, as it was named.
        label: The most probable class; empty if the image could not be read.
        probability: Its calibrated probability.
        probabilities: Of every class.
        error: Why the image could not be read.
        classes: The classes, likeliest first, of which one is the true one as often as was asked;
            empty if no coverage was asked for.
        coverage: How often that is.
        distance: Cosine distance to the k-th nearest training image; None if the bundle has no
            range.
        limit: The distance from which on an image is unlike the training images.
        out_of_distribution: Whether it is; its class is then a guess.
        warning: The same in words; empty if it is not.
    """

    model_config = ConfigDict(frozen=True)

    image: str
    label: str = ""
    probability: float = 0.0
    probabilities: dict[str, float] = {}
    error: str = ""
    classes: tuple[str, ...] = ()
    coverage: float | None = None
    distance: float | None = None
    limit: float | None = None
    out_of_distribution: bool = False
    warning: str = ""


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
            RunError: If it is not a finished run.
        """
        path = Path(folder)
        return cls(path, read_record(path), read_metrics(path))

    @cached_property
    def bundle(self) -> Bundle:
        """The classifier, loaded when it is first used."""
        return load_bundle(self.folder / "bundle")

    def predict(
        self,
        images: Sequence[str | Path | bytes],
        progress: Progress = SILENT,
        set_coverage: float | None = None,
    ) -> list[Prediction]:
        """Classifies images: paths, or the bytes of image files.

        Args:
            images: What to classify.
            progress: Progress display.
            set_coverage: How often the set of classes should hold the true one: 0.8, 0.9, 0.95 or
                0.99; no sets by default.
        """
        return predict_images(self.bundle, images, progress, set_coverage)

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


def class_sets(
    bundle: Bundle, probabilities: NDArray[np.float64], coverage: float
) -> NDArray[np.bool_]:
    """Returns which classes (N, C) are in sets that hold the true one as often as asked.

    Args:
        bundle: The classifier.
        probabilities: Of images (N, C).
        coverage: How often; one of those that the bundle was calibrated for.

    Raises:
        InputError: If the bundle has no threshold for it.
    """
    for promised in bundle.spec.sets:
        if abs(promised.coverage - coverage) < 1e-9:
            threshold = Threshold("lac", promised.threshold, coverage, promised.images)
            return prediction_set(probabilities, threshold)
    known = ", ".join(f"{each.coverage:g}" for each in bundle.spec.sets)
    if not known:
        raise InputError(
            "This classifier has no calibrated class sets: it is an ensemble, or an older version "
            "of headstart made it. Fit a single network again to get them."
        )
    raise InputError(f"Class sets are calibrated for {known}, not for {coverage:g}.")


def training_distribution(bundle: Bundle) -> TrainingDistribution | None:
    """Returns what images a classifier knows; None for bundles that do not say."""
    spec = bundle.spec.distribution
    if spec is None or bundle.gallery is None:
        return None
    return TrainingDistribution(bundle.gallery, spec.k, spec.threshold, spec.false_alarm)


def predict_images(
    bundle: Bundle,
    images: Sequence[str | Path | bytes],
    progress: Progress = SILENT,
    set_coverage: float | None = None,
) -> list[Prediction]:
    """Classifies images; the prediction of an unreadable image has an error message.

    Args:
        bundle: The classifier.
        images: Paths, or the bytes of image files.
        progress: Progress display.
        set_coverage: How often the set of classes should hold the true one; no sets by default.

    Raises:
        InputError: If the bundle is not calibrated for that coverage.
    """
    classes = bundle.spec.classes
    if set_coverage is not None:
        class_sets(bundle, np.full((1, len(classes)), 1 / len(classes)), set_coverage)
    sources = [Path(image) if isinstance(image, str) else image for image in images]
    outputs = run_bundle(bundle, sources, progress=progress)
    probabilities = softmax(outputs.logits, bundle.spec.temperature)
    known = training_distribution(bundle)
    away = None if known is None else distance(outputs.embeddings, known)
    predictions = []
    for row, image in enumerate(images):
        name = f"image {row}" if isinstance(image, bytes) else str(image)
        if row in outputs.failed:
            predictions.append(Prediction(image=name, error=outputs.failed[row]))
            continue
        by_class = dict(zip(classes, map(float, probabilities[row]), strict=True))
        label = max(by_class, key=by_class.__getitem__)
        found: dict[str, Any] = {}
        if set_coverage is not None:
            (members,) = class_sets(bundle, probabilities[row : row + 1], set_coverage)
            order = np.argsort(-probabilities[row], kind="stable")
            found["classes"] = tuple(classes[each] for each in order if members[each])
            found["coverage"] = set_coverage
        if known is not None and away is not None:
            found |= _standing(float(away[row]), known.threshold)
        predictions.append(
            Prediction(
                image=name,
                label=label,
                probability=by_class[label],
                probabilities=by_class,
                **found,
            )
        )
    return predictions


def _standing(away: float, limit: float) -> dict[str, Any]:
    """Returns how far an image is from what is known, as fields of a prediction."""
    digits = 2 if round(away, 2) > round(limit, 2) else 5
    warning = f"unlike the training images: distance {away:.{digits}f}, limit {limit:.{digits}f}"
    outside = away > limit
    return {
        "distance": away,
        "limit": limit,
        "out_of_distribution": outside,
        "warning": warning if outside else "",
    }


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
        folder: Run folder.
        bundle: Its classifier.
        image: A path, or the bytes of an image file.
        k: How many.

    Raises:
        DataError: If the image cannot be read.
        RunError: If the run kept no embeddings.
    """
    if k < 1:
        raise InputError(f"The number of similar images is {k}; it must be at least 1.")
    known = read_embeddings(folder / "embeddings.safetensors")
    vectors, failed = embed_images(bundle, [image])
    if failed:
        raise DataError(failed[0])
    rows, cosines = nearest(vectors, known.vectors, k)
    return [
        Neighbour(image=known.images[row], label=known.labels[row], similarity=float(cosine))
        for row, cosine in zip(rows[0], cosines[0], strict=True)
    ]
