"""The difference in mean average precision between two classifiers on the same images."""

import numpy as np

from headstart.evaluation.intervals import Groups
from headstart.evaluation.label_scores import Floats, Marks, weighted_precision
from headstart.evaluation.statistics import Interval, bootstrap_interval

RESAMPLES = 1000


def mean_precision_difference(
    better: Floats, worse: Floats, marks: Marks, groups: Groups | None = None
) -> tuple[float, Interval]:
    """Returns by how much the mean average precision of some scores is higher, and its interval.

    Both are measured on the same resamples (BCa), so what makes an image hard for both cancels.

    Args:
        better: Scores (N, C).
        worse: Other scores of the same images.
        marks: 1 where an image has a label, (N, C). A label that no image has does not count.
        groups: Group number of each image, (N,); a resample draws whole groups. None if images are
            independent.

    Returns:
        The difference, and its 95% interval: 0 and (0, 0) if no image has a label.

    Example:
        >>> marks = np.array([[1], [0], [1], [0]])
        >>> right, wrong = np.array([[0.9], [0.1], [0.8], [0.2]]), np.array([[0.1]] * 4)
        >>> mean_precision_difference(right, wrong, marks)[0]
        0.5
    """
    known = np.flatnonzero(marks.any(0))
    if not len(known):
        return 0.0, (0.0, 0.0)

    def statistic(weights: Floats) -> Floats:
        gaps = np.stack(
            [
                weighted_precision(better[:, k], marks[:, k], weights)
                - weighted_precision(worse[:, k], marks[:, k], weights)
                for k in known
            ]
        )
        drawn = ~np.isnan(gaps)  # a resample may hold no image with a label
        return np.asarray(np.where(drawn, gaps, 0).sum(0) / np.maximum(drawn.sum(0), 1))

    point = float(statistic(np.ones((1, len(marks))))[0])
    low, high = bootstrap_interval(statistic, len(marks), groups=groups, n_resamples=RESAMPLES)
    return point, (min(low, point), max(high, point))
