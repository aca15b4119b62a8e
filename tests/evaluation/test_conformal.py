"""Prediction sets that hold the truth as often as promised, and images out of range."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from headstart.artifacts.bundle_spec import DistributionSpec
from headstart.errors import HeadstartError
from headstart.evaluation.calibration import softmax
from headstart.evaluation.conformal import (
    Threshold,
    calibrate,
    distance,
    fit_distribution,
    fit_distribution_within,
    gallery_rows,
    out_of_distribution,
    prediction_set,
)
from headstart.evaluation.retrieval import unit


def drawn(rng: np.random.Generator, rows: int, shown: float = 1.5) -> tuple[Any, Any]:
    """Labels drawn from true probabilities, and overconfident ones that a network might show."""
    logits = rng.normal(0, 1.5, (rows, 5)) * rng.uniform(0.2, 2, (rows, 1))
    labels = (softmax(logits).cumsum(1) > rng.random((rows, 1))).argmax(1)
    return softmax(shown * logits), labels


def test_lac_by_hand() -> None:
    # 1 - p(truth) is 0.1 … 0.9; ceil(10 · 0.8) = 8, so the eighth of nine.
    of_truth = np.arange(9, 0, -1) / 10
    probabilities = np.stack([of_truth, 1 - of_truth], 1)
    threshold = calibrate(probabilities, np.zeros(9, int), 0.8)
    assert threshold == Threshold("lac", pytest.approx(0.8), 0.8, 9)
    # What is at least 0.2 likely is in.
    sets = prediction_set([[0.7, 0.21, 0.09], [0.34, 0.33, 0.33]], threshold)
    assert sets.tolist() == [[True, True, False], [True, True, True]]


def test_aps_by_hand() -> None:
    # Likelier than the truth: 0, 0.5 and 0.8; ceil(4 · 0.5) = 2, so the second of three.
    probabilities = np.array([[0.5, 0.3, 0.2]] * 3)
    threshold = calibrate(probabilities, [0, 1, 2], 0.5, "aps")
    assert threshold == Threshold("aps", 0.5, 0.5, 3)
    # 0.45 is not enough and 0.75 is; 0.9 is.
    shown = [[0.25, 0.3, 0.45], [0.9, 0.06, 0.04]]
    sets = [[False, True, True], [True, False, False]]
    assert prediction_set(shown, threshold).tolist() == sets
    assert prediction_set(shown, threshold, never_empty=False).tolist() == sets


def test_empty_only_where_it_is_asked_for() -> None:
    threshold = Threshold("lac", 0.3, 0.9, 100)
    unsure = [[0.4, 0.35, 0.25]]
    assert prediction_set(unsure, threshold).tolist() == [[True, False, False]]
    assert not prediction_set(unsure, threshold, never_empty=False).any()


@pytest.mark.parametrize("score", ["lac", "aps"])
@pytest.mark.parametrize("rows", [0, 8])
def test_too_few_images_leave_no_class_out(score: Any, rows: int) -> None:
    probabilities, labels = drawn(np.random.default_rng(0), rows)
    threshold = calibrate(probabilities, labels, 0.9, score)
    assert prediction_set([[1.0, 0.0, 0.0], [0.2, 0.3, 0.5]], threshold).all()


@pytest.mark.parametrize("score", ["lac", "aps"])
@pytest.mark.parametrize(("rows", "coverage"), [(9, 0.9), (20, 0.8), (100, 0.95)])
def test_marginal_coverage(score: Any, rows: int, coverage: float) -> None:
    covered, size = [], []
    for seed in range(2000):
        probabilities, labels = drawn(np.random.default_rng(seed), rows + 20)
        threshold = calibrate(probabilities[:rows], labels[:rows], coverage, score)
        sets = prediction_set(probabilities[rows:], threshold, never_empty=False)
        covered.append(sets[np.arange(20), labels[rows:]].mean())
        size.append(sets.sum(1).mean())
    error = 3 * np.std(covered) / np.sqrt(len(covered))
    assert np.mean(covered) >= coverage - error
    assert np.mean(covered) <= coverage + 1 / (rows + 1) + error
    assert 1 <= np.mean(size) < 5


def test_aps_covers_hard_images_more_evenly_than_lac() -> None:
    probabilities, labels = drawn(np.random.default_rng(0), 40_000)
    hard = probabilities.max(1) < 0.5
    gap = {}
    for score in ("lac", "aps"):
        threshold = calibrate(probabilities[:20_000], labels[:20_000], 0.9, score)  # type: ignore[arg-type]
        held = prediction_set(probabilities, threshold)[np.arange(40_000), labels][20_000:]
        gap[score] = abs(held[hard[20_000:]].mean() - held[~hard[20_000:]].mean())
    assert gap["aps"] < gap["lac"]


def test_misuse_is_refused() -> None:
    with pytest.raises(HeadstartError, match="between 0 and 1"):
        calibrate([[0.5, 0.5]], [0], 1.0)
    with pytest.raises(HeadstartError, match="do not fit"):
        calibrate([[0.5, 0.5]], [0, 1])
    with pytest.raises(HeadstartError, match="do not fit"):
        calibrate([[0.5, 0.5]], [2])
    with pytest.raises(HeadstartError, match="must be finite numbers"):
        prediction_set([[0.5, float("nan")]], Threshold("lac", 0.5, 0.9, 10))
    with pytest.raises(HeadstartError, match="no training image"):
        fit_distribution(np.empty((0, 3)), np.empty(0, np.int64), np.ones((30, 3)))


def test_distance_by_hand() -> None:
    gallery = np.array([[2.0, 0], [0, 3], [-1, 0], [1, 1]])
    calibration = np.random.default_rng(0).normal(size=(30, 2))
    known = fit_distribution(gallery, np.zeros(4, np.int64), calibration, k=2)
    # The second nearest of (5, 0) is (1, 1), at 45 degrees; of (0, -1) both (±1, 0), at 90.
    away = distance(np.array([[5.0, 0], [0, -1]]), known)
    assert away == pytest.approx([1 - np.sqrt(0.5), 1.0], abs=1e-6)
    assert distance(np.empty((0, 2)), known).shape == (0,)


@pytest.mark.parametrize("draw", [0, 4, 7])
def test_images_that_are_all_alike_are_at_no_distance(draw: int) -> None:
    alike = np.tile(np.random.default_rng(draw).random(1280).astype(np.float32), (60, 1))
    known = fit_distribution(alike.astype(np.float16), np.arange(60) % 3, alike)
    assert 0 <= known.threshold < 1e-6
    assert (distance(alike, known) >= 0).all()
    spec = DistributionSpec(
        k=known.k, threshold=known.threshold, false_alarm=0.05, calibrated_on="images"
    )
    assert spec.threshold == known.threshold


def test_a_class_of_one_is_not_measured_by_others() -> None:
    gallery = np.array([[1.0, 0], [1, 0.1], [1, -0.1], [0, 1]])
    known = fit_distribution(gallery, np.array([0, 0, 0, 2]), np.eye(2))
    assert known.k == 1


def test_too_few_images_flag_nothing() -> None:
    rng = np.random.default_rng(0)
    gallery, labels = np.abs(rng.normal(size=(20, 4))), np.zeros(20, np.int64)
    known = fit_distribution(gallery, labels, np.abs(rng.normal(size=(18, 4))))
    assert not out_of_distribution(-gallery, known).any()
    assert out_of_distribution(
        -gallery, fit_distribution(gallery, labels, np.abs(rng.normal(size=(19, 4))))
    ).all()


def test_false_alarms_stay_at_their_rate() -> None:
    alarms = []
    for seed in range(500):
        rng = np.random.default_rng(seed)
        centres = rng.normal(size=(4, 16)) * 2
        labels = np.arange(120) % 4
        images = centres[labels] + rng.normal(size=(120, 16))
        known = fit_distribution(images[:60], labels[:60], images[60:100], 0.1)
        alarms.append(out_of_distribution(images[100:], known).mean())
    error = 3 * np.std(alarms) / np.sqrt(len(alarms))
    assert 0.1 - 1 / 41 - error <= np.mean(alarms) <= 0.1 + error


def test_a_range_from_training_images_leaves_out_their_own_group() -> None:
    # Copies at 0 and 90 degrees: without its group, each is nearest to the other pair.
    images = np.array([[1.0, 0], [1, 0], [0, 1], [0, 1]])
    labels, rows = np.zeros(4, np.int64), np.arange(4)
    known = fit_distribution_within(images, labels, np.array([0, 0, 1, 1]), rows, 0.5, k=1)
    assert known.threshold == pytest.approx(1.0)
    alone = fit_distribution_within(images, labels, np.arange(4), rows, 0.5, k=1)
    assert alone.threshold == pytest.approx(0.0, abs=1e-6)


def test_false_alarms_of_a_range_from_training_images() -> None:
    alarms = []
    for seed in range(300):
        rng = np.random.default_rng(seed)
        labels = np.arange(160) % 4
        images = rng.normal(size=(4, 16))[labels] * 2 + rng.normal(size=(160, 16))
        rows = gallery_rows(labels[:100], 40)
        known = fit_distribution_within(images[:100], labels[:100], np.arange(100), rows, 0.1)
        alarms.append(out_of_distribution(images[100:], known).mean())
    error = 3 * np.std(alarms) / np.sqrt(len(alarms))
    # An image of the gallery is measured by one image fewer than others are.
    assert 0.05 <= np.mean(alarms) <= 0.1 + error


def test_a_gallery_is_even_over_classes() -> None:
    labels = np.array([0] * 50 + [1] * 50 + [2] * 3)
    rows = gallery_rows(labels, 23)
    assert np.bincount(labels[rows]).tolist() == [10, 10, 3]
    assert np.array_equal(rows, np.unique(rows))
    assert np.array_equal(gallery_rows(labels, 500), np.arange(103))


@pytest.mark.slow
def test_insects_are_out_of_the_range_of_flowers(real_features: Callable[[str], Any]) -> None:
    flowers = real_features("flowers17")
    order = np.random.default_rng(0).permutation(len(flowers.labels))
    train, calibration, fresh = np.split(order, [800, 1050])
    known = fit_distribution(
        flowers.features[train], flowers.labels[train], flowers.features[calibration]
    )
    alarms = out_of_distribution(flowers.features[fresh], known).mean()
    insects = out_of_distribution(real_features("hymenoptera").features, known).mean()
    assert alarms <= 0.1
    assert insects >= 0.6


@pytest.mark.slow
@pytest.mark.parametrize("score", ["lac", "aps"])
def test_coverage_on_flowers(flowers: Any, flowers_out_of_fold: np.ndarray, score: Any) -> None:
    p = flowers_out_of_fold
    covered, sizes = [], []
    for seed in range(200):
        order = np.random.default_rng(seed).permutation(len(p))
        some, rest = order[:200], order[200:]
        threshold = calibrate(p[some], flowers.labels[some], 0.95, score)
        sets = prediction_set(p[rest], threshold, never_empty=False)
        covered.append(sets[np.arange(len(rest)), flowers.labels[rest]].mean())
        sizes.append(sets.sum(1).mean())
    assert np.mean(covered) == pytest.approx(0.95, abs=0.01)
    assert np.mean(sizes) < 2


def test_a_background_moves_the_limit_to_between_both() -> None:
    """One direction each: what is closer to the background is out, whatever its distance."""
    gallery = np.eye(1, 4, 0) + np.zeros((30, 4))
    background = np.eye(1, 4, 1) + np.zeros((3, 4))
    calibration = unit(np.array([[1.0, share, 0, 0] for share in np.linspace(0, 0.5, 39)]))
    known = fit_distribution(gallery, np.zeros(30, np.int64), calibration, background=background)
    wanted = [1 - row[0] - (1 - row[1]) for row in calibration]
    assert known.threshold == pytest.approx(sorted(wanted)[37], abs=1e-6)  # the 38th of 39
    there = np.array([[1.0, 0.9, 0, 0], [1.0, 0.1, 0, 0]])
    assert out_of_distribution(there, known).tolist() == [True, False]
    plain = fit_distribution(gallery, np.zeros(30, np.int64), calibration)
    assert distance(there, plain) - distance(there, known) == pytest.approx(
        1 - unit(there)[:, 1], abs=1e-6
    )


def test_a_background_keeps_the_rate_of_training_images() -> None:
    rng, flagged = np.random.default_rng(0), []
    for _ in range(100):
        images, labels = rng.normal(size=(150, 8)) + 2, np.zeros(150, np.int64)
        rows, other = np.arange(100), rng.normal(size=(20, 8)) - 2
        known = fit_distribution_within(
            images[:100], labels[:100], np.arange(100), rows, 0.1, other
        )
        flagged.append(out_of_distribution(images[100:], known).mean())
    assert np.mean(flagged) == pytest.approx(0.1, abs=0.02)
