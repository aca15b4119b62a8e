import tracemalloc
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from threadpoolctl import threadpool_info, threadpool_limits

from headstart.evaluation.calibration import calibrated_score
from headstart.features.probe import (
    STRENGTHS,
    LabelledFeatures,
    Probe,
    Validated,
    affordable_folds,
    affordable_strengths,
    cross_validate,
    fit_path,
    fit_probe,
    out_of_fold,
)
from headstart.inputs import large_arrays


def blobs(
    rows: int, features: int, classes: int, spread: float = 1.0, seed: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    labels = np.arange(rows) % classes
    centres = np.random.default_rng(99).normal(0, 2, (classes, features))
    data = centres[labels] + spread * rng.normal(size=(rows, features))
    return data.astype(np.float32), labels.astype(np.int64)


def probed(
    features: np.ndarray, labels: np.ndarray, classes: int, groups: np.ndarray
) -> tuple[Probe, Validated]:
    validated = cross_validate(LabelledFeatures(features, labels, classes, groups))
    return fit_probe(features, labels, classes, validated.strength), validated


def test_separates_what_can_be_separated() -> None:
    features, labels = blobs(200, 10, 4)
    fresh, fresh_labels = blobs(200, 10, 4, seed=1)
    probe, validated = probed(features, labels, 4, np.arange(200))
    assert (probe.logits(fresh).argmax(1) == fresh_labels).mean() > 0.95
    assert validated.accuracy > 0.95
    assert probe.weight.shape == (4, 10)


def test_agrees_with_scikit_learn_at_the_chosen_penalty() -> None:
    features, labels = blobs(150, 5, 3, spread=4.0)
    probe, validated = probed(features, labels, 3, np.arange(150))
    standard = (features - features.mean(0)) / features.std(0)
    reference = LogisticRegression(C=1 / (validated.strength * 150), tol=1e-8, max_iter=1000)
    reference.fit(standard, labels)
    logits = probe.logits(features)
    ours = np.exp(logits - logits.max(1, keepdims=True))
    ours /= ours.sum(1, keepdims=True)
    assert np.abs(ours - reference.predict_proba(standard)).max() < 0.03


def test_noise_asks_for_a_strong_penalty() -> None:
    rng = np.random.default_rng(0)
    noise = rng.normal(size=(60, 40)).astype(np.float32)
    labels = rng.integers(0, 2, 60)
    assert probed(noise, labels, 2, np.arange(60))[1].strength == max(STRENGTHS)


def test_groups_stay_in_one_fold() -> None:
    # Each image is there five times: a fold that splits them would be told the answer.
    rng = np.random.default_rng(0)
    features = np.repeat(rng.normal(size=(30, 50)), 5, axis=0).astype(np.float32)
    labels = np.repeat(rng.integers(0, 2, 30), 5)
    _, honest = probed(features, labels, 2, np.repeat(np.arange(30), 5))
    _, leaky = probed(features, labels, 2, np.arange(150))
    assert leaky.accuracy > 0.95
    assert honest.accuracy < 0.8


def test_repeats_bit_by_bit() -> None:
    features, labels = blobs(100, 8, 3)
    first, second = (probed(features, labels, 3, np.arange(100))[0] for _ in range(2))
    assert np.array_equal(first.weight, second.weight)
    assert np.array_equal(first.bias, second.bias)


@pytest.mark.parametrize("threads", [1, 4])
def test_folds_are_the_same_with_any_number_of_threads(threads: int) -> None:
    data = LabelledFeatures(*blobs(300, 40, 5, spread=4.0), 5, np.arange(300))
    alone = out_of_fold(data, STRENGTHS)
    with threadpool_limits(threads, user_api="blas"):
        assert np.array_equal(out_of_fold(data, STRENGTHS), alone, equal_nan=True)


def test_constant_features_do_no_harm() -> None:
    features, labels = blobs(60, 6, 2)
    features[:, 2] = 7.0
    probe, validated = probed(features, labels, 2, np.arange(60))
    assert np.isfinite(probe.weight).all()
    assert validated.accuracy > 0.9


def test_fewer_folds_where_five_cost_too_much() -> None:
    assert [affordable_folds(rows, 1280, 17) for rows in (400, 5_000, 100_000)] == [5, 3, 1]


def test_fewer_penalties_where_only_one_fold_is_affordable() -> None:
    assert affordable_strengths(400, 1280, 17) == STRENGTHS
    assert affordable_strengths(5_000, 1280, 17) == STRENGTHS
    assert affordable_strengths(5_000, 4_000, 200) == (1e-2, 1e-4, 1e-6)


def test_the_chosen_penalty_is_reached_over_those_that_were_tried(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Each fit starts from the one before it and ends early, so the way is part of the result."""
    features, labels = blobs(90, 40, 3, spread=6.0)
    monkeypatch.setattr("headstart.features.probe.FOLDS_BY_WORK", ())
    few = fit_path(features, labels, 3, (1e-2, 1e-4))[-1]
    assert np.array_equal(fit_probe(features, labels, 3, 1e-4).weight, few.weight)
    monkeypatch.undo()
    every = fit_path(features, labels, 3, (1e-1, 1e-2, 1e-3, 1e-4))[-1]
    assert np.array_equal(fit_probe(features, labels, 3, 1e-4).weight, every.weight)
    assert not np.array_equal(few.weight, every.weight)


@pytest.mark.parametrize(("rows", "width"), [(300, 90), (90, 300)])
def test_large_features_are_made_uncorrelated_like_small_ones(
    monkeypatch: pytest.MonkeyPatch, rows: int, width: int
) -> None:
    features, labels = blobs(rows, width, 3, spread=6.0)
    small = fit_probe(features, labels, 3, 1e-5)
    monkeypatch.setattr("headstart.features.conditioning._ALWAYS_ROTATED", 50)
    large = fit_probe(features, labels, 3, 1e-5)
    monkeypatch.setattr("headstart.features.conditioning._MOST_ROTATED", 50)
    as_they_are = fit_probe(features, labels, 3, 1e-5)
    assert np.array_equal(large.weight, small.weight)
    assert not np.array_equal(as_they_are.weight, small.weight)
    agreed = as_they_are.logits(features).argmax(1) == small.logits(features).argmax(1)
    assert agreed.mean() > 0.95


def test_one_scale_keeps_the_proportions_of_the_features() -> None:
    features, labels = blobs(150, 5, 3, spread=4.0)
    features *= np.array([1, 1, 1, 1, 0.01], np.float32)
    probe = fit_probe(features, labels, 3, 0.01, one_scale=True)
    scale = float(np.sqrt(features.var(0).mean()))
    reference = LogisticRegression(C=1 / (0.01 * 150), tol=1e-8, max_iter=1000)
    reference.fit((features - features.mean(0)) / scale, labels)
    logits = probe.logits(features)
    ours = np.exp(logits - logits.max(1, keepdims=True))
    ours /= ours.sum(1, keepdims=True)
    theirs = reference.predict_proba((features - features.mean(0)) / scale)
    assert np.abs(ours - theirs).max() < 0.03
    # With a scale for each, the small feature counts as much as the others.
    each = fit_probe(features, labels, 3, 0.01)
    assert np.abs(each.weight[:, 4]).max() > 20 * np.abs(probe.weight[:, 4]).max()


def test_the_penalty_is_chosen_at_the_best_temperature() -> None:
    # Three in ten labels are wrong: a weak penalty is too sure of itself, which a temperature
    # cures.
    features, labels = blobs(400, 20, 4, spread=1.0)
    wrong = np.random.default_rng(5).random(400) < 0.3
    labels[wrong] = (labels[wrong] + 1) % 4
    data = LabelledFeatures(features, labels, 4, np.arange(400))
    found = cross_validate(data)
    losses = {}
    for strength, logits in zip(STRENGTHS, out_of_fold(data, STRENGTHS), strict=True):
        losses[strength] = calibrated_score(logits, labels)[0]
    assert found.log_loss == min(losses.values())
    assert losses[found.strength] == found.log_loss


@pytest.mark.parametrize(("rows", "width"), [(90, 400), (400, 90)])
@pytest.mark.parametrize("one_scale", [False, True])
def test_weak_penalties_are_solved_to_the_optimum(rows: int, width: int, one_scale: bool) -> None:
    """Few steps must suffice although the features are correlated and of unequal scale."""
    rng = np.random.default_rng(3)
    labels = (np.arange(rows) % 3).astype(np.int64)
    hidden = rng.normal(size=(rows, 30)) + np.eye(3)[labels] @ rng.normal(size=(3, 30))
    mixing = rng.normal(size=(30, width)) * np.geomspace(3, 0.03, 30)[:, None]
    features = (hidden @ mixing + 0.05 * rng.normal(size=(rows, width))).astype(np.float32)
    strength = 1e-4
    probe = fit_probe(features, labels, 3, strength, one_scale=one_scale)
    scale = np.sqrt(features.var(0).mean()) if one_scale else features.std(0)
    standard = ((features - features.mean(0)) / scale).astype(np.float64)
    reference = LogisticRegression(C=1 / (strength * rows), tol=1e-10, max_iter=20_000)
    reference.fit(standard, labels)

    def loss(logits: np.ndarray, weight: np.ndarray) -> float:
        shifted = logits - logits.max(1, keepdims=True)
        likely = shifted - np.log(np.exp(shifted).sum(1, keepdims=True))
        return float(-likely[np.arange(rows), labels].mean() + strength / 2 * (weight**2).sum())

    ours = loss(probe.logits(features).astype(np.float64), probe.weight * scale)
    best = loss(standard @ reference.coef_.T + reference.intercept_, reference.coef_)
    assert ours < best + 1e-3


def peak_over(work: Callable[[], object]) -> int:
    """Returns how many bytes of arrays a call holds at most, besides those from before it."""
    tracemalloc.start()
    try:
        work()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(
    ("rows", "width", "share"),
    [(2200, 2100, 1), (4400, 2100, 0.5), (3000, 500, 1), (6000, 500, 0.5)],
)
def test_a_fit_holds_one_copy_of_what_it_learns_from(rows: int, width: int, share: float) -> None:
    """With many of both, and with few columns, whose rotation is a second copy."""
    features, labels = blobs(rows, width, 2, spread=40.0)
    chosen = np.arange(rows) < share * rows
    given = None if share == 1 else chosen
    copies = 1 if width > 2000 else 2
    used = peak_over(lambda: fit_probe(features, labels, 2, 1e-2, rows=given))
    assert used < (copies + 0.2) * share * features.nbytes + 8e6, "4 MB are for statistics"


@pytest.mark.parametrize(("n_folds", "threads"), [(5, 1), (3, 1), (1, 2)])
def test_folds_are_fitted_beside_each_other_and_a_single_one_in_all_threads(
    monkeypatch: pytest.MonkeyPatch, n_folds: int, threads: int
) -> None:
    seen = []

    def noted(*args: Any) -> list[Probe]:
        seen.extend(each["num_threads"] for each in threadpool_info() if each["user_api"] == "blas")
        return fit_path(*args)

    monkeypatch.setattr("headstart.features.probe.fit_path", noted)
    monkeypatch.setattr("headstart.features.probe.affordable_folds", lambda *_: n_folds)
    features, labels = blobs(60, 5, 3)
    data = LabelledFeatures(features, labels, 3, np.arange(60))
    with threadpool_limits(2, user_api="blas"):
        held = out_of_fold(data, STRENGTHS[:1])
    assert set(seen) == {threads}
    assert np.isfinite(held).all(2).mean() == pytest.approx(1 if n_folds > 1 else 0.5, abs=0.05)


@pytest.mark.parametrize(("rows", "width"), [(2200, 2100), (3000, 500), (300, 400)])
def test_large_features_are_learned_from_in_files_with_the_same_result(
    monkeypatch: pytest.MonkeyPatch, rows: int, width: int
) -> None:
    """Without a rotation, with one, and with fewer images than features."""
    features, labels = blobs(rows, width, 2, spread=40.0)
    data = LabelledFeatures(features, labels, 2, np.arange(rows))

    def learned() -> tuple[Probe, np.ndarray]:
        return fit_probe(features, labels, 2, 1e-2), out_of_fold(data, STRENGTHS[:1])

    probe, held = learned()
    monkeypatch.setattr(large_arrays, "IN_MEMORY", 1000)
    again, held_again = learned()
    assert np.array_equal(probe.weight, again.weight)
    assert np.array_equal(probe.bias, again.bias)
    assert np.array_equal(held, held_again)
    if rows > width:
        used = peak_over(lambda: fit_probe(features, labels, 2, 1e-2))
        squares = 3 * width * width * features.itemsize if width < 2000 else 0
        assert used < 0.2 * features.nbytes + squares + 8e6


@pytest.mark.parametrize("labels_of", [lambda labels: labels, lambda labels: np.eye(3)[labels] > 0])
def test_learning_from_some_rows_is_learning_from_these_alone(
    labels_of: Callable[[np.ndarray], np.ndarray],
) -> None:
    features, numbers = blobs(120, 7, 3, spread=5.0)
    labels = labels_of(numbers).astype(np.int64)
    rows = np.random.default_rng(1).random(120) < 0.6
    some = fit_probe(features, labels, 3, 1e-3, rows=rows)
    alone = fit_probe(features[rows], labels[rows], 3, 1e-3)
    assert np.array_equal(some.weight, alone.weight)
    assert np.array_equal(some.bias, alone.bias)


def test_features_are_left_as_they_were() -> None:
    features, labels = blobs(60, 6, 2)
    before = features.copy()
    features.flags.writeable = False
    fit_probe(features, labels, 2, 1e-2)
    cross_validate(LabelledFeatures(features, labels, 2, np.arange(60)))
    assert np.array_equal(features, before)
