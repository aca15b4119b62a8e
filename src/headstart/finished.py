"""What a search ships, and by which images its probabilities are calibrated."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from headstart.artifacts.bundle import Member
from headstart.artifacts.journal import SearchPlan, Trial
from headstart.calibration import set_thresholds
from headstart.evaluate import fit_temperature
from headstart.finetuning import Finished
from headstart.preparing import Prepared
from headstart.probe import parted
from headstart.recipe import Recipe
from headstart.search.stages import Start
from headstart.search.study import short
from headstart.search.trial import Setting
from headstart.train import predict

FEWEST_TO_CALIBRATE, MOST_TO_CALIBRATE = 100, 300
"""Images that a temperature is learnt from, where they are kept apart from the last training."""
NONE = np.empty(0, np.int64)


def averaged(trained: Sequence[Finished]) -> Finished:
    """Returns the first network with the others as further members of an ensemble."""
    first, *others = trained
    if not others:
        return first
    members = tuple(Member(each.ready.material.backbone.model, each.start.head) for each in others)
    # Each was calibrated alone; the mean of their logits lies between them. Sets promise a
    # coverage, and no held-out image has seen the mean.
    temperature = float(np.mean([each.temperature for each in trained]))
    return replace(first, others=members, temperature=temperature, sets=(), held=0)


def calibrated_by_trial(done: Finished, trial: Trial) -> Finished:
    """Returns a network with what its trial's held-out images say; its sets where these fit."""
    if flips(trial) != done.recipe.test_time_flip:
        return replace(done, temperature=trial.temperature)
    held = trial.val_images
    return replace(done, temperature=trial.temperature, sets=trial.sets, held=held)


def calibrated_by_logits(done: Finished, logits: NDArray[np.float32]) -> Finished:
    """Returns a network with what images say that were kept apart from its training."""
    labels = done.ready.material.labels["val"]
    temperature = fit_temperature(logits, labels)
    sets = set_thresholds(logits, labels, temperature)
    return replace(done, temperature=temperature, sets=sets, held=len(labels))


def held_logits(ready: Prepared, start: Start) -> NDArray[np.float32]:
    """Returns the logits (M, C) of the validation images, with their mirror images' if asked."""
    views = [start.cached[part] for part in ("val", "val_mirrored") if part in start.cached]
    device = ready.material.device
    logits = np.mean([predict(start.model, view, device=device) for view in views], axis=0)
    return np.asarray(logits, np.float32)


def to_calibrate_by(
    ready: Prepared, setting: Setting, winners: Sequence[Trial], plan: SearchPlan, seed: int
) -> NDArray[np.int64]:
    """Returns rows of validation images to be kept apart from training; often none.

    A network is surer of itself after a long schedule than after the short one of its trial, and
    no image has seen the mean of an ensemble. A twentieth of the images tells how sure it is,
    where that is enough of them; else the trials' temperatures have to do.
    """
    val = np.isin(setting.rows, ready.material.rows["val"])
    size = min(MOST_TO_CALIBRATE, len(setting.rows) // 20)
    trusted = len(winners) == 1 and not short(winners[0], plan.whole_epochs)
    if trusted or size < FEWEST_TO_CALIBRATE or val.sum() < 2 * size:
        return NONE
    parts = round(val.sum() / size)
    # Whole groups: a copy of an image that is trained on would tell nothing.
    part_of = parted(setting.labels[val], setting.groups[val], parts, seed)
    apart: NDArray[np.int64] = setting.rows[val][part_of == 0]
    return apart


def head_alone(
    ready: Prepared, recipe: Recipe, start: Start, plan: SearchPlan, trial: Trial | None
) -> Finished:
    """Returns the head as it was solved, calibrated by the images that were held out from it.

    Those of the search of heads, or those of the trial that began with it, whichever are more: a
    temperature from a few images that were all right is far too sure. The search of heads saw no
    mirror images, so that where they count the trial is asked.
    """
    if trial is None or (plan.head_images > trial.val_images and not flips(trial)):
        temperature, sets, held = plan.head_temperature, plan.head_sets, plan.head_images
    else:
        temperature, sets, held = trial.start_temperature, trial.start_sets, trial.val_images
    return Finished(ready, recipe, start, temperature, (), sets, held)


def flips(trial: Trial) -> bool:
    """Returns whether a trial was judged by the mean with the mirror images' logits."""
    return bool(trial.recipe.get("test_time_flip"))
