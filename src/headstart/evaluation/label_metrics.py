"""The metrics of a classifier that gives an image any number of labels, with their intervals."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, model_validator

from headstart.errors import DataError
from headstart.evaluation.intervals import Groups, share_interval
from headstart.evaluation.label_rules import LabelRule, decided, probabilities_of
from headstart.evaluation.label_scores import (
    Floats,
    Marks,
    average_precisions,
    checked_logits,
    label_losses,
)
from headstart.evaluation.precision_intervals import mean_interval, resampled_precisions
from headstart.evaluation.statistics import Interval, WeightedStatistic, bootstrap_interval
from headstart.inputs.quantities import Count, Names, Share, ShareRange, Size

RESAMPLES = 1000
_WORK = 4e8
_FEWEST = 200
_BINS = 10


class LabelMetrics(BaseModel):
    """The metrics of one label; all but the average precision depend on its threshold.

    Attributes:
        name: Name of the label.
        n: Number of test images with the label.
        threshold: Probability from which an image gets the label.
        average_precision: Mean precision over the ranks of these images; None without any.
        average_precision_interval: 95% bootstrap interval by group of images; Wilson's if every
            image with the label ranks above all others; (0, 1) without any, or with one group.
        precision: Share of the images that get the label that have it; None if none gets it.
        recall: Share of the images with the label that get it; None without any.
        f1: Harmonic mean of both; None without images that have it or get it.
        log_loss: Mean log loss of the label, in nats, after its calibration.
        ece: Expected calibration error in 10 bins of the probability of the label.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    n: Count
    threshold: Share
    average_precision: Share | None
    average_precision_interval: ShareRange
    precision: Share | None
    recall: Share | None
    f1: Share | None
    log_loss: Size
    ece: Share


