"""Conformal prediction: prediction sets, and images out of distribution."""

from dataclasses import dataclass, replace
from math import ceil
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from headstart.errors import HeadstartError
from headstart.evaluation.calibration import softmax
from headstart.evaluation.retrieval import unit

Score = Literal["lac", "aps"]

NEIGHBOURS = 3
"""The distance is that to the k-th nearest training image; small classes need a small k."""

GALLERY = 2000
"""Largest number of training images that distances are measured to."""

FEW = 40
"""With fewer held-out images, a range is calibrated on the training images."""

_BLOCK = 512

COVERAGES = (0.8, 0.9, 0.95, 0.99)
"""Coverages for which a bundle contains thresholds."""


@dataclass(frozen=True)
class Threshold:
    """The threshold of conformal prediction sets.

    Attributes:
        score: Conformity score that is compared with it; see `calibrate`.
        value: Largest score in a set, 0 to 1; at 1, every set contains every class.
        coverage: Guaranteed share of the sets that contain the true class.
        n: Number of calibration images.
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
    """Finds the threshold at which prediction sets have the wanted coverage.

    Split conformal prediction (Vovk, Gammerman and Shafer 2005). The threshold is the
    ceil((n + 1) coverage)-th smallest score of the true class. On average over calibration sets,
    the coverage is at least the wanted one and, without ties, at most 1 / (n + 1) higher. With too
    few images (8 or fewer for 90%), every set contains every class.

    - `lac`: 1 - p(class) (Sadinle, Lei and Wasserman 2019). The sets are the smallest on average,
      but cover hard images less often and may be empty.
    - `aps`: the summed probability of all likelier classes (Romano, Sesia and Candès 2020). A set
      contains the likeliest classes up to and including the one that exceeds the threshold. The
      sets are larger, but cover hard and easy images more evenly. Without the randomisation of the
      paper, predictions are deterministic and the likeliest class is always included. The coverage
      is therefore at least the accuracy.

    Args:
        probabilities: Probabilities (M, C) of images that the network was not trained on.
        labels: Class numbers (M,).
        coverage: Wanted coverage, between 0 and 1.
        score: Conformity score.

    Raises:
        HeadstartError: If the shapes do not fit, a probability is not finite, or the coverage is
            not between 0 and 1.

    Example:
        >>> calibrate([[0.9, 0.1], [0.2, 0.8], [0.4, 0.6]], [0, 1, 0], coverage=0.5).value
        0.19999999999999996
    """
    p, y = _checked_embeddings(probabilities), np.asarray(labels, dtype=np.int64)
    if y.shape != p.shape[:1] or (y.size and not (y.min() >= 0 and y.max() < p.shape[1])):
        raise HeadstartError(f"Probabilities of shape {p.shape} do not fit {y.size} labels.")
    of_truth = _label_scores(p, score)[np.arange(len(y)), y]
    value = min(conformal_quantile(of_truth, coverage), 1.0)
    return Threshold(score, value, coverage, len(y))


def prediction_set(
    probabilities: ArrayLike, threshold: Threshold, *, never_empty: bool = True
) -> NDArray[np.bool_]:
    """Returns which classes are in the prediction set of each image (N, C).

    Args:
        probabilities: Probabilities (N, C).
        threshold: Result of `calibrate` for the same network.
        never_empty: Whether the likeliest class is always included. If not, a set of `lac` is empty
            when no class is as likely as the true class usually is.

    Raises:
        HeadstartError: If a probability is not finite.

    Example:
        >>> threshold = Threshold("lac", value=0.7, coverage=0.9, n=50)
        >>> prediction_set([[0.55, 0.40, 0.05]], threshold).tolist()
        [[True, True, False]]
    """
    p = _checked_embeddings(probabilities)
    members = _label_scores(p, threshold.score) <= threshold.value
    if never_empty:
        members[np.arange(len(p)), p.argmax(axis=1)] = True
    return np.asarray(members)


@dataclass(frozen=True, eq=False)
class TrainingDistribution:
    """The region of the embedding space that counts as in distribution.

    Attributes:
        gallery: Embeddings (N, E) of training images, of length 1.
        k: The distance is that to the k-th nearest of them.
        threshold: Images with a larger cosine distance are out of distribution. With too few
            calibration images it is 2, the largest distance, and no image is flagged.
        false_alarm: Largest share of in-distribution images that are flagged.
        background: Embeddings (B, E) of images of no class, of length 1. The distance to the k-th
            nearest of them is subtracted, so that what is closer to these than to training images
            is flagged. None without such images.
    """

    gallery: NDArray[np.float32]
    k: int
    threshold: float
    false_alarm: float
    background: NDArray[np.float32] | None = None


def fit_distribution(
    embeddings: NDArray[np.floating],
    labels: NDArray[np.int64],
    calibration: NDArray[np.floating],
    false_alarm: float = 0.05,
    k: int = NEIGHBOURS,
    background: NDArray[np.floating] | None = None,
) -> TrainingDistribution:
    """Calibrates the distance from which an image is out of distribution.

    The distance is that to the k-th nearest training image (Sun, Ming, Zhu and Li, ICML 2022). The
    threshold is the conformal quantile of the distances of held-out images, so at most the wanted
    share of new images of the same kind is flagged. How many other images are flagged depends on
    their similarity: with frozen features at 128 pixels, a range of flowers17 flags 5 to 7% of
    flowers, 82% of ants and bees, and all steel surfaces. A range of ants and bees, many of which
    sit on flowers, flags 93% of steel surfaces and 7% of flowers.

    Args:
        embeddings: Embeddings (N, E) of the training images.
        labels: Class numbers (N,). k is at most the size of the smallest class, so images of that
            class are not compared with other classes.
        calibration: Embeddings (M, E) of images that the network was not trained on.
        false_alarm: Wanted share, between 0 and 1. At 5%, at least 19 images are needed.
        k: The distance is that to the k-th nearest image.
        background: Embeddings (B, E) of images of no class, at least k.

    Raises:
        HeadstartError: If there is no training image, or the share is not between 0 and 1.
    """
    unbounded = _unbounded(embeddings, labels, false_alarm, k, background)
    return _bounded(unbounded, distance(calibration, unbounded))


def fit_distribution_within(
    embeddings: NDArray[np.floating],
    labels: NDArray[np.int64],
    groups: NDArray[np.int64],
    rows: NDArray[np.int64],
    false_alarm: float = 0.05,
    background: NDArray[np.floating] | None = None,
    k: int = NEIGHBOURS,
) -> TrainingDistribution:
    """Calibrates a range as `fit_distribution` does, but on training images, not on held-out ones.

    The distance of each image is measured to the gallery without its own group. This is exact for
    embeddings that were not trained on these images. Fine-tuning moves training images slightly
    closer together, so slightly more than the wanted share of new images may be flagged. At 128
    pixels and 5%, after fine-tuning on the whole development set, 6% of the 341 test images of
    flowers17 and 85% of ants and bees are flagged; for ants and bees, 8% of the 153 test images.

    Args:
        embeddings: Embeddings (N, E) of the training images.
        labels: Class numbers (N,).
        groups: Group numbers (N,), because copies of an image would make all distances small.
        rows: Rows of the gallery; see `gallery_rows`.
        false_alarm: Wanted share, between 0 and 1.
        background: Embeddings (B, E) of images of no class, at least k.
        k: The distance is that to the k-th nearest image.

    Raises:
        HeadstartError: If there is no training image, or the share is not between 0 and 1.
    """
    unbounded = _unbounded(embeddings[rows], labels[rows], false_alarm, k, background)
    others = groups[rows]
    away = []
    for start in range(0, len(embeddings), _BLOCK):
        block = slice(start, start + _BLOCK)
        own = groups[block, None] == others[None]
        away.append(_kth_distance(embeddings[block], unbounded, own))
    return _bounded(unbounded, np.concatenate(away))


def gallery_rows(labels: NDArray[np.int64], most: int = GALLERY) -> NDArray[np.int64]:
    """Returns the rows (G,) of a subset of images that is balanced over the classes.

    Args:
        labels: Class numbers (N,).
        most: Largest number of rows.

    Example:
        >>> labels = np.array([0, 0, 0, 0, 1, 1])
        >>> labels[gallery_rows(labels, most=4)].tolist()
        [0, 0, 1, 1]
    """
    order = np.random.default_rng(0).permutation(len(labels))
    rank = np.empty(len(labels), np.int64)
    for label in np.unique(labels):
        members = order[labels[order] == label]
        rank[members] = np.arange(len(members))
    return np.sort(order[np.argsort(rank[order], kind="stable")[:most]])


def distance(embeddings: NDArray[np.floating], known: TrainingDistribution) -> NDArray[np.float64]:
    """Returns the cosine distance (N,), 0 to 2, of embeddings (N, E) to the k-th nearest image.

    With a background, the distance to the k-th nearest image of it is subtracted: -2 to 2.

    Example:
        >>> gallery = np.array([[1.0, 0.0]], np.float32)
        >>> known = TrainingDistribution(gallery, k=1, threshold=0.3, false_alarm=0.05)
        >>> distance(np.array([[2.0, 0.0], [0.0, 1.0]]), known).tolist()
        [0.0, 1.0]
    """
    blocks = [
        _kth_distance(embeddings[start : start + _BLOCK], known)
        for start in range(0, len(embeddings), _BLOCK)
    ]
    return np.concatenate([np.empty(0), *blocks])


def out_of_distribution(
    embeddings: NDArray[np.floating], known: TrainingDistribution
) -> NDArray[np.bool_]:
    """Returns which images (N,) are unlike all training images, by their embeddings (N, E)."""
    return np.asarray(distance(embeddings, known) > known.threshold)


def _unbounded(
    embeddings: NDArray[np.floating],
    labels: NDArray[np.int64],
    false_alarm: float,
    k: int,
    background: NDArray[np.floating] | None,
) -> TrainingDistribution:
    """Returns a range that flags no image."""
    if not len(embeddings):
        raise HeadstartError("There is no training image to measure distances from.")
    counts = np.bincount(labels)
    k = max(1, min(k, int(counts[counts > 0].min())))
    other = None if background is None else unit(background)
    return TrainingDistribution(unit(embeddings), k, 2.0, false_alarm, other)


def _bounded(unbounded: TrainingDistribution, away: NDArray[np.float64]) -> TrainingDistribution:
    """Returns the range with the threshold for the distances of the calibration images."""
    threshold = conformal_quantile(away, 1 - unbounded.false_alarm)
    return replace(unbounded, threshold=min(threshold, 2.0))


def _kth_distance(
    embeddings: NDArray[np.floating],
    known: TrainingDistribution,
    left_out: NDArray[np.bool_] | None = None,
) -> NDArray[np.float64]:
    """Returns distances (N,) to the k-th nearest gallery image that is not left out (N, G)."""
    rows = unit(embeddings)
    cosines = rows @ known.gallery.T
    if left_out is not None:
        cosines[left_out] = -1  # the largest distance
    away = _kth(cosines, known.k)
    return away if known.background is None else away - _kth(rows @ known.background.T, known.k)


def _kth(cosines: NDArray[np.float32], k: int) -> NDArray[np.float64]:
    """Returns the distances (N,) of the k-th highest cosines in rows (N, G)."""
    away = 1 - np.partition(cosines, -k, axis=1)[:, -k].astype(np.float64)
    return np.asarray(away.clip(0, 2))  # a cosine may be rounded to more than 1


def _label_scores(p: NDArray[np.float64], score: Score) -> NDArray[np.float64]:
    """Returns the nonconformity (N, C) of each class, 0 to 1."""
    if score == "lac":
        return np.clip(1 - p, 0, 1)
    order = np.argsort(-p, axis=1, kind="stable")
    summed = np.take_along_axis(p, order, axis=1).cumsum(axis=1)
    scores = np.zeros_like(p)
    np.put_along_axis(scores, order[:, 1:], np.minimum(summed[:, :-1], 1), axis=1)
    return scores


def _checked_embeddings(probabilities: ArrayLike) -> NDArray[np.float64]:
    p = np.asarray(probabilities, dtype=np.float64)
    if p.ndim != 2 or not np.isfinite(p).all():
        raise HeadstartError(
            f"Probabilities must be finite numbers of shape (images, classes); got {p.shape}."
        )
    return p


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
