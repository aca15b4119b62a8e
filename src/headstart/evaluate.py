"""Metrics with confidence intervals, temperature calibration, and the sealed test set."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Generic, TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray
from pydantic import BaseModel, ConfigDict

from headstart.errors import DataError, HeadstartError
from headstart.inference_stats import (
    Interval,
    WeightedStatistic,
    bootstrap_interval,
    wilson_interval,
)
from headstart.retrieval import Retrieval

T = TypeVar("T")

TEMPERATURE_RANGE = (0.05, 20.0)
_TOP_CONFUSIONS = 10


class ClassMetrics(BaseModel):
    """The metrics of one class.

    Attributes:
        name: Name of the class.
        n: Number of test images of the class.
        precision: Share of the predictions of the class that are right; None without predictions.
        recall: Share of the images of the class that are recognised; None without images.
        recall_interval: Wilson's 95% interval; (0, 1) for a class without images.
        f1: Harmonic mean of both; 0 if the class is never predicted, None without images.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    n: int
    precision: float | None
    recall: float | None
    recall_interval: Interval
    f1: float | None


class Confusion(BaseModel):
    """The number of images of one class that are predicted as another."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    actual: str
    predicted: str
    count: int


class Metrics(BaseModel):
    """The metrics of a classifier on unseen images; all intervals are 95% intervals.

    Attributes:
        n: Number of images.
        correct: Number of images that are classified correctly.
        accuracy: Share of images that are classified correctly.
        accuracy_interval: Wilson interval, which assumes independent images.
        balanced_accuracy: Mean recall of the classes that have test images.
        balanced_accuracy_interval: BCa bootstrap interval, by group if there are groups. If all
            predictions are right or all are wrong, the bootstrap has no spread, and the interval
            is that of the accuracy. With only one group, it is (0, 1).
        macro_f1: Mean F1 of the classes that have test images.
        macro_f1_interval: Interval as for the balanced accuracy. It is too narrow for many classes
            with few images, where macro F1 is biased: simulated coverage is about 94% for 17
            classes of 5 images, but 80% for 100 classes of 5 and for 196 classes of 10.
        log_loss: Mean of -ln p(true class), in nats, after temperature scaling.
        ece: Expected calibration error after temperature scaling, in 15 bins.
        ece_uncalibrated: The same at temperature 1.
        temperature: Temperature that divides the logits.
        class_names: Class names in the order of the logits.
        classes: Metrics of each class, in the same order.
        confusion: Counts; row = true class, column = predicted class.
        top_confusions: The most frequent mistakes, most frequent first.
        retrieval: Metrics of retrieval among the training images.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    n: int
    correct: int
    accuracy: float
    accuracy_interval: Interval
    balanced_accuracy: float
    balanced_accuracy_interval: Interval
    macro_f1: float
    macro_f1_interval: Interval
    log_loss: float
    ece: float
    ece_uncalibrated: float
    temperature: float
    class_names: tuple[str, ...]
    classes: tuple[ClassMetrics, ...]
    confusion: tuple[tuple[int, ...], ...]
    top_confusions: tuple[Confusion, ...]
    retrieval: Retrieval | None = None


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


class SealedTest(Generic[T]):
    """Withholds the test items until every choice is made, and returns them only once.

    Attributes:
        opened_at: Time of the opening (ISO 8601, UTC), or None.
        reason: Reason for the opening, or None.
    """

    def __init__(self, items: Sequence[T]) -> None:
        self._items = tuple(items)
        self.opened_at: str | None = None
        self.reason: str | None = None

    def __len__(self) -> int:
        return len(self._items)

    def open(self, reason: str) -> tuple[T, ...]:
        """Returns the test items.

        Raises:
            HeadstartError: If it was opened before.
        """
        if self.opened_at is not None:
            raise HeadstartError(
                f"The test set was already opened at {self.opened_at} for {self.reason}. It can be "
                "opened only once per run. Use the result of that evaluation, or start a new run."
            )
        self.opened_at = datetime.now(UTC).isoformat(timespec="seconds")
        self.reason = reason
        return self._items


def softmax(logits: ArrayLike, temperature: float = 1.0) -> NDArray[np.float64]:
    """Returns the float64 probabilities of logits (…, classes) divided by the temperature.

    Example:
        >>> softmax([0.0, 0.0]).tolist()
        [0.5, 0.5]
    """
    return np.asarray(np.exp(_log_softmax(logits, temperature)))


