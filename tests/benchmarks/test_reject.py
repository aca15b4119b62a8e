"""The benchmarks of `--reject`: their rows, computed by hand, and a simulation that is small."""

import importlib
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"


@pytest.fixture
def trials(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(BENCHMARKS)
    return importlib.import_module("reject_trials")


@pytest.fixture
def simulation(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(BENCHMARKS)
    return importlib.import_module("reject_coverage")


def test_a_row_has_shares_and_says_whether_the_rate_is_kept(trials: ModuleType) -> None:
    def outcome(interval: tuple[float, float]) -> Any:
        return trials.Outcome("flowers17", ("daisy", "iris"), "", 80, 8, interval, 40, 30, 10)

    cells = [cell.strip() for cell in trials.row(outcome((0.04, 0.19))).split("|")]
    assert cells[1:-1] == [
        "flowers17", "daisy, iris", "–", "10.0% of 80 (4.0% to 19.0%)", "yes", "75% of 40", "25%",
    ]  # fmt: skip
    assert "**no**" in trials.row(outcome((0.06, 0.19)))
    made = trials.table([outcome((0.04, 0.2)), outcome((0.06, 0.2))], 128, 60)
    assert "holds in 1 of 2 cases" in made


def test_a_trial_hides_classes_and_a_background_shows_half_of_them(trials: ModuleType) -> None:
    """Five clouds: two hidden ones far from the others are rejected, and others mostly not."""
    rng = np.random.default_rng(0)
    labels = np.repeat(np.arange(5), 60)
    values = (5 * np.eye(5, 20)[labels] + rng.normal(0, 0.3, (300, 20))).astype(np.float32)
    data = trials.Features(values, labels, np.arange(300))
    other = trials.Features(-values, labels, np.arange(300))
    trial = trials.Trial("clouds", (1, 3))
    alone, shown = trials.tried(trial, {"clouds": data, "other": other}, tuple("abcde"))
    assert alone.hidden == shown.hidden == ("d",) and shown.background.endswith("and b")
    assert alone.tested == 45 and alone.unknown == 60
    assert alone.rejected == shown.rejected == 60
    assert alone.keeps_its_rate and shown.keeps_its_rate


def test_the_simulation_retains_what_it_promises(simulation: ModuleType) -> None:
    """40 held-out images: 39 of 41 are retained."""
    setting = simulation.Setting(2, 20, held=40)
    assert simulation.retained(setting, 150) == pytest.approx(39 / 41, abs=0.02)
    assert simulation.retained(setting, 3) == simulation.retained(setting, 3)
    assert "**90.0%**" in simulation.row(setting, 0.9)
    assert "| 94.5% |" in simulation.row(setting, 0.945)


def test_a_background_is_far_from_new_images(simulation: ModuleType) -> None:
    setting = simulation.Setting(2, 20, held=0, background=30)
    known, new = simulation.world(setting, np.random.default_rng(0))
    assert known.background is not None and known.background.shape == (30, 24)
    assert new.shape == (simulation.NEW, 24)
