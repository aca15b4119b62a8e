"""How sure a single prediction is: sets of classes that hold the truth, and images out of range.

Both promise a rate that holds for images like those they were calibrated on, whatever the network:
calibrate on images that it was not trained on.
"""

from dataclasses import dataclass, replace
from math import ceil
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from headstart.errors import HeadstartError
from headstart.retrieval import unit

Score = Literal["lac", "aps"]

NEIGHBOURS = 3
"""Which nearest training image is looked at; classes of few images ask for a small number."""

_BLOCK = 512


@dataclass(frozen=True)
class Threshold:
    """From which score on a class is left out of a prediction set.

    Attributes:
        score: What is compared with it, see `calibrate`.
        value: 0 to 1; at 1 every class is in every set.
        coverage: Share of the sets that hold the true class, at least.
        n: Number of images that it was calibrated on.
    """

    score: Score
    value: float
    coverage: float
    n: int


def calibrate(
    probabilities: ArrayLike,
    labels: ArrayLike,
    coverage: float = 0.9,
    score: Score = "lac",
) -> Threshold:
    """Finds the threshold at which prediction sets hold the true class as often as wanted.

    Split conformal prediction (Vovk, Gammerman and Shafer 2005). The threshold is the
    ceil((n + 1) coverage)-th smallest score of the true class, which covers at least as often as
    wanted on average over calibration sets, and at most 1 / (n + 1) more often but for ties. With
    too few images for that (8 or fewer for 90 %), every class is in every set.

    - `lac`: 1 - p(class) (Sadinle, Lei and Wasserman 2019); the smallest sets on average, at the
      price of hard images, whose sets cover less and may be empty.
    - `aps`: the summed probability of all likelier classes (Romano, Sesia and Candès 2020): the
      likeliest classes are taken until their sum exceeds the threshold, the last one included.
      Larger sets, that cover hard images and easy ones more alike. Without the paper's
      randomisation a prediction repeats, and the likeliest class is always in; so where that one
      alone covers more than is wanted, the sets do.

    Args:
        probabilities: (M, C), of images that the network was not trained on.
        labels: Their class numbers (M,).
        coverage: Wanted share, between 0 and 1.
        score: What a class is judged by.

    Raises:
        HeadstartError: The shapes do not fit, a probability is not a number, or the coverage is
            not between 0 and 1.
    """
    p, y = _checked(probabilities), np.asarray(labels, dtype=np.int64)
    if y.shape != p.shape[:1] or (y.size and not (y.min() >= 0 and y.max() < p.shape[1])):
        raise HeadstartError(f"Probabilities of shape {p.shape} do not fit {y.size} labels.")
    of_truth = _scores(p, score)[np.arange(len(y)), y]
    value = min(_conformal_quantile(of_truth, coverage), 1.0)
    return Threshold(score, value, coverage, len(y))


def prediction_set(
    probabilities: ArrayLike, threshold: Threshold, *, never_empty: bool = True
) -> NDArray[np.bool_]:
    """Returns which classes may be the true one (N, C).

    Args:
        probabilities: (N, C).
        threshold: From `calibrate` on probabilities of the same network.
        never_empty: Whether the likeliest class is always in. Without, a set of `lac` may be empty:
            no class is as likely as the true one usually is.

    Raises:
        HeadstartError: A probability is not a number.
    """
    p = _checked(probabilities)
    members = _scores(p, threshold.score) <= threshold.value
    if never_empty:
        members[np.arange(len(p)), p.argmax(axis=1)] = True
    return np.asarray(members)


@dataclass(frozen=True, eq=False)
class Range:
    """What images a network knows.

    Attributes:
        gallery: Embeddings (N, E) of the training images, of length 1.
        k: The k-th nearest of them is looked at.
        threshold: Cosine distance from which on an image is out of range; 2, the largest, where
            there were too few images to calibrate on: no image is.
        false_alarm: Share of images of the kind calibrated on that are flagged, at most.
    """

    gallery: NDArray[np.float32]
    k: int
    threshold: float
    false_alarm: float