def fit_temperature(logits: ArrayLike, labels: ArrayLike) -> float:
    """Returns the temperature that minimises the log loss on validation (Guo et al. 2017).

    If every prediction is right, the log loss has no minimum at a positive temperature. In the
    spirit of Platt (1999), one right and one wrong prediction are then added: the predicted class
    is right with probability (n + 1)/(n + 2), and the second most likely class otherwise.

    Args:
        logits: Logits, shape (n, classes).
        labels: Class indices, shape (n,).

    Returns:
        A value within `TEMPERATURE_RANGE`; 1 if there is nothing to fit: no images, one class, or
        equal logits for all classes.

    Raises:
        HeadstartError: If a logit is NaN or infinite, or the shapes do not fit.

    Example:
        >>> round(fit_temperature([[4.0, 0.0]] * 4, [0, 0, 0, 1]), 2)
        3.64
    """
    from scipy.optimize import minimize_scalar  # noqa: PLC0415 - heavy

    z, y = _checked(logits, labels)
    n, n_classes = z.shape
    if n == 0 or n_classes < 2 or not np.ptp(z, axis=1).any():
        return 1.0
    rows = np.arange(n)
    all_right = bool((z.argmax(axis=1) == y).all())
    runner_up = np.argpartition(z, -2, axis=1)[:, -2]

    def loss(log_temperature: float) -> float:
        log_p = _log_softmax(z, float(np.exp(log_temperature)))
        total = -float(log_p[rows, y].mean())
        if all_right:
            total = (n + 1) * total - float(log_p[rows, runner_up].mean())
        return total

    low, high = np.log(TEMPERATURE_RANGE)
    found = minimize_scalar(loss, bounds=(low, high), method="bounded", options={"xatol": 1e-6})
    return float(np.exp(found.x))


def score(logits: NDArray[np.float32], labels: NDArray[np.int64]) -> tuple[float, float]:
    """Returns the mean log loss in nats and the accuracy.

    Args:
        logits: Logits (N, C).
        labels: Class numbers (N,).

    Example:
        >>> score(np.zeros((4, 2), np.float32), np.array([0, 0, 0, 1]))
        (0.6931471805599453, 0.75)
    """
    likelihood = softmax(logits)[np.arange(len(labels)), labels]
    loss = -np.log(np.maximum(likelihood, 1e-12)).mean()
    return float(loss), float((logits.argmax(1) == labels).mean())


def calibrated_score(logits: NDArray[np.float32], labels: NDArray[np.int64]) -> tuple[float, float]:
    """Returns the log loss at the best temperature and the accuracy, to compare candidates."""
    temperature = fit_temperature(logits, labels)
    return score((logits / temperature).astype(np.float32), labels)


def calibrated_losses(
    logits: NDArray[np.float32], labels: NDArray[np.int64]
) -> NDArray[np.float64]:
    """Returns the log loss (N,), in nats, of every image at the best temperature.

    Args:
        logits: Shape (N, classes).
        labels: Class numbers (N,).
    """
    probabilities = softmax(logits, fit_temperature(logits, labels))
    likelihood = probabilities[np.arange(len(labels)), labels]
    return np.asarray(-np.log(np.maximum(likelihood, 1e-12)))


def right_bits(logits: NDArray[np.float32], labels: NDArray[np.int64]) -> str:
    """Returns one character an image, `1` where logits (N, C) are right about labels (N,).

    Example:
        >>> right_bits(np.array([[2, 1], [0, 1], [0, 1]], np.float32), np.array([0, 0, 1]))
        '101'
    """
    return "".join("1" if right else "0" for right in logits.argmax(1) == labels)


def flags_of(bits: str) -> NDArray[np.bool_]:
    """Returns which images (N,) were right, from the characters that `right_bits` made.

    Example:
        >>> flags_of("101").tolist()
        [True, False, True]
    """
    return np.array([bit == "1" for bit in bits], np.bool_)


def calibration_bins(
    probabilities: ArrayLike, labels: ArrayLike, n_bins: int = 15
) -> CalibrationBins:
    """Sorts predictions into equal-width bins by the probability of the predicted class.

    Args:
        probabilities: Probabilities, shape (n, classes).
        labels: Class indices, shape (n,).
        n_bins: Number of bins.
    """
    p, y = _checked(probabilities, labels)
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
    probabilities: ArrayLike, labels: ArrayLike, n_bins: int = 15
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


