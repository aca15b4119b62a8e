"""The difference in accuracy between two methods on the same images."""

import math
from collections import defaultdict
from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from headstart.evaluation.intervals import (
    Floats,
    Groups,
    Sample,
    effective_images,
    numbered,
    small_sample_scale,
)
from headstart.evaluation.statistics import Interval, mcnemar_exact


@dataclass(frozen=True, eq=False)
class Cell:
    """Two methods on the same test images, trained with one seed on one data set.

    Attributes:
        test_set: Identifies the test images. Cells that share them, for example several seeds with
            one split, have the same value and the images in the same order.
        correct_a: Whether method A is right on each image, shape (n,).
        correct_b: Whether method B is right on each image, shape (n,).
        groups: Group number of each image, shape (n,), the same in all cells of a test set; None
            if the images are independent.
    """

    test_set: Hashable
    correct_a: NDArray[np.bool_]
    correct_b: NDArray[np.bool_]
    groups: Groups | None = None


def paired_difference(cells: Sequence[Cell], *, confidence: float = 0.95) -> tuple[float, Interval]:
    """Returns the accuracy of B minus that of A, averaged over cells, and its interval.

    All cells have the same weight. The interval is Tango's score interval (1998), which inverts
    McNemar's test, for the effective number of images (`intervals.effective_images`). Several
    seeds on one test set are averaged on each image, because an image that is hard for one seed is
    hard for the others, and images of a group count together. The interval is thus over new test
    images of these data sets, for the models of these seeds. For an interval over seeds, pass one
    difference per seed to `mean_over_seeds`.

    Args:
        cells: At least one cell.
        confidence: Nominal coverage.

    Raises:
        ValueError: If there is no cell, a cell has no images, or the methods of a cell or the
            cells of a test set differ in their number of images.

    Example:
        >>> a, b = np.array([True, False] * 20), np.array([True] * 40)
        >>> difference, (low, high) = paired_difference([Cell("test", a, b)])
        >>> difference, round(low, 2), round(high, 2)
        (0.5, 0.35, 0.65)
    """
    differences: dict[Hashable, list[Floats]] = defaultdict(list)
    groups: dict[Hashable, Groups | None] = {}
    for cell in cells:
        a, b = (np.asarray(c, dtype=np.float64) for c in (cell.correct_a, cell.correct_b))
        same = differences[cell.test_set]
        if a.shape != b.shape or a.ndim != 1 or not len(a) or (same and len(same[0]) != len(a)):
            raise ValueError(
                f"Both methods need the same images, the same in every cell of {cell.test_set!r}; "
                f"got {a.shape} and {b.shape}."
            )
        same.append(b - a)
        groups[cell.test_set] = cell.groups
    if not differences:
        raise ValueError("The comparison needs at least one cell.")
    of_images = [np.mean(same, axis=0) for same in differences.values()]
    sizes = [len(part) for part in of_images]
    test_set = np.repeat(np.arange(len(sizes)), sizes)
    unit, units = np.zeros(0, np.int64), 0
    for each, size in zip(groups.values(), sizes, strict=True):
        unit = np.concatenate([unit, units + numbered(each, size)])
        units = int(unit.max()) + 1
    shares = np.array([len(same) for same in differences.values()]) / len(cells)
    weights = (shares / sizes)[test_set]
    d = np.concatenate(of_images)
    means = np.array([part.mean() for part in of_images])
    difference = float(shares @ means)
    if units == 1 and len(d) > 1:
        return difference, (-1.0, 1.0)
    scale = small_sample_scale(test_set, unit, 0.0)
    better, worse = (float(weights @ np.maximum(sign * d, 0)) for sign in (1, -1))
    sample = Sample(
        influence=weights * scale[test_set] * (d - means[test_set]),
        weights=weights,
        informative=d != 0,
        plain=better + worse - difference**2,
        groups=unit,
    )
    return difference, tango(better, worse, effective_images(sample, confidence), confidence)


def tango(better: float, worse: float, n: float, confidence: float = 0.95) -> Interval:
    """Returns Tango's score interval (1998) for a difference of two paired shares.

    Args:
        better: Share of images on which only the first method is right.
        worse: Share of images on which only the second method is right.
        n: Effective number of images.
        confidence: Nominal coverage.

    Example:
        >>> [round(end, 3) for end in tango(12 / 44, 9 / 44, 44)]
        [-0.138, 0.269]
    """
    from scipy.optimize import brentq  # noqa: PLC0415
    from scipy.special import ndtri  # noqa: PLC0415

    quantile, found = float(ndtri((1 + confidence) / 2)), better - worse

    def score(difference: float) -> float:
        """Returns the score statistic of a difference, with the most likely share of `worse`."""
        b = difference * (2 - found) - better - worse
        root = math.sqrt(max(0.0, b * b + 8 * worse * difference * (1 - difference)))
        variance = (root - b) / 2 + difference * (1 - difference)
        return (found - difference) / math.sqrt(max(variance, 1e-15) / n)

    # Beyond the ends -1 and 1 there is nothing to exclude. Rounding may leave a 1 below 1.
    edge, low, high = 1 - 1e-12, found, found
    if found > -edge:
        low = -1.0
        if score(-edge) > quantile:
            low = brentq(lambda at: score(at) - quantile, -edge, found)
    if found < edge:
        high = 1.0
        if score(edge) < -quantile:
            high = brentq(lambda at: score(at) + quantile, found, edge)
    return float(low), float(high)


def sign_test(
    pairs: Sequence[tuple[NDArray[np.bool_], NDArray[np.bool_]]], groups: Groups | None = None
) -> float:
    """Returns the exact two-sided p-value of the hypothesis of equal accuracy.

    With one pair of independent images this is McNemar's exact test. With one pair per seed, each
    image counts once, for the side that is correct more often: seeds are not independent, because
    hard images are hard for all of them. Each group of images counts once, for the same reason.

    Args:
        pairs: Correctness on each image of both sides, (n,) and (n,).
        groups: Group number of each image, shape (n,); None if images are independent.

    Example:
        >>> never, always = np.zeros(6, bool), np.ones(6, bool)
        >>> round(sign_test([(never, always)]), 5)
        0.03125
        >>> sign_test([(never, always)], np.array([0, 0, 0, 0, 1, 1]))
        0.5
    """
    difference = np.sum([b.astype(int) - a.astype(int) for a, b in pairs], axis=0)
    by_group = np.bincount(numbered(groups, len(difference)), difference)
    return mcnemar_exact(by_group < 0, by_group > 0)
