"""The last stage of a search: the winner is trained anew, on validation images, too."""

import time
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from headstart.artifacts.journal import SearchPlan, Trial
from headstart.artifacts.run import EPOCHS, forget_epochs
from headstart.errors import HeadstartError
from headstart.finetuning import Finished, seconds_for_training, train_blended
from headstart.fingerprints import Acted, untrained
from headstart.finished import (
    NONE,
    averaged,
    calibrated_by_logits,
    calibrated_by_trial,
    flips,
    head_alone,
    held_logits,
    to_calibrate_by,
)
from headstart.preparing import Prepared
from headstart.recipe import Recipe, parse_recipe
from headstart.run_context import RunContext
from headstart.search.stages import Start, start_from, training_data, view_gap
from headstart.search.study import short
from headstart.search.trial import Fold, Setting, fresh_material, weights_of, with_fold
from headstart.text import counted, percent
from headstart.train import EpochRecord


def finish(
    run: RunContext,
    ready: Prepared,
    setting: Setting,
    base: Recipe,
    plan: SearchPlan,
    winners: Sequence[Trial],
    unpaid: Trial | None,
) -> Finished:
    """Trains the winners again, validation images included, for their whole schedule.

    Args:
        run: The run; what was done is recorded there.
        ready: The data, for the backbone that was chosen.
        setting: What the trials shared.
        base: The recipe that the search started from.
        plan: Plan of the search.
        winners: The trials to train for the whole schedule; more than one make an ensemble, and
            none keeps the head alone.
        unpaid: The best trial, where none was better than the head that it began with.
    """
    run.record.boundary = setting.boundary
    if plan.head_loss is not None:
        EPOCHS.append(run.folder, _before(plan, plan.head_loss))
    which = "the winner" if len(winners) < 2 else f"the {len(winners)} winners"
    with run.step("finish", f"train {which} on training and validation images") as step:
        if winners:
            done, outcome = _train_winners(run, ready, setting, base, plan, winners)
            step.happened(outcome)
            return done
        # Mirror images count for the head where they counted when it was found to be better.
        flip = base.test_time_flip or (unpaid is not None and flips(unpaid))
        recipe = base.model_copy(update={"test_time_flip": flip})
        here = _with_all_images(run, ready, setting, recipe)
        start = start_from(here.material, recipe, setting.boundary)
        run.record.acted, run.record.chosen = list(start.acted), "head on frozen features"
        run.record.acted += untrained(recipe, run.record.stop_reason)
        step.happened("the head was solved on training and validation images")
        return head_alone(here, recipe, start, plan, unpaid)


def _train_winners(
    run: RunContext,
    ready: Prepared,
    setting: Setting,
    base: Recipe,
    plan: SearchPlan,
    winners: Sequence[Trial],
) -> tuple[Finished, str]:
    """Trains one network a winner and returns the first with the others, and what happened.

    One that fails is left out of an ensemble; where all fail, the head of the first is kept.
    """
    record = run.record
    trained: list[Finished] = []
    logits: list[NDArray[np.float32]] = []
    head: Finished | None = None
    told: list[str] = []
    apart = to_calibrate_by(ready, setting, winners, plan, base.seed)
    for number, winner in enumerate(winners):
        whole = {**winner.recipe, "epochs": plan.whole_epochs}
        # An image is mirrored for all members or for none.
        whole["test_time_flip"] = flips(winners[0])
        if short(winner, plan.whole_epochs):  # what a short schedule liked says little of it
            whole["blend"] = base.blend
        recipe = parse_recipe(whole)
        here = _with_all_images(run, ready, setting, recipe, apart)
        start = start_from(here.material, recipe, setting.boundary)
        before, left = weights_of(start), len(winners) - number
        try:
            happened, found = _train(run, here, recipe, start, left)
        except HeadstartError as error:
            # The search has shown that the recipe works; more data and epochs may still diverge.
            run.note(f"The whole schedule of trial {winner.number + 1} failed: {error}")
            told.append("failed")
            if trained:
                continue
            forget_epochs(run.folder)
            if left == 1 and not start.solved:
                raise  # a head at random is nothing to keep
            if head is None:
                start.model.load_state_dict(before)
                head = head_alone(here, recipe, start, plan, winner)
            continue
        told.append(happened)
        if not trained:
            record.acted = [*start.acted, *found]
        if len(apart):
            logits.append(held_logits(here, start))
        trained.append(calibrated_by_trial(Finished(here, recipe, start, 1.0), winner))
    if not trained:
        assert head is not None
        record.chosen = "head on frozen features"
        record.acted = [*head.start.acted, *untrained(head.recipe, "the whole schedule failed")]
        return head, "; ".join([*told, "the head is kept"])
    record.chosen = f"ensemble of {len(trained)}" if len(trained) > 1 else "fine-tuned"
    done = averaged(trained)
    if len(apart) and not done.recipe.averaging.chooses_by_validation:
        done = calibrated_by_logits(done, np.asarray(np.mean(logits, axis=0), np.float32))
        told.append(f"calibrated on {counted(done.held, 'held-out validation image')}")
    return done, "; ".join(told)


