"""Suspicious images: probably wrong labels, copies with different labels, and outliers."""

from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from headstart.artifacts.files import check_writable, read_table, replacing
from headstart.data.audit import Finding
from headstart.data.splits import folds
from headstart.data.types import Dataset
from headstart.errors import DataError
from headstart.evaluation.calibration import softmax
from headstart.evaluation.retrieval import unit
from headstart.features.probe import LabelledFeatures, cross_validate, fit_probe
from headstart.names import to_cell, write_rows
from headstart.text import percent

Kind = Literal["label", "copies", "outlier"]

SUSPECTS = "suspects.csv"
"""File in a run folder with its suspicious images."""
FOLDS = 5
NEIGHBOURS = 5
"""Number of images of its own class that an image is compared with."""
FAR = 3.5
"""Robust standard deviations above which a distance is an outlier (Iglewicz & Hoaglin 1993)."""

_SCORE_OF_COPIES = 0.9
_MOST_OF_OUTLIER = 0.5
_BLOCK = 512


@dataclass(frozen=True)
class Suspect:
    """A suspicious image.

    Attributes:
        path: Path relative to the folder of the data set.
        row: Row in the data set.
        label: Class label.
        suggested: Class that it may belong to; empty if there is no suggestion.
        kind: The strongest reason: a probably wrong label (`label`), a copy with another label
            (`copies`), or a large distance from its class (`outlier`).
        score: How suspicious the image is, 0 to 1.
        why: All reasons, for display.
    """

    path: str
    row: int
    label: str
    suggested: str
    kind: Kind
    score: float
    why: str


@dataclass(frozen=True)
class _Reason:
    row: int
    suggested: str
    kind: Kind
    score: float
    why: str


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
        probe = fit_probe(features[~held], labels[~held], classes, validated.strength)
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
        *_copies(dataset, findings),
        *_outliers(rows, names, own_class_distances(features, labels)),
    ]
    by_row: dict[int, list[_Reason]] = {}
    for reason in reasons:
        by_row.setdefault(reason.row, []).append(reason)
    found = [_suspect(dataset, together) for together in by_row.values()]
    return tuple(sorted(found, key=lambda suspect: (-suspect.score, suspect.row)))


def write_suspects_csv(path: Path, suspects: Iterable[Suspect]) -> None:
    """Writes suspicious images as CSV, one row each, in the given order.

    Raises:
        InputError: As `check_writable`.
        DiskFullError: If there is no space left.
    """
    check_writable(path)
    # surrogateescape: a file name need not be valid UTF-8.
    with (
        replacing(path) as draft,
        draft.open("w", newline="", encoding="utf-8", errors="surrogateescape") as file,
    ):
        cells = (
            [*map(to_cell, (s.path, s.label, s.suggested)), s.kind, f"{s.score:.4f}", s.why]
            for s in suspects
        )
        write_rows(file, [("path", "label", "suggested", "kind", "score", "why"), *cells])


def read_suspects_csv(path: Path) -> list[dict[str, str]]:
    """Reads a file of `write_suspects_csv`; returns an empty list if there is no such file.

    Raises:
        RunError: If it cannot be read.
    """
    return read_table(path, ("path", "label", "suggested", "kind", "score", "why")) or []


def without_sealed(findings: Iterable[Finding], sealed: Container[str]) -> list[Finding]:
    """Returns the findings without sealed images; those that depend on them are left out."""
    known = []
    for finding in findings:
        files = tuple(file for file in finding.files if file not in sealed)
        if len(files) == len(finding.files):
            known.append(finding)
        elif len(files) > 1:
            known.append(finding.model_copy(update={"files": files}))
    return known


def _suspect(dataset: Dataset, reasons: Sequence[_Reason]) -> Suspect:
    """Combines all reasons for one image."""
    first, *_ = ordered = sorted(reasons, key=lambda reason: -reason.score)
    return Suspect(
        path=dataset.key(first.row),
        row=first.row,
        label=dataset.items[first.row].label,
        suggested=next((reason.suggested for reason in ordered if reason.suggested), ""),
        kind=first.kind,
        score=float(1 - np.prod([1 - reason.score for reason in ordered])),
        why="; ".join(reason.why for reason in ordered),
    )


def _wrong_labels(
    rows: NDArray[np.int64],
    names: Sequence[str],
    classes: Sequence[str],
    labels: NDArray[np.int64],
    probabilities: NDArray[np.floating],
) -> list[_Reason]:
    reasons = []
    for row, suggested, margin in zip(*label_issues(probabilities, labels), strict=True):
        chance, of_label = probabilities[row, suggested], probabilities[row, labels[row]]
        why = (
            f"labelled {names[row]!r}, but a classifier that was not trained on it predicts "
            f"{classes[suggested]!r} ({percent(chance, 0)} against {percent(of_label, 0)})"
        )
        reasons.append(_Reason(int(rows[row]), classes[suggested], "label", float(margin), why))
    return reasons


def _copies(dataset: Dataset, findings: Iterable[Finding]) -> list[_Reason]:
    """Returns a reason for each image that has a copy with another label."""
    at: Mapping[str, int] = {dataset.key(row): row for row in range(len(dataset.items))}
    others: dict[int, dict[str, str]] = {}  # by image, one copy of each other label
    for finding in findings:
        if finding.kind not in {"conflicting_labels", "near_duplicate"}:
            continue
        for file in finding.files:
            label = dataset.items[at[file]].label
            for other in finding.files:
                if (name := dataset.items[at[other]].label) != label:
                    others.setdefault(at[file], {}).setdefault(name, other)
    reasons = []
    for row, copies in others.items():
        shown = " and ".join(f"{file} is labelled {name!r}" for name, file in copies.items())
        why = f"labelled {dataset.items[row].label!r}, but its copy {shown}"
        suggested = next(iter(copies)) if len(copies) == 1 else ""
        reasons.append(_Reason(row, suggested, "copies", _SCORE_OF_COPIES, why))
    return reasons


def _outliers(
    rows: NDArray[np.int64], names: Sequence[str], away: NDArray[np.float64]
) -> list[_Reason]:
    return [
        _Reason(
            int(rows[row]),
            "",
            "outlier",
            _MOST_OF_OUTLIER * (1 - FAR / float(z)),
            f"unlike other images of {names[row]!r}: the distance to them is {z:.1f} standard "
            "deviations above the median",
        )
        for row, z in zip(*outliers(away), strict=True)
    ]
