"""Metrics, calibration and thresholds of several labels an image, worked out by hand."""

import numpy as np
import pytest
from sklearn.metrics import average_precision_score, f1_score

from headstart.errors import DataError, HeadstartError
from headstart.evaluation.calibration import calibrated_score, score
from headstart.evaluation.label_metrics import compute_set_metrics, precision_estimates
from headstart.evaluation.label_rules import (
    NEVER,
    LabelRule,
    decided,
    fit_rules,
    probabilities_of,
    threshold_of,
)
from headstart.evaluation.label_scores import (
    average_precisions,
    best_temperature,
    label_losses,
    sigmoid,
    weighted_precision,
)
from headstart.evaluation.metrics import calibrated_losses, right_bits

RANDOM = np.random.default_rng(0)


def made(n: int = 300, labels: int = 4) -> tuple[np.ndarray, np.ndarray]:
    marks = (RANDOM.random((n, labels)) < np.linspace(0.1, 0.5, labels)).astype(np.int64)
    return (2 * marks - 1 + 1.5 * RANDOM.standard_normal((n, labels))).astype(np.float32), marks


def test_average_precision_agrees_with_scikit_learn_with_ties() -> None:
    logits, marks = made()
    logits = np.round(logits, 1)
    wanted = [average_precision_score(marks[:, k], logits[:, k]) for k in range(4)]
    assert average_precisions(logits, marks) == pytest.approx(wanted)
    # Weights are the same as images that are there several times.
    weights = RANDOM.integers(0, 4, (3, len(marks)))
    found = weighted_precision(logits[:, 0].astype(float), marks[:, 0], weights.astype(float))
    for row, value in zip(weights, found, strict=True):
        rows = np.repeat(np.arange(len(marks)), row)
        assert value == pytest.approx(average_precision_score(marks[rows, 0], logits[rows, 0]))


def test_scores_by_hand() -> None:
    logits, marks = np.array([[0.0, 2.0], [0.0, -2.0]], np.float32), np.array([[1, 1], [0, 0]])
    loss = (2 * np.log(2) + 2 * np.log1p(np.exp(-2))) / 4
    assert score(logits, marks) == pytest.approx((loss, 0.75))  # a tie: half of those above are it
    assert right_bits(logits, marks) == "01"
    assert calibrated_losses(logits, marks).shape == (2,)
    assert calibrated_score(logits, marks)[0] < loss
    assert best_temperature(np.zeros((2, 2)), marks) == 1
    with pytest.raises(HeadstartError, match="do not fit"):
        score(logits, marks[:, :1])
    with pytest.raises(HeadstartError, match="NaN or infinite logits for 1 of 2"):
        score(np.array([[np.nan, 0], [0, 0]], np.float32), marks)


def test_metrics_agree_with_scikit_learn() -> None:
    logits, marks = made()
    rules = [LabelRule(threshold=t) for t in (0.2, 0.4, 0.5, 0.6)]
    names = ("a", "b", "c", "d")
    metrics = compute_set_metrics(logits, marks, names, rules, np.arange(len(marks)))
    given = decided(probabilities_of(logits, rules), rules)
    assert metrics.micro_f1 == pytest.approx(f1_score(marks, given, average="micro"))
    assert metrics.macro_f1 == pytest.approx(f1_score(marks, given, average="macro"))
    assert metrics.mean_average_precision == pytest.approx(
        average_precision_score(marks, logits, average="macro")
    )
    assert metrics.exact == pytest.approx((given == marks).all(1).mean())
    assert metrics.log_loss == pytest.approx(label_losses(logits, marks).mean())
    assert metrics.together[0][1] == (marks[:, 0] & marks[:, 1]).sum()
    assert metrics.given_together[2][2] == given[:, 2].sum()
    for value, ends in (
        (metrics.mean_average_precision, metrics.mean_average_precision_interval),
        (metrics.micro_f1, metrics.micro_f1_interval),
        (metrics.macro_f1, metrics.macro_f1_interval),
    ):
        assert ends[0] < value < ends[1]
        assert 0.02 < ends[1] - ends[0] < 0.3
    pairs = compute_set_metrics(
        logits.repeat(2, 0), marks.repeat(2, 0), names, rules, np.arange(2 * len(marks)) // 2
    )
    assert pairs.groups == metrics.n
    one, two = metrics.micro_f1_interval, pairs.micro_f1_interval
    assert one == pytest.approx(two, abs=0.02)  # copies tell nothing new


