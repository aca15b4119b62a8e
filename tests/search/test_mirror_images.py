"""Mirror images for a head alone: where they are looked at, and what follows."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from headstart.api.fit import fit
from headstart.artifacts.bundle_spec import read_spec
from headstart.artifacts.journal import SearchPlan
from headstart.artifacts.records import Request, RunRecord
from headstart.artifacts.run_start import EPOCHS
from headstart.backbones.places import FEATURES
from headstart.evaluation.trust import Calibration
from headstart.recipes.options import FitOptions
from headstart.recipes.parsing import parse_recipe
from headstart.recipes.recipe import Recipe
from headstart.search import mirror_images, planner
from headstart.search import score as score_module
from headstart.search.mirror_images import with_mirror_images
from headstart.search.score import clearly_better
from headstart.training.budget import Clock
from headstart.training.experiment import Experiment, development_set
from headstart.training.run_context import Resources, RunContext

BASE = parse_recipe(
    {
        "backbone": {"resolution": 64},
        "freezing": {"name": "last_blocks", "boundary": "blocks.5"},
        "head": {"name": "linear", "features": "last", "penalty": 0.01},
    }
)
PLAN = SearchPlan(
    rungs=(), folds=1, epochs=0, head_loss=0.5, head_images=7,
    head_calibration=Calibration(temperature=0.5, images=7),
)  # fmt: skip


def looked(
    experiment: Experiment, folder: Path, base: Recipe = BASE, budget_s: float | None = 600.0,
    settings: tuple[str, ...] = (),
) -> tuple[Recipe, SearchPlan, RunRecord]:  # fmt: skip
    import time

    record = RunRecord(
        command="", started_at="", data_name="", data_root="", n_train=0, n_val=0, n_test=0,
        classes=(), backbone="", backbone_source="",
        request=Request(options=FitOptions(settings=settings)),
    )  # fmt: skip
    run = RunContext(folder, record, Resources(Clock(time.monotonic(), budget_s)))
    return (*with_mirror_images(run, experiment, base, PLAN), record)


@pytest.mark.parametrize("better", [True, False])
def test_mirror_images_are_used_where_held_out_images_favour_them(
    experiment: Experiment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, better: bool
) -> None:
    images = len(development_set(experiment).rows)

    def judged(logits: Any, others: Any, labels: Any) -> bool:
        assert logits.shape == others.shape == (images, 3), "cross-validated: all are held out"
        assert not np.array_equal(logits, others)
        return better

    monkeypatch.setattr(mirror_images, "clearly_better", judged)
    recipe, plan, record = looked(experiment, tmp_path)
    assert recipe == BASE.model_copy(update={"test_time_flip": better})
    (step,) = record.plan
    assert f"on {images} images" in step.happened
    assert ("left out" in step.happened) is not better
    if better:
        assert plan.head_calibration.images == images
        score = (plan.head_loss, plan.head_right, plan.head_images)
        assert score == (PLAN.head_loss, PLAN.head_right, PLAN.head_images), "of all heads"
    else:
        assert plan == PLAN


@pytest.mark.parametrize(
    ("changed", "settings", "budget_s"),
    [
        ({"augmentation": {"name": "flip_crop", "flip": False}}, (), 600.0),
        ({"test_time_flip": True}, (), 600.0),
        ({}, ("test_time_flip=false",), 600.0),
        ({}, (), None),
        ({}, (), 11.0),
    ],
)
def test_they_are_not_looked_at_without_leave_or_time(
    experiment: Experiment, tmp_path: Path, changed: dict[str, Any], settings: tuple[str, ...],
    budget_s: float | None,
) -> None:  # fmt: skip
    base = parse_recipe({**BASE.model_dump(), **changed})
    timed = replace(experiment, features_s=0.1)
    recipe, plan, record = looked(timed, tmp_path, base, budget_s, settings)
    assert (recipe, plan, record.plan) == (base, PLAN, [])


@pytest.mark.parametrize(
    ("losses", "better"),
    [
        ((0.5, 0.6, 0.4, 0.5), True),  # saved: 0.5 on average, with a standard error of 0.04
        ((0.0, 2.0, 0.9, 1.0), False),  # 0.03, with one of 0.36
        ((1.0, 1.0, 1.0, 1.0), False),
        ((1.5, 1.6, 1.4, 1.5), False),
    ],
)
def test_clearly_better_is_by_more_than_the_standard_error(
    monkeypatch: pytest.MonkeyPatch, losses: tuple[float, ...], better: bool
) -> None:
    monkeypatch.setattr(score_module, "calibrated_losses", lambda logits, _: logits)
    logits, others = np.array(losses, np.float32), np.ones(4, np.float32)
    assert clearly_better(logits, others, np.zeros(4, np.int64)) is better


@pytest.mark.slow
def test_a_run_with_time_for_heads_alone_ships_what_was_measured(
    pictures: Path, shared_cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(planner, "measured_shape", lambda *_, **__: None)
    monkeypatch.setattr(planner, "affordable_boundary", lambda *_: FEATURES)
    monkeypatch.setattr(planner, "with_best_backbone", lambda run, known, base: (known, base))
    monkeypatch.setattr(mirror_images, "clearly_better", lambda *_: True)
    run = fit(
        pictures, budget="5m", settings=["backbone.resolution=64"],
        out=tmp_path / "run", cache_dir=shared_cache,
    )  # fmt: skip
    stages = {step.stage: step.happened for step in run.record.plan}
    assert "kept" in stages["mirror images"]
    assert run.record.chosen == "head on frozen features"
    assert read_spec(run.folder / "bundle").test_time_flip
    first = EPOCHS.read(run.folder)[0]
    assert first.val_accuracy is not None
    assert first.val_accuracy <= 1
    assert run.record.calibration is not None
    assert run.record.calibration.source == "cross-validation of the head"
    (acted,) = [each for each in run.record.acted if each.family == "test_time_flip"]
    assert acted.state == "acted"
