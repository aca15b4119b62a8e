"""Suspicious images that may have any number of labels: which are missing, and which wrong."""

from collections.abc import Iterable, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from headstart.data.audit import Finding
from headstart.data.splits import folds
from headstart.data.stratify import indicators
from headstart.data.types import Dataset
from headstart.diagnose.reasons import Reason, Suspect, copy_reasons, suspects_by
from headstart.diagnose.suspects import FOLDS, NEIGHBOURS, outlier_reasons
from headstart.evaluation.label_rules import fit_rules, probabilities_of
from headstart.evaluation.retrieval import unit
from headstart.features.one_vs_rest import label_sets
from headstart.features.probe import LabelledFeatures, cross_validate, fit_probe
from headstart.text import percent

SURE = 9.0
"""Odds against what is given from which a decision is listed: a probability of 90%."""

_BLOCK = 512


def judged_labels(
    marks: NDArray[np.int64], groups: NDArray[np.int64], classes: Sequence[str]
) -> list[str]:
    """Returns the labels of which each can be judged: `FOLDS` groups have it, and as many lack it.

    Args:
        marks: 1 where an image has a label, (N, C).
        groups: Group number of each image (N,).
        classes: Names of the labels (C,).

    Example:
        >>> marks = np.array([[1, 0], [1, 1]] * 5 + [[0, 0]] * 5)
        >>> judged_labels(marks, np.arange(15), ["ant", "bee"])
        ['ant', 'bee']
        >>> judged_labels(marks, np.repeat([0, 1, 2], 5), ["ant", "bee"])
        []
    """
    of_group = np.unique(groups, return_inverse=True)[1]
    return [
        name
        for mark, name in zip(marks.T, classes, strict=True)
        if min(len(np.unique(of_group[mark == each])) for each in (0, 1)) >= FOLDS
    ]


def out_of_fold_labels(
    features: NDArray[np.floating],
    marks: NDArray[np.int64],
    groups: NDArray[np.int64],
    seed: int = 0,
) -> NDArray[np.float64]:
    """Returns calibrated probabilities (N, C) from probes fitted without the group of an image.

    Only the L2 penalty, which `cross_validate` chooses, and the calibration, which has a scale and
    a shift for each label, depend on all images.

    Args:
        features: Feature vectors (N, F).
        marks: 1 where an image has a label, (N, C).
        groups: Group numbers (N,); a group stays within one fold.
        seed: Seed for the folds.

    Raises:
        DataError: If there are fewer than `FOLDS` groups.
    """
    size = marks.shape[1]
    fold_of = folds(label_sets(marks), groups, FOLDS, seed)
    strength = cross_validate(LabelledFeatures(features, marks, size, groups), seed=seed).strength
    logits = np.zeros(marks.shape, np.float32)
    for fold in np.unique(fold_of):
        held = fold_of == fold
        probe = fit_probe(features, marks, size, strength, rows=~held)
        logits[held] = probe.logits(features[held])
    return probabilities_of(logits, fit_rules(logits, marks, groups).rules)


def find_label_suspects(
    dataset: Dataset,
    rows: NDArray[np.int64],
    classes: Sequence[str],
    probabilities: NDArray[np.floating],
    features: NDArray[np.floating],
    groups: NDArray[np.int64],
    findings: Iterable[Finding] = (),
) -> tuple[Suspect, ...]:
    """Returns all suspicious images, the most suspicious first.

    As `find_suspects`, but each label is a question of its own, with two answers. An image is
    listed if what is given is contradicted with odds of `SURE`; see `label_issue_margins`. An
    outlier is far from the images with one of its labels, or, if it has none, from those without
    any.

    Args:
        dataset: The data set.
        rows: Rows of the data set to check (N,), without the sealed test set.
        classes: Names of the labels (C,), in the order of the probabilities.
        probabilities: Out-of-fold probabilities (N, C), calibrated.
        features: Feature vectors (N, F).
        groups: Group number of each image (N,).
        findings: Findings of the audit of the data set.
    """
    marks = indicators([dataset.items[int(row)].names for row in rows], classes)
    judged = judged_labels(marks, groups, classes)
    reasons = [*copy_reasons(dataset, findings)]
    for number, name in enumerate(classes):
        if name in judged:
            reasons += _wrong_decisions(rows, name, marks[:, number], probabilities[:, number])
    others = ["with its labels" if any(mark) else "without a label" for mark in marks]
    reasons += outlier_reasons(rows, others, shared_label_distances(features, marks))
    return suspects_by(dataset, reasons)


