"""From the logit of a label to its probability and to the decision: calibration and thresholds."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

from headstart.evaluation.label_scores import Floats, Marks, checked_logits, label_losses, sigmoid
from headstart.inputs.quantities import Count, Finite, Positive, Share, Size
from headstart.text import counted

SHARED = 1.0
"""Standard deviation of the logarithm of the scale of all labels, before any image is seen; as for
one label an image (`trust.TWIN`)."""

SPREAD = 0.5
"""Standard deviation of the logarithm of the scale of a label relative to that of all, and of its
shift, before any image is seen. A label with few images stays close to the others."""

FOLDS = 5
"""Folds in which the calibration must prove itself."""

NEVER = 1.0
"""Threshold of a label that no held-out image reaches the asked precision with."""


class LabelRule(BaseModel):
    """How the logit of a label becomes a probability, and that a decision.

    The probability is the sigmoid of `scale * logit + shift`. An image has the label if it is at
    least the threshold.

    Example:
        >>> LabelRule(threshold=0.3).threshold
        0.3
    """

    model_config = ConfigDict(frozen=True)

    scale: Positive = 1.0
    shift: Finite = 0.0
    threshold: Share = 0.5


class FittedRules(BaseModel):
    """The rules of all labels and what they stand on.

    Attributes:
        rules: One for each label.
        images: Number of held-out images.
        log_loss: Mean log loss of their labels, each image with rules from the others.
        log_loss_uncalibrated: The same without calibration.
    """

    model_config = ConfigDict(frozen=True)

    rules: tuple[LabelRule, ...]
    images: Count
    log_loss: Size
    log_loss_uncalibrated: Size

    @property
    def described(self) -> str:
        """What was done, as a sentence."""
        before, after = f"{self.log_loss_uncalibrated:.4f}", f"{self.log_loss:.4f}"
        if all(rule.scale == 1 and rule.shift == 0 for rule in self.rules):
            return (
                f"The probabilities of the labels stay as they are: on "
                f"{counted(self.images, 'held-out image')}, a calibration does not lower their "
                f"log loss ({before} to {after})."
            )
        return (
            f"The probability of each label is calibrated on "
            f"{counted(self.images, 'held-out image')}; their log loss: {before} without it, "
            f"{after} with it."
        )


def probabilities_of(logits: NDArray[np.floating], rules: Sequence[LabelRule]) -> Floats:
    """Returns the calibrated probabilities (N, C) of logits (N, C)."""
    scale = np.array([rule.scale for rule in rules])
    shift = np.array([rule.shift for rule in rules])
    return sigmoid(np.asarray(logits, np.float64) * scale + shift)


def decided(probabilities: Floats, rules: Sequence[LabelRule]) -> NDArray[np.bool_]:
    """Returns which labels (N, C) images have, by the threshold of each."""
    return np.asarray(probabilities >= np.array([rule.threshold for rule in rules]))


def fit_rules(
    logits: NDArray[np.floating],
    marks: Marks,
    groups: NDArray[np.int64],
    precision: float | None = None,
) -> FittedRules:
    """Calibrates each label on held-out images and chooses its threshold on them.

    The calibration is Platt's (1999): one scale for all labels, and a scale and a shift for each,
    shrunk towards it. It is kept if, in five folds, rules from
    the other folds lower the log loss. The threshold is that with the highest F1, or the lowest one
    at which the share of right decisions for the label is at least `precision`.

    Args:
        logits: Logits (M, C) of images that the network was not trained on.
        marks: 1 where an image has a label, (M, C).
        groups: Group number of each image (M,); a group stays in one fold.
        precision: Precision that each label must reach on these images; None for the best F1.

    Raises:
        HeadstartError: If a logit is NaN or infinite, or the shapes do not fit.

    Example:
        >>> z = np.array([[2.0], [1.0], [-1.0], [-2.0]] * 20)
        >>> y = np.array([[1], [1], [0], [0]] * 20)
        >>> fitted = fit_rules(z, y, np.arange(80))
        >>> fitted.log_loss < fitted.log_loss_uncalibrated, decided(
        ...     probabilities_of(z[:4], fitted.rules), fitted.rules
        ... ).ravel().tolist()
        (True, [True, True, False, False])
    """
    from headstart.data.splits import folds  # noqa: PLC0415 - predictions do without

    z = checked_logits(logits, marks)
    images, labels = z.shape
    before = float(label_losses(z, marks).mean())
    scales = np.ones((labels, 2)) * [1.0, 0.0]
    after = before
    if (number := min(FOLDS, len(np.unique(groups)))) > 1:
        sets = [tuple(map(str, np.flatnonzero(row))) for row in marks]
        fold_of = folds(sets, groups, number, seed=0)
        moved = z.copy()
        for fold in np.unique(fold_of):
            held = fold_of == fold
            found = _calibrated(z[~held], marks[~held])
            moved[held] = z[held] * found[:, 0] + found[:, 1]
        after = float(label_losses(moved, marks).mean())
        if after < before:
            scales = _calibrated(z, marks)
    told = sigmoid(z * scales[:, 0] + scales[:, 1])
    rules = tuple(
        LabelRule(
            scale=float(scale), shift=float(shift),
            threshold=threshold_of(told[:, label], marks[:, label], precision),
        )
        for label, (scale, shift) in enumerate(scales)
    )  # fmt: skip
    return FittedRules(rules=rules, images=images, log_loss=after, log_loss_uncalibrated=before)


def threshold_of(told: Floats, marks: Marks, precision: float | None = None) -> float:
    """Returns the threshold of a label from the probabilities (M,) of held-out images.

    It lies in the middle between two of them. A label that none of the images has gets 0.5.

    Args:
        told: Probabilities.
        marks: 1 for the images with the label, (M,).
        precision: Precision to reach, with as many images as possible; None for the best F1.

    Example:
        >>> told, marks = np.array([0.9, 0.6, 0.4, 0.2]), np.array([1, 0, 1, 0])
        >>> threshold_of(told, marks), threshold_of(told, marks, precision=0.9)
        (0.3, 0.75)
    """
    if not marks.any():
        return 0.5
    order = np.argsort(-told, kind="stable")
    sorted_told = told[order]
    ends = np.flatnonzero(np.append(np.diff(sorted_told) != 0, True))
    hits, taken = np.cumsum(marks[order])[ends], ends + 1
    if precision is None:
        best = int(np.argmax(2 * hits / (taken + marks.sum())))
    else:
        enough = np.flatnonzero(hits >= precision * taken - 1e-9)
        if not len(enough):
            return NEVER
        best = int(enough[-1])
    last = ends[best]
    below = sorted_told[last + 1] if last + 1 < len(told) else 0.0
    return round(float(sorted_told[last] + below) / 2, 12)


def _calibrated(logits: Floats, marks: Marks) -> Floats:
    """Returns the scale and shift (C, 2) of each label."""
    from scipy.optimize import minimize_scalar  # noqa: PLC0415 - heavy

    def loss(log: float) -> float:
        told = label_losses(logits * np.exp(log), marks).sum()
        return float(told) + log**2 / (2 * SHARED**2)

    shared = np.exp(minimize_scalar(loss, bounds=(-4, 4), method="bounded").x)
    scales = np.empty((logits.shape[1], 2))
    for label in range(logits.shape[1]):
        scales[label] = _platt(shared * logits[:, label], marks[:, label])
    return np.asarray(scales * [shared, 1.0])


def _platt(z: Floats, y: Marks) -> tuple[float, float]:
    from scipy.optimize import minimize  # noqa: PLC0415 - heavy

    def loss(point: Floats) -> tuple[float, Floats]:
        scale, shift = np.exp(point[0]), point[1]
        moved = scale * z + shift
        wrong = sigmoid(moved) - y
        value = label_losses(moved, y).sum() + (point**2).sum() / (2 * SPREAD**2)
        slope = np.array([scale * (wrong * z).sum(), wrong.sum()]) + point / SPREAD**2
        return float(value), slope

    found = minimize(loss, np.zeros(2), jac=True, method="L-BFGS-B", bounds=[(-3, 3), (-20, 20)])
    return float(np.exp(found.x[0])), float(found.x[1])
