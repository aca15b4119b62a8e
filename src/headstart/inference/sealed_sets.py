"""What the outputs on the sealed test images say of a classifier that gives several labels."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from headstart.artifacts.bundle_spec import BundleSpec
from headstart.artifacts.set_results import SetPrediction
from headstart.data.stratify import indicators
from headstart.evaluation.intervals import numbered
from headstart.evaluation.label_metrics import SetMetrics, compute_set_metrics
from headstart.evaluation.label_rules import decided, probabilities_of
from headstart.evaluation.label_scores import label_losses


def set_results(
    spec: BundleSpec,
    logits: NDArray[np.float32],
    sets: Sequence[tuple[str, ...]],
    keys: Sequence[str],
    groups: NDArray[np.int64],
) -> tuple[SetMetrics, list[SetPrediction]]:
    """Returns the metrics and the prediction for each test image.

    Args:
        spec: Description of the classifier.
        logits: Its outputs (N, C).
        sets: Labels of each image; those that were not learned are left out.
        keys: Name of each image in the run.
        groups: Group number of each image, (N,).
    """
    marks, rules = indicators(sets, spec.classes), spec.labels
    metrics = compute_set_metrics(logits, marks, spec.classes, rules, groups)
    told = probabilities_of(logits, rules)
    given = decided(told, rules)
    scale = np.array([[rule.scale, rule.shift] for rule in rules])
    losses = label_losses(logits * scale[:, 0] + scale[:, 1], marks).mean(1)
    names = np.array(spec.classes, object)
    group = numbered(groups, len(sets))
    predictions = [
        SetPrediction(
            path=key,
            labels=tuple(names[marks[row] > 0]),
            given=tuple(names[given[row]]),
            log_loss=float(losses[row]),
            group=int(group[row]),
            probabilities=tuple(map(float, told[row])),
        )
        for row, key in enumerate(keys)
    ]
    return metrics, predictions
