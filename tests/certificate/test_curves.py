"""Fits, intervals and answers against values worked out by hand, and their coverage."""

import numpy as np
import pytest
from scipy import stats

from headstart.certificate.curve_fits import fit_power_laws, fit_rises
from headstart.certificate.curves import (
    after_first,
    answer,
    compare_plateaus,
    estimate,
    fastest_rise,
    first_reaching,
    forecast,
    last,
    why_no_plateau,
)


def draw(accuracy: list[float], images: int, seeds: int, rng: np.random.Generator) -> np.ndarray:
    """Seeds that follow a curve on images of different difficulty: (seeds, evaluations, images)."""
    hard = rng.random(images)
    wobble = rng.normal(0, 0.03, (seeds, len(accuracy), images))
    return hard + wobble < np.array(accuracy)[None, :, None]


def test_a_power_law_is_found_again() -> None:
    sizes = [50, 100, 200, 400, 800]
    errors = 0.05 + 2.0 * np.array(sizes, float) ** -0.5
    law = fit_power_laws(sizes, errors[None])
    assert law.exponent[0] == pytest.approx(0.5)
    assert law.floor[0] == pytest.approx(0.05)
    assert law.scale[0] == pytest.approx(2.0)
    assert law.at([1600])[0, 0] == pytest.approx(0.05 + 2.0 / 40)


def test_no_learning_curve_falls_below_zero_or_rises() -> None:
    sizes = [100, 200, 400]
    laws = fit_power_laws(sizes, np.array([[0.4, 0.2, 0.001], [0.1, 0.2, 0.3]]))
    assert (laws.floor >= 0).all() and (laws.scale >= 0).all()
    # What gets worse is taken as flat, at the mean weighted by the size.
    assert laws.at([10**6])[1, 0] == pytest.approx((0.1 + 2 * 0.2 + 4 * 0.3) / 7)


def test_a_rise_is_found_again_and_what_is_left_to_gain() -> None:
    times = np.arange(1.0, 11)
    constant = np.geomspace(0.15, 3.0, 40)[15] * 9  # one that the fit looks at
    rise = fit_rises(times, (0.9 - 0.6 * np.exp(-times / constant))[None])
    assert rise.plateau[0] == pytest.approx(0.9)
    assert rise.span[0] == pytest.approx(0.6)
    assert rise.left_at(10)[0] == pytest.approx(0.6 * np.exp(-10 / constant))


def test_no_plateau_lies_above_one() -> None:
    rise = fit_rises(np.arange(1.0, 7), np.linspace(0.5, 1, 6)[None])
    assert rise.plateau[0] == pytest.approx(1.0)


def test_the_fastest_rise_and_when_a_level_is_reached() -> None:
    curve = [0.1, 0.2, 0.6, 0.7]
    assert fastest_rise(np.array([curve]))[0] == pytest.approx(0.4)
    assert first_reaching(curve, 0.4) == pytest.approx(1.5)
    assert first_reaching(curve, 0.05) == 0
    assert first_reaching(curve, 0.8) is None


def test_an_interval_adds_images_and_seeds() -> None:
    # Two seeds that are right on 60 and 40 of 100 images: a variance of
    # (0.1² + 0.1²) / 1 / 2 = 0.01 over seeds. By image 40 ones, 20 halves and 40 zeros:
    # a variance of (40 · 0.25 + 40 · 0.25) / 100 = 0.2, so 0.002 over images.
    right = np.zeros((2, 1, 100), bool)
    right[0, 0, :60] = True
    right[1, 0, :40] = True
    value, (low, _) = estimate(last, right)
    assert value == pytest.approx(0.5)
    freedom = 0.012**2 / (0.01**2 + 0.002**2 / 99)
    expected = stats.t.ppf(0.975, freedom) * 0.012**0.5
    assert value - low == pytest.approx(expected, rel=0.05)
    # One seed: images alone, 0.6 · 0.4 / 100, and Student's t for 99 degrees of freedom.
    single, (low, high) = estimate(last, right[:1])
    assert single == pytest.approx(0.6)
    assert high - low == pytest.approx(2 * 1.984 * 0.0024**0.5, rel=0.1)


def test_the_interval_counts_images_of_a_group_together() -> None:
    rng = np.random.default_rng(0)
    once = rng.random((1, 3, 60)) < 0.8
    alike, groups = np.repeat(once, 5, axis=2), np.repeat(np.arange(60) * 3, 5)
    value, interval = estimate(last, alike, groups=groups)
    assert value == pytest.approx(once[0, -1].mean())
    assert interval == pytest.approx(estimate(last, once)[1], abs=1e-9)
    low, high = estimate(last, alike)[1]
    assert interval[1] - interval[0] > 2 * (high - low)
    alone = estimate(last, once, groups=np.arange(60))
    assert alone == estimate(last, once)
    assert estimate(last, alike, groups=np.zeros(300, int))[1] == (-1.0, 1.0)


def test_a_forecast_counts_images_of_a_group_together() -> None:
    rng = np.random.default_rng(0)
    once = np.sort(rng.random((80, 4)), axis=1) > 0.4
    hits, groups = np.repeat(once, 6, axis=0).astype(float), np.repeat(np.arange(80), 6)
    sizes, targets = (20, 40, 80, 160), [160, 320]
    alone, grouped = (forecast(sizes, hits, targets, 160, groups=each) for each in (None, groups))
    for one, other in zip(alone, grouped, strict=True):
        assert other.accuracy == one.accuracy
        widths = [interval[1] - interval[0] for interval in (one.new_images, other.new_images)]
        assert widths[1] > 1.5 * widths[0]


