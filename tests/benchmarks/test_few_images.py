"""Small data sets for benchmarks: no group is on both sides, and no class is too large."""

import csv
import importlib
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from PIL import Image

from headstart.data.sources import load_dataset

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(BENCHMARKS)
    return importlib.import_module("few_images")


def test_groups_stay_on_one_side(script: ModuleType) -> None:
    labels = np.repeat([0, 1, -1], [40, 6, 4])
    groups = np.arange(50) // 4  # a group holds images of two classes
    for seed in range(20):
        train, test = script.drawn(labels, groups, 10, 12, seed)
        assert not set(groups[train]) & set(groups[test])
        assert np.bincount(labels[train], minlength=2)[0] <= 10
        assert np.bincount(labels[train], minlength=2)[1] <= 3, "half of a small class is tested"
        assert len(test) == 12
        assert (labels[[*train, *test]] >= 0).all()
    assert script.drawn(labels, groups, 10, 12, 0) == script.drawn(labels, groups, 10, 12, 0)
    assert script.drawn(labels, groups, 10, 12, 0) != script.drawn(labels, groups, 10, 12, 1)


def test_a_manifest_is_a_data_set_with_a_test_of_its_own(
    script: ModuleType, tmp_path: Path
) -> None:
    dice = np.random.default_rng(0)
    for name in ("a", "b", "c"):
        (tmp_path / "all" / name).mkdir(parents=True)
        for number in range(12):
            pixels = dice.integers(0, 256, (40, 40, 3), np.uint8)
            Image.fromarray(pixels).save(tmp_path / "all" / name / f"{number}.png")
    file = script.few(tmp_path / "all", 4, 2, 0, tmp_path / "work")
    with file.open(newline="", encoding="utf-8") as rows:
        parts = [(row["label"], row["split"]) for row in csv.DictReader(rows)]
    assert {each: parts.count(each) for each in sorted(set(parts))} == {
        ("a", "test"): 8, ("a", "train"): 4, ("b", "test"): 8, ("b", "train"): 4,
    }  # fmt: skip
    dataset = load_dataset(file)
    assert dataset.classes == ("a", "b")
    assert len(dataset.items) == 24
    assert script.few(tmp_path / "all", 4, 2, 0, tmp_path / "work") == file
