"""The linear probe: logistic regression on cached features with a cross-validated L2 penalty."""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from headstart.data.splits import folds
from headstart.data.threads import scipy_in_one_thread, threads_apart
from headstart.evaluation.calibration import calibrated_score
from headstart.features.conditioning import rotated, standardized
from headstart.features.one_vs_rest import label_sets, sigmoid_loss
from headstart.features.soft_labels import soft_loss
from headstart.inputs.large_arrays import copied
from headstart.progress import SILENT, Progress

STRENGTHS: tuple[float, ...] = (1e-1, 1e-2, 1e-3, 1e-4, 1e-5, 1e-6)
"""L2 penalties to try, from strong to weak, for the mean loss over standardised features."""

_CURVATURE = 0.02
"""Typical curvature of the log loss along a logit, p (1 - p); with it, fits take few steps."""

_MANY_WEIGHTS = 100_000
"""Number of weights from which L-BFGS remembers fewer steps."""

FOLDS_BY_WORK = ((5, 2e8), (3, 3e9))
"""Numbers of folds, with the largest affordable rows x columns x classes x penalties x folds."""

FEW_STRENGTHS: tuple[float, ...] = STRENGTHS[1::2]
"""L2 penalties to try where only one fold is affordable."""


@dataclass(frozen=True)
class LabelledFeatures:
    """Features of images with the labels and groups that cross-validation needs.

    Attributes:
        features: Feature vectors (N, F).
        labels: Class numbers (N,), in 0 … C-1; or for sets of labels 1 where an image has one and
            0 elsewhere, (N, C).
        classes: Number of classes C.
        groups: Group numbers (N,); a group stays within one fold.
        one_scale: Whether all features keep their scales to each other and are divided by one
            number, rather than each by its standard deviation.
    """

    features: NDArray[np.floating]
    labels: NDArray[np.int64]
    classes: int
    groups: NDArray[np.int64]
    one_scale: bool = False


@dataclass(frozen=True)
class Validated:
    """The cross-validated score of probes at the best L2 penalty.

    Attributes:
        strength: Best L2 penalty.
        log_loss: Mean log loss in nats at the best temperature.
        accuracy: Share of images that are classified correctly; for sets of labels, the mean
            average precision.
        held: For sets of labels, the logits (N, C) of each image from the others; NaN where there
            are none.
    """

    strength: float
    log_loss: float
    accuracy: float
    held: NDArray[np.float32] | None = None


@dataclass(frozen=True)
class Probe:
    """A linear classifier on features.

    Attributes:
        weight: Weights (C, F) for unscaled features: they include the standardisation.
        bias: Biases (C,).
    """

    weight: NDArray[np.float32]
    bias: NDArray[np.float32]

    def logits(self, features: NDArray[np.floating]) -> NDArray[np.float32]:
        """Returns the logits (N, C) of features (N, F)."""
        return np.asarray(features, np.float32) @ self.weight.T + self.bias


def cross_validate(
    data: LabelledFeatures,
    strengths: Sequence[float] | None = None,
    *,
    seed: int = 0,
    smoothing: float = 0.0,
    progress: Progress = SILENT,
) -> Validated:
    """Finds the L2 penalty with the lowest cross-validated log loss at the best temperature.

    At a temperature of 1 the loss would choose penalties that make the logits small.

    Args:
        data: Labelled features.
        strengths: L2 penalties to try, from strong to weak; by default `affordable_strengths`.
        seed: Seed for the folds.
        smoothing: Share of each label that is spread over all classes.
        progress: Progress display.
    """
    if strengths is None:
        rows, width = data.features.shape
        strengths = affordable_strengths(rows, width, data.classes)
    found = out_of_fold(data, strengths, smoothing, seed=seed, progress=progress)
    tested = np.isfinite(found[0]).all(1)
    if not tested.any():  # no fold leaves two classes to learn from
        return Validated(strengths[0], 0.0, 0.0)
    scores = [calibrated_score(logits[tested], data.labels[tested]) for logits in found]
    best = int(np.argmin([loss for loss, _ in scores]))
    held = found[best] if data.labels.ndim == 2 else None
    return Validated(strengths[best], *scores[best], held)


