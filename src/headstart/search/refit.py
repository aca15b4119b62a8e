"""The refit: the best recipes trained on all images for the whole schedule."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from headstart.artifacts.bundle import Member
from headstart.artifacts.journal import SearchPlan, Trial
from headstart.artifacts.records import Acted, EpochRecord
from headstart.artifacts.run_start import EPOCHS, forget_epochs
from headstart.errors import first_line
from headstart.evaluation.trust import Calibration, fit_calibration, mean_calibration
from headstart.features.probe import parted
from headstart.recipes.parsing import parse_recipe
from headstart.recipes.recipe import Recipe
from headstart.search.executors.outcome import ENDING, FAILURES
from headstart.search.held import held_by_folds
from headstart.search.label_refit import with_head_rules, with_rules
from headstart.search.stopping import FEWEST_APART, ONE_APART_IN, short
from headstart.search.trial import Fold, TrialContext, fresh_extractor, groups_of, with_fold
from headstart.search.worth import held_logits, worse_than_head
from headstart.text import counted
from headstart.training.activity import untrained
from headstart.training.best_epoch import journal_epoch
from headstart.training.budget import VIEWS_SHARE, views_for
from headstart.training.experiment import Experiment
from headstart.training.finetune import FittedClassifier, train_blended
from headstart.training.reserve import deadline_of
from headstart.training.retraining import finished_by
from headstart.training.run_context import RunContext
from headstart.training.transfer import (
    TransferModel,
    build_transfer_model,
    training_data,
    view_gap,
    weights_of,
)

MOST_APART = 300
"""Most images that are kept out of the final training, to test it and fit a temperature on."""

NONE = np.empty(0, np.int64)


def finish(
    run: RunContext,
    experiment: Experiment,
    context: TrialContext,
    base: Recipe,
    plan: SearchPlan,
    winners: Sequence[Trial],
    unpaid: Trial | None,
) -> FittedClassifier:
    """Trains the winners again, validation images included, for their whole schedule.

    Args:
        run: Run context.
        experiment: Experiment with the chosen backbone.
        context: Trial context.
        base: Recipe that the search started from.
        plan: Plan of the search.
        winners: The trials to train for the whole schedule; more than one make an ensemble, and
            none keeps the head alone.
        unpaid: Best trial, if none was better than its initial head.
    """
    run.record.boundary = context.boundary
    if plan.head_loss is not None:
        EPOCHS.append(run.folder, _before(plan, plan.head_loss))
    which = "the winner" if len(winners) < 2 else f"the {len(winners)} winners"
    with run.step("finish", f"train {which} on training and validation images") as step:
        if winners:
            done, outcome = _train_winners(run, experiment, context, base, plan, winners)
            step.happened(outcome)
            if experiment.multilabel and not done.rules:
                return with_head_rules(done, run, experiment, context, plan)
            return done
        # The head uses mirror images if it was compared with them.
        flip = base.test_time_flip or (unpaid is not None and flips(unpaid))
        recipe = base.model_copy(update={"test_time_flip": flip})
        here = _with_all_images(run, experiment, context, recipe)
        transfer = build_transfer_model(here.extractor, recipe, context.boundary)
        run.record.acted, run.record.chosen = list(transfer.acted), "head on frozen features"
        run.record.acted += untrained(recipe, run.record.stop_reason)
        step.happened("the head was solved on training and validation images")
        fitted = head_alone(here, recipe, transfer, plan, unpaid)
        if experiment.multilabel:
            return with_head_rules(fitted, run, experiment, context, plan)
        if unpaid is None and context.folds and (plan.head_loss is None or flip):
            # Every trial failed, and the search of heads has no score for this head.
            return calibrated_by_folds(fitted, run, experiment, context)
        return fitted


def _train_winners(
    run: RunContext,
    experiment: Experiment,
    context: TrialContext,
    base: Recipe,
    plan: SearchPlan,
    winners: Sequence[Trial],
) -> tuple[FittedClassifier, str]:
    """Trains one network per winner and returns the ensemble and the outcome.

    Networks that fail or are worse than the head alone are left out; if none is left, the head of
    the first is kept.
    """
    trained: list[FittedClassifier] = []
    logits: list[NDArray[np.float32]] = []
    kept: list[Trial] = []
    head: FittedClassifier | None = None
    told: list[str] = []
    apart = to_calibrate_by(experiment, context, winners, plan, base.seed)
    for number, winner in enumerate(winners):
        whole = {**winner.recipe, "epochs": plan.whole_epochs}
        # All members use mirror images, or none does.
        whole["test_time_flip"] = flips(winners[0])
        if short(winner, plan.whole_epochs):  # its blend says little here
            whole["blend"] = base.blend
        recipe = parse_recipe(whole)
        here = _with_all_images(run, experiment, context, recipe, apart)
        transfer = build_transfer_model(here.extractor, recipe, context.boundary)
        before, left = weights_of(transfer), len(winners) - number
        held_out = bool(len(apart)) or recipe.averaging.chooses_by_validation
        start = held_logits(here, transfer) if held_out else None
        try:
            happened, found = _train(run, here, recipe, transfer, plan, left)
            calibration = by_trials([winner], recipe, plan)
            why = worse_than_head(here, transfer, winner, start, calibration.temperature)
        except ENDING:
            raise
        except FAILURES as error:
            # The search has shown that the recipe works; more data and epochs may still diverge.
            if left == 1 and not trained and not transfer.solved:
                raise  # a random head is not worth keeping
            happened, why = "failed", f"failed: {first_line(error)}"
        if why:
            told.append(happened if happened == "failed" else f"{happened}, dropped")
            _forget(run, f"The whole schedule of trial {winner.number + 1} {why}", bool(trained))
            if not trained and head is None:
                transfer.model.load_state_dict(before)
                head = head_alone(here, recipe, transfer, plan, winner)
            continue
        told.append(happened)
        if not trained:
            run.record.acted = [*transfer.acted, *found]
        if len(apart):
            logits.append(held_logits(here, transfer))
        kept.append(winner)
        trained.append(FittedClassifier(here, recipe, transfer, calibration))
    if not trained:
        assert head is not None
        return _instead(run, head), "; ".join([*told, "the head is kept"])
    run.record.chosen = f"ensemble of {len(trained)}" if len(trained) > 1 else "fine-tuned"
    fitted = averaged(trained, by_trials(kept, trained[0].recipe, plan))
    if len(apart):
        fitted, happened = _by_images_apart(fitted, run, context, np.mean(logits, axis=0))
        told += [happened] if happened else []
    return fitted, "; ".join(told)


def _instead(run: RunContext, head: FittedClassifier) -> FittedClassifier:
    """Records that the head is shipped instead of any trained network, and returns it."""
    record = run.record
    record.chosen = "head on frozen features"
    record.stop_reason = "no whole schedule was better than the head alone"
    record.acted = [*head.transfer.acted, *untrained(head.recipe, record.stop_reason)]
    return head


def _forget(run: RunContext, why: str, others: bool) -> None:
    """Notes why a network is not shipped, and removes its epochs unless they are of others."""
    run.note(why)
    run.say(f"note: {why}")
    if others:
        return
    forget_epochs(run.folder)
    run.record.epochs = run.record.views = 0
    run.record.cached_view_accuracy = run.record.fresh_view_accuracy = None


def _with_all_images(
    run: RunContext,
    experiment: Experiment,
    context: TrialContext,
    recipe: Recipe,
    apart: NDArray[np.int64] = NONE,
) -> Experiment:
    """Returns the experiment with a fresh backbone and the development set to train on.

    A soup chooses its ingredients on held-out images, so these are not trained on.

    Args:
        run: Run context.
        experiment: Experiment with the data.
        context: Trial context.
        recipe: Recipe to train.
        apart: Further rows to leave out.
    """
    soup = recipe.averaging.chooses_by_validation
    if soup or len(apart):
        rows = context.rows[~np.isin(context.rows, apart)]
        fold = Fold(rows, apart)
        if soup:
            fold = Fold(experiment.extractor.rows["train"], experiment.extractor.rows["val"])
        extractor = with_fold(fresh_extractor(context, recipe), context, fold)
        return replace(experiment, extractor=replace(extractor, progress=run.progress))
    extractor = replace(
        fresh_extractor(context, recipe),
        rows={"train": context.rows, "val": experiment.extractor.rows["val"]},
        labels={"train": context.labels, "val": experiment.extractor.labels["val"]},
        progress=run.progress,
    )
    return replace(experiment, extractor=extractor)


def _before(plan: SearchPlan, loss: float) -> EpochRecord:
    """Returns the record before training, with the cross-validated score of the head."""
    one_label = plan.head_images and plan.head_rules is None
    accuracy = plan.head_right / plan.head_images if one_label else None
    return EpochRecord(
        epoch=0, progress=0, lr=0, train_loss=None, val_loss=loss,
        val_accuracy=accuracy, images_per_s=None, seconds=0,
    )  # fmt: skip


def _train(
    run: RunContext,
    experiment: Experiment,
    recipe: Recipe,
    transfer: TransferModel,
    plan: SearchPlan,
    left: int,
) -> tuple[str, tuple[Acted, ...]]:
    """Trains the whole schedule and returns the outcome and the effect of each method.

    Args:
        run: Run context, which receives the epochs of the first network.
        experiment: Experiment with the data.
        recipe: Recipe to train.
        transfer: Transfer model to train.
        plan: Plan of the search, whose trials have cached some views.
        left: Number of networks still to train, including this one; they share the time.
    """
    extractor, record = experiment.extractor, run.record
    epochs = recipe.epochs
    deadline = deadline_of(experiment, recipe, run.clock, share=1 / left, least_s=1.0)
    until = None if deadline is None else deadline.part(VIEWS_SHARE)
    known = recipe.views or views_for(plan.rungs[0].epochs)
    data = training_data(extractor, recipe, transfer, epochs, until, known, plan.view_s)
    record.views = len(data.views)
    if not recipe.averaging.chooses_by_validation:
        data = replace(data, val=None, val_mirrored=None, val_labels=np.empty(0, np.int64))
    last: EpochRecord | None = None
    what = "training on all images"
    for last in train_blended(extractor, recipe, transfer, data, epochs, deadline, what):
        if not record.epochs:
            journal_epoch(run, last)
    assert last is not None
    record.epochs = record.epochs or last.epoch
    gap = view_gap(extractor, recipe, transfer, transfer.model, data)
    if gap is not None:
        record.cached_view_accuracy, record.fresh_view_accuracy = gap
    happened = f"{last.epoch} of {counted(epochs, 'epoch')} on {counted(len(data.labels), 'image')}"
    if last.epoch < epochs:
        run.note(f"The time budget cut the last training to {last.epoch} of {epochs} epochs.")
    return happened + finished_by(recipe), last.acted


def averaged(trained: Sequence[FittedClassifier], calibration: Calibration) -> FittedClassifier:
    """Returns the first network with the others as further members of an ensemble."""
    first, *others = trained
    members = tuple(
        Member(each.experiment.extractor.backbone.model, each.transfer.head) for each in others
    )
    return replace(first, others=members, calibration=calibration)


def by_trials(trials: Sequence[Trial], recipe: Recipe, plan: SearchPlan) -> Calibration:
    """Returns the calibration by held-out images of the trials whose networks are shipped.

    The trial of a single network is its cross-fitted twin if it trained for the whole schedule and
    was scored with the same views. Any other trial speaks of another network: its temperature is
    shrunk further towards 1, and without the same views it has no prediction sets.

    Args:
        trials: Trials of the members, at least one.
        recipe: Recipe of the first network.
        plan: Plan of the search.
    """
    first, *others = trials
    alike = flips(first) == recipe.test_time_flip
    cautious = [each.cautious_calibration or each.calibration for each in trials]
    if others:
        return mean_calibration(cautious)
    if alike and first.epochs >= plan.whole_epochs:
        return first.calibration
    return cautious[0] if alike else cautious[0].model_copy(update={"sets": ()})


def _by_images_apart(
    fitted: FittedClassifier, run: RunContext, context: TrialContext, logits: NDArray[np.floating]
) -> tuple[FittedClassifier, str]:
    """Returns a network calibrated on images that were kept out of the final training, and how."""
    extractor = fitted.experiment.extractor
    if fitted.experiment.multilabel:
        images = counted(len(logits), "held-out validation image")
        return with_rules(fitted, run, context, logits), f"thresholds from {images}"
    if fitted.recipe.averaging.chooses_by_validation:
        return fitted, ""
    groups = groups_of(context, extractor.rows["val"]) or None
    source = "validation images kept out of training"
    calibration = fit_calibration(logits, extractor.labels["val"], source, groups=groups)
    images = counted(calibration.images, "held-out validation image")
    return replace(fitted, calibration=calibration), f"calibrated on {images}"


def calibrated_by_folds(
    fitted: FittedClassifier, run: RunContext, experiment: Experiment, context: TrialContext
) -> FittedClassifier:
    """Returns a head calibrated on held-out images, by heads that were solved without them."""
    logits, labels, rows = held_by_folds(fitted.recipe, run, experiment, context)
    calibration = fit_calibration(
        logits, labels, "cross-validation of the head", groups=groups_of(context, rows) or None
    )
    return replace(fitted, calibration=calibration)


def to_calibrate_by(
    experiment: Experiment,
    context: TrialContext,
    winners: Sequence[Trial],
    plan: SearchPlan,
    seed: int,
) -> NDArray[np.int64]:
    """Returns rows of validation images to keep out of training; often none.

    A network is more confident after a long schedule than after the short schedule of its trial,
    and no held-out image has tested the mean of an ensemble. A twentieth of the images calibrates
    the confidence if that is enough; otherwise the temperatures of the trials are used. Thresholds
    of labels need more than a temperature does: for these, all validation images are kept out.
    """
    if experiment.multilabel:
        return experiment.extractor.rows["val"]
    val = np.isin(context.rows, experiment.extractor.rows["val"])
    size = min(MOST_APART, len(context.rows) // ONE_APART_IN)
    trusted = len(winners) == 1 and not short(winners[0], plan.whole_epochs)
    if trusted or size < FEWEST_APART or val.sum() < 2 * size:
        return NONE
    parts = round(val.sum() / size)
    # Whole groups: a copy of a training image would be no test.
    part_of = parted(context.labels[val], context.groups[val], parts, seed)
    apart: NDArray[np.int64] = context.rows[val][part_of == 0]
    return apart


def head_alone(
    experiment: Experiment,
    recipe: Recipe,
    transfer: TransferModel,
    plan: SearchPlan,
    trial: Trial | None,
) -> FittedClassifier:
    """Returns the head as it was solved, calibrated on images held out from it.

    The images come from the search of heads or from the trial that started with the head,
    whichever has more: a temperature from a few correct images is overconfident. The search of
    heads uses no mirror images, so with these the trial is used.
    """
    if trial is None or (plan.head_images > trial.val_images and not flips(trial)):
        calibration = plan.head_calibration
    else:
        calibration = trial.start_calibration
    return FittedClassifier(experiment, recipe, transfer, calibration)


def flips(trial: Trial) -> bool:
    """Returns whether a trial was scored with averaged logits of mirror images."""
    return bool(trial.recipe.get("test_time_flip"))
