"""Inference with a bundle: predictions with their uncertainty, and embeddings."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

from headstart.artifacts.bundle_spec import BundleSpec
from headstart.data.label_sets import set_name
from headstart.errors import InputError
from headstart.evaluation.calibration import softmax
from headstart.evaluation.conformal import Threshold, TrainingDistribution, distance, prediction_set
from headstart.evaluation.label_rules import decided, probabilities_of
from headstart.inference.bundle import Bundle
from headstart.inference.image_inputs import ImageInput, image_inputs, why_missing
from headstart.inference.run_bundle import Outputs, run_batches, run_bundle
from headstart.progress import SILENT, Progress
from headstart.text import listed

_MANY = 1_000_000
"""What a stream of images is taken for, whose number is not known."""

_FEW = 4
"""Images in a batch of a stream: on a processor, what few need stays in its caches."""


class Prediction(BaseModel):
    """The prediction for one image.

    Attributes:
        image: Path or name of the image.
        label: The most probable class; empty if the image could not be read, and `unknown` if it
            was rejected.
        probability: Calibrated probability of the label; 0 if the image was rejected.
        probabilities: Calibrated probability of every class.
        error: Why the image could not be read; empty if it could.
        classes: Prediction set: classes, most probable first, that contain the true one as often as
            `coverage` says; empty without a coverage.
        coverage: Coverage of the prediction set.
        distance: Cosine distance to the k-th nearest training image, less that to the k-th nearest
            image of the background if there is one (`fit --background`); None if the bundle has no
            training distribution.
        limit: Distance above which an image is out of distribution.
        out_of_distribution: Whether the distance exceeds the limit; the label is unreliable then.
        depth: Type of the values in the image, such as `uint16`; empty if it could not be read.
        other_depth: Whether no training image had values of this type; brightness may be off then.
        warning: What speaks against the label, in words; empty if nothing does.
        labels: Labels that the image gets, most probable first, where it may get any number; else
            None. `label` is then their names in one text, and `probability` that of the least
            probable, or that none fits.

    Example:
        >>> Prediction(image="rose.jpg", label="rose", probability=0.97).out_of_distribution
        False
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
    depth: str = ""
    other_depth: bool = False
    warning: str = ""
    labels: tuple[str, ...] | None = Field(None, exclude_if=lambda labels: labels is None)


@dataclass
class Tally:
    """Counts of predictions.

    Attributes:
        images: All.
        failed: Images that could not be read.
        out_of_distribution: Images that are unlike the training images.
        other_depth: Images with values of a type that no training image had.

    Example:
        >>> tally = Tally()
        >>> tally.count(Prediction(image="rose.jpg", error="It is empty."))
        >>> tally
        Tally(images=1, failed=1, out_of_distribution=0, other_depth=0)
    """

    images: int = 0
    failed: int = 0
    out_of_distribution: int = 0
    other_depth: int = 0

    def count(self, prediction: Prediction) -> None:
        """Counts one prediction."""
        self.images += 1
        self.failed += bool(prediction.error)
        self.out_of_distribution += prediction.out_of_distribution
        self.other_depth += prediction.other_depth


def class_sets(
    bundle: Bundle, probabilities: NDArray[np.float64], coverage: float
) -> NDArray[np.bool_]:
    """Returns which classes (N, C) are in the prediction sets of images.

    Args:
        bundle: The classifier.
        probabilities: Class probabilities of images (N, C).
        coverage: Share of sets that contain the true class; one that the bundle is calibrated for.

    Raises:
        InputError: If the bundle has no threshold for the coverage.
    """
    for promised in bundle.spec.sets:
        if abs(promised.coverage - coverage) < 1e-9:
            threshold = Threshold("lac", promised.threshold, coverage, promised.images)
            return prediction_set(probabilities, threshold)
    known = ", ".join(f"{each.coverage:g}" for each in bundle.spec.sets)
    if not known:
        raise InputError(
            "This classifier has no calibrated prediction sets: it is an ensemble, or an older "
            "version of headstart made it. Fit a single network again to get them."
        )
    raise InputError(f"Prediction sets are calibrated for {known}, not for {coverage:g}.")


def training_distribution(bundle: Bundle) -> TrainingDistribution | None:
    """Returns the training distribution of a classifier; None if its bundle has none."""
    spec, other = bundle.spec.distribution, bundle.spec.background
    if spec is None or bundle.gallery is None:
        return None
    limit = spec.threshold if other is None else other.threshold
    return TrainingDistribution(bundle.gallery, spec.k, limit, spec.false_alarm, bundle.background)


def predict_images(
    bundle: Bundle, images: Any, progress: Progress = SILENT, set_coverage: float | None = None
) -> list[Prediction]:
    """Classifies images; predictions of unreadable images have an error message.

    Args:
        bundle: The classifier.
        images: One image or several; see `image_inputs`.
        progress: Progress display.
        set_coverage: Share of images whose prediction set contains the true class; no
            prediction sets by default.

    Raises:
        InputError: If the bundle is not calibrated for the coverage.
    """
    check_coverage(bundle, set_coverage)
    given = image_inputs(images)
    if bundle.note:
        progress.say(bundle.note)
    outputs = run_bundle(bundle, [image.source for image in given], progress=progress)
    return predictions_of(bundle, given, outputs, set_coverage)


