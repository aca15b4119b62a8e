"""Using a run: which class is on an image, and how sure that is."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from headstart.artifacts.bundle import Bundle, load_bundle, predict_logits
from headstart.artifacts.run import RunRecord, read_metrics, read_record
from headstart.evaluate import Metrics, softmax
from headstart.progress import SILENT, Progress


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
    logits, failed = predict_logits(bundle, sources, progress=progress)
    probabilities = softmax(logits, bundle.spec.temperature)
    predictions = []
    for row, image in enumerate(images):
        name = f"image {row}" if isinstance(image, bytes) else str(image)
        if row in failed:
            predictions.append(Prediction(image=name, error=failed[row]))
            continue
        by_class = dict(zip(bundle.spec.classes, map(float, probabilities[row]), strict=True))
        label = max(by_class, key=by_class.__getitem__)
        predictions.append(
            Prediction(image=name, label=label, probability=by_class[label], probabilities=by_class)
        )
    return predictions
