"""Iterative stratification: shares of every label, and groups in one part."""

import numpy as np
import pytest

from headstart.data.splits import folds, make_split, split_notes
from headstart.data.stratify import indicators, stratify

SHARES = {"train": 0.6, "test": 0.25, "val": 0.15}


def drawn(n: int, seed: int) -> list[tuple[str, ...]]:
    random = np.random.default_rng(seed)
    rates = {"common": 0.6, "half": 0.4, "rare": 0.06, "tiny": 0.02}
    return [tuple(name for name, rate in rates.items() if random.random() < rate) for _ in range(n)]


def test_the_paper_s_order_worked_out_by_hand() -> None:
    # b is rarer: its two images go to different halves; a's other two then even out.
    sets = [("a", "b"), ("a", "b"), ("a",), ("a",), (), ()]
    part = stratify(sets, np.arange(6), {"x": 0.5, "y": 0.5}, np.random.default_rng(1))
    for rows in ([0, 1], [2, 3], [4, 5]):
        assert set(part[rows]) == {0, 1}


@pytest.mark.parametrize("seed", range(5))
def test_every_label_gets_its_share(seed: int) -> None:
    sets = drawn(400, seed)
    part = stratify(sets, np.arange(400), SHARES, np.random.default_rng(seed))
    marks = indicators(sets, ["common", "half", "rare", "tiny"])
    for label in range(4):
        found = np.bincount(part[marks[:, label] > 0], minlength=3)
        wanted = marks[:, label].sum() * np.array(list(SHARES.values()))
        assert np.abs(found - wanted).max() <= max(1.0, 0.03 * marks[:, label].sum())
    assert np.abs(np.bincount(part) - 400 * np.array(list(SHARES.values()))).max() < 12


def test_groups_stay_together_and_the_seed_decides() -> None:
    sets, groups = drawn(300, 9), np.repeat(np.arange(100), 3)
    split = make_split(sets, groups, given=[None] * 300, seed=4)
    again = make_split(sets, groups, given=[None] * 300, seed=4)
    assert split.names() == again.names()
    assert make_split(sets, groups, given=[None] * 300, seed=5).names() != split.names()
    parts = np.array(split.names())
    assert all(len(set(parts[groups == group])) == 1 for group in range(100))
    assert 0.2 < len(split.test) / 300 < 0.3


def test_folds_and_notes() -> None:
    sets = [("a",), ("a", "b"), (), ("b",)] * 5
    fold_of = folds(sets, np.arange(20), 5, seed=0)
    assert np.bincount(fold_of).tolist() == [4] * 5
    for name in "ab":
        held = [fold for fold, each in zip(fold_of, sets, strict=True) if name in each]
        assert np.bincount(held).tolist() == [2] * 5
    split = make_split([("a",), ("a", "b")] * 2, np.arange(4), given=["train", "train", "val",
                       "test"], seed=0)  # fmt: skip
    assert split_notes([("a",), ("a", "b")] * 2, split) == (
        "Class 'b' has too few images to have some in val: it plays no part in model selection.",
    )
