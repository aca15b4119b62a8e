import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from headstart.artifacts.journal import SearchPlan, Trial
from headstart.artifacts.records import Request, RunRecord
from headstart.backbones.cut import trace
from headstart.features.extractor import at_resolution
from headstart.recipes.options import FitOptions
from headstart.recipes.parsing import parse_recipe
from headstart.recipes.recipe import Recipe
from headstart.search.budget import (
    MOST_TRIALS,
    SearchLimits,
    SearchShape,
    end_of_trials,
    fits_an_epoch,
    folds_for,
    least_search,
    may_flip,
    passes,
    shape_search,
    shaped,
    share_of_pixels,
    smaller_side,
    speed_by_trials,
)
from headstart.search.halving import trial_epochs
from headstart.training.budget import MOST_EPOCHS, Clock, Speed
from headstart.training.experiment import Experiment
from headstart.training.pace import Pace
from headstart.training.run_context import Resources, RunContext

EARLY, LATE = Speed(0.01, 0.02, 1000), Speed(0.015, 0.002, 500)
SPEEDS = {"early": EARLY, "late": LATE}
PLENTY = 1e12


def shape(
    images: int,
    seconds: float,
    disk: float = PLENTY,
    *,
    last_resort: bool = False,
    **options: Any,
) -> SearchShape | None:
    return shape_search(SearchLimits(SPEEDS, images, seconds, disk, **options), last_resort)


def cost(found: SearchShape, images: int) -> float:
    """Seconds by hand: views, the whole schedule, and the trials' steps without their overhead."""
    speed = SPEEDS[found.boundary]
    whole = images * (found.views * speed.prefix_s + found.epochs * speed.train_s)
    steps = trial_epochs(found.trials, found.epochs) * images * speed.train_s
    return whole + passes(found.folds) * steps


def test_the_earliest_boundary_at_which_the_least_fits() -> None:
    # Early: 4 views 40 s, 8 epochs 160 s, a trial of 2 epochs 34 s and 4.2 s: 238 s of 90 %.
    found = shape(1000, 238.2 / 0.9 + 1)
    assert found is not None
    assert (found.boundary, found.epochs, found.views) == ("early", 8, 4)
    later = shape(1000, 238.2 / 0.9 - 1)
    assert later is not None
    assert later.boundary == "late"


def test_none_where_not_even_the_least_fits() -> None:
    # Late: 4 views 60 s, 8 epochs 16 s, a trial 3.4 s and 4.2 s.
    assert shape(1000, 83.6 / 0.9 - 1) is None
    found = shape(1000, 83.6 / 0.9 + 1)
    assert found is not None
    assert (found.boundary, found.trials, found.folds) == ("late", 1, 1)


def test_plain_images_are_trained_on_where_no_view_fits() -> None:
    # Late: 8 epochs 16 s, a trial of 2 epochs 3.4 s and 4.2 s; without any view.
    assert shape(1000, 23.6 / 0.9 + 1, last_resort=True) is None
    found = shape(1000, 23.6 / 0.9 + 1, last_resort=True, plain=True)
    assert found is not None
    assert (found.boundary, found.epochs, found.views, found.trials) == ("late", 8, 0, 1)
    # 4 epochs 8 s, a trial of one epoch 1.7 s and 4.2 s.
    short = shape(1000, 13.9 / 0.9 + 1, last_resort=True, plain=True)
    assert short is not None
    assert (short.epochs, short.views) == (4, 0)
    assert shape(1000, 13.9 / 0.9 - 1, last_resort=True, plain=True) is None


def test_augmented_views_come_before_plain_images() -> None:
    found = shape(1000, 43.9 / 0.9 + 1, last_resort=True, plain=True)
    assert found is not None
    assert found.views == 2


