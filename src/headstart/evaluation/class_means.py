"""Balanced accuracy and macro F1, the means over classes, with intervals."""

import numpy as np
from numpy.typing import NDArray

from headstart.evaluation.intervals import (
    Floats,
    Groups,
    Sample,
    effective_images,
    numbered,
    shrinkage,
    small_sample_scale,
    wilson,
)
from headstart.evaluation.statistics import Interval

SHRUNK = 1.0
"""Number of groups of a typical class that are added to each class for its variance."""


def balanced_accuracy(
    labels: NDArray[np.int64],
    predicted: NDArray[np.int64],
    n_classes: int,
    groups: Groups | None = None,
    confidence: float = 0.95,
) -> tuple[float, Interval]:
    """Returns the mean recall of the classes that have images, and its interval.

    The interval is Wilson's (1927) for the effective number of images (`effective_images`), with
    the images of a class weighted by 1 / (classes · images of the class). A class of few images
    tells little about its own variance, so its recall is moved to the mean recall by as much as
    one more group of it would; the variance of a class with a single image is that of a typical
    class.

    Args:
        labels: Class numbers, shape (n,), n at least 1.
        predicted: Predicted class numbers, shape (n,).
        n_classes: Number of classes.
        groups: Group number of each image, shape (n,); any integers.
        confidence: Nominal coverage.

    Example:
        >>> value, (low, high) = balanced_accuracy(
        ...     np.array([0, 0, 0, 0, 1, 1]), np.array([0, 0, 0, 1, 1, 1]), 2
        ... )
        >>> value, round(low, 2), round(high, 2)
        (0.875, 0.42, 1.0)
    """
    right = labels == predicted
    n_true = np.bincount(labels, minlength=n_classes)
    recall = np.bincount(labels[right], minlength=n_classes) / np.maximum(n_true, 1)
    present = n_true > 0
    value = float(recall[present].mean())
    unit = numbered(groups, len(labels))
    if len(labels) > 1 and unit.max() == 0:
        return value, (0.0, 1.0)
    moved, scale, weights = _by_class(labels, unit, n_classes)
    expected = recall + moved * (value - recall)
    influence = weights * scale[labels] * (right - expected[labels])
    sample = Sample(influence, weights, ~right, value * (1 - value), unit)
    return value, wilson(value, effective_images(sample, confidence), confidence)


def macro_f1(
    labels: NDArray[np.int64],
    predicted: NDArray[np.int64],
    n_classes: int,
    groups: Groups | None = None,
    confidence: float = 0.95,
) -> tuple[float, Interval]:
    """Returns the mean F1 of the classes that have images, and its interval.

    F1 is a ratio, so that with few images a class its mean is biased, by as much as its standard
    error for 196 classes of 10 images. How much depends on the way in which the test images were
    chosen: it is small if each class got its share of them (a stratified split), and larger if
    chance decided how many images a class got (a sample as it came). The interval holds for both.
    The bias of each is estimated by the second-order delta method, and the interval covers the
    range between the two as in Imbens and Manski (2004): each end has the quantile with which the
    coverage is nominal at the ends of the range. The variance is that of the first-order delta
    method, with small classes as in `balanced_accuracy`.

    Args:
        labels: Class numbers, shape (n,), n at least 1.
        predicted: Predicted class numbers, shape (n,).
        n_classes: Number of classes.
        groups: Group number of each image, shape (n,); any integers.
        confidence: Nominal coverage.

    Example:
        >>> value, (low, high) = macro_f1(
        ...     np.array([0, 0, 0, 0, 1, 1]), np.array([0, 0, 0, 1, 1, 1]), 2
        ... )
        >>> round(value, 3), round(low, 2), round(high, 2)
        (0.829, 0.36, 1.0)
    """
    from scipy.special import ndtri  # noqa: PLC0415

    right = labels == predicted
    n_true = np.bincount(labels, minlength=n_classes)
    both = n_true + np.bincount(predicted, minlength=n_classes)
    hits = np.bincount(labels[right], minlength=n_classes)
    present = n_true > 0
    f1 = 2 * hits / np.maximum(both, 1)
    value = float(f1[present].mean())
    unit = numbered(groups, len(labels))
    if len(labels) > 1 and unit.max() == 0:
        return value, (0.0, 1.0)
    moved, scale, weights = _by_class(labels, unit, n_classes)
    expected = f1 + moved * (value - f1)
    # An image moves the F1 of its own class and that of the predicted one.
    of_class = np.where(present, 1 / np.maximum(both, 1), 0) / present.sum()
    lost = expected * of_class
    influence = 2 * right * of_class[labels] - lost[labels] - lost[predicted]
    influence = (influence - influence.mean()) * scale[labels]
    sample = Sample(influence, weights, ~right, value * (1 - value), unit)
    images = effective_images(sample, confidence)
    low, high = wilson(value, images, confidence)
    quantile = float(ndtri((1 + confidence) / 2))
    error = (high - low) / (2 * quantile)
    least, most = sorted(-bias for bias in _f1_biases(labels, predicted, n_classes, unit))
    within = _quantile_of_range((most - least) / error, confidence)
    low, high = wilson(value, images * (quantile / within) ** 2, confidence)
    return value, (max(0.0, low + least), min(1.0, high + most))