class SetMetrics(BaseModel):
    """The metrics of a multi-label classifier on unseen images; intervals are 95% intervals.

    Attributes:
        task: What tells these metrics from those of one label an image.
        n: Number of images.
        groups: Number of independent groups of images.
        mean_average_precision: Mean of the average precisions of labels that some image has.
        mean_average_precision_interval: Bootstrap interval by group of images, on the scale of the
            log-odds; see `precision_intervals`.
        micro_f1: F1 of all decisions together.
        micro_f1_interval: Bootstrap interval (BCa) by group of images.
        macro_f1: Mean F1 of the labels that some image has.
        macro_f1_interval: The same kind of interval.
        exact: Share of images that get exactly their labels.
        exact_interval: Wilson's interval for the effective number of images.
        log_loss: Mean log loss of a label, in nats, after calibration.
        log_loss_uncalibrated: The same before it.
        ece: Mean of the calibration errors of the labels.
        empty: Number of images without any label.
        class_names: Names of the labels in the order of the logits.
        labels: Metrics of each label, in the same order.
        together: Number of images that have two labels, (C, C); on the diagonal, that have one.
        given_together: The same of the labels that images get.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    task: Literal["multilabel"] = "multilabel"
    n: Count
    groups: Count
    mean_average_precision: Share
    mean_average_precision_interval: ShareRange
    micro_f1: Share
    micro_f1_interval: ShareRange
    macro_f1: Share
    macro_f1_interval: ShareRange
    exact: Share
    exact_interval: ShareRange
    log_loss: Size
    log_loss_uncalibrated: Size
    ece: Share
    empty: Count
    class_names: Names
    labels: tuple[LabelMetrics, ...]
    together: tuple[tuple[Count, ...], ...]
    given_together: tuple[tuple[Count, ...], ...]

    @model_validator(mode="after")
    def _agree(self) -> Self:
        size = len(self.class_names)
        if tuple(each.name for each in self.labels) != self.class_names:
            raise ValueError("The labels are not those of class_names, in their order.")
        for table in (self.together, self.given_together):
            if len(table) != size or any(len(row) != size for row in table):
                raise ValueError("A table of labels has another size than their number.")
        if tuple(self.together[k][k] for k in range(size)) != tuple(each.n for each in self.labels):
            raise ValueError("The numbers of images are not those of the table.")
        if not self.n or not 1 <= self.groups <= self.n:
            raise ValueError("The value groups is not from 1 to n.")
        return self


def compute_set_metrics(
    logits: NDArray[np.floating],
    marks: Marks,
    class_names: Sequence[str],
    rules: Sequence[LabelRule],
    groups: Groups,
) -> SetMetrics:
    """Returns all metrics of an evaluation.

    Args:
        logits: Logits (N, C) before calibration.
        marks: 1 where an image has a label, (N, C).
        class_names: Names of the labels.
        rules: Calibration and threshold of each label, from other images.
        groups: Group number of each image, (N,).

    Raises:
        DataError: If there are no images.
        HeadstartError: If a logit is NaN or infinite, or the shapes do not fit.
    """
    z = checked_logits(logits, marks)
    images, size = z.shape
    if not images:
        raise DataError("There are no images to evaluate. Add images to the test split.")
    told = probabilities_of(z, rules)
    given = decided(told, rules).astype(np.int64)
    losses = _losses(z, marks, rules)
    estimated = precision_estimates(told, marks, groups)
    errors = [_calibration_error(told[:, k], marks[:, k]) for k in range(size)]
    exact = np.asarray((given == marks).all(1))
    together, given_together = marks.T @ marks, given.T @ given
    micro, micro_interval = micro_f1_estimate(marks, given, groups)
    macro, macro_interval = _estimate(_macro_f1(marks, given), marks, groups)
    return SetMetrics(
        n=images,
        groups=len(np.unique(groups)),
        mean_average_precision=estimated.mean,
        mean_average_precision_interval=estimated.mean_interval,
        micro_f1=micro,
        micro_f1_interval=micro_interval,
        macro_f1=macro,
        macro_f1_interval=macro_interval,
        exact=float(exact.mean()),
        exact_interval=share_interval(exact, groups),
        log_loss=float(losses.mean()),
        log_loss_uncalibrated=float(label_losses(z, marks).mean()),
        ece=float(np.mean(errors)),
        empty=int((marks.sum(1) == 0).sum()),
        class_names=tuple(class_names),
        labels=tuple(
            _label_metrics(
                name,
                marks[:, k],
                given[:, k],
                rules[k].threshold,
                (float(losses[:, k].mean()), errors[k]),
                estimated.points[k],
                estimated.labels[k],
            )
            for k, name in enumerate(class_names)
        ),
        together=tuple(tuple(map(int, row)) for row in together),
        given_together=tuple(tuple(map(int, row)) for row in given_together),
    )


@dataclass(frozen=True)
class PrecisionEstimates:
    """Average precisions on unseen images, with 95% intervals.

    Attributes:
        mean: Mean of the average precisions of the labels that some image has; 0 without any.
        mean_interval: Its interval; (0, 1) without any.
        points: The average precision of each label; None for one that no image has.
        labels: Its interval; (0, 1) for one that no image has.
    """

    mean: float
    mean_interval: Interval
    points: tuple[float | None, ...]
    labels: tuple[Interval, ...]


def precision_estimates(
    told: Floats, marks: Marks, groups: Groups, resamples: int | None = None
) -> PrecisionEstimates:
    """Returns the mean average precision and the intervals, all by the same resamples.

    Args:
        told: Scores (N, C).
        marks: 1 where an image has a label, (N, C).
        groups: Group number of each image, (N,); a resample draws whole groups.
        resamples: Number of resamples; by default by the size of the marks.

    Example:
        >>> told = np.array([[0.9, 0.2], [0.8, 0.7], [0.3, 0.6], [0.1, 0.1]])
        >>> marks = np.array([[1, 0], [0, 1], [1, 0], [0, 0]])
        >>> found = precision_estimates(told, marks, np.arange(4))
        >>> low, high = found.mean_interval
        >>> round(found.mean, 3), low < found.mean < high  # 5/6 for the first, 1 for the second
        (0.917, True)
        >>> low, high = found.labels[1]
        >>> round(low, 2), high  # its only image ranks first: the interval of a share of 1 of 1
        (0.05, 1.0)
    """
    known = np.flatnonzero(marks.any(0))
    points: list[float | None] = [None] * marks.shape[1]
    intervals: list[Interval] = [(0.0, 1.0)] * marks.shape[1]
    if not len(known):
        return PrecisionEstimates(0.0, (0.0, 1.0), tuple(points), tuple(intervals))
    told, marks = told[:, known], marks[:, known]
    found = average_precisions(told, marks)
    drawn = resampled_precisions(told, marks, groups, resamples or _resamples(marks))
    for column, label in enumerate(known):
        only = [column]
        points[label] = point = float(found[column])
        intervals[label] = mean_interval(point, drawn[:, only], marks[:, only], groups)
    mean = float(found.mean())
    interval = mean_interval(mean, drawn, marks, groups)
    return PrecisionEstimates(mean, interval, tuple(points), tuple(intervals))


def micro_f1_estimate(marks: Marks, given: Marks, groups: Groups) -> tuple[float, Interval]:
    """Returns the F1 of all decisions together, and its 95% bootstrap interval.

    Args:
        marks: 1 where an image has a label, (N, C).
        given: 1 where it gets one, (N, C).
        groups: Group number of each image, (N,); a resample draws whole groups.

    Example:
        >>> marks, given = np.array([[1, 1], [0, 1], [1, 0]]), np.array([[1, 0], [0, 1], [1, 1]])
        >>> micro_f1_estimate(marks, given, np.arange(3))[0]
        0.75
    """
    return _estimate(_micro_f1(marks, given), marks, groups)


def micro_f1_loss(
    marks: Marks, before: Marks, after: Marks, groups: Groups
) -> tuple[float, Interval]:
    """Returns by how much a micro F1 is lower than another on the same images, and its interval.

    Args:
        marks: 1 where an image has a label, (N, C).
        before: 1 where it got one before, (N, C).
        after: 1 where it gets one now, (N, C).
        groups: Group number of each image, (N,); a resample draws whole groups.

    Returns:
        The difference, and its 95% interval by paired resamples (BCa): of width 0 if both are the
        same in every resample.

    Example:
        >>> marks = np.array([[1, 1], [0, 1], [1, 0]])
        >>> micro_f1_loss(marks, marks, np.array([[1, 0], [0, 1], [1, 1]]), np.arange(3))[0]
        0.25
    """
    was, now = _micro_f1(marks, before), _micro_f1(marks, after)

    def lost(weights: Floats) -> Floats:
        return np.asarray(was(weights) - now(weights))

    point = float(lost(np.ones((1, len(marks))))[0])
    resamples = _resamples(marks)
    low, high = bootstrap_interval(lost, len(marks), groups=groups, n_resamples=resamples)
    return point, (min(low, point), max(high, point))


def _resamples(marks: Marks) -> int:
    return int(np.clip(_WORK / marks.size, _FEWEST, RESAMPLES))


def _estimate(statistic: WeightedStatistic, marks: Marks, groups: Groups) -> tuple[float, Interval]:
    """Returns a share for marks (N, C), and its interval."""
    point = float(statistic(np.ones((1, len(marks))))[0])
    number = _resamples(marks)
    low, high = bootstrap_interval(statistic, len(marks), groups=groups, n_resamples=number)
    return point, (min(max(low, 0.0), point), max(min(high, 1.0), point))


def _losses(z: Floats, marks: Marks, rules: Sequence[LabelRule]) -> Floats:
    scale = np.array([rule.scale for rule in rules])
    shift = np.array([rule.shift for rule in rules])
    return label_losses(z * scale + shift, marks)


def _label_metrics(
    name: str,
    marks: Marks,
    given: Marks,
    threshold: float,
    scores: tuple[float, float],
    precision: float | None,
    interval: Interval,
) -> LabelMetrics:
    hits, n, n_given = int((marks * given).sum()), int(marks.sum()), int(given.sum())
    log_loss, error = scores
    return LabelMetrics(
        name=name,
        n=n,
        threshold=threshold,
        average_precision=precision,
        average_precision_interval=interval,
        precision=hits / n_given if n_given else None,
        recall=hits / n if n else None,
        f1=2 * hits / (n + n_given) if n + n_given else None,
        log_loss=log_loss,
        ece=error,
    )


def _calibration_error(told: Floats, marks: Marks) -> float:
    """Returns the expected calibration error of one label, in bins of equal width."""
    place = np.minimum((told * _BINS).astype(np.int64), _BINS - 1)
    gap = np.bincount(place, told - marks, minlength=_BINS)
    return float(np.abs(gap).sum() / len(told))


def _macro_f1(marks: Marks, given: Marks) -> WeightedStatistic:
    hits = (marks * given).astype(np.float64)

    def statistic(weights: Floats) -> Floats:
        n, n_given = weights @ marks, weights @ given
        with np.errstate(invalid="ignore", divide="ignore"):
            return _mean_of_known(np.where(n > 0, 2 * (weights @ hits) / (n + n_given), np.nan))

    return statistic


def _micro_f1(marks: Marks, given: Marks) -> WeightedStatistic:
    hits = (marks * given).sum(1).astype(np.float64)
    both = (marks.sum(1) + given.sum(1)).astype(np.float64)

    def statistic(weights: Floats) -> Floats:
        total = weights @ both
        return np.asarray(2 * (weights @ hits) / np.maximum(total, 1))

    return statistic


def _mean_of_known(values: Floats) -> Floats:
    """Returns the means (R,) of the values (R, C) that are numbers; 0 where none is."""
    known = ~np.isnan(values)
    total = np.where(known, values, 0).sum(1)
    return np.asarray(total / np.maximum(known.sum(1), 1))