@pytest.mark.parametrize("given", ["trivial_augment", "none"])
def test_what_the_budget_takes_from_views_is_said(
    tmp_path: Path, experiment: Experiment, given: str
) -> None:
    record = RunRecord(
        command="", started_at="", data_name="", data_root="", n_train=0, n_val=0, n_test=0,
        classes=(), backbone="", backbone_source="", request=Request(options=FitOptions()),
    )  # fmt: skip
    run = RunContext(tmp_path, record, Resources())
    base = parse_recipe({"augmentation": given})
    plain = shaped(run, experiment, base, SearchShape("blocks.4", 8, views=0, trials=1, folds=1))
    assert plain.augmentation.absent
    assert plain.epochs == 8
    assert any("plain images" in note for note in record.notes) is (given != "none")
    assert any("mirrored" in note for note in record.notes) is plain.feature_flip
    assert plain.feature_flip is (given != "none"), "who asked for no augmentation gets none"
    few = shaped(run, experiment, base, SearchShape("late", 8, views=4, trials=1, folds=1))
    assert (few.augmentation, few.views) == (base.augmentation, 4)
    whole = SearchShape("late", 8, views=8, trials=1, folds=1)
    assert shaped(run, experiment, base, whole).views == 0
    if given != "none":
        here = replace(experiment, extractor=at_resolution(experiment.extractor, 224))
        small = shaped(run, here, base, replace(whole, smaller=True))
        assert (small.train_resolution, small.retrain_head) == (160, True)
        assert "augmented views of 160 pixels, and not of 224" in record.notes[-1]


@pytest.mark.parametrize(
    ("boundary", "settings", "augmentation", "flips"),
    [
        ("blocks.4", (), {"name": "flip_crop"}, True),
        ("input", (), {"name": "flip_crop"}, True),
        ("features", (), {"name": "flip_crop"}, False),
        ("blocks.4", (), {"name": "flip_crop", "flip": False}, False),
        ("blocks.4", ("feature_flip=false",), {"name": "flip_crop"}, False),
    ],
)
def test_which_feature_maps_are_mirrored(
    experiment: Experiment, boundary: str, settings: tuple[str, ...],
    augmentation: dict[str, Any], flips: bool,
) -> None:  # fmt: skip
    run: Any = SimpleNamespace(options=FitOptions(settings=settings))
    base = parse_recipe({"augmentation": augmentation})
    assert may_flip(run, experiment, base, boundary) is flips


def test_maps_without_a_width_are_not_mirrored(experiment: Experiment) -> None:
    """At 32 pixels the last map is 1 x 1; at 64, 2 x 2."""
    run: Any = SimpleNamespace(options=FitOptions())
    found = {}
    for side in (32, 64):
        smaller = at_resolution(experiment.extractor, side)
        traced = trace(smaller.backbone.model, side)
        here = replace(experiment, extractor=replace(smaller, traced=traced))
        last = traced.boundaries[-2].name
        found[side] = traced.boundary(last).shape[1:], may_flip(run, here, Recipe(), last)
    assert found == {32: ((1, 1), False), 64: ((2, 2), True)}


def test_a_last_resort_is_better_than_a_head_alone() -> None:
    # Late: 2 views 30 s, 4 epochs 8 s, a trial of one epoch 1.7 s and 4.2 s.
    assert shape(1000, 43.9 / 0.9 + 1) is None
    found = shape(1000, 43.9 / 0.9 + 1, last_resort=True)
    assert found is not None
    assert (found.boundary, found.epochs, found.views, found.trials) == ("late", 4, 2, 1)
    assert shape(1000, 43.9 / 0.9 - 1, last_resort=True) is None
    whole = shape(1000, 83.6 / 0.9 + 1)
    assert shape(1000, 83.6 / 0.9 + 1, last_resort=True) == whole, "only where nothing else fits"


def test_what_is_planned_fits_and_more_time_buys_more() -> None:
    last = 0.0
    for seconds in (300, 400, 600, 1000, 3000):
        found = shape(1000, seconds)
        assert found is not None
        assert cost(found, 1000) <= seconds
        assert cost(found, 1000) >= last
        last = cost(found, 1000)
    assert found.views == 8
    assert found.epochs == MOST_EPOCHS
    assert 3 < found.trials <= MOST_TRIALS


