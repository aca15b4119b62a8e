"""Confidence intervals for metrics on few images, and paired tests between methods."""

import warnings
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

Interval = tuple[float, float]
"""Lower and upper bound."""

WeightedStatistic = Callable[[NDArray[np.float64]], NDArray[np.float64]]
"""Maps weights (resamples, n), the count of each image in each resample, to values (resamples,)."""


_BATCH = 256
"""Number of resamples in memory at the same time."""


def bootstrap_interval(
    statistic: WeightedStatistic,
    n: int,
    *,
    groups: NDArray[np.int64] | None = None,
    seed: int = 0,
    confidence: float = 0.95,
    n_resamples: int = 2000,
) -> Interval:
    """Returns the bias-corrected and accelerated bootstrap interval (BCa, Efron 1987).

    It resamples the images, or whole groups if groups are given. With weights instead of lists of
    drawn images, one matrix product evaluates the statistic on many resamples.

    If the statistic has the same value in every resample, both bounds are that value, and the
    caller should use another interval. If BCa is not defined (every resample lies on one side of
    the point estimate), the percentile interval is returned.

    Args:
        statistic: The metric as a function of weights; see `WeightedStatistic`.
        n: Number of images, at least 1.
        groups: Group number of each image, shape (n,); any integers.
        seed: Seed for the resampling.
        confidence: Nominal coverage.
        n_resamples: Number of resamples.
    """
    point = float(statistic(np.ones((1, n)))[0])
    unit_of_image = None if groups is None else np.unique(groups, return_inverse=True)[1]
    n_units = n if unit_of_image is None else int(unit_of_image.max()) + 1
    if n_units < 2:
        return point, point

    def of_drawn_units(drawn: NDArray[np.int64], axis: int) -> NDArray[np.float64]:
        rows = drawn.reshape(-1, drawn.shape[axis])
        cells = rows + n_units * np.arange(len(rows))[:, None]
        counts = np.bincount(cells.ravel(), minlength=n_units * len(rows)).reshape(-1, n_units)
        weights = counts if unit_of_image is None else counts[:, unit_of_image]
        # Rounding keeps equal values equal for any order of summation, because BCa counts the
        # resamples below, at and above the point estimate.
        values = np.round(statistic(weights.astype(np.float64)), 12)
        return values.reshape(drawn.shape[:-1])

    return _bca((np.arange(n_units),), of_drawn_units, point, confidence, n_resamples, seed)


def mcnemar_exact(correct_a: NDArray[np.bool_], correct_b: NDArray[np.bool_]) -> float:
    """Returns the two-sided p-value of McNemar's exact test (McNemar 1947).

    Under the null hypothesis of equal error rates, each image on which exactly one method is right
    favours either method with probability 1/2.

    Args:
        correct_a: Whether method A is right on each image, shape (n,).
        correct_b: Whether method B is right on the same images, shape (n,).

    Raises:
        ValueError: If the lengths differ.

    Example:
        >>> mcnemar_exact(np.array([False] * 8 + [True]), np.array([True] * 9))
        0.0078125
    """
    from scipy.special import bdtr  # noqa: PLC0415

    a, b = np.asarray(correct_a, dtype=bool), np.asarray(correct_b, dtype=bool)
    if a.shape != b.shape:
        raise ValueError(
            f"Both methods need results on the same images; got shapes {a.shape} and {b.shape}."
        )
    only_a, only_b = int(np.sum(a & ~b)), int(np.sum(b & ~a))
    if only_a + only_b == 0:
        return 1.0
    # Both tails of a symmetric distribution; they share its middle if both are right equally often.
    return min(1.0, 2 * float(bdtr(min(only_a, only_b), only_a + only_b, 0.5)))


def holm(p_values: Sequence[float]) -> list[float]:
    """Returns p-values adjusted for multiple testing (Holm 1979), in the given order.

    Rejecting adjusted values up to 0.05 limits the probability of any false rejection to 0.05,
    for any dependence between the tests.

    Example:
        >>> holm([0.01, 0.04])
        [0.02, 0.04]
    """
    p = np.asarray(p_values, dtype=np.float64)
    order = np.argsort(p, kind="stable")
    stepped = p[order] * np.arange(len(p), 0, -1)
    adjusted = np.empty_like(p)
    adjusted[order] = np.minimum(np.maximum.accumulate(stepped), 1.0)
    return [float(value) for value in adjusted]


