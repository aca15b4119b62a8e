"""What a measured command took: its memory, with that of what it starts."""

import importlib
import sys
from pathlib import Path
from types import ModuleType

import pytest

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"

FORKS = """
import os, time
def fill(size):
    kept = bytearray(size)
    kept[::4096] = b"1" * len(kept[::4096])
    return kept
kept = fill(100_000_000)
if os.fork() == 0:
    more = fill(40_000_000)
    time.sleep(0.8)
    os._exit(0)
os.wait()
"""


@pytest.fixture
def measure(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(BENCHMARKS)
    return importlib.import_module("measure")


@pytest.mark.skipif(sys.platform != "linux", reason="/proc")
def test_memory_that_a_child_shares_counts_once(measure: ModuleType, tmp_path: Path) -> None:
    found = measure.run_measured([sys.executable, "-c", FORKS], tmp_path / "log", {})
    assert found.returncode == 0
    assert 140 < found.peak_anon_mb < 165, "100 MB, 40 MB of the child and two interpreters"
    assert 240 < found.peak_rss_anon_mb < 270
    assert found.peak_rss_mb >= found.peak_rss_anon_mb


def test_a_command_that_fails_says_so_and_leaves_its_output(
    measure: ModuleType, tmp_path: Path
) -> None:
    failing = "print('what went wrong'); raise SystemExit(3)"
    found = measure.run_measured([sys.executable, "-c", failing], tmp_path / "log", {})
    assert found.returncode == 3
    assert measure.tail(tmp_path / "log") == "what went wrong"
