import numpy as np
import pytest
from scipy import stats

from headstart.evaluation.class_means import (
    _f1_biases,
    _quantile_of_range,
    balanced_accuracy,
    macro_f1,
)
from headstart.evaluation.intervals import (
    Sample,
    effective_images,
    share_interval,
    small_sample_scale,
    wilson,
)

Z = 1.959963984540054  # upper 2.5% of the normal distribution


def t(freedom: float) -> float:
    return float(stats.t.ppf(0.975, freedom))


def of_scipy(right: int, n: int) -> tuple[float, float]:
    """Returns Wilson's interval without the change near its ends."""
    found = stats.binomtest(right, n).proportion_ci(0.95, method="wilson")
    return float(found.low), float(found.high)


def width(interval: tuple[float, float]) -> float:
    return interval[1] - interval[0]


def test_wilson_of_whole_numbers_is_wilsons() -> None:
    for right, n in ((0, 20), (20, 20), (8, 11), (60, 340), (338, 340)):
        assert wilson(right / n, n) == pytest.approx(of_scipy(right, n), abs=1e-12)


def test_wilson_near_the_ends_by_hand() -> None:
    # 1 of 3 wrong: the upper end of Brown, Cai and DasGupta is 1 - χ²(2; 5%) / 2 / 3, and the
    # quantile of χ²(2) is -2 ln(0.95).
    low, high = wilson(2 / 3, 3)
    assert high == pytest.approx(1 + np.log(0.95) / 3)
    assert wilson(1 / 3, 3) == pytest.approx((1 - high, 1 - low))
    # Two of whatever number, whichever way rounding goes.
    for n in range(5, 51):
        assert wilson((n - 2) / n, n)[1] > of_scipy(n - 2, n)[1]
    assert wilson(2 / 60, 60) == pytest.approx(of_scipy(2, 60))  # more than 50 images


def test_wilson_by_hand() -> None:
    # 7 of 10: centre (p + z²/2n) / (1 + z²/n), half width z·sqrt(pq/n + z²/4n²) / (1 + z²/n).
    scale = 1 + Z**2 / 10
    centre = (0.7 + Z**2 / 20) / scale
    half = Z * np.sqrt(0.021 + Z**2 / 400) / scale
    assert wilson(0.7, 10) == pytest.approx((centre - half, centre + half), abs=1e-12)
    # With nothing right the lower end is 0 and the upper one z² / (n + z²).
    assert wilson(0.0, 20) == pytest.approx((0.0, Z**2 / (20 + Z**2)), abs=1e-12)
    assert wilson(1.0, 20) == pytest.approx((20 / (20 + Z**2), 1.0), abs=1e-12)
    low99, high99 = wilson(0.75, 40, confidence=0.99)
    low95, high95 = wilson(0.75, 40)
    assert low99 < low95 < 0.75 < high95 < high99


def test_wilson_coverage_over_a_grid() -> None:
    shares = np.arange(0.05, 0.9501, 0.01)
    coverage = []
    for n in (20, 30, 50, 100, 200, 340):
        low, high = np.array([wilson(k / n, n) for k in range(n + 1)]).T
        for p in shares:
            covered = (low <= p) & (p <= high)
            coverage.append(stats.binom.pmf(np.arange(n + 1), n, p)[covered].sum())
    assert np.mean(coverage) == pytest.approx(0.95, abs=0.01)
    assert min(coverage) >= 0.92


def test_independent_images_give_wilsons_interval() -> None:
    right = np.arange(30) % 5 > 0
    assert share_interval(right) == pytest.approx(of_scipy(24, 30))
    assert share_interval(right, np.arange(30)[::-1] * 9) == share_interval(right)
    assert share_interval(np.zeros(0, bool)) == (0.0, 1.0)


def test_images_all_alike_count_as_one_of_each_group() -> None:
    # 8 groups of 5, 6 of them right: the interval of 6 of 8 images.
    right, groups = np.repeat(np.arange(8) < 6, 5), np.repeat(np.arange(8), 5)
    assert share_interval(right, groups) == pytest.approx(wilson(0.75, 8))
    # All right: nothing shows that images of a group differ, so that they count as alike.
    assert share_interval(np.ones(40, bool), groups) == pytest.approx((8 / (8 + Z**2), 1.0))


