"""Probabilities from logits: temperature scaling and calibration error."""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from headstart.errors import HeadstartError
from headstart.evaluation.label_scores import best_temperature, set_score

TEMPERATURE_RANGE = (0.05, 20.0)

BINS = 15
"""Bins of equal width for the calibration error."""


@dataclass(frozen=True)
class CalibrationBins:
    """A reliability diagram: equal-width bins on the probability of the predicted class.

    Attributes:
        edges: Edges of the bins, shape (bins + 1,), from 0 to 1; a bin includes its upper edge.
        count: Number of images in each bin, shape (bins,).
        confidence: Mean probability of the predicted class, shape (bins,); NaN in an empty bin.
        accuracy: Share of right predictions, shape (bins,); NaN in an empty bin.
    """

    edges: NDArray[np.float64]
    count: NDArray[np.int64]
    confidence: NDArray[np.float64]
    accuracy: NDArray[np.float64]


def softmax(logits: ArrayLike, temperature: float = 1.0) -> NDArray[np.float64]:
    """Returns the float64 probabilities of logits (…, classes) divided by the temperature.

    Example:
        >>> softmax([0.0, 0.0]).tolist()
        [0.5, 0.5]
    """
    return np.asarray(np.exp(log_softmax(logits, temperature)))


def fit_temperature(
    logits: ArrayLike,
    labels: ArrayLike,
    spread: float = math.inf,
    independent: int | None = None,
) -> float:
    """Returns the temperature that minimises the log loss on validation (Guo et al. 2017).

    With a spread it is the most likely one (maximum a posteriori) if log(temperature) is normal
    around 0 before any image is seen: with few images it stays close to 1.

    If every prediction is right, the log loss has no minimum at a positive temperature. In the
    spirit of Platt (1999), one right and one wrong prediction are then added: the predicted class
    is right with probability (n + 1)/(n + 2), and the second most likely class otherwise.

    Args:
        logits: Logits, shape (n, classes).
        labels: Class indices, shape (n,).
        spread: Standard deviation of log(temperature) before any image is seen.
        independent: Number of independent images that these count as; by default all are.

    Returns:
        A value within `TEMPERATURE_RANGE`; 1 if there is nothing to fit: no images, one class, or
        equal logits for all classes.

    Raises:
        HeadstartError: If a logit is NaN or infinite, or the shapes do not fit.

    Example:
        >>> round(fit_temperature([[4.0, 0.0]] * 4, [0, 0, 0, 1]), 2)
        3.64
        >>> round(fit_temperature([[4.0, 0.0]] * 4, [0, 0, 0, 1], spread=0.3), 2)
        1.27
    """
    from scipy.optimize import minimize_scalar  # noqa: PLC0415 - heavy

    z, y = checked_scores(logits, labels)
    n, n_classes = z.shape
    if n == 0 or n_classes < 2 or not np.ptp(z, axis=1).any():
        return 1.0
    rows, count = np.arange(n), n if independent is None else independent
    all_right = bool((z.argmax(axis=1) == y).all())
    below = z - z.max(axis=1, keepdims=True)
    own = float(below[rows, y].mean())
    runner_up = float(np.partition(below, -2, axis=1)[:, -2].mean())

    def loss(log_temperature: float) -> float:
        factor = math.exp(-log_temperature)
        log_sum = float(np.log(np.exp(factor * below).sum(axis=1)).mean())
        total = (count + all_right) * (log_sum - factor * own)
        if all_right:
            total += log_sum - factor * runner_up
        return total + log_temperature**2 / (2 * spread**2)

    low, high = np.log(TEMPERATURE_RANGE)
    found = minimize_scalar(loss, bounds=(low, high), method="bounded", options={"xatol": 1e-6})
    return float(np.exp(found.x))


def log_losses(
    logits: ArrayLike, labels: NDArray[np.int64], temperature: float
) -> NDArray[np.float64]:
    """Returns the log loss (n,), in nats, of every image at a temperature.

    Args:
        logits: Logits, shape (n, classes).
        labels: Class indices, shape (n,).
        temperature: Temperature that divides the logits.
    """
    return np.asarray(-log_softmax(logits, temperature)[np.arange(len(labels)), labels])


