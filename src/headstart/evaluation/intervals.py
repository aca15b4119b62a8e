"""Confidence intervals for shares and means of images that may belong together in groups."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from headstart.evaluation.statistics import Interval
from headstart.text import counted

Floats = NDArray[np.float64]
Groups = NDArray[np.int64]

WORST_CASE = 0.5
"""Number of groups for which the worst case, images of a group all alike, counts; `Sample`."""

LEAST_FREEDOM = 2.0
"""Least number of degrees of freedom for Student's t, where one group outweighs all others."""

SMALL = 50
"""Number of images up to which Wilson's interval is changed near 0 and 1."""

RARE = 2
"""Number of right or wrong images up to which it is."""

FEW_GROUPS = 10
"""Number of independent groups below which an interval is called a rough guide."""


@dataclass(frozen=True)
class Sample:
    """How an estimate sums over images, from which its effective number of images follows.

    Attributes:
        influence: By how much each image moves the estimate, shape (n,): terms that sum to 0, each
            scaled so that the squares of the sums by group add up to the variance of the estimate.
        weights: Weight of each image in the estimate, shape (n,); positive, with sum 1.
        informative: Whether an image differs from the result that needs no evidence, shape (n,):
            wrong predictions for a share, images on which methods differ for a difference.
        plain: Variance of the estimate from one image, if images were independent and alike.
        groups: Group number of each image, shape (n,); None if all images are independent.
    """

    influence: Floats
    weights: Floats
    informative: NDArray[np.bool_]
    plain: float
    groups: Groups | None = None


def numbered(groups: Groups | None, n: int) -> Groups:
    """Returns groups numbered from 0, shape (n,); without groups each image is one of its own."""
    if groups is None:
        return np.arange(n)
    return np.asarray(np.unique(groups, return_inverse=True)[1], np.int64)


def joined(first: Groups | None, second: Groups | None, n: int) -> Groups | None:
    """Returns groups that hold together what either of two groupings does; None without either.

    Args:
        first: Group number of each image, shape (n,), or None.
        second: The same of another grouping of these images.
        n: Number of images.

    Example:
        >>> joined(np.array([0, 0, 1, 2]), np.array([5, 6, 6, 7]), 4).tolist()
        [0, 0, 0, 1]
    """
    from scipy.sparse import coo_array  # noqa: PLC0415
    from scipy.sparse.csgraph import connected_components  # noqa: PLC0415

    if first is None or second is None:
        return second if first is None else first
    a, b = numbered(first, n), numbered(second, n)
    shape = (int(a.max()) + 1 + int(b.max()) + 1,) * 2
    graph = coo_array((np.ones(n), (a, b + int(a.max()) + 1)), shape=shape)
    return numbered(connected_components(graph, directed=False)[1][a].astype(np.int64), n)


def effective_images(sample: Sample, confidence: float = 0.95) -> float:
    """Returns the number of independent images from which an estimate would be as precise.

    It is the number of images divided by a design effect (Kish 1965): the variance of the sums by
    group over that of independent images, as in the intervals of Korn and Graubard (1998) and of
    Dean and Pagano (2015) for surveys. Two things are added.

    - Where few groups have errors, the sums say little about how alike their images are. So the
      worst case, all images of a group alike, counts like `WORST_CASE` groups with errors. Without
      any error it is all that counts.
    - The variance comes from a limited number of groups. The square of the ratio of Student's t to
      that of independent images takes this into account, with the degrees of freedom of
      Satterthwaite (1946) for groups whose images are all alike.

    The result is not less than if each group were a single image (with another ratio of Student's
    t where one group outweighs all others).

    For independent images of equal weight, the result is their number.

    Args:
        sample: The estimate.
        confidence: Nominal coverage.

    Example:
        >>> right = np.array([1.0, 1, 0, 1])
        >>> sample = Sample((right - 0.75) / 3**0.5 / 2, np.full(4, 0.25), right == 0, 0.75 * 0.25)
        >>> round(effective_images(sample), 6)
        4.0
    """
    unit = numbered(sample.groups, len(sample.weights))
    weights = np.bincount(unit, sample.weights)
    single, whole = float((sample.weights**2).sum()), float((weights**2).sum())
    variance = float((np.bincount(unit, sample.influence) ** 2).sum())
    worst, effect = whole / single, 0.0
    if sample.plain > 0:
        effect = variance * (1 - single) / (sample.plain * single)
    seen = np.bincount(unit, sample.informative) > 0
    unseen = np.bincount(unit, ~sample.informative) > 0
    groups = min(int(seen.sum()), int(unseen.sum()))
    effect = (groups * effect + WORST_CASE * worst) / (groups + WORST_CASE)
    tail, alone = (1 + confidence) / 2, max(LEAST_FREEDOM, len(unit) - 1)
    freedom = max(LEAST_FREEDOM, whole**2 / float((weights**4).sum()) - 1)
    most = worst * _ratio(freedom, max(LEAST_FREEDOM, 1 / whole - 1), tail)
    return 1 / (single * min(effect * _ratio(freedom, alone, tail), most))


