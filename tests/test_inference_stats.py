from itertools import product
from math import comb

import numpy as np
import pytest
from scipy import stats

from headstart.inference_stats import (
    bootstrap_interval,
    holm,
    mcnemar_exact,
    wilson_interval,
)

Z = 1.959963984540054  # upper 2.5 % of the normal distribution


def mean_of(x):
    return lambda weights: weights @ x / weights.sum(axis=1)


def test_wilson_by_hand():
    # 8 of 10: centre (p + z²/2n) / (1 + z²/n), half width z·sqrt(pq/n + z²/4n²) / (1 + z²/n).
    scale = 1 + Z**2 / 10
    centre = (0.8 + Z**2 / 20) / scale
    half = Z * np.sqrt(0.016 + Z**2 / 400) / scale
    assert wilson_interval(8, 10) == pytest.approx((centre - half, centre + half), abs=1e-12)
    assert wilson_interval(8, 10) == pytest.approx((0.4902, 0.9433), abs=5e-5)


def test_wilson_at_the_ends():
    # With no success the lower end is 0 and the upper one z² / (n + z²).
    assert wilson_interval(0, 20) == pytest.approx((0.0, Z**2 / (20 + Z**2)), abs=1e-12)
    assert wilson_interval(20, 20) == pytest.approx((20 / (20 + Z**2), 1.0), abs=1e-12)
    assert wilson_interval(0, 0) == (0.0, 1.0)


def test_wilson_confidence_widens():
    low99, high99 = wilson_interval(30, 40, confidence=0.99)
    low95, high95 = wilson_interval(30, 40)
    assert low99 < low95 < 0.75 < high95 < high99


def test_wilson_coverage_over_a_grid():
    shares = np.arange(0.05, 0.9501, 0.01)
    coverage = []
    for n in (20, 30, 50, 100, 200, 340):
        low, high = np.array([wilson_interval(k, n) for k in range(n + 1)]).T
        for p in shares:
            covered = (low <= p) & (p <= high)
            coverage.append(stats.binom.pmf(np.arange(n + 1), n, p)[covered].sum())
    assert np.mean(coverage) == pytest.approx(0.95, abs=0.01)
    assert min(coverage) >= 0.92


def test_bootstrap_of_a_mean_is_near_the_normal_interval():
    x = np.random.default_rng(0).normal(size=400)
    low, high = bootstrap_interval(mean_of(x), len(x), seed=1)
    half = Z * x.std() / 20
    assert low == pytest.approx(x.mean() - half, abs=0.15 * half)
    assert high == pytest.approx(x.mean() + half, abs=0.15 * half)


def test_bootstrap_matches_scipy_on_index_resampling():
    x = np.random.default_rng(0).exponential(size=40)
    rng = np.random.default_rng(3)
    expected = stats.bootstrap((x,), np.mean, n_resamples=2000, rng=rng).confidence_interval
    got = bootstrap_interval(mean_of(x), 40, seed=3)
    # The same indices are drawn, so that only rounding differs.
    assert got == pytest.approx((expected.low, expected.high), abs=1e-9)


def test_bootstrap_counts_ties_through_rounding_noise():
    x = np.arange(20) % 4 == 0
    noise = np.random.default_rng(0).normal(size=20) * 1e-15
    clean = bootstrap_interval(mean_of(x), 20)
    assert bootstrap_interval(mean_of(x + noise), 20) == pytest.approx(clean, abs=1e-9)


def test_bootstrap_is_seeded():
    x = np.random.default_rng(0).normal(size=50)
    first = bootstrap_interval(mean_of(x), 50, seed=1)
    assert bootstrap_interval(mean_of(x), 50, seed=1) == first
    assert bootstrap_interval(mean_of(x), 50, seed=2) != first


