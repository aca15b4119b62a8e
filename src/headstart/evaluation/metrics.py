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
    log_losses,
    softmax,
)
from headstart.evaluation.class_means import balanced_accuracy, macro_f1
from headstart.evaluation.intervals import Groups, share_interval
from headstart.evaluation.label_scores import best_temperature, label_losses, right_sets
from headstart.evaluation.retrieval import Retrieval
from headstart.evaluation.statistics import Interval
from headstart.evaluation.trust import calibration_error_by_chance
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
        recall_interval: 95% interval, as for the accuracy; (0, 1) for a class without images.
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
        accuracy_interval: Wilson's interval, for the effective number of images where images
            belong together in groups; see `evaluation.intervals`. With a single group of several
            images, this and the next two are (0, 1).
        balanced_accuracy: Mean recall of the classes that have test images.
        balanced_accuracy_interval: Wilson's interval for its effective number of images; see
            `evaluation.class_means`.
        macro_f1: Mean F1 of the classes that have test images.
        macro_f1_interval: The same, widened by the range of the bias that macro F1 has with few
            images a class; see `evaluation.class_means`.
        log_loss: Mean of -ln p(true class), in nats, after temperature scaling.
        log_loss_uncalibrated: The same at temperature 1; None in older runs.
        ece: Expected calibration error after temperature scaling, in 15 bins.
        ece_uncalibrated: The same at temperature 1.
        ece_by_chance: Calibration error that right probabilities have on as many images, in half of
            all cases; None in older runs.
        temperature: Temperature that divides the logits.
        class_names: Class names in the order of the logits.
        classes: Metrics of each class, in the same order.
        confusion: Counts; row = true class, column = predicted class.
        top_confusions: The most frequent mistakes, most frequent first.
        retrieval: Metrics of retrieval among the training images.
        groups: Number of independent groups of images, `n` if each image is one of its own; None
            in older runs, whose accuracy and recalls took all images as independent.
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
    log_loss_uncalibrated: Size | None = None
    ece: Share
    ece_uncalibrated: Share
    ece_by_chance: Share | None = None
    temperature: Positive
    class_names: Names
    classes: tuple[ClassMetrics, ...]
    confusion: tuple[tuple[Count, ...], ...]
    top_confusions: tuple[Confusion, ...]
    retrieval: Retrieval | None = None
    groups: Count | None = None

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
        if self.groups is not None and not 1 <= self.groups <= self.n:
            raise ValueError("The value groups is not from 1 to n.")
        return self


def calibrated_losses(
    logits: NDArray[np.float32], labels: NDArray[np.int64]
) -> NDArray[np.float64]:
    """Returns the log loss (N,), in nats, of every image at the best temperature.

    For sets of labels, it is the mean over the labels.

    Args:
        logits: Shape (N, classes).
        labels: Class numbers (N,), or 1 where an image has a label, (N, classes).
    """
    if labels.ndim == 2:
        temperature = best_temperature(logits, labels)
        return np.asarray(label_losses(logits / temperature, labels).mean(1))
    probabilities = softmax(logits, fit_temperature(logits, labels))
    likelihood = probabilities[np.arange(len(labels)), labels]
    return np.asarray(-np.log(np.maximum(likelihood, 1e-12)))


def right_bits(logits: NDArray[np.float32], labels: NDArray[np.int64]) -> str:
    """Returns one character an image, `1` where logits (N, C) are right about labels (N,).

    A set of labels, (N, C), is right if each is, at a probability of 50%.

    Example:
        >>> right_bits(np.array([[2, 1], [0, 1], [0, 1]], np.float32), np.array([0, 0, 1]))
        '101'
    """
    right = right_sets(logits, labels) if labels.ndim == 2 else logits.argmax(1) == labels
    return "".join("1" if each else "0" for each in right)


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
    groups: Groups | None = None,
) -> Metrics:
    """Returns all metrics of an evaluation.

    Args:
        logits: Logits before temperature scaling, shape (n, classes).
        labels: True class indices, shape (n,).
        class_names: Class names in the order of the logits.
        temperature: Temperature that divides the logits, from other images.
        groups: Group number of each image, shape (n,), if the images are not independent.

    Raises:
        DataError: If there are no images.
        HeadstartError: If a logit is NaN or infinite, or the shapes do not fit.
    """
    z, y = checked_scores(logits, labels)
    probabilities = softmax(z, temperature)
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
    right = y == predicted
    balanced, balanced_interval = balanced_accuracy(y, predicted, n_classes, groups)
    f1, f1_interval = macro_f1(y, predicted, n_classes, groups)

    def recall_interval(index: int) -> Interval:
        of = y == index
        return share_interval(right[of], None if groups is None else groups[of])

    return Metrics(
        n=n,
        correct=correct,
        accuracy=correct / n,
        accuracy_interval=share_interval(right, groups),
        balanced_accuracy=balanced,
        balanced_accuracy_interval=balanced_interval,
        macro_f1=f1,
        macro_f1_interval=f1_interval,
        log_loss=float(log_losses(z, y, temperature).mean()),
        log_loss_uncalibrated=float(log_losses(z, y, 1.0).mean()),
        ece=expected_calibration_error(probabilities, y),
        ece_uncalibrated=expected_calibration_error(softmax(z), y),
        ece_by_chance=calibration_error_by_chance(probabilities.max(axis=1), groups, share=0.5),
        temperature=temperature,
        class_names=tuple(class_names),
        classes=tuple(
            _class_metrics(name, i, confusion, recall_interval(i))
            for i, name in enumerate(class_names)
        ),
        confusion=tuple(tuple(int(count) for count in row) for row in confusion),
        top_confusions=_top_confusions(confusion, class_names),
        groups=n if groups is None else len(np.unique(groups)),
    )


def _class_metrics(
    name: str, index: int, confusion: NDArray[np.int64], recall_interval: Interval
) -> ClassMetrics:
    hits = int(confusion[index, index])
    n, n_predicted = int(confusion[index].sum()), int(confusion[:, index].sum())
    return ClassMetrics(
        name=name,
        n=n,
        precision=hits / n_predicted if n_predicted else None,
        recall=hits / n if n else None,
        recall_interval=recall_interval,
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
