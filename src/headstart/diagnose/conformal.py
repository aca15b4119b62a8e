"""How sure a single prediction is: sets of classes that hold the truth, and images out of range.

Both promise a rate that holds for images like those they were calibrated on, whatever the network:
calibrate on images that it was not trained on.
"""

from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from headstart.calibration import conformal_quantile
from headstart.errors import HeadstartError
from headstart.retrieval import unit

Score = Literal["lac", "aps"]

NEIGHBOURS = 3
"""Which nearest training image is looked at; classes of few images ask for a small number."""

GALLERY = 2000
"""Training images, at most, that distances are measured to."""
FEW = 40
"""Held-out images below which a range is calibrated on the training images themselves."""

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
    value = min(conformal_quantile(of_truth, coverage), 1.0)
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
    unbounded = _unbounded(embeddings, labels, false_alarm, k)
    return _bounded(unbounded, distance(calibration, unbounded))


def fit_range_within(
    embeddings: NDArray[np.floating],
    labels: NDArray[np.int64],
    groups: NDArray[np.int64],
    rows: NDArray[np.int64],
    false_alarm: float = 0.05,
    k: int = NEIGHBOURS,
) -> Range:
    """Learns the same as `fit_range` where no image was held out, from the training images alone.

    Each is measured by the gallery without its own group. That is right for embeddings that were
    not trained on the images. Where they were, training images lie a little closer together than
    others do, so that a little more than the wanted share of other images may be flagged. At 128
    pixels and 5 %, after fine-tuning on all images that are not sealed, 6 % of the 341 test images
    of flowers17 were flagged, and 85 % of ants and bees; in a run of ants and bees, 8 % of its 153.

    Args:
        embeddings: (N, E), of the training images.
        labels: Their class numbers (N,).
        groups: Their group numbers (N,): copies of one image would make all distances small.
        rows: Those that are the gallery, see `gallery_rows`.
        false_alarm: Wanted share, between 0 and 1.
        k: Which nearest image is looked at.

    Raises:
        HeadstartError: There is no training image, or the share is not between 0 and 1.
    """
    unbounded = _unbounded(embeddings[rows], labels[rows], false_alarm, k)
    others = groups[rows]
    away = []
    for start in range(0, len(embeddings), _BLOCK):
        block = slice(start, start + _BLOCK)
        own = groups[block, None] == others[None]
        away.append(_kth_distance(embeddings[block], unbounded, own))
    return _bounded(unbounded, np.concatenate(away))


def gallery_rows(labels: NDArray[np.int64], most: int = GALLERY) -> NDArray[np.int64]:
    """Returns which images (G,) stand for all, at most so many, as even over classes as can be."""
    order = np.random.default_rng(0).permutation(len(labels))
    rank = np.empty(len(labels), np.int64)
    for label in np.unique(labels):
        members = order[labels[order] == label]
        rank[members] = np.arange(len(members))
    return np.sort(order[np.argsort(rank[order], kind="stable")[:most]])


def distance(embeddings: NDArray[np.floating], known: Range) -> NDArray[np.float64]:
    """Returns the cosine distance (N,), 0 to 2, of embeddings (N, E) to the k-th nearest image."""
    blocks = [
        _kth_distance(embeddings[start : start + _BLOCK], known)
        for start in range(0, len(embeddings), _BLOCK)
    ]
    return np.concatenate([np.empty(0), *blocks])


def out_of_range(embeddings: NDArray[np.floating], known: Range) -> NDArray[np.bool_]:
    """Returns which images (N,) are unlike all training images, by their embeddings (N, E)."""
    return np.asarray(distance(embeddings, known) > known.threshold)


def _unbounded(
    embeddings: NDArray[np.floating], labels: NDArray[np.int64], false_alarm: float, k: int
) -> Range:
    """Returns a range that flags nothing."""
    if not len(embeddings):
        raise HeadstartError("There is no training image to measure distances from.")
    counts = np.bincount(labels)
    k = max(1, min(k, int(counts[counts > 0].min())))
    return Range(unit(embeddings), k, 2.0, false_alarm)


def _bounded(unbounded: Range, away: NDArray[np.float64]) -> Range:
    """Returns the range with its threshold from the distances of calibration images."""
    threshold = conformal_quantile(away, 1 - unbounded.false_alarm)
    return replace(unbounded, threshold=min(threshold, 2.0))


def _kth_distance(
    embeddings: NDArray[np.floating], known: Range, left_out: NDArray[np.bool_] | None = None
) -> NDArray[np.float64]:
    """Returns distances (N,) to the k-th nearest, without those (N, G) that are left out."""
    cosines = unit(embeddings) @ known.gallery.T
    if left_out is not None:
        cosines[left_out] = -1  # as far as can be
    return 1 - np.partition(cosines, -known.k, axis=1)[:, -known.k].astype(np.float64)


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
