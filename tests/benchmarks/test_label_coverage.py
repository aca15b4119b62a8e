"""The helpers of `benchmarks/label_coverage.py`."""

import importlib
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from headstart.evaluation.label_scores import average_precisions

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(BENCHMARKS)
    module = importlib.import_module("label_coverage")
    monkeypatch.setattr(module, "KNOWN", 20_000)
    return module


def test_labels_are_as_frequent_and_as_precise_as_the_world_says(script: ModuleType) -> None:
    world = script.World(gap=2.0, images=100)
    scores, marks = world.draw(np.random.default_rng(0), 200_000)
    assert marks.mean(0) == pytest.approx(script.SHARES, abs=0.005)
    for k, share in enumerate(script.SHARES):
        taken = scores[:, k] >= 1.5
        assert world.precision(1.5, share) == pytest.approx(marks[taken, k].mean(), abs=0.01)
    assert world.known(3) == pytest.approx(average_precisions(scores, marks), abs=0.02)


def test_images_of_a_group_share_their_labels_and_some_of_their_scores(script: ModuleType) -> None:
    scores, marks = script.World(gap=0.0, images=8, group=4).draw(np.random.default_rng(1), 8000)
    assert (marks.reshape(-1, 4, 3) == marks.reshape(-1, 4, 3)[:, :1]).all()
    first, second = scores.reshape(-1, 4, 3)[:, 0, 0], scores.reshape(-1, 4, 3)[:, 1, 0]
    assert np.corrcoef(first, second)[0, 1] == pytest.approx(0.5, abs=0.06)
    assert scores.std() == pytest.approx(1, abs=0.02)


def test_coverage_counts_draws_and_thresholds_are_judged_on_new_images(script: ModuleType) -> None:
    held = script.coverage(script.World(gap=2.5, images=60), draws=5, resamples=50)
    assert held.mean in {n / 5 for n in range(6)}
    assert len(held.each) == 3 and all(0 <= share <= 1 for share in held.each)
    found = script.realised(script.World(gap=2.5, images=200), draws=20)
    assert 0.8 < np.mean(found[2]) < 1
    assert "(" in script._shown(found[2], 20) and script._shown([], 20) == "never"