def test_images_that_are_not_alike_count_nearly_one_by_one() -> None:
    # Each of 40 groups of 5 has one wrong image, so that groups do not differ at all: only the
    # worst case counts, as half a group of 40.5, by hand 0.5 · 5 / 40.5, and Student's t.
    right, groups = np.arange(200) % 5 > 0, np.repeat(np.arange(40), 5)
    images = 200 / (2.5 / 40.5 * (t(39) / t(199)) ** 2)
    assert share_interval(right, groups) == pytest.approx(wilson(0.8, images))
    # Drawn at random, groups differ by chance and the interval is that of images, or wider.
    rng = np.random.default_rng(0)
    ratios = []
    for _ in range(100):
        right = rng.random(200) < 0.8
        ratios.append(width(share_interval(right, groups)) / width(share_interval(right)))
    assert np.mean(ratios) == pytest.approx(1.03, abs=0.03)


def test_design_effect_by_hand() -> None:
    # Two groups of 2 and two of 1, with 1, 2, 0, 1 right of 2, 2, 1, 1: share 4/6.
    right = np.array([1, 0, 1, 1, 0, 1], bool)
    groups = np.array([0, 0, 1, 1, 2, 3])
    share, n = 4 / 6, 6
    of_group = np.array([1 - 2 * share, 2 - 2 * share, -share, 1 - share]) / n
    w = np.array([2, 2, 1, 1]) / n
    square = (w**2).sum()
    correction = square / (w**2 * (1 - 2 * w + square)).sum()
    variance = (of_group**2).sum() * correction
    effect = variance * (1 - 1 / 6) / (share * (1 - share) / 6)
    worst = 6 * square
    mixed = (2 * effect + 0.5 * worst) / 2.5  # groups 0 and 2 have errors
    freedom = max(2.0, square**2 / (w**4).sum() - 1)
    most = worst * (t(freedom) / t(max(2.0, 1 / square - 1))) ** 2
    images = 6 / min(mixed * (t(freedom) / t(5)) ** 2, most)
    assert share_interval(right, groups) == pytest.approx(wilson(share, images))


def test_one_giant_group() -> None:
    # Half of the images are one video; whatever happens in it happened once.
    groups = np.concatenate([np.zeros(100, int), np.arange(1, 101)])
    rng = np.random.default_rng(0)
    right = rng.random(200) < 0.9
    low, high = share_interval(right, groups)
    assert low < 0.6
    assert high > 0.95
    wrong = right.copy()
    wrong[:100] = False
    assert share_interval(wrong, groups)[1] > 0.85  # the rest says 0.9
    # As a single group, nothing is known; as a small one, little changes.
    assert share_interval(right, np.zeros(200, int)) == (0.0, 1.0)
    few = np.concatenate([np.zeros(4, int), np.arange(1, 197)])
    assert width(share_interval(right, few)) == pytest.approx(
        width(share_interval(right)), rel=0.15
    )


def test_few_groups_never_tell_more_than_they_are() -> None:
    rng = np.random.default_rng(1)
    for _ in range(20):
        right, groups = rng.random(60) < 0.8, np.arange(60) // 20
        share = float(right.mean())
        assert width(share_interval(right, groups)) > width(wilson(share, 60))
        assert width(share_interval(right, groups)) <= width(wilson(share, 3)) + 1e-9


