"""What the last stage of a search ships and calibrates by."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from headstart.artifacts.journal import SearchPlan, Trial
from headstart.data.decode import ImageSource
from headstart.data.reading import Reading
from headstart.errors import DiskFullError, HeadstartError, RunError
from headstart.evaluation.trust import Calibration
from headstart.recipes.recipe import Recipe
from headstart.search import refit
from headstart.search.refit import by_trials, head_alone, to_calibrate_by
from headstart.search.trial import TrialContext


@pytest.mark.parametrize(("seen_by_trial", "by_trial"), [(36, False), (200, True), (240, True)])
def test_a_head_alone_is_calibrated_by_the_more_images(seen_by_trial: int, by_trial: bool) -> None:
    plan = SearchPlan(
        rungs=(), folds=1, epochs=8, head_images=200,
        head_calibration=Calibration(temperature=0.9, images=200),
    )  # fmt: skip
    trial = Trial(
        rung=0, number=0, state="done", recipe={}, epochs=2, val_loss=0.5, val_images=seen_by_trial,
        start_calibration=Calibration(temperature=0.3, images=seen_by_trial),
    )  # fmt: skip
    nothing: Any = None
    fitted = head_alone(nothing, Recipe(), nothing, plan, trial)
    assert fitted.calibration == (trial.start_calibration if by_trial else plan.head_calibration)
    mirrored = trial.model_copy(update={"recipe": {"test_time_flip": True}})
    fitted = head_alone(nothing, Recipe(), nothing, plan, mirrored)
    assert fitted.calibration.temperature == 0.3, "the search of heads saw no mirror images"
    without = head_alone(nothing, Recipe(), nothing, plan, None)
    assert without.calibration == plan.head_calibration


def trial_of(epochs: int, temperature: float = 1.5, **changes: Any) -> Trial:
    """A trial whose calibrations for its own and for another network differ."""
    calibrations = {
        "calibration": Calibration(temperature=temperature, images=40, sets=(0.2,)),
        "cautious_calibration": Calibration(temperature=temperature**0.5, images=40, sets=(0.4,)),
    }
    known = {"val_loss": 0.5, "val_images": 40, "recipe": {}, **calibrations, **changes}
    return Trial(rung=0, number=0, state="done", epochs=epochs, **known)


@pytest.mark.parametrize(("epochs", "twin"), [(3, False), (6, False), (12, True)])
def test_a_trial_is_believed_where_its_schedule_was_the_whole_one(epochs: int, twin: bool) -> None:
    plan, trial = SearchPlan(rungs=(), folds=1, epochs=12), trial_of(epochs)
    wanted = trial.calibration if twin else trial.cautious_calibration
    assert by_trials([trial], Recipe(), plan) == wanted
    again = plan.model_copy(update={"fitted_epochs": 3})
    assert by_trials([trial], Recipe(), again) == trial.calibration, "the schedule that was run"


def test_other_views_and_several_networks_are_not_those_of_the_trial() -> None:
    plan, trial = SearchPlan(rungs=(), folds=1, epochs=12), trial_of(12)
    mirrored = by_trials([trial], Recipe(test_time_flip=True), plan)
    assert (mirrored.temperature, mirrored.sets) == (1.5**0.5, ())
    together = by_trials([trial, trial_of(12, temperature=4.0)], Recipe(), plan)
    assert together.temperature == pytest.approx((1.5**0.5 + 2) / 2)
    assert (together.sets, together.images) == ((), 40)
    older = trial_of(3, cautious_calibration=None)
    assert by_trials([older], Recipe(), plan) == older.calibration, "older runs kept no other"


def apart(images: int, epochs: int, winners: int = 1) -> tuple[np.ndarray, TrialContext]:
    """Rows kept apart of made-up images in groups of two, a seventh of which validate."""
    rows = np.arange(images) * 3
    context = TrialContext(
        cache_dir=Path(), pixels="", source=ImageSource((), 8, Reading()), rows=rows,
        labels=np.arange(images) // 2 % 5,
        groups=np.arange(images) // 2, classes=("a", "b", "c", "d", "e"), boundary="", folds=(),
    )  # fmt: skip
    extractor = SimpleNamespace(rows={"val": rows[-images // 7 :]})
    score = {"val_loss": 0.5, "val_images": 10}
    trial = Trial(rung=0, number=0, state="done", recipe={}, epochs=epochs, **score)
    plan = SearchPlan(rungs=(), folds=1, epochs=12)
    experiment: Any = SimpleNamespace(extractor=extractor, multilabel=False)
    return to_calibrate_by(experiment, context, [trial] * winners, plan, 0), context


@pytest.mark.parametrize(("images", "size"), [(1990, 0), (2800, 140), (14000, 300)])
def test_a_twentieth_is_kept_apart_where_that_is_enough(images: int, size: int) -> None:
    found, context = apart(images, epochs=3)
    assert len(found) == pytest.approx(size, rel=0.15)
    assert set(found) <= set(context.rows[-images // 7 :]), "images that validate"
    kept = np.isin(context.rows, found)
    assert not set(context.groups[kept]) & set(context.groups[~kept]), "whole groups"
    if size:
        shares = np.bincount(context.labels[kept]) / kept.sum()
        assert shares == pytest.approx([0.2] * 5, abs=0.05)


def test_nothing_is_kept_apart_where_the_trial_knows_enough() -> None:
    assert len(apart(2800, epochs=6)[0]) == 0, "half of the schedule"
    assert len(apart(2800, epochs=6, winners=2)[0]) > 0, "nobody knows the mean of two"


@pytest.mark.parametrize(
    ("error", "before"),
    [(DiskFullError("It is full."), 0), (DiskFullError("It is full."), 1), (RunError("Gone."), 0)],
    ids=["full at first", "full later", "images changed"],
)
def test_what_no_training_would_escape_ends_the_run(
    error: HeadstartError, before: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The head is not shipped for it: a resumed run trains the winners."""
    trained: list[int] = []

    def train(*_: Any) -> Any:
        if len(trained) == before:
            raise error
        trained.append(1)
        return "trained", ()

    transfer: Any = SimpleNamespace(solved=True, acted=())
    for name, result in [
        ("to_calibrate_by", refit.NONE), ("_with_all_images", SimpleNamespace(extractor=None)),
        ("build_transfer_model", transfer), ("weights_of", {}), ("worse_than_head", ""),
    ]:  # fmt: skip
        monkeypatch.setattr(refit, name, lambda *_, result=result: result)
    monkeypatch.setattr(refit, "_train", train)
    score = {"val_loss": 0.5, "val_images": 10}
    trial = Trial(rung=0, number=0, state="done", recipe={}, epochs=12, **score)
    plan = SearchPlan(rungs=(), folds=1, epochs=12)
    run: Any = SimpleNamespace(record=SimpleNamespace())
    context: Any = SimpleNamespace(boundary="late")
    nothing: Any = None
    with pytest.raises(type(error), match=str(error)):
        refit._train_winners(run, nothing, context, Recipe(), plan, [trial, trial])
