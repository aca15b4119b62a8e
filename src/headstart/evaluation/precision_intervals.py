"""Intervals of average precision: a bootstrap on the scale of its log-odds, with Student's t.

Percentiles of resamples, BCa's too, are too narrow where few images have a label. On the scale of
the log-odds (Boyd, Eng and Page, ECML PKDD 2013) resamples are about normal. As many degrees of
freedom as groups with the label, less one, widen it (Student 1908); those of a mean over labels
are Satterthwaite's (1946).
"""

import numpy as np
from numpy.typing import NDArray

from headstart.evaluation.intervals import Groups, share_interval
from headstart.evaluation.label_scores import Floats, Marks, weighted_precision
from headstart.evaluation.statistics import Interval

_BATCH = 256
_LEAST = 1e-3


def resampled_precisions(told: Floats, marks: Marks, groups: Groups, resamples: int) -> Floats:
    """Returns the average precision of each label in resamples of groups of images, (R, C).

    Args:
        told: Scores (N, C).
        marks: 1 where an image has a label, (N, C).
        groups: Group number of each image, (N,).
        resamples: Number of resamples R.

    Returns:
        NaN where a resample holds no image with the label.
    """
    unit = np.unique(groups, return_inverse=True)[1]
    number = int(unit.max()) + 1
    random = np.random.default_rng(0)
    found = []
    for start in range(0, resamples, _BATCH):
        size = min(_BATCH, resamples - start)
        counts = random.multinomial(number, np.full(number, 1 / number), size=size)
        weights = counts[:, unit].astype(np.float64)
        found.append(
            np.stack(
                [
                    weighted_precision(told[:, k], marks[:, k], weights)
                    for k in range(marks.shape[1])
                ],
                1,
            )
        )
    return np.concatenate(found)


def mean_interval(point: float, precisions: Floats, marks: Marks, groups: Groups) -> Interval:
    """Returns the 95% interval of a mean of average precisions.

    Args:
        point: The mean.
        precisions: Average precision of each label in resamples, (R, C).
        marks: 1 where an image has a label, (N, C); each label has one image at least.
        groups: Group number of each image, (N,).

    Returns:
        Wilson's interval if all images with a label rank first: then no resample differs. (0, 1)
        if they are all of one group.

    Example:
        >>> told, marks = np.linspace(1, 0, 8)[:, None], np.array([[1, 1, 0, 1, 0, 0, 1, 0]]).T
        >>> drawn = resampled_precisions(told, marks, np.arange(8), 200)
        >>> low, high = mean_interval(0.83, drawn, marks, np.arange(8))
        >>> 0.2 < low < 0.83 < high < 1
        True
    """
    there = marks.any(1)
    if point >= 1:
        return share_interval(np.ones(int(there.sum()), np.bool_), groups[there])
    counts = np.array([len(np.unique(groups[marks[:, k] > 0])) for k in range(marks.shape[1])])
    if len(np.unique(groups)) < 2 or counts.max() < 2:
        return 0.0, 1.0
    from scipy.special import expit, logit, stdtrit  # noqa: PLC0415 - heavy

    most = 1 - 0.5 / (len(np.unique(groups[there])) + 1)
    known = ~np.isnan(precisions)
    means = np.where(known, precisions, 0).sum(1) / np.maximum(known.sum(1), 1)
    odds = logit(np.clip(means[known.any(1)], _LEAST, most))
    variances = np.array([_variance(precisions[:, k]) for k in range(marks.shape[1])])
    freedom = _freedom(variances, counts)
    half = float(stdtrit(freedom, 0.975) * odds.std())
    middle = float(logit(np.clip(point, _LEAST, most)))
    low, high = float(expit(middle - half)), float(expit(middle + half))
    return min(low, point), 1.0 if point >= most else max(high, point)


def _variance(values: Floats) -> float:
    drawn = values[~np.isnan(values)]
    return float(drawn.var()) if len(drawn) else 0.0


def _freedom(variances: Floats, counts: NDArray[np.int64]) -> float:
    """Returns Satterthwaite's degrees of freedom of a sum of labels (C,)."""
    if not variances.any():
        return float(max(counts.min() - 1, 1))
    total = float((variances**2 / np.maximum(counts - 1, 1)).sum())
    return max(float(variances.sum() ** 2) / total, 1.0)