def out_of_fold(
    data: LabelledFeatures,
    strengths: Sequence[float],
    smoothing: float = 0.0,
    seed: int = 0,
    progress: Progress = SILENT,
) -> NDArray[np.float32]:
    """Returns out-of-fold logits (S, N, C), from probes fitted without the group of an image.

    Images for which this is not possible have NaN logits.

    Args:
        data: Labelled features.
        strengths: L2 penalties S, from strong to weak.
        smoothing: Share of each label that is spread over all classes.
        seed: Seed for the folds.
        progress: Progress display.
    """
    features, labels, classes = data.features, data.labels, data.classes
    n_folds = affordable_folds(len(features), features.shape[1], classes)
    fold_of = parted(labels, data.groups, n_folds, seed)
    logits = np.full((len(strengths), len(features), classes), np.nan, np.float32)

    def fitted(fold: int) -> None:
        held = fold_of == fold
        if not held.any() or (labels.ndim == 1 and len(np.unique(labels[~held])) < 2):
            return
        path = fit_path(features, labels, classes, strengths, smoothing, data.one_scale, ~held)
        tested = copied(features, np.flatnonzero(held))
        for position, probe in enumerate(path):
            logits[position, held] = probe.logits(tested)

    # A thread for each fold: threads that share one fit wait for each other most of the time. A
    # fit that is large enough to be the only one has all threads.
    limited = threads_apart() if n_folds > 1 else nullcontext(1)
    with limited as threads, ThreadPoolExecutor(threads) as pool:
        done = pool.map(fitted, range(n_folds))
        for _ in progress.track(done, "cross-validating the head", n_folds):
            pass
    return logits


def fit_probe(
    features: NDArray[np.floating],
    labels: NDArray[np.int64],
    classes: int,
    strength: float,
    smoothing: float = 0.0,
    one_scale: bool = False,
    rows: NDArray[np.bool_] | None = None,
) -> Probe:
    """Fits a probe.

    Args:
        features: Feature vectors (N, F).
        labels: Class numbers (N,), in 0 … C-1.
        classes: Number of classes C.
        strength: L2 penalty.
        smoothing: Share of each label that is spread over all classes.
        one_scale: Whether one number scales all features, as in `LabelledFeatures`.
        rows: Images to learn from, as a mask (N,); all by default.
    """
    number = len(features) if rows is None else int(rows.sum())
    path = path_to(strength, number, features.shape[1], classes)
    return fit_path(features, labels, classes, path, smoothing, one_scale, rows)[-1]


def parted(
    labels: NDArray[np.int64], groups: NDArray[np.int64], n_folds: int, seed: int
) -> NDArray[np.int64]:
    """Returns the fold (N,) of every image: at least two folds, at most as many as groups."""
    number = min(max(2, n_folds), len(np.unique(groups)))
    if number < 2:  # a single group cannot be divided
        return np.zeros(len(labels), np.int64)
    if labels.ndim == 2:
        return folds(label_sets(labels), groups, number, seed)
    return folds([str(label) for label in labels], groups, number, seed)


def affordable_folds(rows: int, features: int, classes: int) -> int:
    """Returns 5, 3 or 1 folds; the number depends only on the size of the data.

    Example:
        >>> affordable_folds(500, 1280, 10), affordable_folds(10_000, 1280, 100)
        (5, 1)
    """
    columns = min(rows, features)  # see `features/conditioning`
    work = rows * columns * classes * len(STRENGTHS)
    return next((n for n, limit in FOLDS_BY_WORK if n * work <= limit), 1)


def affordable_strengths(rows: int, features: int, classes: int) -> tuple[float, ...]:
    """Returns the L2 penalties to try, from strong to weak: fewer where a fit takes long.

    Example:
        >>> affordable_strengths(10_000, 1280, 100)
        (0.01, 0.0001, 1e-06)
    """
    return FEW_STRENGTHS if affordable_folds(rows, features, classes) == 1 else STRENGTHS


def path_to(strength: float, rows: int, features: int, classes: int) -> list[float]:
    """Returns the L2 penalties that lead to one, as a search that found it took them.

    Each fit starts from the one before it and ends early, so the way is part of the result.

    Example:
        >>> path_to(1e-3, 400, 1280, 17)
        [0.1, 0.01, 0.001]
    """
    tried = affordable_strengths(rows, features, classes)
    return [*(each for each in tried if each > strength), strength]