def _by_class(labels: Groups, unit: Groups, n_classes: int) -> tuple[Floats, Floats, Floats]:
    """Returns the shrinkage (C,) and scale (C,) of residuals, and the weights (n,) of images."""
    classes, numbers = np.unique(labels, return_inverse=True)
    moved, scale = np.zeros(n_classes), np.ones(n_classes)
    moved[classes] = shrinkage(numbers, unit, SHRUNK)
    scale[classes] = small_sample_scale(numbers, unit, SHRUNK)
    return moved, scale, 1 / (len(classes) * np.bincount(numbers)[numbers])


def _f1_biases(
    labels: Groups, predicted: Groups, n_classes: int, unit: Groups
) -> tuple[float, float]:
    """Returns the bias of macro F1 for stratified test images, and for images as they came.

    With h hits and d images that are labelled or predicted as a class, F1 = 2h / d, whose bias is
    (F1 · var d − 2 · cov(h, d)) / d² to second order. The moments are sums over groups: from the
    mean of the class for stratified images, of the plain counts (a Poisson number of groups) for
    images as they came.
    """
    from scipy.sparse import csr_array  # noqa: PLC0415

    n, shape = len(labels), (int(unit.max()) + 1, n_classes)
    right, every = labels == predicted, np.ones(n, np.bool_)

    def counts(classes: Groups, which: NDArray[np.bool_]) -> "csr_array":
        """Returns the number of images by group and class (groups, C)."""
        places = (unit[which], classes[which])
        return csr_array((np.ones(len(places[0])), places), shape=shape)

    def products(a: "csr_array", b: "csr_array") -> Floats:
        """Returns the sums over groups of products of counts (C, C)."""
        return np.asarray((a.T @ b).toarray())

    true, hit = counts(labels, every), counts(labels, right)
    either = true + counts(predicted, every)
    n_true, d, h = (np.asarray(each.sum(0)) for each in (true, either, hit))
    confusion = csr_array((np.ones(n), (labels, predicted)), shape=(n_classes, n_classes)).toarray()
    rates = confusion / np.maximum(n_true, 1)[:, None]
    recall, expected = np.diag(rates), rates + np.eye(n_classes)
    same = products(true, true)
    squares, cross = (np.asarray(either.multiply(each).sum(0)) for each in (either, hit))
    # Sums over groups of squares and products of d and h less their means, which follow from the
    # true classes of the group.
    inner = expected * products(true, either)
    spread = squares - 2 * inner.sum(0) + (expected * (same @ expected)).sum(0)
    together = cross - recall * np.diag(products(true, either))
    together -= (expected * (products(true, hit) - same * recall)).sum(0)

    def bias(variance: Floats, covariance: Floats) -> float:
        safe = np.maximum(d, 1)
        terms = (2 * h / safe * variance - 2 * covariance) / safe**2
        return float(terms[n_true > 0].mean())

    return bias(spread, together), bias(squares, cross)


def _quantile_of_range(width: float, confidence: float) -> float:
    """Returns the quantile c with Φ(c + width) − Φ(−c) = confidence (Imbens and Manski 2004).

    It lies between the two-sided normal quantile, for width 0, and the one-sided one.
    """
    from scipy.optimize import brentq  # noqa: PLC0415
    from scipy.special import ndtr, ndtri  # noqa: PLC0415

    one_sided, two_sided = float(ndtri(confidence)), float(ndtri((1 + confidence) / 2))

    def missing(c: float) -> float:
        return float(ndtr(c + width) - ndtr(-c)) - confidence

    if missing(one_sided) >= 0 or missing(two_sided) <= 0:
        return one_sided if missing(one_sided) >= 0 else two_sided
    return float(brentq(missing, one_sided, two_sided))
