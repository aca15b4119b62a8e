"""What the service answers by the task of the classifier: one class, or any number of labels."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from headstart.artifacts.bundle_spec import BundleSpec
from headstart.artifacts.run import read_metrics
from headstart.artifacts.set_results import read_set_metrics
from headstart.inference.predict import Prediction
from headstart.serving.answers import (
    Heat,
    ImageLabels,
    LabelDecision,
    LabelHeat,
    SealedResult,
    SealedSetResult,
)
from headstart.serving.occlusion import heat_of, lost_by_cell


def thresholds_of(spec: BundleSpec) -> dict[str, float] | None:
    """Returns the probability from which an image gets each label; None if it has one class."""
    if not spec.multilabel:
        return None
    rules = zip(spec.classes, spec.labels, strict=True)
    return {name: rule.threshold for name, rule in rules}


def image_labels(prediction: Prediction, spec: BundleSpec) -> ImageLabels:
    """Returns a prediction of any number of labels with the decision for every label."""
    thresholds, given = thresholds_of(spec) or {}, prediction.labels or ()
    found = sorted(prediction.probabilities.items(), key=lambda each: -each[1])
    return ImageLabels(
        image=prediction.image,
        labels=given,
        decisions=tuple(
            LabelDecision(
                label=name, probability=share, threshold=thresholds[name], given=name in given
            )
            for name, share in found
        ),
        error=prediction.error,
        distance=prediction.distance,
        limit=prediction.limit,
        out_of_distribution=prediction.out_of_distribution,
        depth=prediction.depth,
        other_depth=prediction.other_depth,
        warning=prediction.warning,
    )


def the_heat_of(
    logits: NDArray[np.float32], prediction: Prediction, spec: BundleSpec, view: str
) -> Heat:
    """Returns where the network looked for the class of an image.

    Args:
        logits: Logits (37, C) of the view, and behind it of `hidden_views`.
        prediction: The prediction for the image.
        spec: Description of the classifier.
        view: The view as a data URL.
    """
    scaled = logits / spec.temperature
    label = spec.classes.index(prediction.label)
    values = heat_of(scaled[0], scaled[1:], label)
    return Heat(label=prediction.label, values=values, view=view)


def heats_of(
    logits: NDArray[np.float32], prediction: Prediction, spec: BundleSpec
) -> list[LabelHeat]:
    """Returns where the network looked for each label of an image, or for the most probable one.

    Args:
        logits: Logits (37, C) of the view, and behind it of `hidden_views`.
        prediction: The prediction for the image.
        spec: Description of the classifier.
    """
    shares = prediction.probabilities
    found = []
    for name in prediction.labels or (max(shares, key=shares.__getitem__),):
        label = spec.classes.index(name)
        rule = spec.labels[label]
        odds = logits[:, label].astype(np.float64) * rule.scale + rule.shift
        found.append(LabelHeat(label=name, values=lost_by_cell(odds[:1], odds[1:])))
    return found


def sealed_result(folder: Path, spec: BundleSpec) -> SealedResult | SealedSetResult:
    """Returns the result of the sealed test of a run.

    Raises:
        RunError: If the folder is not a finished run.
    """
    if not spec.multilabel:
        one = read_metrics(folder)
        return SealedResult(
            accuracy=one.accuracy, accuracy_interval=one.accuracy_interval, images=one.n
        )
    several = read_set_metrics(folder)
    return SealedSetResult(
        mean_average_precision=several.mean_average_precision,
        mean_average_precision_interval=several.mean_average_precision_interval,
        micro_f1=several.micro_f1,
        micro_f1_interval=several.micro_f1_interval,
        images=several.n,
    )
