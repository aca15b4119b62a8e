import time

import numpy as np
import pytest

from headstart.methods.head import Cosine, Linear
from headstart.search.heads import PENALTIES, SMOOTHINGS, repeats, search_heads


def blobs(
    rows: int, width: int, classes: int, spread: float, seed: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    labels = (np.arange(rows) % classes).astype(np.int64)
    centres = np.random.default_rng(99).normal(0, 2, (classes, width))
    return (centres[labels] + spread * rng.normal(size=(rows, width))).astype(np.float32), labels


def test_every_kind_of_head_is_tried_and_the_best_comes_first() -> None:
    last, labels = blobs(120, 8, 3, spread=3.0)
    features = {"last": last, "stages": np.concatenate([np.zeros_like(last), last], 1)}
    found = search_heads(features, labels, 3, np.arange(120))
    assert len(found.trials) == 2 * (len(PENALTIES) * len(SMOOTHINGS) + 1)
    losses = [trial.loss for trial in found.trials]
    assert losses == sorted(losses)
    kinds = {(type(trial.head), trial.head.features) for trial in found.trials}
    assert kinds == {(head, which) for head in (Linear, Cosine) for which in features}
    assert found.logits.shape == (120, 3)
    best = found.trials[0]
    assert best.images == 120
    assert best.right == int((found.logits.argmax(1) == labels).sum())


def test_it_chooses_the_features_that_tell_more() -> None:
    useful, labels = blobs(120, 8, 3, spread=2.0)
    noise = np.random.default_rng(1).normal(size=(120, 8)).astype(np.float32)
    found = search_heads({"last": noise, "stages": useful}, labels, 3, np.arange(120))
    assert found.trials[0].head.features == "stages"


def test_the_logits_are_out_of_fold() -> None:
    # Nothing can be learnt: out of fold, no head is right more often than chance allows.
    rng = np.random.default_rng(0)
    noise, labels = rng.normal(size=(200, 60)).astype(np.float32), rng.integers(0, 2, 200)
    found = search_heads({"last": noise}, labels, 2, np.arange(200))
    assert max(trial.right for trial in found.trials) < 0.64 * 200


def test_groups_stay_together() -> None:
    rng = np.random.default_rng(0)
    features = np.repeat(rng.normal(size=(40, 50)), 5, axis=0).astype(np.float32)
    labels = np.repeat(rng.integers(0, 2, 40), 5)
    honest = search_heads({"last": features}, labels, 2, np.repeat(np.arange(40), 5))
    leaky = search_heads({"last": features}, labels, 2, np.arange(200))
    assert honest.trials[0].right < 0.75 * 200
    assert leaky.trials[0].right > 0.95 * 200


def test_time_cuts_it_short_but_not_to_nothing() -> None:
    last, labels = blobs(90, 6, 3, spread=1.0)
    found = search_heads({"last": last}, labels, 3, np.arange(90), until=time.monotonic() - 1)
    assert len(found.trials) == len(PENALTIES)


def test_large_problems_get_a_coarse_path() -> None:
    last, labels = blobs(4000, 400, 200, spread=1.0)
    # 3e9 multiply-adds a pass and more: one fold, four penalties, no smoothing, no cosine.
    wide = np.concatenate([last] * 3, 1)
    found = search_heads({"last": wide}, labels, 200, np.arange(4000))
    assert len(found.trials) == 4


@pytest.mark.parametrize(("images", "times"), [(100, 3), (299, 3), (300, 2), (599, 2), (600, 1)])
def test_small_sets_are_cross_validated_repeatedly(images: int, times: int) -> None:
    assert repeats(images) == times


def test_nothing_to_compare_is_no_error() -> None:
    features = np.ones((4, 3), np.float32)
    found = search_heads({"last": features}, np.array([0, 0, 0, 1]), 2, np.array([0, 0, 1, 2]))
    assert found.logits.shape == (4, 2)


def test_repeats_bit_by_bit() -> None:
    last, labels = blobs(80, 8, 3, spread=3.0)
    first, second = (search_heads({"last": last}, labels, 3, np.arange(80)) for _ in range(2))
    assert np.array_equal(first.logits, second.logits)
    assert first.trials == second.trials