def _ratio(freedom: float, of: float, tail: float) -> float:
    """Returns the square of the ratio of two of Student's quantiles."""
    from scipy.special import stdtrit  # noqa: PLC0415

    return float(stdtrit(freedom, tail) / stdtrit(of, tail)) ** 2


def wilson(share: float, n: float, confidence: float = 0.95) -> Interval:
    """Returns Wilson's score interval (1927) for a share of an effective number of images.

    Where at most two of at most 50 images are right, or wrong, the interval of Wilson leaves out
    too many shares near 0 or 1; the end on that side is the one of the Poisson distribution, if it
    is farther away (Brown, Cai and DasGupta 2001).

    Args:
        share: Between 0 and 1.
        n: Effective number of images, above 0; need not be whole.
        confidence: Nominal coverage.

    Example:
        >>> low, high = wilson(0.7, 10)
        >>> round(low, 2), round(high, 2)
        (0.4, 0.89)
        >>> round(wilson(0.9, 10)[1], 3)
        0.995
    """
    from scipy.special import gammaincinv, ndtri  # noqa: PLC0415

    spread = float(ndtri((1 + confidence) / 2)) ** 2 / n
    middle = (share + spread / 2) / (1 + spread)
    half = (spread * (share * (1 - share) + spread / 4)) ** 0.5 / (1 + spread)
    # Rounding must not take the ends of 0 and of 1 away from them.
    low = 0.0 if share == 0 else max(0.0, middle - half)
    high = 1.0 if share == 1 else min(1.0, middle + half)
    right, wrong = (round(part * n, 9) for part in (share, 1 - share))
    small = round(n, 9) <= SMALL
    if small and 0 < right <= RARE:
        low = min(low, float(gammaincinv(right, 1 - confidence)) / n)
    if small and 0 < wrong <= RARE:
        high = max(high, 1 - float(gammaincinv(wrong, 1 - confidence)) / n)
    return low, high


def basis(groups: int | None, images: int) -> str:
    """Returns what an interval stands on, to follow its ends; empty for independent images.

    Args:
        groups: Number of independent groups of images; None if it is not known.
        images: Number of images.

    Example:
        >>> basis(40, 200), basis(8, 200), basis(200, 200)
        (', from 40 independent groups', ', a rough guide from only 8 independent groups', '')
    """
    if groups is None or groups == images:
        return ""
    few = "a rough guide from only" if groups < FEW_GROUPS else "from"
    return f", {few} {counted(groups, 'independent group')}"


