"""Suspicious images: probably wrong labels, copies with different labels, and outliers."""

from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from headstart.data.audit import Finding
from headstart.data.splits import folds
from headstart.data.types import Dataset
from headstart.diagnose.reasons import Reason, Suspect, copy_reasons, suspects_by
from headstart.errors import DataError
from headstart.evaluation.calibration import softmax
from headstart.evaluation.retrieval import unit
from headstart.features.probe import LabelledFeatures, cross_validate, fit_probe
from headstart.text import percent

FOLDS = 5
NEIGHBOURS = 5
"""Number of images of its own class that an image is compared with."""
FAR = 3.5
"""Robust standard deviations above which a distance is an outlier (Iglewicz & Hoaglin 1993)."""

_MOST_OF_OUTLIER = 0.5
_BLOCK = 512


def out_of_fold_probabilities(
    features: NDArray[np.floating],
    labels: NDArray[np.int64],
    classes: int,
    groups: NDArray[np.int64],
    seed: int = 0,
) -> NDArray[np.float64]:
    """Returns out-of-fold probabilities (N, C) from probes fitted without the group of an image.

    Only the L2 penalty, which `cross_validate` chooses, depends on all images.

    Args:
        features: Feature vectors (N, F).
        labels: Class numbers (N,), in 0 … C-1.
        classes: Number of classes C.
        groups: Group numbers (N,); a group stays within one fold.
        seed: Seed for the folds.

    Raises:
        DataError: If there are fewer than `FOLDS` groups, or without one of the folds fewer than
            two classes are left.
    """
    fold_of = folds([str(label) for label in labels], groups, FOLDS, seed)
    validated = cross_validate(LabelledFeatures(features, labels, classes, groups), seed=seed)
    probabilities = np.zeros((len(labels), classes))
    for fold in np.unique(fold_of):
        held = fold_of == fold
        if len(np.unique(labels[~held])) < 2:
            raise DataError(
                "Too few groups of images to check each by the others: without one of the "
                "folds, fewer than two classes are left. Add images."
            )
        probe = fit_probe(features, labels, classes, validated.strength, rows=~held)
        probabilities[held] = softmax(probe.logits(features[held]))
    return probabilities


def label_issues(
    probabilities: NDArray[np.floating], labels: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]:
    """Finds probably wrong labels by confident learning (Northcutt et al., JAIR 2021).

    The number of wrong labels comes from the confident joint of the paper: an image counts as
    class j if p(j) is at least the mean p(j) of the images labelled j (so hard classes have a low
    threshold); among several such classes, the likeliest counts. The share of each class that
    counts as another class, applied to all its images, gives the number.

    The images are those with the largest margin between the likeliest other class and the label
    (the normalised margin of the paper), over all classes together, because the counts for single
    pairs of classes are noisy on few images. An image whose label is the likeliest class is never
    included.

    Args:
        probabilities: Out-of-fold probabilities (N, C).
        labels: Class numbers (N,), in 0 … C-1.

    Returns:
        Row, likeliest class and margin in (0, 1] of each suspicious image, largest margin first.

    Example:
        >>> p = np.array([[0.9, 0.1], [0.9, 0.1], [0.1, 0.9], [0.1, 0.9], [0.95, 0.05]])
        >>> rows, suggested, margin = label_issues(p, np.array([0, 0, 1, 1, 1]))
        >>> rows.tolist(), suggested.tolist()
        ([4], [0])
    """
    p = np.asarray(probabilities, np.float64)
    everyone, classes = np.arange(len(p)), p.shape[1]
    of_label = p[everyone, labels]
    counts = np.bincount(labels, minlength=classes)
    sums = np.bincount(labels, of_label, minlength=classes)
    # No image can be confidently of a class without images.
    thresholds = np.where(counts > 0, sums / np.maximum(counts, 1), np.inf)
    confident = np.where(p >= thresholds, p, -1.0)
    counted = confident.max(axis=1) >= 0
    joint = np.zeros((classes, classes))
    np.add.at(joint, (labels[counted], confident[counted].argmax(axis=1)), 1)
    shares = 1 - np.diag(joint) / np.maximum(joint.sum(axis=1), 1)
    wrong = round(float((counts * shares)[joint.sum(axis=1) > 0].sum()))

    others = p.copy()
    others[everyone, labels] = -1
    margin = others.max(axis=1) - of_label
    rows = np.argsort(-margin, kind="stable")[:wrong]
    rows = rows[margin[rows] > 0]
    return rows, others.argmax(axis=1)[rows], margin[rows]


