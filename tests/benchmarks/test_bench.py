"""The pieces of `make bench`: its page, its small data, how growth is told, and a rate."""

import importlib
from pathlib import Path
from types import ModuleType

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
