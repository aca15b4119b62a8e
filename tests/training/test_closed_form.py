"""Heads that are solved: on training images to be measured, and in the end on all of them."""

import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from headstart.artifacts.records import Request, RunRecord
from headstart.backbones.places import FEATURES
from headstart.recipes.options import FitOptions
from headstart.recipes.parsing import parse_recipe
from headstart.recipes.recipe import Recipe
from headstart.training import finetune
from headstart.training.budget import Clock
from headstart.training.closed_form import has_closed_form, pooled, solved_on_all
from headstart.training.experiment import Experiment
from headstart.training.finetune import FittedClassifier, train_recipe
from headstart.training.loop import predict
from headstart.training.run_context import Resources, RunContext
from headstart.training.transfer import build_transfer_model

ALONE = parse_recipe({"backbone": {"resolution": 64}, "freezing": "head_only"})


def run_record() -> RunRecord:
    return RunRecord(
        command="", started_at="", data_name="", data_root="", n_train=0, n_val=0, n_test=0,
        classes=(), backbone="", backbone_source="", request=Request(options=FitOptions()),
    )  # fmt: skip


def fitted(
    experiment: Experiment, folder: Path, recipe: Recipe = ALONE, clock: Clock | None = None
) -> tuple[FittedClassifier, RunRecord, int]:
    """What training gives, the record, and how many sets of activations were computed."""
    cache = folder / "cache"
    here = replace(experiment, extractor=replace(experiment.extractor, cache_dir=cache))
    record = run_record()
    resources = Resources(cache_dir=cache) if clock is None else Resources(clock, cache)
    found = train_recipe(RunContext(folder, record, resources), here, recipe)
    return found, record, len(list(cache.rglob("index.json")))


def test_in_the_end_the_head_is_solved_on_the_validation_images_too(
    experiment: Experiment, tmp_path: Path
) -> None:
    found, record, computed = fitted(experiment, tmp_path)
    extractor = experiment.extractor
    train, val = extractor.rows["train"], extractor.rows["val"]
    assert found.experiment.extractor.rows["train"].tolist() == [*train, *val]
    assert record.plan[-1].happened == f"solved on {len(train) + len(val)} images"
    assert computed == 1, "one run of the network serves both"
    # The calibration is that of the head that had not seen the validation images.
    assert found.calibration.images == len(val)
    assert "validation images" in found.calibration.source
    logits = predict(found.transfer.head, found.transfer.cached["val"])
    assert (logits.argmax(1) == extractor.labels["val"]).mean() == 1


def test_a_boundary_that_the_time_chose_costs_no_second_run_either(
    experiment: Experiment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(finetune, "affordable_boundary", lambda *_: FEATURES)
    recipe = parse_recipe({"backbone": {"resolution": 64}})
    clock = Clock(time.monotonic(), 600.0)
    found, record, computed = fitted(experiment, tmp_path, recipe, clock)
    assert record.boundary == FEATURES
    assert len(found.experiment.extractor.rows["train"]) > len(experiment.extractor.rows["train"])
    assert computed == 1


def test_without_the_time_the_head_stays_as_it_was_measured(
    experiment: Experiment, tmp_path: Path
) -> None:
    clock = Clock(time.monotonic() - 590, 600.0)
    found, record, _ = fitted(experiment, tmp_path, clock=clock)
    rows = found.experiment.extractor.rows["train"]
    assert np.array_equal(rows, experiment.extractor.rows["train"])
    assert record.plan[-1].happened.startswith("no time")


@pytest.mark.parametrize(
    ("took", "left", "again"), [(100, 60, True), (0.1, 60, True), (100, 5, False)]
)
def test_choosing_a_head_takes_longer_than_solving_it_again(
    experiment: Experiment, tmp_path: Path, took: float, left: float, again: bool
) -> None:
    """On 6,097 images of 196 classes the choice took 117 s, and the head was not solved again."""
    recipe = ALONE.model_copy(update={"head": ALONE.head.model_copy(update={"penalty": 0.01})})
    run = RunContext(
        tmp_path, run_record(), Resources(Clock(time.monotonic() - 600 + left, 600.0), tmp_path)
    )
    here = replace(experiment, extractor=replace(experiment.extractor, cache_dir=tmp_path))
    transfer = build_transfer_model(pooled(here, recipe, FEATURES), recipe, FEATURES)
    found, _ = solved_on_all(run, here, recipe, transfer, took)
    images = len(found.extractor.rows["train"])
    assert (images > len(experiment.extractor.rows["train"])) is again


@pytest.mark.parametrize(
    ("changed", "boundary", "solved"),
    [
        ({}, FEATURES, True),
        ({}, "blocks.5", False),
        ({"head": {"name": "linear", "init": "random"}}, FEATURES, False),
        ({"head": "mlp"}, FEATURES, False),
        ({"head": "cosine"}, FEATURES, True),
    ],
)
def test_what_has_a_closed_form(changed: dict[str, object], boundary: str, solved: bool) -> None:
    assert has_closed_form(parse_recipe(changed), boundary) is solved
