"""The pieces of `make bench`: its page, its small data, growth, rates, limits and peers."""

import importlib
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(BENCHMARKS)
    return importlib.import_module("bench")


def test_the_page_keeps_its_text_and_gets_new_tables(
    bench: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = tmp_path / "speed.md"
    page.write_text(f"# Speed\n\nText.\n\n{bench.MARK}\nold tables\n")
    monkeypatch.setattr(bench, "PAGE", page)
    monkeypatch.setattr(bench, "kept", lambda: [])
    bench.write_page()
    assert page.read_text().startswith("# Speed\n\nText.\n")
    assert "old tables" not in page.read_text()


def test_few_images_are_of_two_classes(bench: ModuleType, pictures: Path, tmp_path: Path) -> None:
    folder = bench.startup.few_images(pictures, tmp_path / "few")
    assert len(list(folder.iterdir())) == 2
    assert 0 < len(list(folder.rglob("*.*"))) <= bench.startup.IMAGES


def test_growth_is_told_as_a_power(bench: ModuleType) -> None:
    growth = importlib.import_module("growth")
    assert growth.slope([1, 11, 101], [5.0, 6.0, 15.0]) == 1.0
    assert growth.slope([1, 11, 101], [5.0, 6.0, 105.0]) == 2.0
    assert growth.slope([1, 10, 100], [5.0, 5.0, 5.0]) == 0.0


def test_a_limit_is_what_was_done_in_plain_loops_on_all_cores(bench: ModuleType) -> None:
    limits = bench.stage_limits
    each = limits.Limits(3.0, decode=0.01, draw=0.02, network=0.03, frozen=0.01, train=0.1)
    done = limits.Done(99.0, train=60, val=20, test=20, views=2, epochs=3)
    assert limits.head_limit(each, done, cores=2) == pytest.approx(3 + 100 * 0.04 / 2)
    more = 2 * 60 * 0.03 + 3 * (60 * 0.1 + 20 * 0.02)
    assert limits.finetune_limit(each, done, cores=2) == pytest.approx(5 + more / 2)


def test_what_is_measured_again_takes_the_place_of_the_same_run(
    bench: ModuleType, tmp_path: Path
) -> None:
    growth = importlib.import_module("growth")
    kept = tmp_path / "growth.jsonl"
    runs = [("trials", 3, 9.0), ("images", 50, 4.0), ("images", 5, 1.0), ("images", 50, 8.0)]
    for grows, number, seconds in runs:
        growth.keep_point(growth.Point(grows, number, number, 2, seconds, 10.0, "", ""), kept)
    points = growth.kept_points(kept)
    assert [(each.grows, each.number, each.seconds) for each in points] == [
        ("images", 5, 1.0), ("images", 50, 8.0), ("trials", 3, 9.0),
    ]  # fmt: skip
    assert "| 50 | 2 |  | 8.0 | 10 | 8.00 | 1.00 |" in growth.points_table(points)


def _peer_run(arm: str, accuracy: float, seconds: float) -> dict[str, Any]:
    return {"key": {"arm": arm}, "accuracy": accuracy, "known_s": seconds}


def test_only_what_is_as_accurate_as_fastai_counts(bench: ModuleType) -> None:
    peers = importlib.import_module("peers")
    case = peers.CASES["clothing10"]
    runs = [_peer_run(case.arm, 0.90, 600.0), _peer_run(peers.HEAD, 0.88, 30.0)]
    assert peers.fast_enough(case, runs) is None
    assert "not reached" in peers.compared(case, runs).what
    runs.append(_peer_run(peers.FINETUNE, 0.91, 100.0))
    assert peers.compared(case, runs).ratio == 6.0
    runs[1]["accuracy"] = 0.90
    assert peers.compared(case, runs).ratio == 20.0
    assert "not reached" not in peers.compared(case, runs).what


def test_the_views_of_few_images_are_counted(
    bench: ModuleType, pictures: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bench.prefix_rate, "VIEWS", 1)
    monkeypatch.setattr(bench.prefix_rate, "BOUNDARIES", ("blocks.5",))
    rates = bench.prefix_rate.views_per_s(pictures, images=4)
    assert rates["blocks.5"] > 0


def test_a_suffix_is_trained_on_random_activations(
    bench: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in {"IMAGES": 8, "BATCH": 4, "CLASSES": 2, "EPOCHS": 2}.items():
        monkeypatch.setattr(bench.suffix_rate, name, value)
    assert bench.suffix_rate.trained_images_per_s("tf_efficientnet_lite0", "blocks.5", 64) > 0