def test_effective_images_of_no_evidence() -> None:
    sample = Sample(np.zeros(6), np.full(6, 1 / 6), np.zeros(6, bool), 0.0, np.arange(6) // 2)
    assert effective_images(sample) == pytest.approx(3)


def test_small_sample_scale_by_hand() -> None:
    strata, unit = np.array([0, 0, 0, 1, 1, 2]), np.arange(6)
    # n / (n - 1); a single image cannot be corrected without shrinkage.
    found = small_sample_scale(strata, unit, 0.0) ** 2
    assert found == pytest.approx([3 / 2, 2, 1])
    # One more image of a typical class: residual variance 1 - 2 / (n + 1) + n / (n + 1)².
    shrunk = [1 - 2 / (n + 1) + n / (n + 1) ** 2 for n in (3, 2, 1)]
    assert small_sample_scale(strata, unit, 1.0) ** 2 == pytest.approx(1 / np.array(shrunk))


def test_balanced_accuracy_of_equal_classes_by_hand() -> None:
    # Two classes of 20 with 18 and 14 right: the variance is the mean of both, 1/4 of each.
    labels = np.repeat([0, 1], 20)
    right = np.concatenate([np.arange(20) < 18, np.arange(20) < 14])
    value, interval = balanced_accuracy(labels, np.where(right, labels, 1 - labels), 2)
    assert value == pytest.approx(0.8)
    kept = 20 / 21
    recall = np.array([0.9, 0.7])
    moved = kept * recall + (1 - kept) * 0.8
    squares = 20 * (recall * (1 - moved) ** 2 + (1 - recall) * moved**2)
    squares /= 1 - 2 * kept / 20 + kept**2 / 20
    variance = squares.sum() / 40**2
    effect = variance * (1 - 1 / 40) / (0.8 * 0.2 / 40)
    mixed = (8 * effect + 0.5) / 8.5
    assert interval == pytest.approx(wilson(0.8, 40 / min(1, mixed)), abs=1e-9)


def test_f1_biases_by_hand() -> None:
    # Two classes of 2: 0 → 0, 0 → 1, 1 → 1, 1 → 1. Hits 1 and 2, labelled or predicted 3 and 5.
    labels, predicted = np.array([0, 0, 1, 1]), np.array([0, 1, 1, 1])
    # As they came: sums of squares of what an image adds to d, times F1, less twice its hits · d.
    first = ((2 / 3) * (4 + 1) - 2 * 2) / 3**2
    second = ((4 / 5) * (1 + 4 + 4) - 2 * 4) / 5**2
    # Stratified: an image of class 0 adds 0.5 to either prediction, give or take 0.5.
    first_fixed = ((2 / 3) * 2 * 0.25 - 2 * 2 * 0.25) / 3**2
    second_fixed = ((4 / 5) * 2 * 0.25 - 0) / 5**2
    found = _f1_biases(labels, predicted, 2, np.arange(4))
    assert found == pytest.approx(
        ((first_fixed + second_fixed) / 2, (first + second) / 2), abs=1e-12
    )


def test_f1_bias_is_near_the_truth() -> None:
    rng = np.random.default_rng(0)
    classes, share, n = 40, 0.75, 400
    values: dict[bool, list[float]] = {True: [], False: []}
    estimates = []
    for _ in range(400):
        for stratified in (True, False):
            labels = np.arange(n) % classes if stratified else rng.integers(0, classes, n)
            other = (labels + rng.integers(1, classes, n)) % classes
            predicted = np.where(rng.random(n) < share, labels, other)
            values[stratified].append(macro_f1(labels, predicted, classes)[0])
            if not stratified:
                estimates.append(_f1_biases(labels, predicted, classes, np.arange(n)))
    estimated = np.mean(estimates, axis=0)
    # Equal classes and errors: the population has the F1 of the share.
    assert np.mean(values[True]) - share == pytest.approx(estimated[0], abs=0.003)
    assert np.mean(values[False]) - share == pytest.approx(estimated[1], abs=0.003)
    assert estimated[1] < -0.006


def test_quantile_of_a_range() -> None:
    assert _quantile_of_range(0.0, 0.95) == pytest.approx(Z)
    c = _quantile_of_range(1.0, 0.95)
    assert stats.norm.cdf(c + 1) - stats.norm.cdf(-c) == pytest.approx(0.95)
    assert _quantile_of_range(50.0, 0.95) == pytest.approx(stats.norm.ppf(0.95))


@pytest.mark.parametrize("stratified", [True, False])
def test_macro_f1_coverage_of_many_classes(stratified: bool) -> None:
    # 100 classes of 5 images: a bootstrap covered 0.93, and 0.83 where chance chose the classes.
    rng = np.random.default_rng(0)
    classes, n, share, draws = 100, 500, 0.8, 400
    held = 0
    for _ in range(draws):
        labels = np.arange(n) % classes if stratified else rng.integers(0, classes, n)
        other = (labels + rng.integers(1, classes, n)) % classes
        predicted = np.where(rng.random(n) < share, labels, other)
        low, high = macro_f1(labels, predicted, classes)[1]
        held += low <= share <= high
    assert 0.93 <= held / draws <= 0.985


@pytest.mark.parametrize(("groups", "size"), [(40, 5), (30, 10)])
@pytest.mark.parametrize("alike", [0.5, 1.0])
def test_accuracy_coverage_with_groups(groups: int, size: int, alike: float) -> None:
    # Wilson's interval of the images covered 47% to 82%.
    rng = np.random.default_rng(0)
    unit, draws, held = np.repeat(np.arange(groups), size), 1000, 0
    for _ in range(draws):
        together = rng.random(groups * size) < alike
        chance = np.where(together, rng.random(groups)[unit], rng.random(groups * size))
        low, high = share_interval(chance < 0.85, unit)
        held += low <= 0.85 <= high
    assert 0.93 <= held / draws <= 0.985