def mean_over_seeds(scores: Sequence[float], confidence: float = 0.95) -> tuple[float, Interval]:
    """Returns the mean of a score over seeds and Student's t interval for it (Student 1908).

    The interval is for the mean over all possible seeds, of which these are a sample. For three
    seeds, it extends 2.5 standard deviations to either side. It does not cover the variation over
    test images; see `evaluation.paired` for that.

    Args:
        scores: One score per seed. For a single seed the interval is infinite.
        confidence: Nominal coverage.

    Raises:
        ValueError: If there are no scores.

    Example:
        >>> mean, (low, high) = mean_over_seeds([0.90, 0.91, 0.92])
        >>> round(mean, 2), round(low, 3), round(high, 3)
        (0.91, 0.885, 0.935)
    """
    from scipy.special import stdtrit  # noqa: PLC0415

    values = np.asarray(scores, dtype=np.float64)
    n = len(values)
    if n == 0:
        raise ValueError("The mean needs at least one score.")
    mean = float(values.mean())
    if n == 1:
        return mean, (-np.inf, np.inf)
    half = float(stdtrit(n - 1, (1 + confidence) / 2) * values.std(ddof=1) / np.sqrt(n))
    return mean, (mean - half, mean + half)


def optimism_of_best(
    scores: NDArray[np.floating] | NDArray[np.bool_],
    *,
    chosen_by: NDArray[np.floating] | None = None,
    seed: int = 0,
    n_resamples: int = 1000,
) -> float:
    """Returns by how much the mean score of the best of many trials overstates its true one.

    Bootstrap bias-corrected cross-validation (Tsamardinos, Greasidou and Borboudakis 2018): the
    best trial is chosen anew on each bootstrap resample of the images and scored on the images
    that it left out. The mean of those scores is honest, as no image is chosen by and scored on;
    it is a little low, as a resample holds 63% of the images and chooses worse. (The estimate of
    Tibshirani and Tibshirani 2009 compares minima over folds instead, which overstates the bias
    where folds are small.)

    Args:
        scores: (T, M), of trial t on image m of the images that the trials were ranked on: whether
            it was right, or a score of which more is better.
        chosen_by: (T, M), what the trials were ranked by the mean of, if by something else, such as
            minus the log loss; more is better.
        seed: Seed for the resampling.
        n_resamples: Number of resamples.

    Returns:
        At least 0; 0 for a single trial or image.

    Raises:
        ValueError: There is no trial or image, or the two shapes differ.
    """
    judged = np.asarray(scores, dtype=np.float64)
    ranked = judged if chosen_by is None else np.asarray(chosen_by, dtype=np.float64)
    if judged.ndim != 2 or not judged.size or ranked.shape != judged.shape:
        raise ValueError(f"Scores must be (trials, images); got {judged.shape}, {ranked.shape}.")
    trials, images = judged.shape
    if trials == 1 or images == 1:
        return 0.0
    rng = np.random.default_rng(seed)
    honest: list[float] = []
    for start in range(0, n_resamples, _BATCH):
        resamples = min(_BATCH, n_resamples - start)
        drawn = rng.integers(0, images, (resamples, images))
        cells = drawn + images * np.arange(resamples)[:, None]
        counts = np.bincount(cells.ravel(), minlength=resamples * images).reshape(resamples, images)
        left_out = counts == 0
        known = left_out.any(axis=1)
        counts, left_out = counts[known], left_out[known]
        # Rounded, so that trials that tie stay tied, and the first of them is the best.
        best = np.round(counts @ ranked.T / images, 12).argmax(axis=1)
        honest += ((left_out * judged[best]).sum(axis=1) / left_out.sum(axis=1)).tolist()
    shown = judged[np.round(ranked.mean(axis=1), 12).argmax()].mean()
    return max(0.0, float(shown - np.mean(honest)))


def _bca(
    samples: Sequence[NDArray[Any]],
    statistic: Callable[..., NDArray[np.float64]],
    point: float,
    confidence: float,
    n_resamples: int,
    seed: int,
) -> Interval:
    """Returns the BCa interval around a point estimate.

    Both ends are the estimate where no resample differs from another. Percentiles of the resamples
    are the ends where BCa is not defined.
    """
    from scipy import stats  # noqa: PLC0415

    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore", stats.DegenerateDataWarning)
        result = stats.bootstrap(
            samples,
            statistic,
            vectorized=True,
            method="BCa",
            n_resamples=n_resamples,
            batch=min(_BATCH, n_resamples),
            confidence_level=confidence,
            rng=np.random.default_rng(seed),
        )
    drawn_values = result.bootstrap_distribution
    if np.ptp(drawn_values) == 0:
        return point, point
    low, high = result.confidence_interval
    if not np.isfinite([low, high]).all():
        low, high = np.quantile(drawn_values, [(1 - confidence) / 2, (1 + confidence) / 2])
    return float(low), float(high)
