"""The torture: its short form survives, and it notices what does not."""

import importlib
import os
import random
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture
def torture(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(BENCHMARKS)
    return importlib.import_module("torture")


@pytest.fixture
def disturbed(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(BENCHMARKS)
    return importlib.import_module("_disturbed")


def test_what_ended_badly_is_named(torture: ModuleType) -> None:
    def ended(code: int | None, err: str = "") -> Any:
        return torture.Ended(code, "", err, 1.0)

    assert ended(0).problems(0) == []
    assert ended(-9).problems(0, -9) == []
    assert ended(2, "a\nerror: no space").problems(0) == ["exit code 2: error: no space"]
    assert ended(None).problems(0, 1, 2) == ["hung for 1 s"]
    traceback = "Traceback (most recent call last):\n  …\nKeyError: 'a'\n"
    assert ended(0, traceback).problems(0) == ["traceback: KeyError: 'a'"]


def test_only_what_has_no_problem_survives(torture: ModuleType, tmp_path: Path) -> None:
    world = torture.World(tmp_path, random.Random(0), 1.0, False)
    world.count("fit: SIGKILL", [])
    world.count("fit: SIGKILL", ["the run has no network"])
    world.count("mutated images: check", ["check loses a", "check loses b"], 50)
    assert dict(world.tried) == {"fit: SIGKILL": 2, "mutated images: check": 50}
    assert world.survived["fit: SIGKILL"] == 1
    assert world.survived["mutated images: check"] == 0
    assert len(world.faults) == 3
    assert "| fit: SIGKILL | 2 | 1 |" in torture.table(world)
    assert torture.kills_of(world) == 2


def test_another_network_is_not_the_same_result(torture: ModuleType, tmp_path: Path) -> None:
    runs = [tmp_path / name for name in ("a", "b", "c")]
    for run, network in zip(runs, (b"one", b"one", b"two"), strict=True):
        (run / "bundle").mkdir(parents=True)
        (run / "bundle" / "model.safetensors").write_bytes(network)
    assert torture.same(runs[1], runs[0]) == []
    assert torture.same(runs[2], runs[0]) == ["the result is not that of the whole run"]
    assert torture.same(tmp_path / "none", runs[0]) == ["the run has no network"]


def test_times_are_no_part_of_a_result(disturbed: ModuleType, tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text('{"rows": [{"gain": 1, "seconds": 5}], "command": "x"}')
    (tmp_path / "b.json").write_text('{"rows": [{"gain": 1, "seconds": 7}], "command": "y"}')
    assert disturbed.rows_of(tmp_path, "a.json") == disturbed.rows_of(tmp_path, "b.json")
    assert disturbed.rows_of(tmp_path, "a.json") == {"rows": [{"gain": 1}]}


def test_damage_follows_from_the_seed_and_is_damage(disturbed: ModuleType) -> None:
    data = bytes(range(256)) * 4
    once = [disturbed.mutated(data, random.Random(seed)) for seed in range(60)]
    assert once == [disturbed.mutated(data, random.Random(seed)) for seed in range(60)]
    assert sum(changed != data for changed in once) >= 55


@pytest.mark.slow
def test_the_short_torture_survives(tmp_path: Path) -> None:
    source = str(Path(__file__).parents[2] / "src")
    environment: dict[str, Any] = {**os.environ, "PYTHONPATH": source, "OMP_NUM_THREADS": "1"}
    program = [sys.executable, str(BENCHMARKS / "torture.py"), "--short", "--images", "12"]
    done = subprocess.run(
        [*program, "--work", str(tmp_path)],
        capture_output=True, text=True, check=False, env=environment,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert "mutated images: predict | 12 | 12" in done.stdout
    assert list(tmp_path.iterdir()) == []