def test_views_that_were_chosen_by_hand_are_planned_with() -> None:
    # Early as above, with 2 views for 20 s; 50 views take 500 s.
    for views, seconds in ((2, 218.2), (50, 698.2)):
        found = shape(1000, seconds / 0.9 + 1, views=views)
        assert found is not None
        assert (found.boundary, found.views) == ("early", views)
        less = shape(1000, seconds / 0.9 - 1, views=views)
        assert less is None or less.boundary == "late"
        more = shape(1000, 3000, views=views)
        assert more is not None
        assert more.views == views


def test_few_images_are_cross_validated() -> None:
    assert folds_for(200) == 3
    assert folds_for(2000) == 1
    found = shape(200, 600)
    assert found is not None
    assert found.folds == 3
    assert found.trials >= 3
    assert passes(3) == 2, "each of three parts is left out once"


def test_cross_validation_is_given_up_before_the_search_is() -> None:
    # Late with 200 images: 4 views 12 s, 8 epochs 3.2 s, a trial of 2 epochs 0.8 s; to load the
    # network takes 4.2 s, and three times as long for three folds: 28.6 s in all.
    found = shape(200, 28.6 / 0.9 + 1)
    assert found is not None
    assert (found.folds, found.boundary, found.trials) == (3, "late", 1)
    found = shape(200, 28.6 / 0.9 - 1)
    assert found is not None
    assert (found.folds, found.boundary) == (1, "late")


def test_smaller_views_come_before_a_later_boundary() -> None:
    """Early, with half the pixels: half of the 238 s of the test above, but for 4.2 s to load."""
    enough = (234 / 2 + 4.2) / 0.9 + 1
    found = shape(1000, enough, smaller=0.5)
    assert found is not None
    assert (found.boundary, found.epochs, found.views, found.smaller) == ("early", 8, 4, True)
    late = shape(1000, enough)
    assert late is not None
    assert (late.boundary, late.smaller) == ("late", False)
    whole = shape(1000, 1000, smaller=0.5)
    assert whole is not None
    assert (whole.boundary, whole.smaller) == ("early", False), "they are not preferred to others"


def test_solving_heads_and_mirroring_take_time_too() -> None:
    """Early, with 8 epochs, 4 views and one trial: 40 + 160 + 34 + 4.2 = 238.2 s as above."""
    for more, seconds in (
        ({}, 238.2),
        # One before the trial, 1.4 with it and one with the winner.
        ({"solve_s": 10.0}, 238.2 + 34),
        # The 15% of 1000 images that are held out, at 0.01 s.
        ({"mirrors": True}, 238.2 + 1.5),
    ):
        found = [shape(1000, (seconds + late) / 0.9, **more) for late in (-1, 1)]
        assert [each.boundary for each in found if each] == ["late", "early"], more


def test_which_views_may_be_smaller(experiment: Experiment) -> None:
    def side(resolution: int, recipe: Recipe, *settings: str) -> int:
        here = replace(experiment, extractor=at_resolution(experiment.extractor, resolution))
        run: Any = SimpleNamespace(options=FitOptions(settings=settings))
        return smaller_side(run, here, recipe)

    plain = parse_recipe({"backbone": {"resolution": 64}})
    assert [side(each, plain) for each in (64, 128, 224, 260, 300)] == [0, 96, 160, 192, 224]
    assert share_of_pixels(experiment, 32) == 0.25
    assert side(224, plain, "train_resolution=0") == side(224, plain, "retrain_head=false") == 0
    head = parse_recipe({"freezing": "head_only"})
    assert side(224, head) == 0, "whose features are those of the evaluation"
    assert side(224, parse_recipe({"augmentation": "none"})) == 0
    nearest = {"head": "nearest", "metric_loss": "triplet", "batch_mixing": "none"}
    assert side(224, parse_recipe(nearest)) == 0


def test_the_disk_bounds_the_views() -> None:
    found = shape(1000, 3000, disk=4 * 1000 * 1000)
    assert found is not None
    assert (found.boundary, found.views) == ("early", 4)
    found = shape(1000, 3000, disk=4 * 1000 * 500)
    assert found is not None
    assert (found.boundary, found.views) == ("late", 4)


