"""Temperatures that are shrunk towards 1 and prove themselves, and alarms where they failed."""

import numpy as np
import pytest

from headstart.errors import HeadstartError
from headstart.evaluation.calibration import fit_temperature, log_losses, log_softmax, softmax
from headstart.evaluation.conformal import COVERAGES, set_thresholds
from headstart.evaluation.trust import (
    STAND_IN,
    TWIN,
    Calibration,
    alarms,
    calibration_error_by_chance,
    fit_calibration,
    mean_calibration,
)


def sure(right: int, wrong: int, margin: float = 3.0) -> tuple[np.ndarray, np.ndarray]:
    """Logits that always prefer the first of two classes by a margin, and labels."""
    return np.tile([margin, 0.0], (right + wrong, 1)), np.array([0] * right + [1] * wrong)


def sigmoid(x: float) -> float:
    return float(1 / (1 + np.exp(-x)))


@pytest.mark.parametrize("log_temperature", [0.1, 0.5])
def test_the_prior_pulls_as_hard_as_the_images(log_temperature: float) -> None:
    # 8 of 10 right by a margin of 3. With u = log T and x = 3 / T, the log loss has the slope
    # -10 x (sigmoid(x) - 0.8) in u, and the prior u / spread²: they add up to 0 at this spread.
    x = 3 / np.exp(log_temperature)
    spread = np.sqrt(log_temperature / (10 * x * (sigmoid(x) - 0.8)))
    logits, labels = sure(8, 2)
    found = fit_temperature(logits, labels, spread)
    assert found == pytest.approx(np.exp(log_temperature), rel=1e-4)


@pytest.mark.parametrize("spread", [STAND_IN, TWIN])
def test_few_images_say_little_and_many_all(spread: float) -> None:
    best = 3 / np.log(4)  # 2.16
    found = [fit_temperature(*sure(8 * n, 2 * n), spread) for n in (1, 10, 100, 10_000)]
    assert found == sorted(found)
    assert 1 < found[0] < best - 0.2
    assert found[-1] == pytest.approx(best, rel=2e-3)
    assert found[2] > 1.9
    # 3 right by a margin of 3 and nothing else: sigmoid(3/T) = 4/5 is best, but is hardly believed.
    alone = fit_temperature(*sure(3, 0), spread)
    assert 1 < alone < 3 / np.log(4)
    assert fit_temperature(*sure(3, 0), 1e-3) == pytest.approx(1, abs=1e-4)


def test_copies_count_once() -> None:
    logits, labels = sure(8, 2)
    copies = np.repeat(logits, 4, axis=0), np.repeat(labels, 4)
    once = fit_temperature(logits, labels, STAND_IN)
    assert fit_temperature(*copies, STAND_IN, independent=10) == pytest.approx(once, rel=1e-6)
    assert fit_temperature(*copies, STAND_IN) > once + 0.1
    groups = np.repeat(np.arange(10), 4)
    grouped = fit_calibration(*copies, "copies", STAND_IN, groups)
    assert grouped.temperature in (1.0, pytest.approx(once, rel=1e-6))
    assert grouped.images == 40


def test_both_losses_are_those_of_images_that_were_held_out() -> None:
    # 30 of 40 right by a margin of 4. Each fold holds 6 and 2 of them, so all others look alike.
    logits, labels = sure(30, 10, 4.0)
    others = fit_temperature(*sure(24, 8, 4.0), TWIN)
    found = fit_calibration(logits, labels, "made up")
    x = 4 / others
    assert found.log_loss == pytest.approx(
        -0.75 * np.log(sigmoid(x)) - 0.25 * np.log(sigmoid(-x)), rel=1e-6
    )
    # 0.75 log(1 + exp(-4)) + 0.25 log(1 + exp(4)) = 0.0136 + 1.0045
    assert found.log_loss_uncalibrated == pytest.approx(1.0181, abs=1e-4)
    assert found.temperature == pytest.approx(fit_temperature(logits, labels, TWIN))
    assert found.sets == set_thresholds(logits, labels, found.temperature)
    assert found.sets != set_thresholds(logits, labels, 1.0)
    assert found.described == (
        f"{found.temperature:.2f}, from 40 images (made up); their log loss: 1.018 without it, "
        f"{found.log_loss:.3f} with it"
    )


def test_a_temperature_that_does_not_help_others_is_not_applied() -> None:
    # Half of the first ten are right and all of the others: each half misleads about the other.
    doubtful, easy = sure(5, 5, 2.0), sure(90, 0, 2.0)
    logits, labels = (np.concatenate(pair) for pair in zip(doubtful, easy, strict=True))
    assert fit_temperature(logits, labels, TWIN) < 0.8
    found = fit_calibration(logits, labels, "two patients", groups=np.repeat([0, 1], [10, 90]))
    assert found.temperature == 1
    assert found.log_loss is not None and found.log_loss_uncalibrated is not None
    assert found.log_loss > found.log_loss_uncalibrated
    assert found.sets == set_thresholds(logits, labels, 1.0)
    assert "a fitted one does not lower their log loss" in found.described
    alone = fit_calibration(logits, labels, "100 patients")
    assert alone.temperature < 0.8


@pytest.mark.parametrize("case", ["one", "group", "none"])
def test_nothing_is_applied_that_cannot_be_tested(case: str) -> None:
    logits, labels = sure(*{"one": (1, 0), "group": (3, 3), "none": (0, 0)}[case])
    groups = np.zeros(6, np.int64) if case == "group" else None
    found = fit_calibration(logits, labels, "too few", groups=groups)
    assert (found.temperature, found.log_loss, found.images) == (1, None, len(labels))
    assert len(found.sets) == len(COVERAGES)
    assert found.described.startswith("1.00")


