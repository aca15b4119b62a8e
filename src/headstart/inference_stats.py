"""Intervals for a figure measured on few images, and tests between methods on the same images."""

import warnings
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

Interval = tuple[float, float]
"""Lower and upper end."""

WeightedStatistic = Callable[[NDArray[np.float64]], NDArray[np.float64]]
"""From weights (resamples, n), how often each resample drew each image, to values (resamples,)."""

_BATCH = 256
"""Resamples held in memory at a time."""


def wilson_interval(successes: int, n: int, confidence: float = 0.95) -> Interval:
    """Returns Wilson's score interval for the share of successes (Wilson 1927).

    Its coverage swings around the nominal one and averages close to it, on small n and near 0
    and 1 too, where the interval `p ± z·se` fails (Brown, Cai and DasGupta 2001).

    Args:
        successes: Number of successes, 0 to n.
        n: Number of independent images; 0 tells nothing, and gives (0, 1).
        confidence: Nominal coverage.
    """
    from scipy import stats  # noqa: PLC0415 - scipy.stats takes half a second to import

    if n == 0:
        return 0.0, 1.0
    found = stats.binomtest(int(successes), int(n)).proportion_ci(confidence, method="wilson")
    return float(found.low), float(found.high)


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

    The images are resampled, or whole groups of them where groups are given. Weights instead of
    lists of drawn images let one matrix product evaluate a statistic on many resamples.

    Where the statistic has the same value in every resample, both ends are that value: the
    bootstrap then knows nothing, and the caller who knows better should say so. Where BCa is not
    defined (every resample on one side of the point estimate), the percentile interval is given.

    Args:
        statistic: The figure as a function of weights, see `WeightedStatistic`.
        n: Number of images, at least 1.
        groups: Group number of each image, shape (n,), any integers.
        seed: Of the resampling.
        confidence: Nominal coverage.
        n_resamples: Number of resamples.
    """
    from scipy import stats  # noqa: PLC0415

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
        # Rounded, so that equal values stay equal whatever the order of their sums:
        # BCa counts the resamples below, at and above the point estimate.
        values = np.round(statistic(weights.astype(np.float64)), 12)
        return values.reshape(drawn.shape[:-1])

    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore", stats.DegenerateDataWarning)
        result = stats.bootstrap(
            (np.arange(n_units),),
            of_drawn_units,
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


def mcnemar_exact(correct_a: NDArray[np.bool_], correct_b: NDArray[np.bool_]) -> float:
    """Returns the two-sided p-value of McNemar's exact test (McNemar 1947).

    Under "both methods err equally often", the images on which exactly one of the two is right
    fall to either side like coin flips.

    Args:
        correct_a: Whether method A is right on each image, shape (n,).
        correct_b: The same of method B on the same images in the same order.

    Raises:
        ValueError: The two differ in length.
    """
    from scipy import stats  # noqa: PLC0415

    a, b = np.asarray(correct_a, dtype=bool), np.asarray(correct_b, dtype=bool)
    if a.shape != b.shape:
        raise ValueError(f"Both methods need the same images; got {a.shape} and {b.shape}.")
    only_a, only_b = int(np.sum(a & ~b)), int(np.sum(b & ~a))
    if only_a + only_b == 0:
        return 1.0
    return float(stats.binomtest(only_a, only_a + only_b, 0.5).pvalue)


def holm(p_values: Sequence[float]) -> list[float]:
    """Returns p-values adjusted for testing them all at once (Holm 1979), in the given order.

    Rejecting where the adjusted value is at most 0.05 keeps the chance of any false alarm in
    the whole table at most 0.05, however the tests depend on each other.
    """
    p = np.asarray(p_values, dtype=np.float64)
    order = np.argsort(p, kind="stable")
    stepped = p[order] * np.arange(len(p), 0, -1)
    adjusted = np.empty_like(p)
    adjusted[order] = np.minimum(np.maximum.accumulate(stepped), 1.0)
    return [float(value) for value in adjusted]
