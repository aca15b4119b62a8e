"""The measurement of a whole process: its pieces, on processes that are known."""

import importlib
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(BENCHMARKS)
    return importlib.import_module("predict_process")


def test_a_process_is_measured_with_its_peak(script: ModuleType) -> None:
    small = script.measured([sys.executable, "-c", "pass"], {})
    large = script.measured([sys.executable, "-c", "b'x' * 300_000_000"], {})
    assert small.seconds > 0
    assert 280 < large.megabytes - small.megabytes < 320


def test_a_process_that_fails_is_no_measurement(script: ModuleType) -> None:
    with pytest.raises(subprocess.CalledProcessError):
        script.measured([sys.executable, "-c", "raise SystemExit(3)"], {})


def test_ratios_are_those_of_pairs(script: ModuleType) -> None:
    assert script.ratios([8.0, 9.0], [1.0, 3.0]) == "5.50 (3.00 to 8.00)"


def test_the_program_is_the_one_on_the_page(script: ModuleType) -> None:
    code = script.bare_lines(script.PAGE.read_text())
    assert code.startswith("import json\n")
    assert "headstart" not in code and "torch" not in code
