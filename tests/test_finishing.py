"""What the last stage of a search ships and calibrates by."""

from typing import Any

import pytest

from headstart.artifacts.journal import SearchPlan, Trial
from headstart.finishing import _head_alone
from headstart.recipe import Recipe


@pytest.mark.parametrize(("seen_by_trial", "by_trial"), [(36, False), (200, True), (240, True)])
def test_a_head_alone_is_calibrated_by_the_more_images(seen_by_trial: int, by_trial: bool) -> None:
    plan = SearchPlan(
        rungs=(), folds=1, epochs=8, head_images=200, head_temperature=0.9, head_sets=(0.5,)
    )
    trial = Trial(
        rung=0, number=0, state="done", recipe={}, epochs=2, val_images=seen_by_trial,
        start_temperature=0.3, start_sets=(0.1,),
    )  # fmt: skip
    nothing: Any = None
    done = _head_alone(nothing, Recipe(), nothing, plan, trial)
    wanted = (0.3, (0.1,), seen_by_trial) if by_trial else (0.9, (0.5,), 200)
    assert (done.temperature, done.sets, done.held) == wanted
    mirrored = trial.model_copy(update={"recipe": {"test_time_flip": True}})
    done = _head_alone(nothing, Recipe(), nothing, plan, mirrored)
    assert done.temperature == 0.3, "the search of heads saw no mirror images"
    without = _head_alone(nothing, Recipe(), nothing, plan, None)
    assert (without.temperature, without.held) == (0.9, 200)