def fit_range(
    embeddings: NDArray[np.floating],
    labels: NDArray[np.int64],
    calibration: NDArray[np.floating],
    false_alarm: float = 0.05,
    k: int = NEIGHBOURS,
) -> Range:
    """Learns from which distance on an image is unlike all training images.

    The distance is that to the k-th nearest training image (Sun, Ming, Zhu and Li, ICML 2022). The
    threshold is the conformal quantile of the distances of held-out images, so that at most the
    wanted share of further images like them is flagged. How many others are depends on how unlike
    they are: with frozen features at 128 pixels, a range of flowers17 flagged 5 to 7 % of flowers,
    82 % of ants and bees and all steel surfaces; one of ants and bees, many of them on flowers,
    flagged 93 % of steel and 7 % of flowers.

    Args:
        embeddings: (N, E), of the training images.
        labels: Their class numbers (N,): k is at most the size of the smallest class, so that an
            image of it is not measured by other classes.
        calibration: Embeddings (M, E) of images that the network was not trained on.
        false_alarm: Wanted share, between 0 and 1. At 5 %, 19 images are needed to flag any.
        k: Which nearest image is looked at.

    Raises:
        HeadstartError: There is no training image, or the share is not between 0 and 1.
    """
    if not len(embeddings):
        raise HeadstartError("There is no training image to measure distances from.")
    counts = np.bincount(labels)
    k = max(1, min(k, int(counts[counts > 0].min())))
    unbounded = Range(unit(embeddings), k, 2.0, false_alarm)
    threshold = _conformal_quantile(distance(calibration, unbounded), 1 - false_alarm)
    return replace(unbounded, threshold=min(threshold, 2.0))


def distance(embeddings: NDArray[np.floating], known: Range) -> NDArray[np.float64]:
    """Returns the cosine distance (N,), 0 to 2, of embeddings (N, E) to the k-th nearest image."""
    blocks = [
        np.partition(unit(embeddings[start : start + _BLOCK]) @ known.gallery.T, -known.k, axis=1)
        for start in range(0, len(embeddings), _BLOCK)
    ]
    cosines = [block[:, -known.k].astype(np.float64) for block in blocks]
    return 1 - np.concatenate([np.empty(0), *cosines])


def out_of_range(embeddings: NDArray[np.floating], known: Range) -> NDArray[np.bool_]:
    """Returns which images (N,) are unlike all training images, by their embeddings (N, E)."""
    return np.asarray(distance(embeddings, known) > known.threshold)


def _conformal_quantile(scores: NDArray[np.float64], share: float) -> float:
    """Returns what at least `share` of further scores do not exceed; infinite if n is too small."""
    if not 0 < share < 1:
        raise HeadstartError(f"The wanted share must lie between 0 and 1; it is {share:g}.")
    n = len(scores)
    # Less a hair: 0.9 * 10 must be 9 and not a little more, which would be rounded up to 10.
    rank = ceil((n + 1) * share - 1e-9)
    return float(np.sort(scores)[rank - 1]) if rank <= n else float("inf")


def _scores(p: NDArray[np.float64], score: Score) -> NDArray[np.float64]:
    """Returns how little each class (N, C) conforms, 0 to 1."""
    if score == "lac":
        return np.clip(1 - p, 0, 1)
    order = np.argsort(-p, axis=1, kind="stable")
    summed = np.take_along_axis(p, order, axis=1).cumsum(axis=1)
    scores = np.zeros_like(p)
    np.put_along_axis(scores, order[:, 1:], np.minimum(summed[:, :-1], 1), axis=1)
    return scores


def _checked(probabilities: ArrayLike) -> NDArray[np.float64]:
    p = np.asarray(probabilities, dtype=np.float64)
    if p.ndim != 2 or not np.isfinite(p).all():
        raise HeadstartError(f"Probabilities of shape {p.shape} must be numbers (images, classes).")
    return p
