import time
from typing import Any

import numpy as np
import pytest

from headstart.features.layout import FeatureLayout
from headstart.features.probe import LabelledFeatures
from headstart.methods.head import Cosine, Linear
from headstart.search.heads import (
    COSINES,
    LINEAR,
    PENALTIES,
    SMOOTHED,
    SMOOTHINGS,
    HeadSearch,
    repeats,
    search_heads,
)


def blobs(
    rows: int, width: int, classes: int, spread: float, seed: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    labels = (np.arange(rows) % classes).astype(np.int64)
    centres = np.random.default_rng(99).normal(0, 2, (classes, width))
    return (centres[labels] + spread * rng.normal(size=(rows, width))).astype(np.float32), labels


def searched(
    parts: dict[str, np.ndarray],
    labels: np.ndarray,
    classes: int,
    groups: np.ndarray,
    **options: Any,
) -> HeadSearch:
    """Searches heads on features in parts by name: of taps, and of the backbone itself as ""."""
    features = np.concatenate([*parts.values()], 1).astype(np.float32)
    layout = FeatureLayout(
        tuple(tap for tap in parts if tap), tuple(part.shape[1] for part in parts.values())
    )
    return search_heads(LabelledFeatures(features, labels, classes, groups), layout, **options)


def everything(last: np.ndarray) -> dict[str, np.ndarray]:
    nothing = np.zeros((len(last), 3))
    return {"c:covariance": nothing, "c": nothing, "": last}


def test_every_kind_of_head_is_tried_and_the_best_comes_first() -> None:
    last, labels = blobs(120, 8, 3, spread=3.0)
    found = searched(everything(last), labels, 3, np.arange(120), averages=False)
    linear = len(LINEAR) + SMOOTHED * len(SMOOTHINGS)
    assert len(found.trials) == linear * len(PENALTIES) + len(COSINES)
    losses = [trial.loss for trial in found.trials]
    assert losses == sorted(losses)
    kinds = {(type(each.head), each.head.features, each.head.normalize) for each in found.trials}
    expected = {(Linear, *each) for each in LINEAR} | {(Cosine, *each) for each in COSINES}
    assert kinds == expected
    assert found.logits.shape == (120, 3)
    best = found.trials[0]
    assert best.images == 120
    assert best.right == int((found.logits.argmax(1) == labels).sum())


def test_the_mean_of_all_heads_that_can_be_added_comes_first_where_it_is_worth_more() -> None:
    parts, labels = alike(120)
    alone = searched(parts, labels, 3, np.arange(120), averages=False)
    found = searched(parts, labels, 3, np.arange(120))
    assert found.trials[1:] == alone.trials
    mean = found.trials[0]
    kinds = [(each.features, each.smoothing) for each in mean.head.solutions]
    plain = [features for features, normalize in LINEAR if normalize == "unit"]
    assert kinds[: len(plain)] == [(features, 0.0) for features in plain]
    best = {
        (each.head.features, each.head.solved_smoothing): each.head.solved_penalty
        for each in reversed(alone.trials)
        if isinstance(each.head, Linear) and each.head.normalize == "unit"
    }
    assert {(e.features, e.smoothing): e.penalty for e in mean.head.solutions} == best
    assert mean.loss < alone.trials[0].loss + 0.1
    assert mean.right == int((found.logits.argmax(1) == labels).sum())


@pytest.mark.parametrize("n_folds", [5, 3])
def test_a_mean_is_tried_only_where_five_folds_are_affordable(
    n_folds: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("headstart.search.heads.PENALTIES", (1e-2,))
    monkeypatch.setattr("headstart.search.heads.COSINES", ())
    monkeypatch.setattr("headstart.search.heads.affordable_folds", lambda *_: n_folds)
    parts, labels = alike(120)
    found = searched(parts, labels, 3, np.arange(120))
    assert bool(found.trials[0].head.solutions) == (n_folds == 5)


def alike(rows: int) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Parts that tell the classes equally well, each with noise of its own."""
    labels = (np.arange(rows) % 3).astype(np.int64)
    centres = np.random.default_rng(99).normal(0, 1, (3, 40))
    parts = {
        name: (centres[labels] + 2.5 * np.random.default_rng(seed).normal(size=(rows, 40)))
        for seed, name in enumerate(("c:covariance", "c", ""))
    }
    return parts, labels


def test_the_best_kinds_alone_are_smoothed() -> None:
    last, labels = blobs(120, 8, 3, spread=3.0)
    found = searched(everything(last), labels, 3, np.arange(120))
    best: dict[tuple[str, str], float] = {}
    smoothed = set()
    for trial in found.trials:
        if isinstance(trial.head, Linear):
            kind = (trial.head.features, trial.head.normalize)
            if trial.head.smoothing:
                smoothed.add(kind)
            else:
                best[kind] = min(trial.loss, best.get(kind, np.inf))
    assert smoothed == set(sorted(best, key=best.__getitem__)[:SMOOTHED])


def test_a_network_without_taps_has_fewer_kinds() -> None:
    last, labels = blobs(90, 8, 3, spread=3.0)
    found = searched({"": last}, labels, 3, np.arange(90))
    assert {trial.head.features for trial in found.trials} == {"last"}


@pytest.mark.parametrize(
    ("given", "kinds"),
    [
        (Linear(features="stages"), {("stages", "none"), ("stages", "unit")}),
        (Linear(features="stages", normalize="none"), {("stages", "none")}),
        (Linear(normalize="none"), {("last", "none"), ("stages", "none")}),
        (Linear(features="last", normalize="unit"), {("last", "unit")}),
    ],
)
def test_what_was_set_by_hand_is_kept(given: Linear, kinds: set[tuple[str, str]]) -> None:
    last, labels = blobs(90, 8, 3, spread=3.0)
    found = searched(everything(last), labels, 3, np.arange(90), given=given)
    assert {(each.head.features, each.head.normalize) for each in found.trials} == kinds


def test_it_chooses_the_features_that_tell_more() -> None:
    useful, labels = blobs(120, 8, 3, spread=2.0)
    noise = np.random.default_rng(1).normal(size=(120, 8))
    for tap, features in (("c", "stages"), ("c:covariance", "last+covariance")):
        found = searched({tap: useful, "": noise}, labels, 3, np.arange(120))
        assert found.trials[0].head.features == features


def test_a_direction_that_its_length_hides_asks_for_unit_length() -> None:
    # What tells the classes apart is a direction; the lengths differ hundredfold.
    rng = np.random.default_rng(0)
    labels = (np.arange(150) % 3).astype(np.int64)
    centres = np.random.default_rng(99).normal(0, 1, (3, 12))
    lengths = np.exp(rng.uniform(np.log(0.1), np.log(10), (150, 1)))
    told = lengths * (centres[labels] + 0.8 * rng.normal(size=(150, 12)))
    found = searched({"c": told, "": rng.normal(size=(150, 4))}, labels, 3, np.arange(150))
    assert found.trials[0].head.normalize == "unit"


def test_the_logits_are_out_of_fold() -> None:
    # Nothing can be learnt: out of fold, no head is right more often than chance allows.
    rng = np.random.default_rng(0)
    noise, labels = rng.normal(size=(200, 60)).astype(np.float32), rng.integers(0, 2, 200)
    found = searched({"": noise}, labels, 2, np.arange(200))
    assert max(trial.right for trial in found.trials) < 0.64 * 200


def test_groups_stay_together() -> None:
    rng = np.random.default_rng(0)
    features = np.repeat(rng.normal(size=(40, 50)), 5, axis=0).astype(np.float32)
    labels = np.repeat(rng.integers(0, 2, 40), 5)
    honest = searched({"": features}, labels, 2, np.repeat(np.arange(40), 5))
    leaky = searched({"": features}, labels, 2, np.arange(200))
    assert honest.trials[0].right < 0.75 * 200
    assert leaky.trials[0].right > 0.95 * 200


def test_time_cuts_it_short_but_not_to_nothing() -> None:
    last, labels = blobs(90, 6, 3, spread=1.0)
    found = searched({"": last}, labels, 3, np.arange(90), until=time.monotonic() - 1)
    assert len(found.trials) == len(PENALTIES)


def test_large_problems_get_a_coarse_path() -> None:
    last, labels = blobs(4000, 400, 200, spread=1.0)
    # 3e9 multiply-adds a pass and more: one fold, few penalties, no smoothing, no cosine.
    wide = np.concatenate([last] * 3, 1)
    found = searched({"": wide}, labels, 200, np.arange(4000))
    assert sorted(trial.head.solved_penalty for trial in found.trials) == [1e-6, 1e-4, 1e-2]
    assert {type(trial.head) for trial in found.trials} == {Linear}


@pytest.mark.parametrize(("images", "times"), [(100, 3), (299, 3), (300, 2), (599, 2), (600, 1)])
def test_small_sets_are_cross_validated_repeatedly(images: int, times: int) -> None:
    assert repeats(images) == times


def test_nothing_to_compare_is_no_error() -> None:
    features = np.ones((4, 3), np.float32)
    found = searched({"": features}, np.array([0, 0, 0, 1]), 2, np.array([0, 0, 1, 2]))
    assert found.logits.shape == (4, 2)


def test_repeats_bit_by_bit() -> None:
    last, labels = blobs(80, 8, 3, spread=3.0)
    first, second = (searched({"": last}, labels, 3, np.arange(80)) for _ in range(2))
    assert np.array_equal(first.logits, second.logits)
    assert first.trials == second.trials
