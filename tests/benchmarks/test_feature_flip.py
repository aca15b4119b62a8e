"""The benchmark of mirrored feature maps: its recipes and its table, computed by hand."""

import importlib
from pathlib import Path
from types import ModuleType

import pytest

from headstart.recipes.parsing import parse_recipe

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"


@pytest.fixture
def benchmark(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(BENCHMARKS)
    return importlib.import_module("feature_flip")


def test_the_arms_differ_in_views_and_mirroring_alone(benchmark: ModuleType) -> None:
    from portfolio import base_recipe

    base = base_recipe().model_dump(mode="json")
    arms = [parse_recipe({**base, **changed}) for changed in benchmark.ARMS.values()]
    assert [arm.feature_flip for arm in arms] == [False, True, False, True]
    assert [arm.augmentation.absent for arm in arms] == [True, True, False, False]
    same = {"augmentation": arms[0].augmentation, "views": 1, "feature_flip": False}
    assert all(arm.model_copy(update=same) == arms[0] for arm in arms)


def test_the_table_has_the_share_saved_and_its_mean(benchmark: ModuleType) -> None:
    records = [
        {"task": f"{data}/15", "arm": arm, "start_loss": 1.0, "loss": loss, "right": 0.5}
        for data, losses in (("a", (0.9, 0.8, 0.7, 0.6)), ("b", (1.1, 1.0, 0.9, 0.8)))
        for arm, loss in zip(benchmark.ARMS, losses, strict=True)
    ]
    unfinished = {"task": "c/15", "arm": "plain images", "start_loss": 1.0, "loss": 0.1}
    lines = benchmark.table([*records, unfinished]).splitlines()
    assert lines[2].split(" | ")[:2] == ["| a", "10.0%, 50.0%"]
    assert lines[3].split(" | ")[1] == "-10.0%, 50.0%"
    assert lines[4].split(" | ")[:2] == ["| mean", "0.0%, 50.0%"]
    assert not any(line.startswith("| c") for line in lines)