def _with_all_images(
    run: RunContext,
    ready: Prepared,
    setting: Setting,
    recipe: Recipe,
    apart: NDArray[np.int64] = NONE,
) -> Prepared:
    """Returns the data with a fresh backbone and all images to train on that are not sealed.

    A soup chooses its ingredients by images that are held out, so it has to leave these.

    Args:
        run: Gives the progress display.
        ready: The data.
        setting: What the trials shared.
        recipe: What to train.
        apart: Rows to leave out, too.
    """
    soup = recipe.averaging.chooses_by_validation
    if soup or len(apart):
        rows = setting.rows[~np.isin(setting.rows, apart)]
        fold = Fold(rows, apart)
        if soup:
            fold = Fold(ready.material.rows["train"], ready.material.rows["val"])
        material = with_fold(fresh_material(setting, recipe), setting, fold)
        return replace(ready, material=replace(material, progress=run.progress))
    material = replace(
        fresh_material(setting, recipe),
        rows={"train": setting.rows, "val": ready.material.rows["val"]},
        labels={"train": setting.labels, "val": ready.material.labels["val"]},
        progress=run.progress,
    )
    return replace(ready, material=material)


def _before(plan: SearchPlan, loss: float) -> EpochRecord:
    """Returns the record of the state before training: what cross-validation says of the head."""
    accuracy = plan.head_right / plan.head_images if plan.head_images else None
    return EpochRecord(
        epoch=0, progress=0, lr=0, train_loss=None, val_loss=loss,
        val_accuracy=accuracy, images_per_s=None, seconds=0,
    )  # fmt: skip


def _train(
    run: RunContext, ready: Prepared, recipe: Recipe, start: Start, left: int
) -> tuple[str, tuple[Acted, ...]]:
    """Trains the whole schedule and returns what happened, and what each method did.

    Args:
        run: The run; it gets the epochs of the first network.
        ready: The data.
        recipe: What to train.
        start: Where it begins.
        left: Networks that are still to be trained, this one included: they share the time.
    """
    material, record = ready.material, run.record
    epochs = recipe.epochs
    data = training_data(material, recipe, start, epochs)
    record.views = len(data.views)
    if not recipe.averaging.chooses_by_validation:
        data = replace(data, val=None, val_mirrored=None, val_labels=np.empty(0, np.int64))
    deadline = None
    if run.clock.budget_s is not None:
        seconds = seconds_for_training(ready, recipe, run.clock) / left
        deadline = time.monotonic() + max(1.0, seconds)
    last: EpochRecord | None = None
    what = "training on all images"
    for last in train_blended(material, recipe, start, data, epochs, deadline, what):
        if not record.epochs:
            EPOCHS.append(run.folder, last)
    assert last is not None
    record.epochs = record.epochs or last.epoch
    gap = view_gap(material, recipe, start, start.model, data)
    if gap is not None:
        record.cached_view_accuracy, record.fresh_view_accuracy = gap
    happened = f"{last.epoch} of {counted(epochs, 'epoch')} on {counted(len(data.labels), 'image')}"
    if recipe.blend < 1:
        happened += f", weights blended {percent(recipe.blend, 0)} of the way from the start"
    return happened, last.acted
