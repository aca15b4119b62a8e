"""The plan of a search: what is done where the search of heads took longer than planned."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from headstart.artifacts.journal import SearchPlan
from headstart.artifacts.records import Request, RunRecord
from headstart.recipes.options import FitOptions
from headstart.recipes.recipe import Recipe
from headstart.search import planner
from headstart.search.budget import SearchShape
from headstart.training.budget import Clock, Speed
from headstart.training.experiment import Experiment
from headstart.training.run_context import Resources, RunContext

SHAPE = SearchShape("blocks.4", 8, views=2, trials=1, folds=1)


def run_context(folder: Path) -> RunContext:
    record = RunRecord(
        command="", started_at="", data_name="", data_root="", n_train=0, n_val=0, n_test=0,
        classes=(), backbone="", backbone_source="", budget_s=600.0,
        request=Request(options=FitOptions(budget="10m")),
    )  # fmt: skip
    return RunContext(folder, record, Resources(Clock(0.0, 600.0)))


@pytest.mark.parametrize(("head_loss", "after"), [(0.5, None), (None, None), (0.5, SHAPE)])
def test_no_trial_is_begun_where_the_search_of_heads_left_no_time(
    experiment: Experiment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    head_loss: float | None, after: SearchShape | None,
) -> None:  # fmt: skip
    shapes: Iterator[SearchShape | None] = iter((SHAPE, SHAPE, after))
    found = SearchPlan(rungs=(), folds=1, epochs=0, head_loss=head_loss)
    speeds = {"blocks.4": Speed(0.01, 0.01, 1000)}
    stand_ins: dict[str, Any] = {
        "measured_shape": lambda *_, **__: next(shapes),
        "boundary_speeds": lambda *_, **__: speeds,
        "with_best_backbone": lambda run, experiment, base: (experiment, base),
        "with_best_head": lambda run, experiment, base, boundary: (base, found),
        "smaller_side": lambda *_: 0,
        "with_mirror_images": lambda run, experiment, base, plan: (base, plan),
    }
    for name, stand_in in stand_ins.items():
        monkeypatch.setattr(planner, name, stand_in)
    run = run_context(tmp_path)
    _, _, plan = planner.plan_search(run, experiment, Recipe())
    assert plan is not None
    only_heads = head_loss is not None and after is None
    assert bool(plan.rungs) is not only_heads
    assert any("fine-tuning was not tried" in note for note in run.record.notes) is only_heads


@pytest.mark.parametrize("boundary", ["features", "blocks.6"])
def test_one_recipe_is_trained_where_it_fits_after_its_head(
    experiment: Experiment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, boundary: str
) -> None:
    """On 196 classes, choosing a head took the time that its training needed."""
    ahead: list[float] = []

    def affordable(*given: Any) -> str:
        ahead.append(given[-1])
        return boundary

    found = SearchPlan(rungs=(), folds=1, epochs=0, head_loss=0.5)
    stand_ins: dict[str, Any] = {
        "measured_shape": lambda *_, **__: None,
        "boundary_speeds": lambda *_, **__: {"blocks.6": Speed(0.01, 0.01, 1000)},
        "affordable_boundary": affordable,
        "with_best_backbone": lambda run, experiment, base: (experiment, base),
        "with_best_head": lambda run, experiment, base, boundary: (base, found),
        "with_mirror_images": lambda run, experiment, base, plan: (base, plan),
        "solving_seconds": lambda *_: 40.0,
    }
    for name, stand_in in stand_ins.items():
        monkeypatch.setattr(planner, name, stand_in)
    run = run_context(tmp_path)
    _, _, plan = planner.plan_search(run, experiment, Recipe())
    assert ahead == [pytest.approx(3 * 40.0 * run.clock.pace.now)]
    assert (plan is None) is (boundary != "features")
    assert any("one recipe" in note for note in run.record.notes) is (boundary != "features")
