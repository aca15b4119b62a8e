from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from headstart.features.layout import FeatureLayout, FeatureTable
from headstart.recipes.parsing import parse_recipe
from headstart.recipes.recipe import Recipe
from headstart.search.backbones import (
    MULTIPLY_ADDS,
    PASSES,
    Screened,
    candidates,
    clearly_better,
    screen,
    with_backbone,
)
from headstart.training.budget import Clock
from headstart.training.experiment import Experiment
from headstart.training.run_context import Resources

LITE = list(MULTIPLY_ADDS)


def test_without_a_clock_all_candidates_are_looked_at() -> None:
    assert candidates(Recipe(), 0.01, 1000, None) == LITE
    other = parse_recipe({"backbone": LITE[2]})
    assert candidates(other, 0.01, 1000, None) == [LITE[2], LITE[0], LITE[1]]


def test_a_candidate_must_be_affordable() -> None:
    # 0.01 s an image for 407 million multiply-adds: 631 million take 0.0155 s.
    enough = PASSES * 1000 * 0.01 * 631 / 407
    assert candidates(Recipe(), 0.01, 1000, enough + 1) == LITE[:2]
    assert candidates(Recipe(), 0.01, 1000, enough - 1) == LITE[:1]


def test_a_backbone_that_is_no_candidate_is_kept() -> None:
    recipe = parse_recipe({"backbone": "resnet18"})
    assert candidates(recipe, 0.01, 100, None) == ["resnet18"]


def screened(name: str, losses: np.ndarray) -> Screened:
    return Screened(name, losses, 0, 0.0)


def test_another_one_must_be_better_by_more_than_chance() -> None:
    rng = np.random.default_rng(0)
    own = screened("own", rng.uniform(0.1, 0.5, 200))
    # On average better by a thousandth, with a standard error of 0.014.
    alike = screened("alike", own.losses - 0.001 + 0.2 * np.resize([1.0, -1.0], 200))
    better = screened("better", own.losses - rng.uniform(0.0, 0.1, 200))
    best = screened("best", own.losses - rng.uniform(0.05, 0.15, 200))
    worse = screened("worse", own.losses + 0.1)
    assert clearly_better([own]).name == "own"
    assert clearly_better([own, worse]).name == "own"
    assert clearly_better([own, better, best, worse]).name == "best"
    assert alike.loss < own.loss
    assert clearly_better([own, alike]).name == "own"


def test_the_rest_of_the_recipe_stays() -> None:
    recipe = parse_recipe({"optimizer": "sgd"})
    other = with_backbone(recipe, LITE[1])
    assert other.backbone.name == LITE[1]
    assert other.optimizer == recipe.optimizer
    assert with_backbone(recipe, recipe.backbone.name) is recipe


@pytest.mark.slow
def test_backbones_are_scored_on_the_same_images(experiment: Experiment) -> None:
    found = screen(
        experiment, parse_recipe({"backbone": {"resolution": 64}}), LITE[:2], Resources(workers=1)
    )
    assert [each.name for each in found] == LITE[:2]
    images = len(experiment.extractor.rows["train"]) + len(experiment.extractor.rows["val"])
    assert {len(each.losses) for each in found} == {images}
    assert all(each.right > 0.6 * images for each in found)
    assert all(0 <= each.loss < 1.2 for each in found)


@pytest.mark.parametrize(
    ("budget_s", "slow_from", "names"),
    [
        (None, 0, LITE),
        (400.0, 3, LITE),
        (400.0, 1, LITE[:2]),
        (100.0, 3, LITE[:1]),
        (1.0, 0, LITE[:1]),
    ],
)
def test_a_candidate_without_time_is_left_out(
    budget_s: float | None, slow_from: int, names: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Scoring takes 20 s for the first, so 31 s and 44 s for the others, and twice under load."""
    now, scored = [0.0], list[str]()

    def features(experiment: Any, recipe: Recipe, *_: Any) -> FeatureTable:
        name = recipe.backbone.name
        cost = MULTIPLY_ADDS[name] / MULTIPLY_ADDS[LITE[0]]
        now[0] += 20 * cost * (1 + (len(scored) >= slow_from))
        scored.append(name)
        columns = np.random.default_rng(0).normal(size=(30, 4)).astype(np.float32)
        return FeatureTable(columns, FeatureLayout((), (4,)))

    clock = SimpleNamespace(monotonic=lambda: now[0])
    monkeypatch.setattr("headstart.search.backbones._features", features)
    monkeypatch.setattr("headstart.search.backbones.time", clock)
    monkeypatch.setattr("headstart.training.budget.time", clock)
    rows = np.arange(30)
    development = SimpleNamespace(rows=rows, labels=rows % 2, groups=rows)
    monkeypatch.setattr("headstart.search.backbones.development_set", lambda _: development)
    experiment: Any = SimpleNamespace(extractor=SimpleNamespace(classes=("a", "b")))
    found = screen(experiment, Recipe(), LITE, Resources(Clock(0.0, budget_s)))
    assert [each.name for each in found] == names
