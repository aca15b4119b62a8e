"""Fine-tuning with one recipe: boundary, head, views, training and the weights to keep."""

import copy
import time
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from headstart.artifacts.bundle import Member
from headstart.artifacts.endings import NO_TIME_TO_TUNE, SCHEDULE_CUT, TOO_FEW_EPOCHS
from headstart.artifacts.records import Acted, EpochRecord
from headstart.artifacts.run_start import EPOCHS, forget_epochs, write_recipe
from headstart.backbones.places import FEATURES
from headstart.errors import DivergedError, HeadstartError, first_line, is_out_of_memory
from headstart.evaluation.calibration import calibrated_score, score
from headstart.evaluation.label_rules import LabelRule
from headstart.evaluation.trust import Calibration, fit_calibration
from headstart.features.extractor import FeatureExtractor
from headstart.recipes.recipe import Recipe
from headstart.text import counted, percent
from headstart.training.activity import untrained
from headstart.training.averaging import blend
from headstart.training.best_epoch import last_or_best
from headstart.training.boundary import boundary_without_clock, fixed_boundary
from headstart.training.budget import (
    FEWEST_EPOCHS,
    TARGET_EPOCHS,
    VIEWS_SHARE,
    choose_epochs,
    choose_length,
)
from headstart.training.closed_form import has_closed_form, pooled, solved_on_all
from headstart.training.experiment import Experiment
from headstart.training.held_out import held_out_rules
from headstart.training.loop import TrainData, train, validation_logits
from headstart.training.pace import Deadline
from headstart.training.reserve import (
    affordable_boundary,
    check_affordable,
    deadline_of,
    seconds_for_training,
)
from headstart.training.retraining import finished_by, retrain_head
from headstart.training.run_context import RunContext
from headstart.training.speed import measure_speeds
from headstart.training.transfer import (
    TransferModel,
    build_transfer_model,
    trainable,
    training_data,
    view_gap,
    weights_of,
)


@dataclass(frozen=True)
class FittedClassifier:
    """A trained and calibrated classifier, before the sealed test.

    Attributes:
        experiment: Experiment with the images it was trained on.
        recipe: Recipe it was trained with.
        transfer: Transfer model with the trained weights.
        calibration: Its temperature and thresholds of prediction sets, from held-out images.
        others: Further members of an ensemble, which differ only behind the boundary.
        rules: Calibration and threshold of each label where an image may have several.
    """

    experiment: Experiment
    recipe: Recipe
    transfer: TransferModel
    calibration: Calibration
    others: tuple[Member, ...] = ()
    rules: tuple[LabelRule, ...] = ()


def train_recipe(run: RunContext, experiment: Experiment, recipe: Recipe) -> FittedClassifier:
    """Trains one recipe and calibrates the result on the validation images.

    Args:
        run: Run context.
        experiment: Experiment with data and backbone.
        recipe: Recipe to train.
    """
    write_recipe(run.folder, recipe)
    began = time.monotonic()
    transfer = begin(run, experiment, recipe)
    took = time.monotonic() - began
    logits = finetune(run, experiment, recipe, transfer)
    labels, groups = experiment.extractor.labels["val"], experiment.audited.groups
    calibration = Calibration()
    rules: tuple[LabelRule, ...] = ()
    if experiment.multilabel:
        from_head = run.record.chosen == "probe"
        rules = held_out_rules(run, experiment, transfer, logits, from_head).rules
    else:
        calibration = fit_calibration(
            logits, labels, "validation images", groups=groups[experiment.split.val]
        )
    if has_closed_form(recipe, transfer.prefix.boundary):
        experiment, transfer = solved_on_all(run, experiment, recipe, transfer, took)
    return FittedClassifier(experiment, recipe, transfer, calibration, rules=rules)