def compute_metrics(
    logits: ArrayLike,
    labels: ArrayLike,
    class_names: Sequence[str],
    temperature: float,
    *,
    groups: NDArray[np.int64] | None = None,
    seed: int = 0,
) -> Metrics:
    """Returns all metrics of an evaluation.

    Args:
        logits: Logits before temperature scaling, shape (n, classes).
        labels: True class indices, shape (n,).
        class_names: Class names in the order of the logits.
        temperature: Result of `fit_temperature` on validation images.
        groups: Group number of each image, shape (n,), if the images are not independent.
        seed: Seed for the bootstrap.

    Raises:
        DataError: If there are no images.
        HeadstartError: If a logit is NaN or infinite, or the shapes do not fit.
    """
    z, y = _checked(logits, labels)
    n, n_classes = z.shape
    if n == 0:
        raise DataError("There are no images to evaluate. Add images to the test split.")
    if n_classes != len(class_names):
        raise HeadstartError(
            f"Each image has {n_classes} logits, but there are {len(class_names)} classes."
        )

    predicted = z.argmax(axis=1)
    confusion = np.zeros((n_classes, n_classes), dtype=np.int64)
    np.add.at(confusion, (y, predicted), 1)
    correct = int(np.trace(confusion))
    accuracy_interval = wilson_interval(correct, n)
    n_units = n if groups is None else len(np.unique(groups))

    def figure(statistic: WeightedStatistic) -> tuple[float, Interval]:
        value = float(statistic(np.ones((1, n)))[0])
        if correct in (0, n):
            return value, accuracy_interval
        if n_units < 2:
            return value, (0.0, 1.0)
        return value, bootstrap_interval(statistic, n, groups=groups, seed=seed)

    balanced_accuracy, balanced_accuracy_interval = figure(
        _balanced_accuracy_of(y, predicted, n_classes)
    )
    macro_f1, macro_f1_interval = figure(_macro_f1_of(y, predicted, n_classes))
    return Metrics(
        n=n,
        correct=correct,
        accuracy=correct / n,
        accuracy_interval=accuracy_interval,
        balanced_accuracy=balanced_accuracy,
        balanced_accuracy_interval=balanced_accuracy_interval,
        macro_f1=macro_f1,
        macro_f1_interval=macro_f1_interval,
        log_loss=-float(_log_softmax(z, temperature)[np.arange(n), y].mean()),
        ece=expected_calibration_error(softmax(z, temperature), y),
        ece_uncalibrated=expected_calibration_error(softmax(z), y),
        temperature=temperature,
        class_names=tuple(class_names),
        classes=tuple(_class_metrics(name, i, confusion) for i, name in enumerate(class_names)),
        confusion=tuple(tuple(int(count) for count in row) for row in confusion),
        top_confusions=_top_confusions(confusion, class_names),
    )


def _class_metrics(name: str, index: int, confusion: NDArray[np.int64]) -> ClassMetrics:
    hits = int(confusion[index, index])
    n, n_predicted = int(confusion[index].sum()), int(confusion[:, index].sum())
    return ClassMetrics(
        name=name,
        n=n,
        precision=hits / n_predicted if n_predicted else None,
        recall=hits / n if n else None,
        recall_interval=wilson_interval(hits, n),
        f1=2 * hits / (n + n_predicted) if n else None,
    )


def _top_confusions(
    confusion: NDArray[np.int64], class_names: Sequence[str]
) -> tuple[Confusion, ...]:
    mistakes = confusion.copy()
    np.fill_diagonal(mistakes, 0)
    order = np.argsort(-mistakes, axis=None, kind="stable")[:_TOP_CONFUSIONS]
    pairs = [divmod(int(cell), len(class_names)) for cell in order if mistakes.flat[cell]]
    return tuple(
        Confusion(actual=class_names[i], predicted=class_names[j], count=int(mistakes[i, j]))
        for i, j in pairs
    )


def _balanced_accuracy_of(
    labels: NDArray[np.int64], predicted: NDArray[np.int64], n_classes: int
) -> WeightedStatistic:
    """Returns the mean recall over the classes in a resample, as a weighted statistic."""

    def statistic(weights: NDArray[np.float64]) -> NDArray[np.float64]:
        n_true = _sums_by_class(weights, labels, n_classes)
        hits = _sums_by_class(weights * (labels == predicted), labels, n_classes)
        recall = hits / np.maximum(n_true, 1)
        return np.asarray(recall.sum(axis=1) / (n_true > 0).sum(axis=1))

    return statistic


def _macro_f1_of(
    labels: NDArray[np.int64], predicted: NDArray[np.int64], n_classes: int
) -> WeightedStatistic:
    """Returns the mean F1 over the classes in a resample, as a weighted statistic."""

    def statistic(weights: NDArray[np.float64]) -> NDArray[np.float64]:
        n_true = _sums_by_class(weights, labels, n_classes)
        n_predicted = _sums_by_class(weights, predicted, n_classes)
        hits = _sums_by_class(weights * (labels == predicted), labels, n_classes)
        f1 = 2 * hits / np.maximum(n_true + n_predicted, 1)  # 0 without hits, absent classes too
        return np.asarray(f1.sum(axis=1) / (n_true > 0).sum(axis=1))

    return statistic


def _sums_by_class(
    weights: NDArray[np.float64], classes: NDArray[np.int64], n_classes: int
) -> NDArray[np.float64]:
    """Returns the sums of weights (resamples, n) by class (n,), shape (resamples, classes)."""
    from scipy.sparse import csr_array  # noqa: PLC0415

    n = len(classes)
    one_hot = csr_array((np.ones(n), (classes, np.arange(n))), shape=(n_classes, n))
    return np.asarray((one_hot @ weights.T).T)


def _log_softmax(logits: ArrayLike, temperature: float) -> NDArray[np.float64]:
    z = np.asarray(logits, dtype=np.float64) / temperature
    z = z - z.max(axis=-1, keepdims=True)
    return np.asarray(z - np.log(np.exp(z).sum(axis=-1, keepdims=True)))


def _checked(scores: ArrayLike, labels: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
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