def predict_batches(
    bundle: Bundle, images: Iterable[ImageInput], set_coverage: float | None = None
) -> Iterator[list[Prediction]]:
    """Classifies any number of images and keeps nothing of those that are done.

    Args:
        bundle: The classifier.
        images: Images; only the next few are taken.
        set_coverage: Coverage of prediction sets, one that the bundle is calibrated for.

    Yields:
        The predictions of the next few images, in their order.
    """
    # Threads of NumPy that wait for each other would keep the cores from the network.
    with threadpool_limits(1, user_api="blas"):
        for given, outputs in run_batches(bundle, images, _MANY, _FEW):
            yield predictions_of(bundle, given, outputs, set_coverage)


def check_coverage(bundle: Bundle, set_coverage: float | None) -> None:
    """Checks, before any work, that a bundle has prediction sets of a coverage.

    Raises:
        InputError: If it is not calibrated for the coverage.
    """
    classes = len(bundle.spec.classes)
    if set_coverage is not None and bundle.spec.multilabel:
        raise InputError(
            "Prediction sets are for one label an image. This classifier gives any number of "
            "labels, each by its own threshold. Leave --set-coverage out."
        )
    if set_coverage is not None:
        class_sets(bundle, np.full((1, classes), 1 / classes), set_coverage)


def predictions_of(
    bundle: Bundle,
    given: Sequence[ImageInput],
    outputs: Outputs,
    set_coverage: float | None = None,
) -> list[Prediction]:
    """Returns what the outputs of a classifier say of images.

    Args:
        bundle: The classifier.
        given: The images.
        outputs: Outputs for them, in their order.
        set_coverage: Coverage of prediction sets, one that the bundle is calibrated for.
    """
    classes, rules = bundle.spec.classes, bundle.spec.labels
    probabilities = (
        probabilities_of(outputs.logits, rules)
        if rules
        else softmax(outputs.logits, bundle.spec.temperature)
    )
    known = training_distribution(bundle)
    # One by one: the last digits of a product of matrices depend on the rows beside.
    rows = outputs.embeddings[:, None]
    away = None if known is None else [float(distance(row, known)[0]) for row in rows]
    predictions = []
    for row, image in enumerate(given):
        if row in outputs.failed:
            error = why_missing(image, outputs.failed[row])
            predictions.append(Prediction(image=image.name, error=error))
            continue
        by_class = dict(zip(classes, map(float, probabilities[row]), strict=True))
        label = max(by_class, key=by_class.__getitem__)
        found: dict[str, Any] = {"label": label, "probability": by_class[label]}
        if rules:
            found = _labels_of(probabilities[row], bundle.spec)
        if set_coverage is not None:
            (members,) = class_sets(bundle, probabilities[row : row + 1], set_coverage)
            order = np.argsort(-probabilities[row], kind="stable")
            found["classes"] = tuple(classes[each] for each in order if members[each])
            found["coverage"] = set_coverage
        if known is not None and away is not None:
            found |= _standing(away[row], known.threshold)
        found["depth"] = outputs.depths[row]
        other = other_depth(bundle.spec, outputs.depths[row])
        found["other_depth"] = bool(other)
        found["warning"] = " ".join(filter(None, [found.get("warning", ""), other]))
        predictions.append(
            Prediction(
                image=image.name,
                probabilities=by_class,
                **found,
            )
        )
    return predictions


def _labels_of(probabilities: NDArray[np.float64], spec: BundleSpec) -> dict[str, Any]:
    """Returns the labels that an image gets by its probabilities (C,), as fields of a prediction.

    The probability is that of the least probable of them, or the highest that is below a threshold
    taken from 1.
    """
    given = decided(probabilities, spec.labels)
    order = [int(each) for each in np.argsort(-probabilities, kind="stable") if given[each]]
    labels = tuple(spec.classes[each] for each in order)
    sure = probabilities[order[-1]] if order else 1 - probabilities.max()
    return {"label": set_name(labels), "labels": labels, "probability": float(sure)}


def other_depth(spec: BundleSpec, depth: str) -> str:
    """Returns a warning if no training image of a classifier had values of this type, else "".

    Older bundles did not keep the types; they say nothing.
    """
    if not spec.depths or depth in spec.depths:
        return ""
    return f"Its values are {depth}, those of the training images {listed(spec.depths)}."


def _standing(away: float, limit: float) -> dict[str, Any]:
    """Returns the distance of an image to the training images, as fields of a prediction."""
    digits = 2 if round(away, 2) > round(limit, 2) else 5
    warning = f"Unlike the training images (distance {away:.{digits}f}, limit {limit:.{digits}f})."
    outside = away > limit
    return {
        "distance": away,
        "limit": limit,
        "out_of_distribution": outside,
        "warning": warning if outside else "",
    }


def embed_images(
    bundle: Bundle, images: Any, progress: Progress = SILENT
) -> tuple[NDArray[np.float32], dict[int, str]]:
    """Returns embeddings (N, E), and the error of each unreadable image by row."""
    given = image_inputs(images)
    if bundle.note:
        progress.say(bundle.note)
    sources = [image.source for image in given]
    outputs = run_bundle(bundle, sources, progress=progress, description="embedding")
    failed = {row: why_missing(given[row], reason) for row, reason in outputs.failed.items()}
    return outputs.embeddings, failed