def begin(run: RunContext, experiment: Experiment, recipe: Recipe) -> TransferModel:
    """Chooses the boundary, caches the evaluation views and makes the head."""
    extractor, clock = experiment.extractor, run.clock
    fixed = fixed_boundary(extractor, recipe)
    by_clock = fixed is None and clock.budget_s is not None
    boundary = boundary_without_clock(extractor, recipe)
    images = len(extractor.labels["train"])
    if by_clock:
        ahead_s = images * experiment.features_s * clock.pace.now + _probe_allowance(extractor)
        boundary = affordable_boundary(experiment, recipe, clock, ahead_s)
    check_affordable(recipe, boundary, by_clock)
    if extractor.traced.reason:
        run.note(
            f"{extractor.backbone.name} can only be cut at its ends: {extractor.traced.reason}."
        )
    began = time.monotonic()
    transfer = build_transfer_model(pooled(experiment, recipe, boundary), recipe, boundary)
    if by_clock:
        # Two seconds of measuring are easily disturbed. Rebuilding the transfer model at an earlier
        # boundary pays only if a whole schedule fits behind it.
        ahead_s = time.monotonic() - began
        again = affordable_boundary(experiment, recipe, clock, ahead_s, TARGET_EPOCHS)
        if extractor.traced.boundary(again).position < extractor.traced.boundary(boundary).position:
            boundary = again
            transfer = build_transfer_model(extractor, recipe, boundary)
        if boundary == FEATURES:
            run.note("The budget leaves too few epochs at any boundary: only the head is trained.")
            run.record.stop_reason = TOO_FEW_EPOCHS
    if transfer.prefix.engine.note:
        run.note(transfer.prefix.engine.note + ".")
    run.record.boundary = boundary
    stage = "probe" if transfer.validated else "frozen prefix"
    with run.step(stage, f"run the frozen part up to {boundary!r} once on every image") as step:
        step.seconds = time.monotonic() - began
        step.happened(_describe_start(transfer, experiment.score_name))
    return transfer


def _describe_start(transfer: TransferModel, score: str) -> str:
    taps = transfer.layout.taps
    which = f"features of {', '.join(taps)} and the last" if taps else "last features"
    if transfer.validated is None:
        return f"{'head from' if transfer.solved else 'random head on'} {which}"
    return (
        f"cross-validated {score} {percent(transfer.validated.accuracy)}, log loss "
        f"{transfer.validated.log_loss:.3f} ({which}, penalty {transfer.validated.strength:g})"
    )


def _probe_allowance(extractor: FeatureExtractor) -> float:
    """Returns the seconds that solving the head may take, from the size of the problem."""
    rows = len(extractor.labels["train"])
    work = rows * extractor.backbone.features * len(extractor.classes)
    return 2 + 25 * min(1.0, work / 1.5e9)