def share_interval(
    right: NDArray[np.bool_] | Floats, groups: Groups | None = None, confidence: float = 0.95
) -> Interval:
    """Returns the interval of the share of images that are right.

    For independent images it is Wilson's interval (1927). Where images belong together in groups,
    it is Wilson's for the effective number of images; see `effective_images`. No images, or a
    single group of several, give (0, 1): they do not tell how much groups differ.

    Args:
        right: Whether each image is right, shape (n,), or the share of several seeds that are right
            about it; the interval is then for these seeds.
        groups: Group number of each image, shape (n,); any integers.
        confidence: Nominal coverage.

    Example:
        >>> right = np.array([True, True, True, False])
        >>> [round(end, 2) for end in share_interval(right)]
        [0.3, 0.99]
        >>> [round(end, 2) for end in share_interval(np.repeat(right, 5), np.arange(20) // 5)]
        [0.3, 0.99]
    """
    n = len(right)
    unit = numbered(groups, n)
    if n == 0 or (n > 1 and unit.max() == 0):
        return 0.0, 1.0
    share = float(np.mean(right))
    return wilson(share, share_images(right, groups, confidence), confidence)


def share_images(
    right: NDArray[np.bool_] | Floats, groups: Groups | None = None, confidence: float = 0.95
) -> float:
    """Returns the effective number of images of a share; see `share_interval`.

    Args:
        right: Shape (n,), n at least 1.
        groups: Group number of each image, shape (n,), of at least two groups if there are several
            images.
        confidence: Nominal coverage.

    Example:
        >>> right = np.array([True, True, True, False])
        >>> round(share_images(right), 6)
        4.0
        >>> round(share_images(np.repeat(right, 5), np.arange(20) // 5), 6)
        4.0
    """
    values = np.asarray(right, np.float64)
    n, share = len(values), float(values.mean())
    weights, unit = np.full(n, 1 / n), numbered(groups, n)
    scale = small_sample_scale(np.zeros(n, np.int64), unit, 0.0)
    influence = weights * (values - share) * scale[0]
    sample = Sample(influence, weights, values < 1, share * (1 - share), unit)
    return effective_images(sample, confidence)


def small_sample_scale(strata: Groups, unit: Groups, shrunk: float) -> Floats:
    """Returns what residuals of each stratum are multiplied by, so that squares are unbiased.

    Residuals from a mean are smaller than the errors, as the mean follows them. The scale is the
    square root of Bell and McCaffrey's correction (2002) for groups whose images are all alike;
    for n independent images and no shrinkage it is √(n / (n − 1)).

    Args:
        strata: Stratum of each image, from 0, shape (n,): the class whose mean is subtracted.
        unit: Group number of each image, from 0, shape (n,).
        shrunk: Number of groups of a typical mean that are added to each stratum before its mean
            is taken; see `shrinkage`.

    Returns:
        One scale for each stratum, 1 where it would be infinite.

    Example:
        >>> small_sample_scale(np.zeros(4, np.int64), np.arange(4), 0.0) ** 2
        array([1.33333333])
    """
    kept = 1 - shrinkage(strata, unit, shrunk)
    square, cube = _powers(strata, unit)
    left = 1 - 2 * kept * cube / np.maximum(square, 1e-300) + kept**2 * square
    return np.where(left > 1e-9, 1 / np.sqrt(np.maximum(left, 1e-9)), 1.0)


def shrinkage(strata: Groups, unit: Groups, shrunk: float) -> Floats:
    """Returns the share by which the mean of each stratum is moved to the typical mean.

    It is `shrunk / (groups + shrunk)`, with the effective number of groups of the stratum.
    """
    groups = 1 / np.maximum(_powers(strata, unit)[0], 1e-300)
    return np.asarray(shrunk / (groups + shrunk))


def _powers(strata: Groups, unit: Groups) -> tuple[Floats, Floats]:
    """Returns the sums of the squares and cubes of the shares of groups in each stratum."""
    n_units = int(unit.max()) + 1
    cells, counts = np.unique(strata * n_units + unit, return_counts=True)
    of_stratum = cells // n_units
    shares = counts / np.bincount(strata)[of_stratum]
    squares, cubes = (np.bincount(of_stratum, shares**power) for power in (2, 3))
    return np.asarray(squares, np.float64), np.asarray(cubes, np.float64)