def test_without_spread_the_interval_is_what_wilson_leaves() -> None:
    right = np.ones((2, 2, 100), bool)
    scratch = np.zeros((2, 2, 100), bool)
    value, (low, high) = estimate(after_first, right, (after_first, scratch))
    assert value == pytest.approx(1)
    assert low == pytest.approx(1 - 3.8415 / (100 + 3.8415), abs=1e-3)
    assert high == 1


@pytest.mark.parametrize(
    ("interval", "said"),
    [
        ((0.02, 0.3), "yes"),
        ((-0.02, 0.3), "cannot tell"),
        ((-0.3, -0.02), "no"),
        ((-0.02, 0.009), "no"),
        ((0.001, 0.009), "no"),  # higher, and not worth it
    ],
)
def test_an_answer_follows_from_the_interval(interval: tuple[float, float], said: str) -> None:
    assert answer(interval) == said


def test_a_gain_that_cannot_be_negative_must_exceed_what_matters() -> None:
    assert answer((0.001, 0.03), above=0.01) == "cannot tell"
    assert answer((0.02, 0.03), above=0.01) == "yes"
    assert answer((0.0, 0.005), above=0.01) == "no"


FLAT = [0.1, 0.7, 0.8, 0.8, 0.8, 0.8, 0.8, 0.8, 0.8]
RISING = [0.1, 0.15, 0.2, 0.25, 0.3, 0.35, 0.4, 0.45, 0.5]


def test_plateaus_are_claimed_only_where_they_are_seen() -> None:
    rng = np.random.default_rng(0)
    steady = np.full((2, 9), 0.5)
    assert why_no_plateau(draw(FLAT, 300, 2, rng), steady, 0.1) == ""
    assert "still rising" in why_no_plateau(draw(RISING, 300, 2, rng), steady, 0.1)
    assert "too few" in why_no_plateau(draw(FLAT[:4], 300, 2, rng), steady[:, :4], 0.1)
    stuck = draw([0.1] * 9, 300, 2, rng)
    assert "chance" in why_no_plateau(stuck, steady, 0.1)
    falling = np.tile(np.linspace(2, 1, 9), (2, 1))
    assert "log loss" in why_no_plateau(draw(FLAT, 300, 2, rng), falling, 0.1)


def test_asymptotes_answer_yes_no_and_cannot_tell() -> None:
    rng = np.random.default_rng(1)
    high, low = draw(FLAT, 300, 2, rng), draw([x * 0.6 for x in FLAT], 300, 2, rng)
    rising = draw(RISING, 300, 2, rng)
    assert compare_plateaus(high, low, (False, False))[2] == "yes"
    assert compare_plateaus(low, high, (False, False))[2] == "no"
    # Scratch still rises: it may catch up.
    assert compare_plateaus(high, rising, (False, True))[2] == "cannot tell"
    # Pretrained still rises, and is above where scratch has ended already.
    assert compare_plateaus(high, low, (True, False))[2] == "yes"
    # Scratch still rises, and is above where pretrained has ended already.
    assert compare_plateaus(low, high, (False, True))[2] == "no"
    assert compare_plateaus(high, low, (True, True))[2] == "cannot tell"


@pytest.mark.slow
def test_asymptote_intervals_hold_as_often_as_they_promise() -> None:
    epochs = np.arange(13.0)
    held = 0
    for number in range(120):
        rng = np.random.default_rng(number)
        ends = rng.normal(0.8, 0.02, 2)  # seeds end at different heights
        curves = [end - (end - 0.05) * np.exp(-epochs / 2) for end in ends]
        hard = rng.random((1, 150))
        right = np.stack(
            [hard + rng.normal(0, 0.05, (13, 150)) < curve[:, None] for curve in curves]
        )
        low, high = estimate(lambda c: fit_rises(epochs[1:], c[:, 1:]).plateau, right)[1]
        held += low <= 0.8 <= high
    assert held >= 0.9 * 120


@pytest.mark.slow
@pytest.mark.parametrize(
    "error",
    [
        lambda n: 0.05 + 1.2 * n**-0.5,
        lambda n: 0.9 * n**-0.35,
        lambda n: 0.02 + 0.3 * np.exp(-n / 300),  # no power law at all
        lambda n: 0.5 - 0.055 * np.log(n),
    ],
)
def test_forecasts_hold_as_often_as_they_promise(error: object) -> None:
    sizes = [100, 140, 200, 280, 400, 560, 700]
    held, gains_held, widths = 0, 0, []
    for number in range(60):
        rng = np.random.default_rng(number)
        hard = rng.random((600, 1))
        right = hard + rng.normal(0, 0.05, (600, 8)) > [error(n) for n in [*sizes, 1000.0]]  # type: ignore[operator]
        hits = right[:, :7].astype(float)
        found, twice = forecast(sizes, hits, [1000, 1400], 700, number)
        gain = error(700.0) - error(1400.0)  # type: ignore[operator]
        gains_held += twice.gain_interval[0] <= gain <= twice.gain_interval[1]
        low, high = found.interval
        held += low <= right[:, 7].mean() <= high
        widths.append(high - low)
        assert found.new_images[0] < found.accuracy < found.new_images[1]
    assert held >= 54
    assert gains_held >= 54
    assert np.median(widths) <= 0.07  # of 600 images in a single order


def test_forecasts_do_not_promise_perfection_on_other_images() -> None:
    found = forecast([10, 20, 40], np.ones((50, 3)), [80], 40)[0]
    assert found.accuracy == pytest.approx(1)
    assert found.new_images[0] < 0.95
    assert found.gain == pytest.approx(0)
