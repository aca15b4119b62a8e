"""Ratios of two versions: measured in turn, kept, shown, and compared with what was kept."""

import importlib
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"

FACTS = {
    "machine": "a machine", "versions": {"numpy": "2"}, "commit": "abc", "before": "def",
    "date": "2026-01-01",
}  # fmt: skip


@pytest.fixture
def ratios(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(BENCHMARKS)
    return importlib.import_module("ratios")


def subject(ratios: ModuleType, *found: Any) -> Any:
    return ratios.Subject("work", "Work", "s", found, 3, FACTS)


def test_both_versions_run_in_turn_and_the_first_round_does_not_count(ratios: ModuleType) -> None:
    order: list[str] = []

    def run(name: str, seconds: list[float]) -> float:
        order.append(name)
        return seconds.pop(0)

    slow, fast = [9.0, 4.0, 6.0], [9.0, 2.0, 2.0]
    found = ratios.in_turn(
        {"work": (lambda: run("before", slow), lambda: run("now", fast))}, rounds=2
    )
    assert found == {"work": [(4.0, 2.0), (6.0, 2.0)]}
    assert order == ["now", "before", "before", "now", "now", "before"]


def test_a_ratio_is_the_median_of_the_rounds_and_above_1_where_this_version_is_better(
    ratios: ModuleType,
) -> None:
    seconds = ratios.row("work", [(4.0, 2.0), (6.0, 2.0), (2.0, 2.0)], goal=1.5)
    assert seconds == ratios.Row("work", 4.0, 2.0, 2.0, 1.0, 3.0, 1.5)
    assert ratios.row("work", [(10.0, 30.0)], more_is_better=True).ratio == 3.0


def test_what_was_kept_is_read_again_and_shown(ratios: ModuleType, tmp_path: Path) -> None:
    work = subject(ratios, ratios.row("`fit`", [(4.0, 2.0)], 1.3))
    assert ratios.read(ratios.keep(work, tmp_path)) == work
    assert ratios.kept(tmp_path) == [work]
    assert "| `fit` | 4 | 2 | **2.00** (2.00 to 2.00) | 1.3 |" in ratios.table(work)
    assert "a machine; numpy 2; commit abc against def" in ratios.page([work])


def test_a_picture_has_the_same_bytes_every_time(ratios: ModuleType, tmp_path: Path) -> None:
    work = subject(
        ratios, ratios.row("`fit`", [(4.0, 2.0)], 1.3), ratios.row("`check`", [(4.0, 3.0)])
    )
    first = ratios.draw(work, tmp_path).read_bytes()
    assert ratios.draw(work, tmp_path).read_bytes() == first
    assert b">check<" in first and b"2.00" in first


def test_a_ratio_below_the_kept_one_is_told_beyond_the_noise(ratios: ModuleType) -> None:
    before = subject(ratios, ratios.row("fit", [(4.0, 2.0)]), ratios.row("check", [(4.0, 2.0)]))
    now = subject(ratios, ratios.row("fit", [(4.0, 2.2)]), ratios.row("check", [(4.0, 3.0)]))
    assert ratios.worse(before, now, tolerance=0.2) == [
        "work: check: 1.33 times as good as def, where 2.00 is recorded."
    ]
    assert ratios.worse(before, subject(ratios, before.rows[0]), 0.2) == [
        "work: check was not measured."
    ]


def test_what_was_found_is_no_part_of_a_rows_name(ratios: ModuleType, tmp_path: Path) -> None:
    before = subject(ratios, ratios.row("fit, s (96% correct)", [(4.0, 2.0)], goal=3.0))
    now = subject(ratios, ratios.row("fit, s (97% correct)", [(4.0, 4.0)], goal=3.0))
    assert ratios.worse(before, now, tolerance=0.2) == [
        "work: fit, s: 1.00 times as good as def, where 2.00 is recorded."
    ]
    assert ratios.worse(before, before, tolerance=0.2) == []
    assert b">fit, s<" in ratios.draw(now, tmp_path).read_bytes()


def test_without_the_history_the_way_out_is_said(
    ratios: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ratios, "HERE", tmp_path)
    monkeypatch.setattr(ratios, "BENCH", tmp_path)
    with pytest.raises(SystemExit, match="git fetch --unshallow"):
        ratios.source_before()
