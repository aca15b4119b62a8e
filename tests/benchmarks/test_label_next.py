"""The benchmark of label-next: labels that are needed, by hand, and one small simulation."""

import importlib
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(BENCHMARKS)
    return importlib.import_module("label_next")


def test_the_labels_that_are_needed_lie_between_two_rounds(bench: ModuleType) -> None:
    counts = np.array([20.0, 40.0, 60.0])
    assert bench.needed(np.array([0.5, 0.7, 0.9]), counts, 0.75) == pytest.approx(45)
    assert bench.needed(np.array([0.5, 0.7, 0.6]), counts, 0.7) == pytest.approx(40)
    assert bench.needed(np.array([0.5, 0.7, 0.6]), counts, 0.4) == 20
    assert bench.needed(np.array([0.5, 0.7, 0.6]), counts, 0.8) == float("inf")


def test_the_share_is_that_of_the_mean_curves(bench: ModuleType) -> None:
    """Random reaches 0.8 with 200 labels; the other one with 100."""
    slow = [[(20, 0.44), (200, 0.8), (220, 0.84)]] * 4
    fast = [[(20, 0.4), (200, 1.3), (220, 1.4)], [(20, 0.4), (200, 1.1), (220, 1.2)]] * 2
    share, low, high = bench.shares({"random": slow, "label-next": fast}, "label-next")
    assert share == pytest.approx((20 + 180 * 0.4 / 0.8) / 200)
    assert low < share < high


@pytest.mark.parametrize("strategy", ["random", "margin", "k-centre", "label-next"])
def test_a_strategy_begins_with_the_same_labels_and_adds_twenty(
    bench: ModuleType, strategy: str
) -> None:
    rng = np.random.default_rng(0)
    labels = np.repeat(np.arange(3), 150)
    values = (np.eye(3, 12)[labels] + rng.normal(0, 0.4, (450, 12))).astype(np.float32)
    data = bench.Features(values, labels, np.arange(450))
    curve = bench.simulated(data, strategy, 0)
    assert [count for count, _ in curve] == [21 + 20 * step for step in range(11)]
    assert curve[0] == bench.simulated(data, "random", 0)[0]
    assert curve[-1][1] > 0.8
