"""Planted label errors, disagreeing copies and outliers are found, the worst of them first."""

import csv
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from headstart.data.audit import Finding
from headstart.data.types import Dataset, Item
from headstart.diagnose.reasons import Suspect, write_suspects_csv
from headstart.diagnose.suspects import (
    find_suspects,
    label_issues,
    out_of_fold_probabilities,
    outliers,
    own_class_distances,
)
from headstart.errors import DataError

ROOT = Path("/data")


def blobs(rows: int, classes: int, seed: int = 0) -> tuple[Any, Any]:
    labels = np.arange(rows) % classes
    centres = np.random.default_rng(99).normal(0, 2, (classes, 12))
    features = centres[labels] + np.random.default_rng(seed).normal(size=(rows, 12))
    return features.astype(np.float32), labels.astype(np.int64)


def spoiled(labels: Any, share: float, classes: int, seed: int) -> tuple[Any, Any]:
    """Labels of which some were changed at random, and which."""
    rng = np.random.default_rng(seed)
    wrong = rng.choice(len(labels), round(share * len(labels)), replace=False)
    changed = labels.copy()
    changed[wrong] = (changed[wrong] + rng.integers(1, classes, len(wrong))) % classes
    return changed, wrong


def dataset_of(labels: Any, names: str = "abcd") -> Dataset:
    items = [Item(ROOT / f"{row:03d}.png", names[label]) for row, label in enumerate(labels)]
    return Dataset("d", ROOT, tuple(items))


def finding(kind: Any, *files: str) -> Finding:
    return Finding(kind=kind, severity="warning", files=files, message="")


def test_each_image_is_judged_by_others_alone() -> None:
    # Five copies of each image, with labels drawn at random: only a leak could know them.
    rng = np.random.default_rng(0)
    features = np.repeat(rng.normal(size=(40, 60)), 5, axis=0).astype(np.float32)
    labels = np.repeat(rng.integers(0, 2, 40), 5)
    p = out_of_fold_probabilities(features, labels, 2, np.repeat(np.arange(40), 5))
    assert p.sum(1) == pytest.approx(1)
    assert (p.argmax(1) == labels).mean() < 0.7
    leaky = out_of_fold_probabilities(features, labels, 2, np.arange(200))
    assert (leaky.argmax(1) == labels).mean() > 0.9


def test_every_image_gets_one_with_few_groups_too() -> None:
    features, labels = blobs(30, 3)
    p = out_of_fold_probabilities(features, labels, 3, np.arange(30) % 5)
    assert p.sum(1) == pytest.approx(1)
    assert np.array_equal(p, out_of_fold_probabilities(features, labels, 3, np.arange(30) % 5))
    with pytest.raises(DataError, match="5 folds need"):
        out_of_fold_probabilities(features, labels, 3, np.arange(30) % 4)
    # All of the second class are one group, so that without it there is nothing to tell apart.
    groups = np.where(labels == 0, np.arange(30), 0)
    with pytest.raises(DataError, match="Too few groups"):
        out_of_fold_probabilities(features, np.minimum(labels, 1), 2, groups)


def test_confident_learning_by_hand() -> None:
    probabilities = np.array(
        [[0.9, 0.1], [0.8, 0.2], [0.1, 0.9], [0.45, 0.55], [0.3, 0.7], [0.2, 0.8], [0.6, 0.4]]
    )
    labels = np.array([0, 0, 0, 0, 1, 1, 1])
    # Thresholds: (0.9 + 0.8 + 0.1 + 0.45) / 4 = 0.5625 and (0.7 + 0.8 + 0.4) / 3 = 0.633. Row 3 is
    # confidently of no class. Of class 0 one in three counts as 1, so that 4/3 of its four are
    # wrong; row 6 counts as 0, one in three of class 1, which makes one. That is 2.33, so two.
    rows, suggested, margin = label_issues(probabilities, labels)
    assert rows.tolist() == [2, 6]
    assert suggested.tolist() == [1, 0]
    assert margin == pytest.approx([0.8, 0.2])


def test_no_issues_where_there_are_none() -> None:
    probabilities = np.array([[0.9, 0.1, 0.0], [0.2, 0.8, 0.0]])
    for labels in (np.array([0, 1]), np.empty(0, np.int64)):
        rows, suggested, margin = label_issues(probabilities[: len(labels)], labels)
        assert (len(rows), len(suggested), len(margin)) == (0, 0, 0)


def test_a_class_without_images_is_never_suggested_by_its_threshold() -> None:
    rows, *_ = label_issues(np.array([[0.9, 0.02, 0.08], [0.1, 0.85, 0.05]]), np.array([0, 1]))
    assert not len(rows)


@pytest.mark.parametrize("seed", range(3))
def test_planted_label_errors_are_found(seed: int) -> None:
    features, truth = blobs(400, 4, seed)
    labels, wrong = spoiled(truth, 0.05, 4, seed)
    p = out_of_fold_probabilities(features, labels, 4, np.arange(400), seed)
    rows, suggested, _ = label_issues(p, labels)
    assert np.isin(wrong, rows).mean() >= 0.9
    assert np.isin(rows, wrong).mean() >= 0.7
    hit = np.isin(rows, wrong)
    assert (suggested[hit] == truth[rows[hit]]).mean() >= 0.9


