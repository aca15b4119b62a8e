"""What is refused before any image is decoded."""

import time
from pathlib import Path

import pytest

from headstart.data.sources import load_dataset
from headstart.errors import BudgetError
from headstart.recipes.parsing import parse_recipe
from headstart.training.budget import Clock
from headstart.training.experiment import SplitChoice, prepare
from headstart.training.run_context import Resources


def test_a_budget_below_what_is_to_come_is_refused_before_decoding(
    pictures: Path, tmp_path: Path
) -> None:
    recipe = parse_recipe({"backbone": {"resolution": 64}})
    resources = Resources(Clock(time.monotonic(), 3600.0), tmp_path / "cache", 1)
    data = load_dataset(pictures)
    with pytest.raises(BudgetError, match="too short for 48 images on this machine"):
        prepare(data, recipe, SplitChoice(), resources, passes=1e9)
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]
    assert len(prepare(data, recipe, SplitChoice(), resources).audited.kept) == 48
