"""The benchmark of `--unlabelled`: one small measurement, differences by hand, and its table."""

import importlib
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(BENCHMARKS)
    return importlib.import_module("unlabelled")


def test_both_heads_are_measured_on_the_same_test(bench: ModuleType) -> None:
    rng = np.random.default_rng(0)
    labels = np.repeat(np.arange(3), 60)
    values = (2 * np.eye(3, 20)[labels] + rng.normal(0, 1, (180, 20))).astype(np.float32)
    data = importlib.import_module("label_next").Features(values, labels, np.arange(180))
    found = bench.measured(data, 4, 0)
    assert found.unlabelled == 180 - 60 - 12
    assert found.used == (found.with_them if found.helps else found.alone)
    assert found.alone[0] > 0.5 and found.with_them[0] > found.alone[0] - 0.1


def test_only_what_helps_counts_as_used(bench: ModuleType) -> None:
    """Two seeds gain 4 and 2 points, and a third one would lose, but is not used."""
    outcomes = [
        bench.Outcome(9, True, (0.5, 1.0), (0.54, 0.9)),
        bench.Outcome(9, True, (0.5, 1.0), (0.52, 0.8)),
        bench.Outcome(9, False, (0.5, 1.0), (0.4, 1.3)),
    ]
    mean, (low, high) = bench.difference(outcomes, "used", 0)
    assert mean == pytest.approx(0.02)
    assert (high - low) / 2 == pytest.approx(4.3027 * 0.02 / 3**0.5, rel=1e-3)  # t of 2
    assert bench.difference(outcomes, "with_them", 0)[0] == pytest.approx(-0.04 / 3)
    text = bench.table({bench.Case("a", 5): outcomes}, 64, (0, 3), 60.0)
    assert "| a | 5 | 9 | 50.0% | +2.0 (-3.0 to +7.0) | 2 of 3 seeds |" in text
    assert "significantly higher in 0 of 1 rows" in text


def test_the_verdict_counts_intervals_beyond_zero(bench: ModuleType) -> None:
    up = [bench.Outcome(9, True, (0.5, 1.0), (0.54 + 0.001 * n, 0.9)) for n in range(4)]
    down = [bench.Outcome(9, True, (0.5, 1.0), (0.45 + 0.001 * n, 0.9)) for n in range(4)]
    text = bench.table({bench.Case("a", 5): up, bench.Case("b", 5, "c"): down}, 64, (0, 4), 60.0)
    assert "higher in 1 of 2 rows, and significantly lower in 1" in text
    assert "| b | 5 | 9 of c | 50.0% |" in text
