"""The accuracy of a head on frozen features as a function of the number of labels."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from headstart.data.splits import folds
from headstart.errors import DataError
from headstart.features.probe import LabelledFeatures, cross_validate, fit_probe
from headstart.progress import SILENT, Progress
from headstart.text import counted

FOLDS = 5

ORDERS = 2
"""Number of random orders of the labels of a fold."""

SIZES = 7

SMALLEST = 1 / 8
"""Smallest share of the labels for training."""

FEWEST_IMAGES = 20


@dataclass(frozen=True)
class MeasuredCurve:
    """A cross-fitted learning curve: no classifier is trained on the group of an image it tests.

    Attributes:
        sizes: Numbers of labels (S,), increasing; means over the folds.
        hits: (N, S), share of the classifiers of that size that classify image n correctly.
        all_size: Number of labels in the training part of a fold, including those held back.
        all_hits: (N,), whether the classifier trained on all of these labels is correct.
        penalty: L2 penalty of the probes, cross-validated on the labels that are not held back.
    """

    sizes: tuple[int, ...]
    hits: NDArray[np.float64]
    all_size: int
    all_hits: NDArray[np.float64]
    penalty: float


def measure_curve(
    features: NDArray[np.floating],
    labels: NDArray[np.int64],
    groups: NDArray[np.int64],
    classes: int,
    *,
    known: float = 1.0,
    seed: int = 0,
    progress: Progress = SILENT,
) -> MeasuredCurve:
    """Trains heads on nested subsets of the labels, cross-fitted over all images.

    Args:
        features: Feature vectors (N, F).
        labels: Class numbers (N,), in 0 … C-1.
        groups: Group numbers (N,); a group stays within one fold.
        classes: Number of classes C.
        known: Share of the labels of each fold that subsets are drawn from; the rest counts for
            `all_hits` only.
        seed: Seed for folds, orders and the labels held back.
        progress: Progress display.

    Raises:
        DataError: If there are too few images.
    """
    if len(labels) < FEWEST_IMAGES or int(known * SMALLEST * len(labels)) < 2:
        raise DataError(
            f"{counted(len(labels), 'image')} cannot give a learning curve over the number of "
            "labels. Add images."
        )
    rng = np.random.default_rng(seed)
    fold_of = folds([str(label) for label in labels], groups, FOLDS, seed)
    shares = np.geomspace(SMALLEST, 1, SIZES)
    hits = np.zeros((len(labels), SIZES))
    all_hits = np.zeros(len(labels))
    sizes = np.zeros((FOLDS, SIZES))
    penalty = 0.0

    def right(rows: NDArray[np.int64], held: NDArray[np.int64]) -> NDArray[np.bool_]:
        probe = fit_probe(features[rows], labels[rows], classes, penalty)
        return np.asarray(probe.logits(features[held]).argmax(1) == labels[held])

    for fold in progress.track(range(FOLDS), "accuracy by number of labels", FOLDS):
        train, held = np.flatnonzero(fold_of != fold), np.flatnonzero(fold_of == fold)
        train = train[nested_order(labels[train], rng)]
        pool = train[: round(known * len(train))]
        if not penalty:
            known_part = LabelledFeatures(features[pool], labels[pool], classes, groups[pool])
            penalty = cross_validate(known_part, seed=seed).strength
        sizes[fold] = np.maximum(2, np.round(shares * len(pool)))
        for _ in range(ORDERS):
            order = pool[nested_order(labels[pool], rng)]
            for column, size in enumerate(sizes[fold].astype(int)):
                hits[held, column] += right(order[:size], held) / ORDERS
        all_hits[held] = right(train, held)
    return MeasuredCurve(
        sizes=tuple(round(size) for size in sizes.mean(0)),
        hits=hits,
        all_size=round(len(labels) * (1 - 1 / FOLDS)),
        all_hits=all_hits,
        penalty=penalty,
    )


def nested_order(labels: NDArray[np.int64], rng: np.random.Generator) -> NDArray[np.int64]:
    """Returns an order (N,) of images whose every prefix is stratified by class.

    Args:
        labels: Class numbers (N,).
        rng: Random generator for the order within and between classes.

    Example:
        >>> labels = np.array([0, 0, 0, 0, 1, 1])
        >>> order = nested_order(labels, np.random.default_rng(0))
        >>> np.bincount(labels[order[:3]]).tolist()
        [2, 1]
    """
    place = np.empty(len(labels))
    for label in np.unique(labels):
        rows = rng.permutation(np.flatnonzero(labels == label))
        place[rows] = (np.arange(len(rows)) + rng.random(len(rows))) / len(rows)
    return np.argsort(place)


def classifiers_of_full_size(known: float = 1.0) -> float:
    """Returns the cost of `measure_curve` in trainings of one probe on all labels.

    Args:
        known: As for `measure_curve`.

    Example:
        >>> round(classifiers_of_full_size(), 1)
        40.1
    """
    shares = known * np.geomspace(SMALLEST, 1, SIZES)
    # The penalty is cross-validated over four penalties in five folds.
    return float(FOLDS * (ORDERS * shares.sum() + 1) + 4 * known)
