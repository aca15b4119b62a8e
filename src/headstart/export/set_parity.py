"""Whether an export answers as the run did, where an image may have any number of labels."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

from headstart.artifacts.bundle_spec import BundleSpec
from headstart.artifacts.set_results import SetPrediction
from headstart.evaluation.label_metrics import (
    micro_f1_estimate,
    micro_f1_loss,
    precision_estimates,
)
from headstart.evaluation.label_rules import decided
from headstart.evaluation.label_scores import mean_average_precision
from headstart.export.parity import MOST_DIFFERENCE, Limits
from headstart.text import counted, percent


class SetParity(BaseModel):
    """An export on the sealed test images, beside the recorded labels of the run.

    Attributes:
        images: Number of test images.
        agreement: F1 of the labels that the export gives against those of the run, all images
            together; 1 if all sets of labels are the same. With one label an image it would be the
            share of images with the same class.
        differing: Names of the images with another set of labels.
        decisions: Number of decisions that differ, of which each image has one for each label.
        near_ties: How many of these are near-ties: the probability is about the threshold.
        agreement_aside: The agreement if near-ties had been decided as in the run.
        largest_difference: Largest difference of a probability, of any label.
        mean_average_precision: Mean average precision of the export.
        mean_average_precision_interval: 95% bootstrap interval.
        recorded_mean_average_precision: The same figure in the run.
        micro_f1: F1 of all decisions of the export.
        micro_f1_interval: 95% bootstrap interval.
        recorded_micro_f1: The same figure in the run.
        loss: By how much the micro F1 is lower than in the run; below 0 where it is higher.
        loss_interval: 95% interval of the loss, paired; of width 0 if no decision differs.
    """

    model_config = ConfigDict(frozen=True)

    images: int
    agreement: float
    differing: tuple[str, ...]
    decisions: int
    near_ties: int
    agreement_aside: float
    largest_difference: float
    mean_average_precision: float
    mean_average_precision_interval: tuple[float, float]
    recorded_mean_average_precision: float
    micro_f1: float
    micro_f1_interval: tuple[float, float]
    recorded_micro_f1: float
    loss: float
    loss_interval: tuple[float, float]


def measure_sets(
    predictions: Sequence[SetPrediction], probabilities: NDArray[np.floating], spec: BundleSpec
) -> SetParity:
    """Compares probabilities with the recorded predictions of a run.

    Args:
        predictions: Recorded predictions of N test images.
        probabilities: Probabilities (N, C) of the export. Values that are not finite count as 0,
            so that they differ.
        spec: Description of the classifier of the run.
    """
    told = np.where(np.isfinite(probabilities), probabilities, 0).astype(np.float64)
    known = np.array([each.probabilities for each in predictions], np.float64)
    groups = np.array([each.group for each in predictions], np.int64)
    marks, before = (
        np.array([[name in names for name in spec.classes] for names in sets], np.int64)
        for sets in ([p.labels for p in predictions], [p.given for p in predictions])
    )
    after = decided(told, spec.labels).astype(np.int64)
    other = before != after
    thresholds = np.array([rule.threshold for rule in spec.labels])
    ties = other & (np.abs(told - thresholds) <= MOST_DIFFERENCE)
    estimated = precision_estimates(told, marks, groups)
    micro, micro_interval = micro_f1_estimate(marks, after, groups)
    loss, loss_interval = micro_f1_loss(marks, before, after, groups)
    return SetParity(
        images=len(predictions),
        agreement=_f1(before, after),
        differing=tuple(predictions[int(row)].path for row in np.flatnonzero(other.any(1))),
        decisions=int(other.sum()),
        near_ties=int(ties.sum()),
        agreement_aside=_f1(before, np.where(ties, before, after)),
        largest_difference=float(np.abs(told - known).max()),
        mean_average_precision=estimated.mean,
        mean_average_precision_interval=estimated.mean_interval,
        recorded_mean_average_precision=mean_average_precision(known, marks),
        micro_f1=micro,
        micro_f1_interval=micro_interval,
        recorded_micro_f1=micro_f1_estimate(marks, before, groups)[0],
        loss=loss + 0.0,
        loss_interval=loss_interval,
    )


def set_failures(parity: SetParity, limits: Limits, max_loss: float) -> list[str]:
    """Returns in which ways an export does not keep to its limits, as clauses.

    Args:
        parity: Its figures.
        limits: The limits of its target.
        max_loss: Most micro F1 and mean average precision that it may lose; one image's share is
            always allowed.
    """
    found = []
    most = limits.most_difference
    if most is not None and parity.largest_difference > most:
        found.append(
            f"a probability differs by {parity.largest_difference:.2g}, at most {most:g} is allowed"
        )
    if parity.agreement_aside < limits.least_agreement - 1e-9:
        found.append(
            f"{counted(len(parity.differing), 'image')} of {parity.images:,} get other labels than "
            f"in the run (F1 of the labels {percent(parity.agreement)}, at least "
            f"{percent(limits.least_agreement)} must agree, near-ties aside)"
        )
    lost = {
        "micro F1": parity.loss,
        "mean average precision": parity.recorded_mean_average_precision
        - parity.mean_average_precision,
    }
    for name, loss in lost.items():
        if loss > max(max_loss, 1 / parity.images) + 1e-9:
            found.append(
                f"it loses {100 * loss:.1f} points of {name}, at most {100 * max_loss:g} or the "
                "share of one image are allowed"
            )
    return found


def _f1(one: NDArray[np.int64], other: NDArray[np.int64]) -> float:
    """Returns the F1 of decisions (N, C) against others; 1 if neither gives any label."""
    total = int(one.sum() + other.sum())
    return 2 * int((one & other).sum()) / total if total else 1.0