def finetune(
    run: RunContext, experiment: Experiment, recipe: Recipe, transfer: TransferModel
) -> NDArray[np.float32]:
    """Fine-tunes the transfer model and keeps the weights that validate better, old or new.

    Returns:
        The validation logits (M, C) of the kept weights, which the modules hold.
    """
    extractor, device, record = experiment.extractor, experiment.extractor.device, run.record
    val_labels = extractor.labels["val"]
    record.acted = list(transfer.acted)
    before, zero = _at_start(run, extractor, transfer)
    loss, accuracy = calibrated_score(before, val_labels)
    epochs, views = _length(run, experiment, recipe, transfer)
    if not epochs:
        record.chosen = "probe" if transfer.solved else "random head"
        record.stop_reason = (
            record.stop_reason or "the head has a closed-form solution: nothing to train"
        )
        record.acted += untrained(recipe, record.stop_reason)
        return before
    planned = f"{counted(epochs, 'epoch')} from {record.boundary!r}"
    run.say(f"training: {planned}")
    viewed = recipe.model_copy(update={"views": views})
    data = _views(run, experiment, viewed, transfer, epochs)
    saved = [
        copy.deepcopy(module.state_dict()) for module in (extractor.backbone.model, transfer.head)
    ]
    with run.step("training", planned) as step:
        least_s = 0.0 if transfer.solved else 1.0  # a random head is not worth keeping
        deadline = deadline_of(experiment, recipe, run.clock, least_s=least_s)
        records = train_blended(extractor, recipe, transfer, data, epochs, deadline, "training")
        try:
            kept, stopped = last_or_best(run, extractor, recipe, transfer, records, epochs)
            last = kept or zero
            after = validation_logits(transfer.model, data, device)
            if not np.isfinite(after).all():
                raise DivergedError("The outputs of the trained network are not finite.")
        except (DivergedError, MemoryError, RuntimeError) as error:
            known = isinstance(error, DivergedError) or is_out_of_memory(error)
            if not known or not transfer.solved:
                raise  # a random head is not worth keeping
            step.happened("failed; kept: probe")
            _load(extractor, transfer, saved)
            return _kept_after_failure(run, recipe, before, error)
        record.acted += last.acted
        record.epochs = last.epoch
        record.stop_reason = (
            "the training was interrupted, and the best epoch so far is kept"
            if stopped
            else SCHEDULE_CUT
            if last.epoch < epochs
            else "all planned epochs were trained"
        )
        after_loss, after_accuracy = calibrated_score(after, val_labels)
        better = not transfer.solved or (last.epoch > 0 and after_loss <= loss)
        record.chosen = "fine-tuned" if better else "probe"
        gap = view_gap(extractor, recipe, transfer, transfer.model, data)
        if gap is not None:
            record.cached_view_accuracy, record.fresh_view_accuracy = gap
        outcome = (
            f"{counted(last.epoch, 'epoch')}; validation {experiment.score_name} "
            f"{percent(accuracy)} to "
            f"{percent(after_accuracy)}, log loss {loss:.3f} to {after_loss:.3f}; kept: "
            f"{record.chosen}"
        )
        if better:
            outcome += finished_by(recipe)
        step.happened(outcome)
    if better:
        return after
    _load(extractor, transfer, saved)
    return before


def _views(
    run: RunContext, experiment: Experiment, recipe: Recipe, transfer: TransferModel, epochs: int
) -> TrainData:
    """Caches the augmented views, as many as the time allows."""
    until = None
    with run.step("views", "augmented views") as step:
        if run.clock.budget_s is not None:
            seconds = seconds_for_training(experiment, recipe, run.clock)
            until = time.monotonic() + VIEWS_SHARE * seconds
        data = training_data(experiment.extractor, recipe, transfer, epochs, until)
        run.record.views = len(data.views)
        step.planned = counted(run.record.views, "view")
    return data


def _at_start(
    run: RunContext, extractor: FeatureExtractor, transfer: TransferModel
) -> tuple[NDArray[np.float32], EpochRecord]:
    """Returns the validation logits (M, C) before training, and their record as epoch 0."""
    labels, device = extractor.labels, extractor.device
    data = TrainData(
        [transfer.cached["train"]],
        labels["train"],
        transfer.cached["val"],
        labels["val"],
        val_mirrored=transfer.cached.get("val_mirrored"),
    )
    logits = validation_logits(transfer.model.to(device), data, device)
    loss, accuracy = score(logits, labels["val"])
    zero = EpochRecord(
        epoch=0, progress=0, lr=0, train_loss=None, val_loss=loss, val_accuracy=accuracy,
        images_per_s=None, seconds=0,
    )  # fmt: skip
    EPOCHS.append(run.folder, zero)
    return logits, zero


def _load(
    extractor: FeatureExtractor, transfer: TransferModel, saved: list[dict[str, torch.Tensor]]
) -> None:
    for module, state in zip((extractor.backbone.model, transfer.head), saved, strict=True):
        module.load_state_dict(state)


def _kept_after_failure(
    run: RunContext, recipe: Recipe, before: NDArray[np.float32], error: Exception
) -> NDArray[np.float32]:
    """Records that training failed and that the probe is kept; returns its logits."""
    record, why = run.record, first_line(error).rstrip(".")
    forget_epochs(run.folder)
    record.chosen, record.views = "probe", 0
    record.stop_reason = "training failed, so the probe is kept"
    record.acted += untrained(recipe, record.stop_reason)
    run.note(f"Training failed: {why}. The probe is kept.")
    run.say(f"note: {record.notes[-1]}")
    return before


