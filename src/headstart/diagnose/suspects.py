"""Which images deserve a look: labels that may be wrong, copies that disagree, and outliers."""

import csv
from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from headstart.artifacts.files import check_writable, replacing
from headstart.data.audit import Finding
from headstart.data.splits import folds
from headstart.data.types import Dataset
from headstart.errors import DataError, RunError
from headstart.evaluate import softmax
from headstart.probe import LabelledFeatures, cross_validate, fit_probe
from headstart.retrieval import unit

Kind = Literal["label", "copies", "outlier"]

SUSPECTS = "suspects.csv"
"""The file of a run that holds what its search found."""
FOLDS = 5
NEIGHBOURS = 5
"""How many images of its own class an image is compared with."""
FAR = 3.5
"""Robust standard deviations from which on a distance is an outlier (Iglewicz & Hoaglin 1993)."""

_SCORE_OF_COPIES = 0.9
_MOST_OF_OUTLIER = 0.5
_BLOCK = 512


@dataclass(frozen=True)
class Suspect:
    """An image that deserves a look.

    Attributes:
        path: Its name: the path relative to the data set's folder.
        row: Its row in the data set.
        label: Name of the class that it is labelled as.
        suggested: Name of the class that it may be of; empty where there is no guess.
        kind: The strongest reason: its label (`label`), a copy under another label (`copies`), or
            that it is unlike its class (`outlier`).
        score: 0 to 1: how much it deserves a look.
        why: All reasons, for people.
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
    """Returns what a probe says of each image (N, C) that was fitted without it and its group.

    The L2 penalty is the one that `cross_validate` finds best; so it alone depends on all images.

    Args:
        features: (N, F).
        labels: (N,), in 0 … C-1.
        classes: C.
        groups: (N,), kept within a fold.
        seed: Of the folds.

    Raises:
        DataError: There are fewer than `FOLDS` groups, or all images of all classes but one are in
            one fold, so that nothing can be learned without it.
    """
    fold_of = folds([str(label) for label in labels], groups, FOLDS, seed)
    validated = cross_validate(LabelledFeatures(features, labels, classes, groups), seed=seed)
    probabilities = np.zeros((len(labels), classes))
    for fold in np.unique(fold_of):
        held = fold_of == fold
        if len(np.unique(labels[~held])) < 2:
            raise DataError(
                "Too few groups of images to judge each by the others: one fold holds all of a "
                "class that is needed to learn from. Add images."
            )
        probe = fit_probe(features[~held], labels[~held], classes, validated.strength)
        probabilities[held] = softmax(probe.logits(features[held]))
    return probabilities


def label_issues(
    probabilities: NDArray[np.floating], labels: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]:
    """Finds labels that are probably wrong by confident learning (Northcutt et al., JAIR 2021).

    How many labels are wrong comes from the paper's confident joint: an image counts as being of
    class j where p(j) is at least the mean p(j) of the images labelled j (a class that is hard has
    a low threshold), and as the likeliest one of several. The share of each class that counts as
    another, taken of all its images, gives the number.

    Which labels those are comes from the margin by which another class is likelier than the label,
    the paper's normalised margin, over all classes at once: on few images its own counts for each
    pair of classes are small and noisy. An image whose label is the likeliest class is never one.

    Args:
        probabilities: Out of fold, (N, C).
        labels: (N,), in 0 … C-1.

    Returns:
        Of each suspect, the most suspect first: its row, the likeliest class, and its margin, above
        0 and at most 1.
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
        features: (N, F).
        labels: (N,).

    Returns:
        The mean over `NEIGHBOURS` others, or as many as there are; NaN for an only one.
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
    """Returns the rows of distances that are far above the usual, farthest first, and how far.

    How far is counted in robust standard deviations, 1.4826 times the median absolute deviation
    from the median, and far is `FAR` of them (Iglewicz and Hoaglin 1993).

    Args:
        away: Distances (N,); NaN where there is none.
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
    """Returns all images that deserve a look, the one that deserves it most first.

    - `label`: `label_issues` names it; the score is the margin.
    - `copies`: the audit found the same picture under several labels; the score is 0.9, as one of
      the labels is wrong whatever a network says.
    - `outlier`: far from its class; from 0 up to 0.5, as most of these are only unusual.

    Several reasons add up like independent chances, 1 - (1 - a) (1 - b).

    Args:
        dataset: All images.
        rows: Those judged (N,), as rows of the data set. Leave the sealed test out.
        classes: Names (C,), in the order of the probabilities.
        probabilities: Out of fold, (N, C).
        features: (N, F).
        findings: Of the audit of the data set.
    """
    numbers = {name: number for number, name in enumerate(classes)}
    names = [dataset.items[int(row)].label for row in rows]
    labels = np.array([numbers[name] for name in names], np.int64)
    reasons = [
        *_wrong_labels(rows, names, classes, labels, probabilities),
        *_copies(dataset, findings),
        *_unlike(rows, names, own_class_distances(features, labels)),
    ]
    by_row: dict[int, list[_Reason]] = {}
    for reason in reasons:
        by_row.setdefault(reason.row, []).append(reason)
    found = [_suspect(dataset, together) for together in by_row.values()]
    return tuple(sorted(found, key=lambda suspect: (-suspect.score, suspect.row)))


def write_suspects_csv(path: Path, suspects: Iterable[Suspect]) -> None:
    """Writes suspects as a table, one row each, in their order.

    Raises:
        InputError: As `check_writable`.
        DiskFullError: There is no space left.
    """
    check_writable(path)
    # surrogateescape: a file name need not be valid UTF-8.
    with (
        replacing(path) as draft,
        draft.open("w", newline="", encoding="utf-8", errors="surrogateescape") as file,
    ):
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["path", "label", "suggested", "kind", "score", "why"])
        writer.writerows(
            [s.path, s.label, s.suggested, s.kind, f"{s.score:.4f}", s.why] for s in suspects
        )


def read_suspects_csv(path: Path) -> list[dict[str, str]]:
    """Reads what `write_suspects_csv` wrote, in its order; empty where there is no such file.

    Raises:
        RunError: If it cannot be read.
    """
    try:
        # surrogateescape: as it was written.
        with path.open(newline="", encoding="utf-8-sig", errors="surrogateescape") as file:
            rows = list(csv.DictReader(file))
    except FileNotFoundError:
        return []
    except (OSError, csv.Error) as error:
        raise RunError(f"cannot read {path}: {error}") from None
    wanted = ("path", "label", "suggested", "kind", "score", "why")
    if any(row.get(name) is None for row in rows for name in wanted):
        raise RunError(f"{path} is damaged: it wants the columns {', '.join(wanted)}.")
    return rows


def without_sealed(findings: Iterable[Finding], sealed: Container[str]) -> list[Finding]:
    """Returns the findings without sealed images, and without those that need them."""
    known = []
    for finding in findings:
        files = tuple(file for file in finding.files if file not in sealed)
        if len(files) == len(finding.files):
            known.append(finding)
        elif len(files) > 1:
            known.append(finding.model_copy(update={"files": files}))
    return known


def _suspect(dataset: Dataset, reasons: Sequence[_Reason]) -> Suspect:
    """Returns one image's reasons as one."""
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
            f"labelled {names[row]!r}, and a classifier that has not seen it says "
            f"{classes[suggested]!r}: {chance:.0%} against {of_label:.0%}"
        )
        reasons.append(_Reason(int(rows[row]), classes[suggested], "label", float(margin), why))
    return reasons


def _copies(dataset: Dataset, findings: Iterable[Finding]) -> list[_Reason]:
    """Returns the images that are there under several labels, by the audit."""
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
        why = f"labelled {dataset.items[row].label!r}, and its copy {shown}"
        suggested = next(iter(copies)) if len(copies) == 1 else ""
        reasons.append(_Reason(row, suggested, "copies", _SCORE_OF_COPIES, why))
    return reasons


def _unlike(
    rows: NDArray[np.int64], names: Sequence[str], away: NDArray[np.float64]
) -> list[_Reason]:
    return [
        _Reason(
            int(rows[row]),
            "",
            "outlier",
            _MOST_OF_OUTLIER * (1 - FAR / float(z)),
            f"unlike other images of {names[row]!r}: {z:.1f} standard deviations farther from "
            "them than usual",
        )
        for row, z in zip(*outliers(away), strict=True)
    ]
