"""Planted errors in sets of labels are found, one label at a time."""

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from headstart.data.audit import Finding
from headstart.data.types import Dataset, Item
from headstart.diagnose.label_suspects import (
    find_label_suspects,
    judged_labels,
    out_of_fold_labels,
    shared_label_distances,
)
from headstart.diagnose.reasons import write_suspects_csv
from headstart.errors import DataError

NAMES = ("ant", "bee", "cat")
ROOT = Path("/data")


def drawn(rows: int, seed: int = 0) -> tuple[Any, Any]:
    """Features in which each label has a direction of its own, and the labels."""
    random = np.random.default_rng(seed)
    marks = (random.random((rows, 3)) < 0.4).astype(np.int64)
    directions = np.random.default_rng(7).normal(0, 3, (3, 12))
    features = marks @ directions + random.normal(size=(rows, 12))
    return features.astype(np.float32), marks


def dataset_of(marks: Any) -> Dataset:
    sets = [tuple(name for name, mark in zip(NAMES, row, strict=True) if mark) for row in marks]
    items = [
        Item(ROOT / f"{row:03}.png", "; ".join(names) or "no label", labels=names)
        for row, names in enumerate(sets)
    ]
    return Dataset("d", ROOT, tuple(items))


@pytest.mark.parametrize("seed", range(3))
def test_a_label_that_was_left_out_or_added_is_named(seed: int, tmp_path: Path) -> None:
    features, truth = drawn(300, seed)
    marks, rows = truth.copy(), np.arange(300)
    lacking = rows[truth[:, 0] == 1][:6]
    added = rows[truth[:, 1] == 0][:6]
    marks[lacking, 0], marks[added, 1] = 0, 1
    told = out_of_fold_labels(features, marks, rows, seed)
    assert ((told > 0) & (told < 1)).all()
    found = find_label_suspects(dataset_of(marks), rows, NAMES, told, features, rows)
    missing = {(each.row, name) for each in found for name in each.missing or ()}
    wrong = {(each.row, name) for each in found for name in each.wrong or ()}
    hit = [*(missing & {(int(row), "ant") for row in lacking}),
           *(wrong & {(int(row), "bee") for row in added})]  # fmt: skip
    assert len(hit) >= 8
    assert len(missing | wrong) <= len(hit) + 2
    for each in found[:6]:
        given = {NAMES[k] for k in np.flatnonzero(marks[each.row])}
        assert each.missing is not None and each.wrong is not None
        right = (given | {*each.missing}) - {*each.wrong}
        assert each.suggested == ("; ".join(sorted(right)) or "no label")
        for name in (*each.missing, *each.wrong):
            assert repr(name) in each.why
    write_suspects_csv(tmp_path / "found.csv", found, multilabel=True)
    with (tmp_path / "found.csv").open() as file:
        read = list(csv.DictReader(file))
    assert [json.loads(row["missing"]) for row in read] == [[*(s.missing or ())] for s in found]
    assert [json.loads(row["wrong"]) for row in read] == [[*(s.wrong or ())] for s in found]


def test_of_right_labels_few_are_doubted() -> None:
    features, truth = drawn(300, 5)
    rows = np.arange(300)
    told = out_of_fold_labels(features, truth, rows)
    found = find_label_suspects(dataset_of(truth), rows, NAMES, told, features, rows)
    assert sum(len(each.missing or ()) + len(each.wrong or ()) for each in found) <= 5


def test_each_image_is_judged_by_other_groups() -> None:
    # Five copies of each image, with labels drawn at random: only a leak could know them.
    random = np.random.default_rng(0)
    features = np.repeat(random.normal(size=(40, 60)), 5, axis=0).astype(np.float32)
    marks = np.repeat(random.integers(0, 2, (40, 2)), 5, axis=0)
    told = out_of_fold_labels(features, marks, np.repeat(np.arange(40), 5))
    assert ((told > 0.5) == marks).mean() < 0.7
    leaky = out_of_fold_labels(features, marks, np.arange(200))
    assert ((leaky > 0.5) == marks).mean() > 0.9
    with pytest.raises(DataError, match="5 folds need"):
        out_of_fold_labels(features, marks, np.arange(200) % 4)


def test_a_label_of_few_groups_is_not_judged() -> None:
    features, marks = drawn(100)
    marks[:, 2] = 0
    marks[:4, 2] = 1  # of four images
    rows = np.arange(100)
    assert judged_labels(marks, rows, NAMES) == ["ant", "bee"]
    told = np.where(marks, 0.01, 0.99)  # a head that contradicts everything
    found = find_label_suspects(dataset_of(marks), rows, NAMES, told, features, rows)
    assert not any("cat" in (*(s.missing or ()), *(s.wrong or ())) for s in found)
    assert any(each.missing or each.wrong for each in found)


def test_distances_to_images_that_share_a_label_by_hand() -> None:
    angles = np.radians([0, 60, 90, 0, 10, 45])
    features = np.stack([np.cos(angles), np.sin(angles)], 1)
    marks = np.array([[1, 0], [1, 1], [0, 1], [0, 0], [0, 0], [0, 1]])
    away = shared_label_distances(features, marks)
    cosine = np.cos(np.radians([60, 60, 30, 15, 30, 45, 10, 15, 45]))
    wanted = [cosine[0], cosine[1:4].mean(), cosine[4:6].mean(), cosine[6], cosine[6],
              cosine[7:].mean()]  # fmt: skip
    assert away == pytest.approx(1 - np.array(wanted), abs=1e-6)
    assert np.isnan(shared_label_distances(features[:2], np.eye(2, dtype=np.int64))).all()


def test_a_copy_with_other_labels_says_which() -> None:
    marks = np.array([[1, 1, 0], [1, 0, 1], [0, 0, 0]])
    copies = Finding(
        kind="near_duplicate", severity="warning", files=("000.png", "001.png"), message=""
    )
    told, features = np.full((3, 3), 0.5), np.eye(3)
    found = find_label_suspects(
        dataset_of(marks), np.arange(3), NAMES, told, features, np.arange(3), [copies]
    )
    assert [(each.row, each.missing, each.wrong, each.suggested) for each in found] == [
        (0, ("cat",), ("bee",), "ant; cat"),
        (1, ("bee",), ("cat",), "ant; bee"),
    ]
    assert found[0].why == "labelled 'ant; bee', but its copy 001.png is labelled 'ant; cat'"


def test_an_image_unlike_those_with_its_labels_is_an_outlier() -> None:
    features, marks = drawn(120, 3)
    features[7] = -features[marks[:, 0] == 1].mean(0)
    marks[7] = [1, 0, 0]
    rows = np.arange(120)
    told = np.where(marks, 0.9, 0.1)
    found = find_label_suspects(dataset_of(marks), rows, NAMES, told, features, rows)
    (outlier,) = [each for each in found if each.row == 7]
    assert (outlier.kind, outlier.suggested, outlier.missing) == ("outlier", "", ())
    assert "unlike other images with its labels" in outlier.why