def test_bootstrap_by_group_sees_that_copies_tell_nothing_new():
    x = np.random.default_rng(0).normal(size=60)
    copied, groups = np.repeat(x, 9), np.repeat(np.arange(60) * 7 - 30, 9)
    low, high = bootstrap_interval(mean_of(x), 60)
    by_group = bootstrap_interval(mean_of(copied), 540, groups=groups)
    assert by_group == pytest.approx((low, high), abs=1e-9)
    naive_low, naive_high = bootstrap_interval(mean_of(copied), 540)
    assert naive_high - naive_low == pytest.approx((high - low) / 3, rel=0.15)


def test_bootstrap_without_spread_is_the_point():
    assert bootstrap_interval(mean_of(np.full(30, 0.25)), 30) == (0.25, 0.25)
    assert bootstrap_interval(mean_of(np.array([0.5])), 1) == (0.5, 0.5)
    one_group = np.zeros(5, dtype=np.int64)
    assert bootstrap_interval(mean_of(np.arange(5.0)), 5, groups=one_group) == (2.0, 2.0)


def test_bootstrap_falls_back_to_percentiles_where_bca_is_undefined():
    x = np.arange(1.0, 21.0)

    def missed(weights):  # a resample misses something nearly always, the whole data never
        return (weights == 0) @ x

    low, high = bootstrap_interval(missed, 20)
    # A resample misses 36 % of the images, 75 of the sum of 210, give or take 25.
    assert 20 < low < 50
    assert 100 < high < 130


def test_bootstrap_coverage_on_a_small_skewed_sample():
    # The mean of 30 exponential values: percentile intervals cover 91 to 92 % of the time.
    hits = 0
    for seed in range(500):
        x = np.random.default_rng(seed).exponential(size=30)
        low, high = bootstrap_interval(mean_of(x), 30, seed=seed, n_resamples=1000)
        hits += low <= 1.0 <= high
    assert 0.91 <= hits / 500 <= 0.97


def test_mcnemar_against_enumeration():
    # All 2^m ways in which m images of disagreement can fall, equally likely under the null.
    for only_a, only_b in product(range(5), range(5)):
        m = only_a + only_b
        splits = [sum(flips) for flips in product((0, 1), repeat=m)]
        as_extreme = [k for k in splits if abs(k - m / 2) >= abs(only_a - m / 2)]
        expected = len(as_extreme) / len(splits)
        a = np.array([True] * only_a + [False] * only_b + [True, True, False])
        b = np.array([False] * only_a + [True] * only_b + [True, True, False])
        assert mcnemar_exact(a, b) == pytest.approx(expected, abs=1e-12)


def test_mcnemar_by_hand():
    # 1 against 9: 2 · (1 + 10) / 2^10.
    a = np.array([True] * 9 + [False])
    assert mcnemar_exact(a, ~a) == pytest.approx(22 / 1024, abs=1e-12)
    assert mcnemar_exact(~a, a) == pytest.approx(22 / 1024, abs=1e-12)


def test_mcnemar_refuses_different_images():
    with pytest.raises(ValueError, match="same images"):
        mcnemar_exact(np.ones(3, dtype=bool), np.ones(4, dtype=bool))


@pytest.mark.parametrize("disagreements", [5, 8, 20, 60])
def test_mcnemar_false_alarms_stay_below_the_level(disagreements):
    alarms = 0.0
    for only_a in range(disagreements + 1):
        a = np.arange(disagreements) < only_a
        if mcnemar_exact(a, ~a) <= 0.05:
            alarms += comb(disagreements, only_a) / 2**disagreements
    assert alarms <= 0.05
    if disagreements >= 8:  # with 5, even 5 against 0 has p = 0.0625
        assert alarms > 0


def test_holm_by_hand():
    # Sorted 0.01, 0.02, 0.03, 0.04 times 4, 3, 2, 1 = 0.04, 0.06, 0.06, 0.04 → running maximum.
    assert holm([0.04, 0.01, 0.03, 0.02]) == pytest.approx([0.06, 0.04, 0.06, 0.06])
    assert holm([0.5, 0.6]) == pytest.approx([1.0, 1.0])
    assert holm([0.03]) == pytest.approx([0.03])
    assert holm([]) == []