def _length(
    run: RunContext, experiment: Experiment, recipe: Recipe, transfer: TransferModel
) -> tuple[int, int]:
    """Returns the numbers of epochs and views: the recipe's, or as many as the time allows."""
    if has_closed_form(recipe, transfer.prefix.boundary):
        return 0, 0
    if recipe.epochs:
        return recipe.epochs, recipe.views
    extractor = experiment.extractor
    boundary = extractor.traced.boundary(transfer.prefix.boundary)
    features_s = experiment.features_s * run.clock.pace.now
    speed = measure_speeds(extractor, recipe, [boundary], features_s)[boundary.name]
    images = len(extractor.labels["train"])
    seconds = seconds_for_training(experiment, recipe, run.clock)
    if recipe.views:
        epochs, views = choose_epochs(speed, images, seconds, recipe.views), recipe.views
    else:
        epochs, views = choose_length(speed, images, seconds)
    if not transfer.solved:  # nothing to fall back on: the schedule follows the clock
        return max(1, epochs), views
    if epochs < FEWEST_EPOCHS:
        run.record.stop_reason = NO_TIME_TO_TUNE
        return 0, 0
    return epochs, views


def train_blended(
    extractor: FeatureExtractor,
    recipe: Recipe,
    transfer: TransferModel,
    data: TrainData,
    epochs: int,
    deadline: Deadline | None,
    what: str,
) -> Iterator[EpochRecord]:
    """Trains a whole schedule, yields and shows each epoch, and does what follows the last step.

    Args:
        extractor: Feature extractor.
        recipe: Recipe, with the share of the trained weights, and whether to solve the head again.
        transfer: Transfer model, trained in place.
        data: Training and validation data.
        epochs: Length of the schedule.
        deadline: End of the schedule; None without a limit.
        what: Name on the progress display.
    """
    before = weights_of(transfer) if recipe.blend < 1 else {}
    records = train(trainable(extractor, transfer), data, recipe, epochs, deadline)
    for epoch in extractor.progress.track(records, what, epochs):
        score = "mAP" if extractor.labels["train"].ndim == 2 else "accuracy"
        extractor.progress.say(describe_epoch(epoch, epochs, score))
        yield epoch
    if recipe.blend < 1:
        transfer.model.load_state_dict(blend(before, weights_of(transfer), recipe.blend))
    if recipe.retrain_head:
        retrain_head(extractor, recipe, transfer)


def describe_epoch(epoch: EpochRecord, planned: int, score: str) -> str:
    """Returns a line of text about an epoch."""
    measured = epoch.val_accuracy is not None
    held = f"validation {score} {percent(epoch.val_accuracy or 0)}, " if measured else ""
    loss, rate = f"loss {epoch.train_loss:.3f}", f"{epoch.images_per_s:.0f} images/s"
    return f"epoch {epoch.epoch}/{planned}: {loss}, {held}{rate}"


@dataclass(frozen=True)
class Silent:
    """What is known of a training that shows nothing.

    Attributes:
        image_s: Training seconds per image and epoch.
        acted: Observed effect of each method.
        cut: Epochs that were trained, if the deadline cut the schedule; else 0.
    """

    image_s: float
    acted: tuple[Acted, ...]
    cut: int = 0


def train_silently(
    extractor: FeatureExtractor,
    transfer: TransferModel,
    data: TrainData,
    recipe: Recipe,
    epochs: int,
    deadline: Deadline | None = None,
) -> Silent:
    """Trains to the end of the schedule.

    Raises:
        HeadstartError: If the deadline has passed.
    """
    network = trainable(extractor, transfer)
    records = list(train(network, data, recipe, epochs, deadline))
    if not records:
        raise HeadstartError("The time budget left no time to train.")
    image_s = float(np.mean([1 / (record.images_per_s or np.inf) for record in records]))
    cut = records[-1].epoch if records[-1].epoch < epochs else 0
    return Silent(image_s, records[-1].acted, cut)