def test_own_class_distance_by_hand() -> None:
    angles = np.radians([0, 60, 90, 0, 0])
    features = np.stack([np.cos(angles), np.sin(angles)], 1) * [[1], [2], [3], [1], [1]]
    away = own_class_distances(features, np.array([0, 0, 0, 1, 2]))
    cosines = np.cos(np.radians([[60, 90], [60, 30], [90, 30]])).mean(1)
    assert away[:3] == pytest.approx(1 - cosines, abs=1e-6)
    assert np.isnan(away[3:]).all()


def test_outliers_by_hand() -> None:
    # Median 3, median absolute deviation 1: 10 lies 7 / 1.4826 = 4.72 away, and 8 lies 3.37.
    rows, z = outliers(np.array([1.0, 2, 3, 4, 8, 10, 2, 3, 3, np.nan, 2, 4, 3]))
    assert rows.tolist() == [5]
    assert z == pytest.approx([7 / 1.4826])
    assert not len(outliers(np.array([np.nan]))[0])


def test_one_list_with_all_reasons() -> None:
    features, truth = blobs(200, 4)
    labels = truth.copy()
    labels[7] = (labels[7] + 1) % 4
    features[20] = -features[20]  # of no class
    dataset = dataset_of(labels)
    rows = np.setdiff1d(np.arange(200), [50, 51])  # the audit has left two out
    p = out_of_fold_probabilities(features[rows], labels[rows], 4, rows)
    findings = [
        finding("conflicting_labels", "050.png", "051.png"),
        finding("near_duplicate", "060.png", "064.png"),
        finding("near_duplicate", "000.png", "001.png"),
        finding("odd_size", "002.png"),
    ]
    found = find_suspects(dataset, rows, "abcd", p, features[rows], findings)
    by_row = {suspect.row: suspect for suspect in found}
    assert [suspect.score for suspect in found] == sorted((s.score for s in found), reverse=True)
    assert len(by_row) == len(found)
    assert all(suspect.path == f"{suspect.row:03d}.png" for suspect in found)

    assert by_row[7].kind == "label"
    assert by_row[7].label == "abcd"[labels[7]]
    assert by_row[7].suggested == "abcd"[truth[7]]
    assert by_row[7].score > 0.8
    assert by_row[7].why.startswith(f"labelled {by_row[7].label!r}, but a classifier that was not")
    assert by_row[20].score > 0
    assert "unlike other images of" in by_row[20].why
    # Copies under one label are no news; under two, both are suspects, kept or left out.
    assert {60, 64}.isdisjoint(by_row)
    for row, other in ((50, 51), (51, 50), (0, 1), (1, 0)):
        assert by_row[row].kind == "copies"
        assert by_row[row].suggested == "abcd"[labels[other]]
        assert by_row[row].score >= 0.9
        assert f"its copy {other:03d}.png is labelled {'abcd'[labels[other]]!r}" in by_row[row].why


def test_a_copy_under_two_other_labels_suggests_none() -> None:
    labels = np.array([0, 1, 2, 2])
    found = find_suspects(
        dataset_of(labels), np.array([3]), "abcd", np.array([[0, 0, 1.0, 0]]), np.ones((1, 2)),
        [finding("conflicting_labels", "000.png", "001.png", "002.png")],
    )  # fmt: skip
    assert [suspect.suggested for suspect in found] == ["", "", ""]
    assert found[0].why == (
        "labelled 'a', but its copy 001.png is labelled 'b' and 002.png is labelled 'c'"
    )


def test_the_table_reads_back(tmp_path: Path) -> None:
    odd = 'a,b/\udce9 "x".png'  # a file name that is not valid UTF-8
    suspects = [
        Suspect(odd, 3, "a,b", "c", "label", 0.98765, 'labelled "a", and'),
        Suspect("d.png", 0, "d", "", "outlier", 0.1, "unlike"),
    ]
    path = tmp_path / "suspects.csv"
    write_suspects_csv(path, suspects)
    with path.open(encoding="utf-8", errors="surrogateescape", newline="") as file:
        rows = list(csv.DictReader(file))
    assert rows[0] == {
        "path": odd, "label": "a,b", "suggested": "c", "kind": "label", "score": "0.9877",
        "why": 'labelled "a", and',
    }  # fmt: skip
    assert [row["path"] for row in rows] == [odd, "d.png"]
    assert [file.name for file in tmp_path.iterdir()] == ["suspects.csv"]


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(3))
def test_planted_label_errors_in_flowers(flowers: Any, seed: int) -> None:
    labels, wrong = spoiled(flowers.labels, 0.05, 17, seed)
    p = out_of_fold_probabilities(flowers.features, labels, 17, flowers.groups, seed)
    rows, suggested, _ = label_issues(p, labels)
    hit = np.isin(rows, wrong)
    # Every other suspect counts as a false alarm, those that truly are of another class, too.
    assert hit.sum() / len(wrong) >= 0.8
    assert hit.mean() >= 0.5
    assert (suggested[hit] == flowers.labels[rows[hit]]).mean() >= 0.9


@pytest.mark.slow
def test_few_suspects_in_flowers_as_they_are(flowers: Any, flowers_out_of_fold: np.ndarray) -> None:
    found = label_issues(flowers_out_of_fold, flowers.labels)[0]
    assert len(found) <= 0.03 * len(flowers.labels)