def test_a_given_length_is_kept_and_an_ensemble_takes_its_time() -> None:
    found = shape(1000, 600, epochs=5)
    assert found is not None
    assert found.epochs == 5
    assert least_search("x", 5) == SearchShape("x", 5, 4, 1, 1)
    assert least_search("x", 5, folds=3) == SearchShape("x", 5, 4, 1, 3)
    one, three = shape(1000, 500), shape(1000, 500, networks=3)
    assert one is not None
    assert three is not None
    assert (one.boundary, three.boundary) == ("early", "late")


def with_budget(budget_s: float | None, executor: str = "here") -> Any:
    """A run of which 100 s are over, on a machine that became twice as slow."""
    pace = Pace(now=2.0, slowest=2.0, contention=1.5, first_s=0.1)
    clock = Clock(time.monotonic() - 100, budget_s, pace=pace)
    options = FitOptions(trials=3, executor=executor, ensemble=2)
    return SimpleNamespace(clock=clock, options=options)


@pytest.fixture
def images(monkeypatch: pytest.MonkeyPatch) -> Any:
    """An experiment with 1,000 images, and nothing but 10 s to do after training."""
    monkeypatch.setattr("headstart.training.reserve.proof_seconds", lambda *_: 10.0)
    monkeypatch.setattr(Pace, "measure", lambda self: None)
    rows = np.arange(1000)
    monkeypatch.setattr(
        "headstart.search.budget.development_set", lambda _: SimpleNamespace(rows=rows)
    )
    return SimpleNamespace()


def test_trials_end_early_enough_for_the_shortest_whole_schedule(images: Any) -> None:
    plan = SearchPlan(rungs=(), folds=1, epochs=12, train_s=0.005)
    run = with_budget(300)
    deadline = end_of_trials(run, images, Recipe(), plan)
    assert deadline is not None
    # Two networks, 4 epochs of 5 s: 40 s. Twice the 10 s of the proof, 1.5 times 10 s of closing.
    ends = run.clock.started + 300
    assert deadline.at == pytest.approx(ends - 40 - 20 - 15)
    assert deadline.pace is run.clock.pace, "it moves with the pace of the run"
    short = plan.model_copy(update={"epochs": 2})
    other = end_of_trials(run, images, Recipe(), short)
    assert other is not None
    assert other.at == pytest.approx(ends - 20 - 20 - 15)
    elsewhere = end_of_trials(with_budget(300, "processes"), images, Recipe(), plan)
    assert elsewhere is not None
    assert elsewhere.pace.first_s == 0.0, "another process measures its own"
    assert end_of_trials(with_budget(300, "ray"), images, Recipe(), plan) is None
    assert end_of_trials(with_budget(None), images, Recipe(), plan) is None


def test_a_last_training_needs_time_for_an_epoch(images: Any) -> None:
    # 300 s, of which 100 are over and 35 reserved: 165 s for 1,000 images.
    assert fits_an_epoch(with_budget(300), images, Recipe(), Speed(0, 0.16, 0))
    assert not fits_an_epoch(with_budget(300), images, Recipe(), Speed(0, 0.17, 0))
    assert fits_an_epoch(with_budget(None), images, Recipe(), Speed(0, 9.0, 0))


def test_a_machine_that_became_slower_is_planned_with_as_it_is() -> None:
    plan = SearchPlan(rungs=(), folds=1, epochs=12, train_s=0.009, view_s=0.001)
    common: dict[str, Any] = {
        "rung": 0, "state": "done", "recipe": {}, "epochs": 1, "val_loss": 0.5, "val_images": 9,
    }  # fmt: skip

    def speed(*seconds: float, executor: str = "here") -> float:
        trials = [
            Trial(**common, number=number, train_s=each) for number, each in enumerate(seconds)
        ]
        return speed_by_trials(with_budget(300, executor), plan, trials).train_s

    assert speed() == 0.009
    assert speed(0.010, 0.012, 0.011) == 0.011
    assert speed(0.010, 0.012, 0.030) == 0.030
    assert speed(0.030, 0.010, 0.011) == 0.011, "a load that is gone"
    assert speed(0.010, 0.0) == 0.010, "a failed trial has no speed"
    assert speed(0.030, executor="processes") == 0.009