def label_issue_margins(
    told: NDArray[np.floating], marks: NDArray[np.int64]
) -> NDArray[np.float64]:
    """Returns how sure a head contradicts what is given of one label, -1 to 1, shape (N,).

    As in confident learning, it is the margin between the probabilities of both answers. But a head
    that is sure that a rare label is not there has learned little from the image. So the margin
    counts that is lower: with the probabilities as they are, and as they would be if the label
    were on half of the images.

    Args:
        told: Out-of-fold probabilities of the label (N,), calibrated.
        marks: 1 for the images with the label, (N,).

    Example:
        >>> told, marks = np.array([0.02, 0.02, 0.9, 0.9]), np.array([1, 0, 1, 0])
        >>> label_issue_margins(told, marks).round(2).tolist()
        [0.96, -0.96, -0.8, 0.8]
        >>> rare = np.array([1] + [0] * 19)  # 5%, as the head says
        >>> bool(abs(label_issue_margins(np.full(20, 0.05), rare)[0]) < 1e-9)
        True
    """
    p = np.clip(np.where(marks, told, 1 - told), 1e-9, 1 - 1e-9)
    frequent = np.where(marks, marks.mean(), 1 - marks.mean())
    odds = p / (1 - p)
    of_image = odds * (1 - frequent) / np.maximum(frequent, 1e-9)
    return np.asarray(1 - 2 / (1 + 1 / np.maximum(odds, of_image)))


def _wrong_decisions(
    rows: NDArray[np.int64], name: str, marks: NDArray[np.int64], told: NDArray[np.floating]
) -> list[Reason]:
    """Returns a reason for each image that probably lacks the label, or has it wrongly."""
    margins, reasons = label_issue_margins(told, marks), []
    for row in np.flatnonzero(margins >= (SURE - 1) / (SURE + 1)):
        has = bool(marks[row])
        why = (
            f"{name!r} may be {'wrong' if has else 'missing'}: a classifier that was not trained "
            f"on the image says {percent(told[row], 0)}"
        )
        reason = Reason(int(rows[row]), name, "label", float(margins[row]), why)
        with_name = replace(reason, wrong=(name,)) if has else replace(reason, missing=(name,))
        reasons.append(with_name)
    return reasons


def shared_label_distances(
    features: NDArray[np.floating], marks: NDArray[np.int64]
) -> NDArray[np.float64]:
    """Returns the mean cosine distance (N,) of each image to the nearest that share a label.

    Images without labels are compared with each other.

    Args:
        features: Feature vectors (N, F).
        marks: 1 where an image has a label, (N, C).

    Returns:
        The mean over at most `NEIGHBOURS` other images; NaN if there are none.
    """
    empty = (marks.sum(1) == 0).astype(np.int64)
    marks = np.column_stack([marks, empty]).astype(np.float32)
    vectors = unit(features)
    away = np.full(len(marks), np.nan)
    for start in range(0, len(marks), _BLOCK):
        block = slice(start, start + _BLOCK)
        cosines = np.where(marks[block] @ marks.T > 0, vectors[block] @ vectors.T, -np.inf)
        itself = np.arange(len(cosines))
        cosines[itself, start + itself] = -np.inf
        k = min(NEIGHBOURS, len(marks))
        nearest = np.partition(cosines, -k, axis=1)[:, -k:]
        there = np.isfinite(nearest)
        number = there.sum(1)
        total = np.where(there, nearest, 0).sum(1)
        away[block] = np.where(number > 0, 1 - total / np.maximum(number, 1), np.nan)
    return away