def own_class_distances(
    features: NDArray[np.floating], labels: NDArray[np.int64]
) -> NDArray[np.float64]:
    """Returns the mean cosine distance (N,) of each image to the nearest others of its class.

    Args:
        features: Feature vectors (N, F).
        labels: Class numbers (N,).

    Returns:
        The mean over at most `NEIGHBOURS` other images; NaN if the class has no other image.
    """
    away = np.full(len(labels), np.nan)
    for label in np.unique(labels):
        members = np.flatnonzero(labels == label)
        vectors = unit(features[members])
        k = min(NEIGHBOURS, len(members) - 1)
        for start in range(0, len(members) if k else 0, _BLOCK):
            cosines = vectors[start : start + _BLOCK] @ vectors.T
            itself = np.arange(len(cosines))
            cosines[itself, start + itself] = -np.inf
            nearest = np.partition(cosines, -k, axis=1)[:, -k:]
            away[members[start : start + _BLOCK]] = 1 - nearest.mean(axis=1)
    return away


def outliers(away: NDArray[np.float64]) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Returns the rows of unusually large distances, farthest first, and their robust z-scores.

    The unit of the z-score is 1.4826 times the median absolute deviation from the median. A
    distance is an outlier if its z-score is above `FAR` (Iglewicz and Hoaglin 1993).

    Args:
        away: Distances (N,); NaN for unknown ones.

    Example:
        >>> rows, z = outliers(np.array([0.10, 0.11, 0.12, 0.13, 0.90]))
        >>> rows.tolist()
        [4]
    """
    known = away[np.isfinite(away)]
    if not len(known):
        return np.empty(0, np.int64), np.empty(0)
    middle = float(np.median(known))
    spread = 1.4826 * float(np.median(np.abs(known - middle)))
    z = np.nan_to_num((away - middle) / max(spread, 1e-12), nan=0.0)
    rows = np.flatnonzero(z > FAR)
    rows = rows[np.argsort(-z[rows], kind="stable")]
    return rows, z[rows]


def find_suspects(
    dataset: Dataset,
    rows: NDArray[np.int64],
    classes: Sequence[str],
    probabilities: NDArray[np.floating],
    features: NDArray[np.floating],
    findings: Iterable[Finding] = (),
) -> tuple[Suspect, ...]:
    """Returns all suspicious images, the most suspicious first.

    - `label`: found by `label_issues`; the score is the margin.
    - `copies`: the audit found the same picture with several labels. The score is 0.9, because one
      of the labels is certainly wrong.
    - `outlier`: far from its class; the score is at most 0.5, because most are only unusual.

    The scores a and b of two reasons combine to 1 - (1 - a) (1 - b).

    Args:
        dataset: The data set.
        rows: Rows of the data set to check (N,), without the sealed test set.
        classes: Class names (C,), in the order of the probabilities.
        probabilities: Out-of-fold probabilities (N, C).
        features: Feature vectors (N, F).
        findings: Findings of the audit of the data set.
    """
    numbers = {name: number for number, name in enumerate(classes)}
    names = [dataset.items[int(row)].label for row in rows]
    labels = np.array([numbers[name] for name in names], np.int64)
    reasons = [
        *_wrong_labels(rows, names, classes, labels, probabilities),
        *copy_reasons(dataset, findings),
        *outlier_reasons(
            rows, [f"of {name!r}" for name in names], own_class_distances(features, labels)
        ),
    ]
    return suspects_by(dataset, reasons)


def _wrong_labels(
    rows: NDArray[np.int64],
    names: Sequence[str],
    classes: Sequence[str],
    labels: NDArray[np.int64],
    probabilities: NDArray[np.floating],
) -> list[Reason]:
    reasons = []
    for row, suggested, margin in zip(*label_issues(probabilities, labels), strict=True):
        chance, of_label = probabilities[row, suggested], probabilities[row, labels[row]]
        why = (
            f"labelled {names[row]!r}, but a classifier that was not trained on it predicts "
            f"{classes[suggested]!r} ({percent(chance, 0)} against {percent(of_label, 0)})"
        )
        reasons.append(Reason(int(rows[row]), classes[suggested], "label", float(margin), why))
    return reasons


def outlier_reasons(
    rows: NDArray[np.int64], others: Sequence[str], away: NDArray[np.float64]
) -> list[Reason]:
    """Returns a reason for each image that is unusually far from others.

    Args:
        rows: Rows of the data set (N,).
        others: What the others are, for each image, such as "of 'rose'".
        away: Distance to them (N,); NaN for unknown ones.
    """
    return [
        Reason(
            int(rows[row]),
            "",
            "outlier",
            _MOST_OF_OUTLIER * (1 - FAR / float(z)),
            f"unlike other images {others[row]}: the distance to them is {z:.1f} standard "
            "deviations above the median",
        )
        for row, z in zip(*outliers(away), strict=True)
    ]
