"""Trials that exceed memory, diverge, raise or die do so alone, and the search ends well."""

import pytest
from toy_work import trial_like

from headstart.artifacts.journal import SearchPlan, Trial
from headstart.recipes.parsing import parse_recipe
from headstart.search.executors.local import open_executor
from headstart.search.halving import plan_rungs, successive_halving
from headstart.search.sampler import Asking

LIMIT = 500_000_000
HOG = 2 * LIMIT


@pytest.mark.slow
def test_each_failure_has_its_cause() -> None:
    plan = SearchPlan(rungs=tuple(plan_rungs(8, 8)), folds=1, epochs=8)
    asking = Asking(parse_recipe({"epochs": 8, "batch_size": 16}))
    trials: list[Trial] = []
    with open_executor("processes", trial_like, HOG, jobs=1, memory_limit=LIMIT) as executor:
        best, _ = successive_halving(asking, plan, [], executor, trials.append)
    first = {trial.number: trial for trial in trials if trial.rung == 0}
    assert len(first) == 8
    assert first[1].state == "done", "with a smaller batch it had memory enough"
    assert first[1].recipe["batch_size"] == 8
    assert "ran out of memory" in first[1].note
    causes = {number: trial.cause for number, trial in first.items() if trial.state == "failed"}
    assert set(causes) == {2, 3, 4}
    assert "not finite" in causes[2]
    assert "it broke" in causes[3]
    assert "signal 11" in causes[4]
    assert best[0].number == 0
