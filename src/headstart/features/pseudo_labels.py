"""Pseudo-labels: what heads on cached features say of unlabelled images, as soft labels.

The labels come from several heads (logistic regressions with different penalties, and class means),
each at the temperature of its held-out scores. Their mean is sharpened (Berthelot et al., NeurIPS
2019), and an image counts as much as its label is certain. Whether such labels help is measured by
cross-validation: in each fold they come from that fold's training images alone.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from headstart.evaluation.calibration import fit_temperature, softmax
from headstart.evaluation.metrics import calibrated_losses
from headstart.evaluation.trust import TWIN, mean_and_noise
from headstart.features.probe import (
    LabelledFeatures,
    Probe,
    affordable_folds,
    fit_path,
    out_of_fold,
    parted,
    path_to,
)
from headstart.progress import SILENT, Progress

Floats = NDArray[np.float32]

TEACHERS: tuple[float, ...] = (1e-2, 1e-3, 1e-4)
"""L2 penalties of the logistic regressions that give labels, beside class means."""

SCALE = 20.0
"""Factor of the cosines of class means."""

SHARPEN = 2
"""Power to which mean probabilities are raised: a temperature of 1/2."""

FOLDS = 5


@dataclass(frozen=True)
class ClassMeans:
    """A head that compares the direction of an image with the mean direction of each class.

    Attributes:
        weight: Mean direction of each class (C, F), of length 1.
        scale: Factor of the cosines.
    """

    weight: Floats
    scale: float

    def logits(self, features: NDArray[np.floating]) -> Floats:
        """Returns the logits (N, C) of features (N, F)."""
        return np.asarray(self.scale * _directions(features) @ self.weight.T, np.float32)


@dataclass(frozen=True)
class HeadKind:
    """A kind of head that has a closed form.

    Attributes:
        penalty: L2 penalty of a logistic regression; 0 for class means.
        smoothing: Share of each label that is spread over all classes.
        one_scale: Whether one number scales all features, as in `LabelledFeatures`.
        scale: Factor of the cosines of class means.
    """

    penalty: float
    smoothing: float = 0.0
    one_scale: bool = False
    scale: float = SCALE

    def solve(self, features: NDArray[np.floating], shares: Floats) -> Probe | ClassMeans:
        """Returns the head for features (N, F) and soft labels (N, C); rows sum to weights."""
        if not self.penalty:
            return ClassMeans(_directions(shares.T @ _directions(features)), self.scale)
        (rows, width), classes = features.shape, shares.shape[1]
        path = path_to(self.penalty, rows, width, classes)
        return fit_path(features, shares, classes, path, self.smoothing, self.one_scale)[-1]


@dataclass(frozen=True)
class Tried:
    """A head with and without unlabelled images, on images that were held out from both.

    Attributes:
        before: Logits (N, C) of the head on labelled images alone; NaN where there are none.
        after: The same of the head on pseudo-labels, too.
        gain: Mean fall of the log loss in nats, each at its best temperature.
        noise: Standard error of the gain, with whole groups as the units.
    """

    before: Floats
    after: Floats
    gain: float
    noise: float

    @property
    def helps(self) -> bool:
        """Whether the gain is larger than its standard error."""
        return self.gain > self.noise


def pseudo_labels(data: LabelledFeatures, unlabelled: Floats, seed: int = 0) -> Floats:
    """Returns soft labels (U, C) of unlabelled images; a row sums to how much the image counts.

    Args:
        data: Labelled features, of at least two classes.
        unlabelled: Features (U, F) of unlabelled images.
        seed: Seed for the folds that measure how sure each head may be.

    Example:
        >>> corners = np.array([[0, 1], [0, 0.9], [0.1, 1], [1, 0], [0.9, 0], [1, 0.1]])
        >>> data = LabelledFeatures(corners, np.array([0, 0, 0, 1, 1, 1]), 2, np.arange(6))
        >>> found = pseudo_labels(data, np.array([[0, 1.1], [0.5, 0.5]], np.float32))
        >>> int(found[0].argmax()), bool(found[0].sum() > found[1].sum())
        (0, True)
    """
    means = HeadKind(0.0)
    held = [*out_of_fold(data, TEACHERS, seed=seed), held_out(means, data, seed=seed)]
    path = fit_path(data.features, data.labels, data.classes, TEACHERS, one_scale=data.one_scale)
    heads = [*path, means.solve(data.features, hard(data.labels, data.classes))]
    said = []
    for head, logits in zip(heads, held, strict=True):
        tested = np.isfinite(logits).all(1)
        temperature = fit_temperature(logits[tested], data.labels[tested], TWIN)
        said.append(softmax(head.logits(unlabelled), temperature))
    mean = np.mean(said, axis=0)
    sharp = mean**SHARPEN
    weights = mean.max(1, keepdims=True)
    return np.asarray(sharp / sharp.sum(1, keepdims=True) * weights, np.float32)


def solved_with(
    kind: HeadKind, data: LabelledFeatures, unlabelled: Floats, seed: int = 0
) -> Probe | ClassMeans:
    """Returns a head on labelled images and on unlabelled ones with their pseudo-labels."""
    shares = np.concatenate(
        [hard(data.labels, data.classes), pseudo_labels(data, unlabelled, seed)]
    )
    return kind.solve(np.concatenate([data.features, unlabelled]), shares)


def held_out(
    kind: HeadKind,
    data: LabelledFeatures,
    unlabelled: Floats | None = None,
    views: Sequence[Floats] = (),
    seed: int = 0,
    progress: Progress = SILENT,
) -> Floats:
    """Returns out-of-fold logits (N, C) of a head; NaN for images without any.

    Pseudo-labels are made anew in each fold, from its training images alone.

    Args:
        kind: Kind of the head.
        data: Labelled features.
        unlabelled: Features (U, F) of unlabelled images; None without any.
        views: Features (N, F) of further views of the labelled images; the logits of all views of
            a held-out image are averaged.
        seed: Seed for the folds.
        progress: Progress display.
    """
    found = np.full((len(data.labels), data.classes), np.nan, np.float32)
    fold_of = parted(data.labels, data.groups, FOLDS, seed)
    numbers = np.unique(fold_of)
    shown: Iterable[int] = numbers
    if unlabelled is not None:
        shown = progress.track(numbers, "cross-validating pseudo-labels", len(numbers))
    for fold in shown:
        held = fold_of == fold
        if len(np.unique(data.labels[~held])) < 2:
            continue
        part = replace(
            data,
            features=data.features[~held], labels=data.labels[~held], groups=data.groups[~held],
        )  # fmt: skip
        if unlabelled is None:
            head = kind.solve(part.features, hard(part.labels, part.classes))
        else:
            head = solved_with(kind, part, unlabelled, seed)
        each = [head.logits(view[held]) for view in (data.features, *views)]
        found[held] = np.mean(each, axis=0)
    return found


def try_unlabelled(
    kind: HeadKind,
    data: LabelledFeatures,
    unlabelled: Floats,
    views: Sequence[Floats] = (),
    seed: int = 0,
    progress: Progress = SILENT,
) -> Tried:
    """Measures by cross-validation whether unlabelled images help a head.

    Args:
        kind: Kind of the head.
        data: Labelled features.
        unlabelled: Features (U, F) of unlabelled images.
        views: Features (N, F) of further views of the labelled images, whose logits are averaged.
        seed: Seed for the folds.
        progress: Progress display.
    """
    before = held_out(kind, data, None, views, seed)
    after = held_out(kind, data, unlabelled, views, seed, progress)
    tested = np.isfinite(before).all(1) & np.isfinite(after).all(1)
    if not tested.any():
        return Tried(before, after, 0.0, 0.0)
    labels = data.labels[tested]
    losses = [calibrated_losses(each[tested], labels) for each in (before, after)]
    groups = np.unique(data.groups[tested], return_inverse=True)[1]
    return Tried(before, after, *mean_and_noise(losses[0] - losses[1], groups))


def affordable(labelled: int, unlabelled: int, features: int, classes: int) -> bool:
    """Returns whether cross-validation of this size is worth its time; it depends only on the size.

    Example:
        >>> affordable(255, 1000, 1280, 17), affordable(20_000, 1000, 1280, 100)
        (True, False)
    """
    return affordable_folds(labelled + unlabelled, features, classes) > 1


def hard(labels: NDArray[np.int64], classes: int) -> Floats:
    """Returns class numbers (N,) as shares (N, C)."""
    return np.eye(classes, dtype=np.float32)[labels]


def _directions(rows: NDArray[np.floating]) -> Floats:
    """Returns rows (N, F) of length 1; rows of zeros stay so."""
    length = np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12)
    return np.asarray(rows / length, np.float32)
