"""The rows of the cars table: each is a recipe, and the last is the default one."""

import importlib
from itertools import pairwise
from pathlib import Path
from types import ModuleType

import pytest

from headstart.recipes.parsing import NAMED, with_settings
from headstart.recipes.recipe import Recipe

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(BENCHMARKS)
    return importlib.import_module("cars_table")


def recipe_of(options: tuple[str, ...]) -> Recipe:
    settings = [value for key, value in pairwise(options) if key == "--set"]
    return with_settings(NAMED[options[options.index("--recipe") + 1]], settings)


def test_the_rows_lead_from_the_naive_recipe_to_the_default_one(script: ModuleType) -> None:
    rows = script.rows(8, 3)
    assert recipe_of(rows[0].options) == NAMED["naive"]
    assert recipe_of(rows[-2].options) == recipe_of(rows[-1].options) == NAMED["default"]
    assert [row.options[-1] for row in rows[-2:]] == ["8", "24"]


def test_each_row_changes_the_one_before(script: ModuleType) -> None:
    recipes = [recipe_of(row.options) for row in script.rows(8, 3)[:-1]]
    assert all(a != b for a, b in pairwise(recipes))


def test_the_naive_recipe_is_trained_as_long_as_the_last_rows(script: ModuleType) -> None:
    longer = script.naive_longer(8, 3)
    assert recipe_of(longer.options) == NAMED["naive"]
    assert longer.options[-2:] == script.rows(8, 3)[-1].options[-2:] == ("--epochs", "24")


def test_the_classes_are_drawn_by_the_seed(script: ModuleType, tmp_path: Path) -> None:
    for number in range(20):
        (tmp_path / f"class {number:02d}").mkdir()
    first = script.chosen_classes(tmp_path, 5, 0)
    assert first == script.chosen_classes(tmp_path, 5, 0) == sorted(set(first))
    assert len(first) == 5
    assert first != script.chosen_classes(tmp_path, 5, 1)
