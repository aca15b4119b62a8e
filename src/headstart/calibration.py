"""Calibration of class sets on held-out images."""

from math import ceil

import numpy as np
from numpy.typing import ArrayLike, NDArray

from headstart.errors import HeadstartError
from headstart.evaluate import softmax

COVERAGES = (0.8, 0.9, 0.95, 0.99)
"""Coverages for which a bundle contains thresholds."""


def set_thresholds(logits: ArrayLike, labels: ArrayLike, temperature: float) -> tuple[float, ...]:
    """Returns, for each of `COVERAGES`, the largest score 1 - p(class) of a class in the set.

    Split conformal prediction with the score 1 - p(class) (Sadinle, Lei and Wasserman, JASA 2019):
    the threshold is the conformal quantile of the scores of the true classes. The coverage is exact
    on average if the images were used neither for training nor for a choice. Here, the temperature
    (one number) comes from the same images. After a search, which trains its winner again on more
    images, the scores are those of a slightly worse classifier.

    Args:
        logits: Logits (M, C) of images that the classifier was not trained on.
        labels: Class numbers (M,).
        temperature: Temperature that divides the logits.

    Returns:
        Values from 0 to 1. With too few images a value is 1, and the set contains every class.

    Example:
        >>> set_thresholds([[2.0, 0.0]] * 3, [0, 0, 0], temperature=1.0)
        (1.0, 1.0, 1.0, 1.0)
    """
    truth = np.asarray(labels, np.int64)
    probabilities = softmax(logits, temperature)
    scores = np.clip(1 - probabilities[np.arange(len(truth)), truth], 0, 1)
    return tuple(min(conformal_quantile(scores, share), 1.0) for share in COVERAGES)


def conformal_quantile(scores: NDArray[np.float64], share: float) -> float:
    """Returns a bound that `share` of new scores do not exceed; infinite if n is too small.

    It is the ceil((n + 1) share)-th smallest of n scores (Vovk, Gammerman and Shafer 2005).

    Args:
        scores: Scores (n,).
        share: Wanted share, between 0 and 1.

    Raises:
        HeadstartError: If the share is not between 0 and 1.

    Example:
        >>> conformal_quantile(np.array([0.1, 0.2, 0.3]), 0.5)
        0.2
        >>> conformal_quantile(np.array([0.1, 0.2, 0.3]), 0.9)
        inf
    """
    if not 0 < share < 1:
        raise HeadstartError(f"The share must be between 0 and 1; got {share:g}.")
    n = len(scores)
    # The small number avoids rounding errors: 0.9 * 10 must not be rounded up to 10.
    rank = ceil((n + 1) * share - 1e-9)
    return float(np.sort(scores)[rank - 1]) if rank <= n else float("inf")
