"""What images that were held out say of a classifier's probabilities: thresholds of class sets."""

from math import ceil

import numpy as np
from numpy.typing import ArrayLike, NDArray

from headstart.errors import HeadstartError
from headstart.evaluate import softmax

COVERAGES = (0.8, 0.9, 0.95, 0.99)
"""Shares of the sets that hold the true class, for which thresholds are shipped."""


def set_thresholds(logits: ArrayLike, labels: ArrayLike, temperature: float) -> tuple[float, ...]:
    """Returns, for each of `COVERAGES`, how unlikely a class may be and still be in the set.

    Split conformal prediction with the score 1 - p(class) (Sadinle, Lei and Wasserman, JASA 2019):
    the threshold is the conformal quantile of the true classes' scores. The promise is exact on
    average where the images were neither trained on nor chosen by. Here the temperature, one
    number, comes from the same images; and where a search refits its winner on more images than
    its trials had, their scores are those of a slightly worse classifier.

    Args:
        logits: (M, C), of images that the classifier was not trained on.
        labels: Their class numbers (M,).
        temperature: What the logits are divided by.

    Returns:
        Values from 0 to 1; 1, which lets every class in, where there are too few images.
    """
    truth = np.asarray(labels, np.int64)
    probabilities = softmax(logits, temperature)
    scores = np.clip(1 - probabilities[np.arange(len(truth)), truth], 0, 1)
    return tuple(min(conformal_quantile(scores, share), 1.0) for share in COVERAGES)


def conformal_quantile(scores: NDArray[np.float64], share: float) -> float:
    """Returns what at least `share` of further scores do not exceed; infinite if n is too small.

    The ceil((n + 1) share)-th smallest of n scores (Vovk, Gammerman and Shafer 2005).

    Args:
        scores: (n,).
        share: Between 0 and 1.

    Raises:
        HeadstartError: The share is not between 0 and 1.
    """
    if not 0 < share < 1:
        raise HeadstartError(f"The wanted share must lie between 0 and 1; it is {share:g}.")
    n = len(scores)
    # Less a hair: 0.9 * 10 must be 9 and not a little more, which would be rounded up to 10.
    rank = ceil((n + 1) * share - 1e-9)
    return float(np.sort(scores)[rank - 1]) if rank <= n else float("inf")
