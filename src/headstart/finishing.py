"""The last stage of a search: the winner is trained on all images that are not sealed."""

import time
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from headstart.artifacts.journal import SearchPlan, Trial
from headstart.artifacts.run import PlanStep, RunRecord, append_epoch
from headstart.averages import blend
from headstart.errors import HeadstartError
from headstart.finetuning import describe_epoch, seconds_for_training
from headstart.fingerprints import untrained
from headstart.preparing import Prepared
from headstart.progress import Progress
from headstart.recipe import Recipe, parse_recipe
from headstart.search.clock import Clock
from headstart.search.stages import Start, blocks_of, frozen_of, start_from, training_data, view_gap
from headstart.search.study import pays, short
from headstart.search.trial import Setting, fresh_material, weights_of
from headstart.train import EpochRecord, train


@dataclass(frozen=True)
class Finished:
    """What is proven and shipped.

    Attributes:
        ready: The data, with all images that are not sealed to train on.
        recipe: What was trained.
        start: Holds the weights.
        temperature: For its logits, from images that were held out in the search.
        sets: Thresholds of class sets, from the same images; empty where there were none.
        held: Number of those images.
    """

    ready: Prepared
    recipe: Recipe
    start: Start
    temperature: float
    sets: tuple[float, ...] = ()
    held: int = 0


def finish(
    ready: Prepared,
    setting: Setting,
    base: Recipe,
    plan: SearchPlan,
    best: Trial | None,
    clock: Clock,
    folder: Path,
    record: RunRecord,
    progress: Progress,
) -> Finished:
    """Trains the winner anew, validation images included, for its whole schedule.

    Args:
        ready: The data, for the backbone that was chosen.
        setting: Of the trials.
        base: What the search started from.
        plan: Of the search.
        best: The best trial, if there were any.
        clock: The budget.
        folder: Of the run.
        record: Of the run.
        progress: Where progress is shown.
    """
    winner = best if best is not None and pays(best, plan.epochs) else None
    recipe = base
    if winner is not None:
        whole = {**winner.recipe, "epochs": plan.epochs}
        if short(winner, plan.epochs):  # what a short schedule liked says little of it
            whole["blend"] = base.blend
        recipe = parse_recipe(whole)
    material = replace(
        fresh_material(setting, recipe),
        rows={"train": setting.rows, "val": ready.material.rows["val"]},
        labels={"train": setting.labels, "val": ready.material.labels["val"]},
        progress=progress,
    )
    ready = replace(ready, material=material)
    began = time.monotonic()
    boundary = setting.boundary
    start = start_from(material, recipe, boundary)
    record.boundary, record.acted = boundary, list(start.acted)
    if plan.head_loss is not None:
        append_epoch(folder, _before(plan, plan.head_loss))
    temperature, sets, held = plan.head_temperature, plan.head_sets, plan.head_images
    if best is not None:
        temperature, sets, held = best.start_temperature, best.start_sets, best.val_images
    if winner is None:
        record.chosen = "head on frozen features"
        record.acted += untrained(recipe, record.stop_reason)
        happened = "the head was solved on training and validation images"
    else:
        before = weights_of(start)
        try:
            happened = _train(ready, recipe, start, plan, clock, folder, record, progress)
            temperature, sets = winner.temperature, winner.sets
            record.chosen = "fine-tuned"
        except HeadstartError as error:
            # The search has shown that the recipe works; more data and epochs may still diverge.
            start.model.load_state_dict(before)
            record.chosen = "head on frozen features"
            record.notes.append(f"The whole schedule failed, so the head is kept: {error}")
            happened = "failed; the head is kept"
    record.plan.append(
        PlanStep(
            stage="finish",
            planned="train the winner on training and validation images",
            happened=happened,
            seconds=time.monotonic() - began,
        )
    )
    progress.say(f"finish: {happened}")
    return Finished(ready, recipe, start, temperature, sets, held)


def _before(plan: SearchPlan, loss: float) -> EpochRecord:
    """Returns the record of the state before training: what cross-validation says of the head."""
    accuracy = plan.head_right / plan.head_images if plan.head_images else None
    return EpochRecord(
        epoch=0, progress=0, lr=0, train_loss=None, val_loss=loss,
        val_accuracy=accuracy, images_per_s=None, seconds=0,
    )  # fmt: skip


def _train(
    ready: Prepared,
    recipe: Recipe,
    start: Start,
    plan: SearchPlan,
    clock: Clock,
    folder: Path,
    record: RunRecord,
    progress: Progress,
) -> str:
    """Trains the whole schedule and returns what happened."""
    material = ready.material
    epochs = recipe.epochs
    data = training_data(material, recipe, start, epochs)
    record.views = len(data.views)
    data = replace(data, val=None, val_mirrored=None, val_labels=np.empty(0, np.int64))
    deadline = None
    if clock.budget_s is not None:
        deadline = time.monotonic() + max(1.0, seconds_for_training(ready, recipe, clock))
    before = weights_of(start)
    last: EpochRecord | None = None
    records = train(
        start.suffix,
        start.head,
        data,
        recipe,
        epochs,
        deadline,
        material.device,
        blocks_of(material, start),
        frozen_of(material, start),
    )
    for last in progress.track(records, "training on all images", epochs):
        append_epoch(folder, last)
        progress.say(describe_epoch(last, epochs))
    assert last is not None
    record.acted += last.acted
    record.epochs = last.epoch
    if recipe.blend < 1:
        start.model.load_state_dict(blend(before, weights_of(start), recipe.blend))
    gap = view_gap(material, recipe, start, start.model, data)
    if gap is not None:
        record.cached_view_accuracy, record.fresh_view_accuracy = gap
    happened = f"{last.epoch} of {epochs} epochs on {len(data.labels)} images"
    if recipe.blend < 1:
        happened += f"; kept are weights {recipe.blend:.0%} of the way from where they began"
    return happened
