"""Damaged files of each kind: refused in one line or read, never a traceback or a hang."""

import importlib
from pathlib import Path
from types import ModuleType

import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
# Drawing a report or building a network takes a moment: fewer of those, and all in `fuzz.py`.
SLOW_KINDS = {"run files": 30, "weights": 200, "bundles": 30}
QUICK_KINDS = {"recipes": 300, "caches": 150, "tables": 300}


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> ModuleType:
    monkeypatch.syspath_prepend(BENCHMARKS)
    found = importlib.import_module("fuzz")
    monkeypatch.setattr(found, "KEPT", tmp_path)
    return found


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "mutations"), [*SLOW_KINDS.items(), *QUICK_KINDS.items()])
def test_damaged_files_end_in_one_line(kind: str, mutations: int, script: ModuleType) -> None:
    found = script.fuzz(kind, mutations, seed=7)
    assert found.faults == []
    assert found.tried == mutations
    assert found.counts["refused"] > mutations // 10 or kind == "caches", "damage does something"


@pytest.mark.parametrize("kind", QUICK_KINDS)
def test_a_few_damaged_files(kind: str, script: ModuleType) -> None:
    assert script.fuzz(kind, 25, seed=3).faults == []


def test_tracebacks_hangs_and_long_messages_are_faults(
    script: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    def endless() -> None:
        while True:
            pass

    def several_lines() -> None:
        raise script.HeadstartError("one\ntwo")

    assert script.attempt(lambda: 1 / 0, 5)[0] == "traceback"
    assert script.attempt(endless, 1)[0] == "hung"
    assert script.attempt(several_lines, 5)[0] == "traceback"
    assert script.attempt(lambda: None, 5) == ("read", "")
    monkeypatch.setattr("sys.argv", ["fuzz.py", "--mutations", "3", "--kinds", "broken"])
    monkeypatch.setitem(
        script.KINDS, "broken", lambda work, draw: iter([(work, lambda: 1 / 0)] * 3)
    )
    with pytest.raises(SystemExit) as ended:
        script.main()
    assert ended.value.code == 1