def test_labels_without_images_and_sets_without_labels() -> None:
    logits, marks = np.array([[2.0, -1.0]] * 4), np.array([[1, 0], [1, 0], [0, 0], [0, 0]])
    rules = [LabelRule(), LabelRule()]
    metrics = compute_set_metrics(logits, marks, ("a", "b"), rules, np.arange(4))
    assert metrics.empty == 2
    absent = metrics.labels[1]
    assert (absent.average_precision, absent.average_precision_interval) == (None, (0, 1))
    assert (absent.precision, absent.recall, absent.f1) == (None, None, None)
    assert metrics.mean_average_precision == 0.5
    with pytest.raises(DataError, match="no images to evaluate"):
        compute_set_metrics(logits[:0], marks[:0], ("a", "b"), rules, np.arange(0))


def test_an_interval_for_a_label_that_always_ranks_first() -> None:
    told = np.linspace(1, 0, 40)[:, None]
    marks = (told > 0.5).astype(np.int64)
    ((low, high),) = precision_estimates(told, marks, np.arange(40)).labels
    assert (round(low, 2), high) == (0.84, 1.0)  # Wilson's of 20 of 20
    ((low, high),) = precision_estimates(told, marks, np.arange(40) // 4).labels
    assert (round(low, 2), high) == (0.57, 1.0)  # of 5 of 5


def test_thresholds_by_hand() -> None:
    told, marks = np.array([0.9, 0.8, 0.6, 0.4, 0.1]), np.array([1, 0, 1, 1, 0])
    # F1 after each: 2/4, 2/5, 4/6, 6/7, 6/8
    assert threshold_of(told, marks) == pytest.approx(0.25)
    assert threshold_of(told, marks, precision=0.75) == pytest.approx(0.25)
    assert threshold_of(told, marks, precision=0.9) == pytest.approx(0.85)
    assert threshold_of(told, np.array([0, 1, 1, 1, 0]), precision=0.9) == NEVER
    assert threshold_of(told, np.zeros(5, np.int64)) == 0.5
    tied = np.array([0.5, 0.5, 0.5])
    assert threshold_of(tied, np.array([1, 0, 0])) == 0.25  # all or none


def test_calibration_undoes_a_scale_and_a_shift_and_stays_away_where_it_does_not_help() -> None:
    random = np.random.default_rng(3)
    z = 2 * random.standard_normal((4000, 2))
    marks = (random.random((4000, 2)) < sigmoid(z)).astype(np.int64)
    fitted = fit_rules(3 * z + [2.0, -1.0], marks, np.arange(4000))
    for rule, shift in zip(fitted.rules, (-2 / 3, 1 / 3), strict=True):
        assert rule.scale == pytest.approx(1 / 3, abs=0.03)
        assert rule.shift == pytest.approx(shift, abs=0.15)
    assert fitted.log_loss < fitted.log_loss_uncalibrated
    few = fit_rules(z[:6], marks[:6], np.arange(6))
    assert few.log_loss >= few.log_loss_uncalibrated or few.rules[0].scale != 1
    right = [
        fit_rules(z[n : n + 100], marks[n : n + 100], np.arange(100)) for n in range(0, 900, 100)
    ]
    assert sum(all(rule.scale == 1 for rule in each.rules) for each in right) >= 4
    assert "stay as they are" in next(each.described for each in right if each.rules[0].scale == 1)