def test_nonsense_is_refused() -> None:
    logits, labels = sure(8, 2)
    with pytest.raises(HeadstartError, match="NaN or infinite logits for 1 of 10"):
        fit_calibration(np.where(np.arange(20).reshape(10, 2) == 3, np.nan, logits), labels, "x")


def test_the_mean_of_members_promises_no_coverage() -> None:
    members = [
        Calibration(temperature=t, images=n, sets=(0.5,), log_loss=0.1) for t, n in ((2, 9), (1, 7))
    ]
    found = mean_calibration(members)
    assert (found.temperature, found.images, found.sets, found.log_loss) == (1.5, 7, (), None)


def test_a_few_images_do_not_spoil_what_is_calibrated() -> None:
    """The expected log loss on new images, for 60 draws of 54 from a calibrated classifier."""
    rng = np.random.default_rng(0)
    harm: dict[str, list[float]] = {"likeliest": [], "cautious": [], "stand-in": []}
    for _ in range(60):
        logits = 2.5 * rng.normal(size=(54, 6))
        logits[np.arange(54), rng.integers(0, 6, 54)] += 6
        labels = np.array([rng.choice(6, p=p) for p in softmax(logits)])
        new = 2.5 * rng.normal(size=(2000, 6))
        new[np.arange(2000), rng.integers(0, 6, 2000)] += 6
        truth = softmax(new)
        best = -float((truth * log_softmax(new, 1.0)).sum(1).mean())
        for name, temperature in (
            ("likeliest", fit_temperature(logits, labels)),
            ("cautious", fit_calibration(logits, labels, "").temperature),
            ("stand-in", fit_calibration(logits, labels, "", STAND_IN).temperature),
        ):
            harm[name].append(-float((truth * log_softmax(new, temperature)).sum(1).mean()) - best)
    mean = {name: float(np.mean(values)) for name, values in harm.items()}
    assert mean["stand-in"] < mean["cautious"] < mean["likeliest"] / 1.4
    assert mean["cautious"] < 0.012, "of 0.42"


def test_an_alarm_where_the_temperature_did_harm() -> None:
    rng = np.random.default_rng(1)
    logits = 2 * rng.normal(size=(400, 4))
    labels = np.array([rng.choice(4, p=p) for p in softmax(logits)])
    assert alarms(logits, labels, 1.0) == []
    assert alarms(logits, labels, 1.05) == [], "less than the noise"
    harm, error = alarms(logits, labels, 0.16)
    after, before = (log_losses(logits, labels, t).mean() for t in (0.16, 1.0))
    assert harm == (
        f"The temperature 0.16 makes the log loss of the test images worse: {after:.3f} instead of "
        f"{before:.3f}. Do not trust the probabilities."
    )
    assert error.startswith("The calibration error on 400 test images is ")
    assert alarms(logits[:1], labels[:1], 0.5) == [], "one image tells nothing about others"


def answers(right: int, wrong: int, confidence: float) -> tuple[np.ndarray, np.ndarray]:
    return sure(right, wrong, float(np.log(confidence / (1 - confidence))))


def test_an_alarm_where_the_calibration_error_is_no_chance() -> None:
    # At a confidence of 0.9, 70% right of 200 is an error of 0.2.
    (alarm,) = alarms(*answers(140, 60, 0.9), 1.0)
    assert alarm.startswith("The calibration error on 200 test images is 20.0%; chance alone")
    # Of 5 images, two or more are wrong in 8% of cases: an error of 0.3 is no surprise.
    assert alarms(*answers(3, 2, 0.9), 1.0) == []
    # Three or more are wrong in 1% of cases.
    assert len(alarms(*answers(2, 3, 0.9), 1.0)) == 1
    # The same for five groups of images that are right or wrong together.
    logits, labels = answers(120, 80, 0.9)
    assert alarms(logits, labels, 1.0, np.arange(200) // 40) == []
    assert alarms(*answers(860, 140, 0.9), 1.0) == [], "4 points are below the threshold"


def test_calibration_error_by_chance_by_hand() -> None:
    # Four coins: 0, 1, 3 or 4 heads are an error of at least 0.25, and 0 or 4 of 0.5 (1 of 8).
    coins = np.full(4, 0.5)
    assert calibration_error_by_chance(coins) == 0.5
    assert calibration_error_by_chance(coins, share=0.5) == 0.25, "2 heads come in 6 of 16 cases"
    assert calibration_error_by_chance(coins, share=0.3) == 0
    assert calibration_error_by_chance(coins, np.zeros(4, int), share=0.3) == 0.5, "all are alike"
    # Ten thousand coins: 1.96 standard errors of 0.005.
    many = calibration_error_by_chance(np.full(10_000, 0.5))
    assert many == pytest.approx(0.0098, abs=6e-4)
    assert calibration_error_by_chance(coins) == calibration_error_by_chance(coins)


@pytest.mark.parametrize(("a", "b", "right", "error"), [(3, 1, 0.75, 0.06), (12, 0.6, 0.95, 0.02)])
def test_right_probabilities_have_the_error_that_the_docs_state(
    a: float, b: float, right: float, error: float
) -> None:
    confidence = np.random.default_rng(0).beta(a, b, 300)
    assert confidence.mean() == pytest.approx(right, abs=0.02)
    assert calibration_error_by_chance(confidence, share=0.5) == pytest.approx(error, abs=0.005)