def score(logits: NDArray[np.float32], labels: NDArray[np.int64]) -> tuple[float, float]:
    """Returns the mean log loss in nats and the accuracy.

    For sets of labels, it is the loss of a label and the mean average precision; see
    `label_scores`.

    Args:
        logits: Logits (N, C).
        labels: Class numbers (N,), or 1 where an image has a label, (N, C).

    Example:
        >>> score(np.zeros((4, 2), np.float32), np.array([0, 0, 0, 1]))
        (0.6931471805599453, 0.75)
    """
    if labels.ndim == 2:
        return set_score(logits, labels)
    likelihood = softmax(logits)[np.arange(len(labels)), labels]
    loss = -np.log(np.maximum(likelihood, 1e-12)).mean()
    return float(loss), float((logits.argmax(1) == labels).mean())


def calibrated_score(logits: NDArray[np.float32], labels: NDArray[np.int64]) -> tuple[float, float]:
    """Returns the log loss at the best temperature and the accuracy, to compare candidates."""
    find = best_temperature if labels.ndim == 2 else fit_temperature
    temperature = find(logits, labels)
    return score((logits / temperature).astype(np.float32), labels)


def calibration_bins(
    probabilities: ArrayLike, labels: ArrayLike, n_bins: int = BINS
) -> CalibrationBins:
    """Sorts predictions into equal-width bins by the probability of the predicted class.

    Args:
        probabilities: Probabilities, shape (n, classes).
        labels: Class indices, shape (n,).
        n_bins: Number of bins.
    """
    p, y = checked_scores(probabilities, labels)
    confidence = p.max(axis=1)
    right = p.argmax(axis=1) == y
    edges = np.linspace(0, 1, n_bins + 1)
    bins = np.clip(np.searchsorted(edges, confidence, side="left") - 1, 0, n_bins - 1)
    count = np.bincount(bins, minlength=n_bins)
    with np.errstate(invalid="ignore"):
        return CalibrationBins(
            edges=edges,
            count=count,
            confidence=np.bincount(bins, confidence, n_bins) / count,
            accuracy=np.bincount(bins, right, n_bins) / count,
        )


def expected_calibration_error(
    probabilities: ArrayLike, labels: ArrayLike, n_bins: int = BINS
) -> float:
    """Returns the mean gap between confidence and accuracy over bins, weighted by image count.

    Naeini et al. 2015, with 15 equal-width bins as in Guo et al. 2017.

    Args:
        probabilities: Probabilities, shape (n, classes), n at least 1.
        labels: Class indices, shape (n,).
        n_bins: Number of bins.

    Example:
        >>> round(expected_calibration_error([[0.8, 0.2]] * 4, [0, 0, 0, 1]), 2)
        0.05
    """
    bins = calibration_bins(probabilities, labels, n_bins)
    gaps = np.abs(bins.accuracy - bins.confidence)
    return float(np.nansum(gaps * bins.count) / bins.count.sum())


def log_softmax(logits: ArrayLike, temperature: float) -> NDArray[np.float64]:
    """Returns the logarithms of the probabilities of logits (…, classes)."""
    z = np.asarray(logits, dtype=np.float64) / temperature
    z = z - z.max(axis=-1, keepdims=True)
    return np.asarray(z - np.log(np.exp(z).sum(axis=-1, keepdims=True)))


def checked_scores(
    scores: ArrayLike, labels: ArrayLike
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Returns scores (n, classes) and labels (n,) as arrays after checking them."""
    z, y = np.asarray(scores, dtype=np.float64), np.asarray(labels, dtype=np.int64)
    if z.ndim != 2 or y.shape != z.shape[:1]:
        raise HeadstartError(f"Logits of shape {z.shape} do not fit labels of shape {y.shape}.")
    if not np.isfinite(z).all():
        broken = int((~np.isfinite(z).all(axis=1)).sum())
        raise HeadstartError(
            f"The model has NaN or infinite logits for {broken} of {len(z)} images: "
            "its training diverged. Lower the learning rate."
        )
    if y.size and not (y.min() >= 0 and y.max() < z.shape[1]):
        raise HeadstartError(
            f"Labels range from {y.min()} to {y.max()}, but there are {z.shape[1]} logits."
        )
    return z, y
