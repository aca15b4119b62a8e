from itertools import product
from math import comb

import numpy as np
import pytest
from scipy import stats

from headstart.evaluation.statistics import (
    bootstrap_interval,
    holm,
    mcnemar_exact,
    mean_over_seeds,
    optimism_of_best,
)

Z = 1.959963984540054  # upper 2.5 % of the normal distribution


def mean_of(x):
    return lambda weights: weights @ x / weights.sum(axis=1)


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


@pytest.mark.parametrize("level", [0.01, 0.05, 0.1])
def test_mcnemar_false_alarms_over_a_grid(level):
    # Exact: images on which the methods differ are binomial, and fall to either side evenly.
    most = 100
    alarms = np.zeros(most + 1)
    for disagreements in range(1, most + 1):
        falls = np.arange(disagreements + 1)
        # By symmetry the p-value is at most the level up to some number that fall to one side.
        for only_a in range(disagreements // 2 + 1):
            a = np.arange(disagreements) < only_a
            if mcnemar_exact(a, ~a) > level:
                break
            both = (falls == only_a) | (falls == disagreements - only_a)
            alarms[disagreements] += stats.binom.pmf(falls, disagreements, 0.5)[both].sum()
    for n in (10, 20, 50, 100):
        for share in (0.02, 0.05, 0.1, 0.2, 0.5, 1.0):
            rate = stats.binom.pmf(np.arange(n + 1), n, share) @ alarms[: n + 1]
            assert rate <= level


def test_holm_by_hand():
    # Sorted 0.01, 0.02, 0.03, 0.04 times 4, 3, 2, 1 = 0.04, 0.06, 0.06, 0.04 → running maximum.
    assert holm([0.04, 0.01, 0.03, 0.02]) == pytest.approx([0.06, 0.04, 0.06, 0.06])
    assert holm([0.5, 0.6]) == pytest.approx([1.0, 1.0])
    assert holm([0.03]) == pytest.approx([0.03])
    assert holm([]) == []


@pytest.mark.parametrize("shared", [0.0, 0.7])
def test_holm_keeps_the_familywise_error(shared):
    # Ten tests, of which seven have nothing to find, independent or of one mood.
    rng = np.random.default_rng(0)
    runs = 20_000
    mood = rng.normal(size=(runs, 1))
    z = np.sqrt(shared) * mood + np.sqrt(1 - shared) * rng.normal(size=(runs, 10))
    z[:, 7:] += 4
    p = 2 * stats.norm.sf(np.abs(z))
    adjusted = np.array([holm(row) for row in p])
    false_alarms = (adjusted[:, :7] <= 0.05).any(axis=1).mean()
    assert false_alarms <= 0.05 + 3 * np.sqrt(0.05 * 0.95 / runs)
    # Independent tests come near to what is allowed; and what is there is found.
    assert false_alarms >= (0.03 if shared == 0 else 0.01)
    assert (adjusted[:, 7:] <= 0.05).mean() > 0.8


def test_mean_over_seeds_by_hand():
    # Mean 0.9, standard deviation 0.02, t(0.975, 2) = 4.303.
    mean, (low, high) = mean_over_seeds([0.88, 0.9, 0.92])
    assert mean == pytest.approx(0.9)
    assert (high - mean, mean - low) == pytest.approx((4.30265 * 0.02 / np.sqrt(3),) * 2, rel=1e-5)
    narrower = mean_over_seeds([0.88, 0.9, 0.92], confidence=0.8)[1]
    assert low < narrower[0] < narrower[1] < high


def test_mean_over_seeds_of_one_tells_nothing_of_the_spread():
    assert mean_over_seeds([0.9]) == (0.9, (-np.inf, np.inf))
    with pytest.raises(ValueError, match="at least one score"):
        mean_over_seeds([])


@pytest.mark.parametrize("seeds", [2, 3, 5])
def test_mean_over_seeds_coverage(seeds):
    rng = np.random.default_rng(0)
    scores = rng.normal(0.9, 0.02, (4000, seeds))
    intervals = np.array([mean_over_seeds(row)[1] for row in scores])
    covered = ((intervals[:, 0] <= 0.9) & (intervals[:, 1] >= 0.9)).mean()
    assert covered == pytest.approx(0.95, abs=0.011)


@pytest.mark.parametrize(
    ("trials", "images", "spread", "shared"),
    [(30, 100, 0.0, 0.0), (100, 60, 0.0, 0.0), (30, 100, 0.15, 0.0), (30, 100, 0.0, 0.9)],
)
def test_optimism_is_near_the_truth(trials, images, spread, shared):
    # Trials of equal or different skill, that err on images of their own or on the same ones.
    truth, estimate = [], []
    for run in range(300):
        rng = np.random.default_rng(run)
        skill = 1 + spread * rng.normal(size=(trials, 1))
        ease = np.sqrt(shared) * rng.normal(size=images)
        own = np.sqrt(1 - shared) * rng.normal(size=(trials, images))
        right = skill + ease + own > 0
        best = right.mean(axis=1).argmax()
        truth.append(right[best].mean() - stats.norm.cdf(skill[best, 0]))
        estimate.append(optimism_of_best(right, seed=run, n_resamples=200))
    assert np.mean(truth) > 0.02
    # Choosing on a resample is choosing a little worse, so that it errs upwards.
    assert -0.005 <= np.mean(estimate) - np.mean(truth) <= 0.012


def test_optimism_of_what_was_chosen_by_something_else():
    # Ranked by luck that has nothing to do with the scores, the best trial is hardly overstated.
    by_scores, by_luck = [], []
    for run in range(50):
        rng = np.random.default_rng(run)
        right, luck = rng.random((30, 400)) < 0.8, rng.normal(size=(30, 400))
        by_scores.append(optimism_of_best(right, n_resamples=100))
        by_luck.append(optimism_of_best(right, chosen_by=luck, n_resamples=100))
        same = optimism_of_best(right, chosen_by=right.astype(float), n_resamples=100)
        assert same == by_scores[-1]
    assert np.mean(by_scores) > 0.03
    assert np.mean(by_luck) < 0.01


def test_optimism_where_there_is_none():
    right = np.random.default_rng(0).random((1, 50)) < 0.8
    assert optimism_of_best(right) == 0.0
    assert optimism_of_best(np.repeat(right, 5, axis=0)) == pytest.approx(0.0, abs=0.005)
    assert optimism_of_best(right.T) == 0.0
    # One trial that is best by far is chosen on every resample.
    clear = np.concatenate([np.arange(200)[None] % 10 > 0, np.zeros((5, 200), bool)])
    assert optimism_of_best(clear) == pytest.approx(0.0, abs=0.005)
    assert optimism_of_best(clear, seed=1) == optimism_of_best(clear, seed=1)


def test_optimism_refuses_what_does_not_fit():
    for scores, chosen_by in (
        (np.ones(3), None),
        (np.ones((0, 3)), None),
        (np.ones((2, 3)), np.ones((3, 2))),
    ):
        with pytest.raises(ValueError, match="trials, images"):
            optimism_of_best(scores, chosen_by=chosen_by)
