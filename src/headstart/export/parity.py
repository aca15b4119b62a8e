"""Whether an export answers as the run did: its figures on the sealed test, and its limits."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

from headstart.artifacts.records import TestPrediction
from headstart.evaluation.intervals import share_interval
from headstart.evaluation.paired import Cell, paired_difference
from headstart.text import counted, percent

MOST_DIFFERENCE = 0.005
"""Largest difference of a probability for exports in floating point."""


class Parity(BaseModel):
    """An export on the sealed test images, beside the recorded predictions of the run.

    Attributes:
        images: Number of test images.
        agreement: Share of images with the predicted class of the run.
        differing: Names of the images with another class.
        near_ties: How many of these are near-ties: both classes are about as probable.
        largest_difference: Largest difference of the probability of the predicted class or of the
            true class.
        accuracy: Share of test images that the export classifies correctly.
        accuracy_interval: 95% interval of the accuracy.
        recorded_accuracy: The same share in the run.
        loss: By how much the accuracy is lower than in the run; below 0 where it is higher.
        loss_interval: 95% interval of the loss, paired.
    """

    model_config = ConfigDict(frozen=True)

    images: int
    agreement: float
    differing: tuple[str, ...]
    near_ties: int
    largest_difference: float
    accuracy: float
    accuracy_interval: tuple[float, float]
    recorded_accuracy: float
    loss: float
    loss_interval: tuple[float, float]


@dataclass(frozen=True)
class Limits:
    """What an export must keep to.

    Attributes:
        most_difference: Largest difference of a probability; None without a limit.
        least_agreement: Least share of images with the class of the run, near-ties aside.
    """

    most_difference: float | None = MOST_DIFFERENCE
    least_agreement: float = 1.0


EXACT = Limits()


def measure(
    predictions: Sequence[TestPrediction],
    probabilities: NDArray[np.floating],
    classes: Sequence[str],
) -> Parity:
    """Compares probabilities with the recorded predictions of a run.

    Args:
        predictions: Recorded predictions of N test images.
        probabilities: Probabilities (N, C) of the export. Values that are not finite count as 0,
            so that they differ.
        classes: Names of the classes C.
    """
    given = np.where(np.isfinite(probabilities), probabilities, 0).astype(np.float64)
    number = {name: place for place, name in enumerate(classes)}
    rows = np.arange(len(predictions))
    labels = np.array([number[each.label] for each in predictions], np.int64)
    recorded = np.array([number[each.prediction] for each in predictions], np.int64)
    best = given.argmax(1)
    known = np.array([(each.probability, each.probability_of_label) for each in predictions])
    found = np.stack([given[rows, recorded], given[rows, labels]], 1)
    other = best != recorded
    close = given[rows, best] - given[rows, recorded] <= 2 * MOST_DIFFERENCE
    before, after = recorded == labels, best == labels
    groups = _groups(predictions)
    gain, (low, high) = paired_difference([Cell("test", before, after, groups)])
    return Parity(
        images=len(predictions),
        agreement=float(1 - other.mean()),
        differing=tuple(predictions[int(row)].path for row in np.flatnonzero(other)),
        near_ties=int((other & close).sum()),
        largest_difference=float(np.abs(found - known).max()),
        accuracy=float(after.mean()),
        accuracy_interval=share_interval(after, groups),
        recorded_accuracy=float(before.mean()),
        loss=-gain + 0.0,
        loss_interval=(-high, -low),
    )


def failures(parity: Parity, limits: Limits, max_loss: float) -> list[str]:
    """Returns in which ways an export does not keep to its limits, as clauses.

    Args:
        parity: Its figures.
        limits: The limits of its target.
        max_loss: Most accuracy that it may lose; one image is always allowed.
    """
    found = []
    most = limits.most_difference
    if most is not None and parity.largest_difference > most:
        found.append(
            f"a probability differs by {parity.largest_difference:.2g}, at most {most:g} is allowed"
        )
    agreeing = parity.agreement + parity.near_ties / parity.images
    if agreeing < limits.least_agreement - 1e-9:
        found.append(
            f"{percent(parity.agreement)} of {counted(parity.images, 'test image')} get the class "
            f"of the run, at least {percent(limits.least_agreement)} must (near-ties aside)"
        )
    if parity.loss > max(max_loss, 1 / parity.images) + 1e-9:
        found.append(
            f"it loses {100 * parity.loss:.1f} points of accuracy, at most {100 * max_loss:g} or "
            "one image is allowed"
        )
    return found


def _groups(predictions: Sequence[TestPrediction]) -> NDArray[np.int64] | None:
    known = [each.group for each in predictions if each.group != ""]
    return np.array(known, np.int64) if len(known) == len(predictions) else None