def fit_path(
    features: NDArray[np.floating],
    labels: NDArray[np.int64] | NDArray[np.float32],
    classes: int,
    strengths: Sequence[float],
    smoothing: float = 0.0,
    one_scale: bool = False,
    rows: NDArray[np.bool_] | None = None,
) -> list[Probe]:
    """Returns a probe for every penalty; each fit starts from the previous solution.

    Besides the features, it holds one copy of those that it learns from.

    Args:
        features: Feature vectors (N, F).
        labels: Class numbers (N,), sets of labels (N, C), or soft labels (N, C), whose rows sum to
            the weight of the image.
        classes: Number of classes C.
        strengths: L2 penalties, from strong to weak.
        smoothing: Share of each label that is spread over all classes.
        one_scale: Whether one number scales all features, as in `LabelledFeatures`.
        rows: Images to learn from, as a mask (N,); all by default.
    """
    from scipy.optimize import minimize  # noqa: PLC0415 - heavy

    standard, mean, scale = standardized(features, one_scale, rows)
    labels = labels if rows is None else labels[rows]
    columns, sizes, basis = rotated(standard, classes)
    loss_and_gradient = _loss_of(labels)
    solution = np.zeros((columns.shape[1] + 1, classes))
    # With many weights, going through what L-BFGS remembers takes as long as the products.
    steps_known = 5 if solution.size > _MANY_WEIGHTS else 10
    path = []
    for strength in strengths:
        # In these units the loss curves about equally in every direction: a few steps lead to the
        # optimum, which without them fifty do not reach at a weak penalty.
        unit = 1 / np.sqrt(_CURVATURE * sizes**2 / len(columns) + strength)
        units = np.repeat(np.append(unit, 1.0), classes)

        def in_units(
            scaled: NDArray[np.float64], units: NDArray[np.float64] = units, at: float = strength
        ) -> tuple[float, NDArray[np.float64]]:
            loss, gradient = loss_and_gradient(units * scaled, at, columns, labels, smoothing)
            return loss, units * gradient

        with scipy_in_one_thread():
            found = minimize(
                in_units,
                solution.ravel() / units,
                jac=True,
                method="L-BFGS-B",
                # Cross-validation evaluates the result, so a fit may stop early.
                options={"maxiter": 50, "maxcor": steps_known, "ftol": 1e-5, "gtol": 0.0},
            )
        solution = (found.x * units).reshape(-1, classes)
        weight, bias = solution[:-1].astype(np.float32), solution[-1].astype(np.float32)
        weight = (weight if basis is None else basis @ weight).T / scale
        path.append(Probe(weight, bias - weight @ mean))
    return path


def _loss_of(labels: NDArray[np.int64] | NDArray[np.float32]) -> Callable[..., Any]:
    """Returns the loss for class numbers (N,), sets of labels or soft labels, both (N, C)."""
    if labels.ndim == 1:
        return _loss_and_gradient
    return soft_loss if labels.dtype.kind == "f" else sigmoid_loss


def _loss_and_gradient(
    solution: NDArray[np.float64],
    strength: float,
    features: NDArray[np.float32],
    labels: NDArray[np.int64],
    smoothing: float = 0.0,
) -> tuple[float, NDArray[np.float64]]:
    """Returns the penalised mean log loss and its gradient at weight and bias ((F+1)*C,)."""
    weight_and_bias = solution.astype(np.float32).reshape(features.shape[1] + 1, -1)
    weight, bias = weight_and_bias[:-1], weight_and_bias[-1]
    rows = np.arange(len(features))
    logits = features @ weight + bias
    logits -= logits.max(1, keepdims=True)
    wanted = (1 - smoothing) * logits[rows, labels] + smoothing * logits.mean(1)
    error = np.exp(logits)
    total = error.sum(1, keepdims=True)
    log_loss = (np.log(total[:, 0]) - wanted).mean(dtype=np.float64)
    error /= total
    error[rows, labels] -= 1 - smoothing
    error -= smoothing / error.shape[1]
    error /= len(features)
    gradient = np.empty(weight_and_bias.shape)
    gradient[:-1] = features.T @ error + strength * weight
    gradient[-1] = error.sum(0)
    penalty = (strength * weight * weight).sum() / 2
    return float(log_loss + penalty), gradient.ravel()
