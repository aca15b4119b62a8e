"""The metrics of an evaluation, each with its interval."""

from collections.abc import Sequence
from typing import Self, TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray
from pydantic import BaseModel, ConfigDict, model_validator

from headstart.errors import DataError, HeadstartError
from headstart.evaluation.calibration import (
    checked_scores,
    expected_calibration_error,
    fit_temperature,
    log_softmax,
    softmax,
)
from headstart.evaluation.retrieval import Retrieval
from headstart.evaluation.statistics import (
    Interval,
    WeightedStatistic,
    bootstrap_interval,
    wilson_interval,
)
from headstart.inputs.quantities import Count, Names, Positive, Share, ShareRange, Size
from headstart.text import counted

T = TypeVar("T")

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
    n: Count
    precision: Share | None
    recall: Share | None
    recall_interval: ShareRange
    f1: Share | None


class Confusion(BaseModel):
    """The number of images of one class that are predicted as another."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    actual: str
    predicted: str
    count: Count


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

    n: Count
    correct: Count
    accuracy: Share
    accuracy_interval: ShareRange
    balanced_accuracy: Share
    balanced_accuracy_interval: ShareRange
    macro_f1: Share
    macro_f1_interval: ShareRange
    log_loss: Size
    ece: Share
    ece_uncalibrated: Share
    temperature: Positive
    class_names: Names
    classes: tuple[ClassMetrics, ...]
    confusion: tuple[tuple[Count, ...], ...]
    top_confusions: tuple[Confusion, ...]
    retrieval: Retrieval | None = None

    @model_validator(mode="after")
    def _agree(self) -> Self:
        names, size = self.class_names, len(self.class_names)
        if len(self.confusion) != size or any(len(row) != size for row in self.confusion):
            raise ValueError(
                f"The confusion is not a table of {counted(size, 'class', 'classes')}."
            )
        if tuple(each.name for each in self.classes) != names:
            raise ValueError("The classes are not those of class_names, in their order.")
        right = sum(self.confusion[number][number] for number in range(size))
        if (sum(map(sum, self.confusion)), right) != (self.n, self.correct) or not self.n:
            raise ValueError("The values n and correct are not those of confusion.")
        if abs(self.accuracy - self.correct / self.n) > 1e-6:
            raise ValueError("The accuracy is not correct / n.")
        return self


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
    z, y = checked_scores(logits, labels)
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
        log_loss=-float(log_softmax(z, temperature)[np.arange(n), y].mean()),
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
