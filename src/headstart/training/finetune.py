"""Fine-tuning with one recipe: boundary, head, views, training and the weights to keep."""

import copy
import time
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from headstart.artifacts.bundle import Member
from headstart.artifacts.records import Acted, EpochRecord
from headstart.artifacts.run import EPOCHS, write_recipe
from headstart.backbones.boundaries import FEATURES
from headstart.errors import BudgetError, RecipeError
from headstart.evaluation.calibration import calibrated_score, fit_temperature, score
from headstart.evaluation.conformal import set_thresholds
from headstart.features.extractor import FeatureExtractor
from headstart.recipes.recipe import Recipe
from headstart.text import counted, percent
from headstart.training.activity import untrained
from headstart.training.averaging import blend
from headstart.training.boundary import (
    boundary_without_clock,
    candidate_boundaries,
    check_head_alone,
    fixed_boundary,
)
from headstart.training.budget import (
    FEWEST_EPOCHS,
    MOST_EPOCHS,
    TARGET_EPOCHS,
    VIEWS_SHARE,
    Clock,
    choose_boundary,
    choose_epochs,
    choose_length,
)
from headstart.training.experiment import CLOSING_S, Experiment
from headstart.training.loop import TrainData, train, validation_logits
from headstart.training.run_context import RunContext
from headstart.training.speed import disk_for_views, measure_speeds
from headstart.training.transfer import (
    TransferModel,
    build_transfer_model,
    trainable,
    training_data,
    view_gap,
    weights_of,
)

REPORT_S_PER_IMAGE = 0.002


@dataclass(frozen=True)
class FittedClassifier:
    """A trained and calibrated classifier, before the sealed test.

    Attributes:
        experiment: Experiment with the images it was trained on.
        recipe: Recipe it was trained with.
        transfer: Transfer model with the trained weights.
        temperature: Temperature for its logits, from held-out images.
        others: Further members of an ensemble, which differ only behind the boundary.
        sets: Thresholds of prediction sets, from the same images; empty without such images.
        held: Number of held-out images.
    """

    experiment: Experiment
    recipe: Recipe
    transfer: TransferModel
    temperature: float
    others: tuple[Member, ...] = ()
    sets: tuple[float, ...] = ()
    held: int = 0


def train_recipe(run: RunContext, experiment: Experiment, recipe: Recipe) -> FittedClassifier:
    """Trains one recipe and calibrates the result on the validation images.

    Args:
        run: Run context.
        experiment: Experiment with data and backbone.
        recipe: Recipe to train.
    """
    write_recipe(run.folder, recipe)
    transfer = begin(run, experiment, recipe)
    logits = finetune(run, experiment, recipe, transfer)
    labels = experiment.extractor.labels["val"]
    temperature = fit_temperature(logits, labels)
    sets = set_thresholds(logits, labels, temperature)
    return FittedClassifier(experiment, recipe, transfer, temperature, (), sets, len(labels))


def begin(run: RunContext, experiment: Experiment, recipe: Recipe) -> TransferModel:
    """Chooses the boundary, caches the evaluation views and makes the head."""
    extractor, clock = experiment.extractor, run.clock
    fixed = fixed_boundary(extractor, recipe)
    by_clock = fixed is None and clock.budget_s is not None
    boundary = boundary_without_clock(extractor, recipe)
    images = len(extractor.labels["train"])
    if by_clock:
        ahead_s = images * experiment.features_s + _probe_allowance(extractor)
        boundary = affordable_boundary(experiment, recipe, clock, ahead_s)
    check_affordable(recipe, boundary, by_clock)
    if extractor.traced.reason:
        run.note(
            f"{extractor.backbone.name} can only be cut at its ends: {extractor.traced.reason}."
        )
    began = time.monotonic()
    transfer = build_transfer_model(extractor, recipe, boundary)
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
    if transfer.prefix.engine.note:
        run.note(transfer.prefix.engine.note + ".")
    run.record.boundary = boundary
    stage = "probe" if transfer.validated else "frozen prefix"
    with run.step(stage, f"run the frozen part up to {boundary!r} once on every image") as step:
        step.seconds = time.monotonic() - began
        step.happened(_describe_start(transfer))
    return transfer


def check_affordable(recipe: Recipe, boundary: str, by_clock: bool) -> None:
    """Checks that the recipe does not need more than a head if only the head is trained.

    Raises:
        BudgetError: If it does, and the budget left no time for more.
        RecipeError: If it does for another reason.
    """
    try:
        check_head_alone(recipe, boundary)
    except RecipeError as error:
        if not by_clock:
            raise
        raise BudgetError(
            "The budget only leaves time to train the head, and the recipe needs more: "
            f"{error} Give a larger --budget, or --epochs."
        ) from None


def affordable_boundary(
    experiment: Experiment,
    recipe: Recipe,
    clock: Clock,
    ahead_s: float,
    least_epochs: int = FEWEST_EPOCHS,
) -> str:
    """Measures every candidate and returns the earliest at which enough epochs fit.

    Args:
        experiment: Experiment with data and backbone.
        recipe: Recipe to train.
        clock: Clock of the budget.
        ahead_s: Seconds needed before training.
        least_epochs: Smallest sufficient number of epochs.
    """
    extractor = experiment.extractor
    candidates = candidate_boundaries(extractor.traced)
    speeds = measure_speeds(extractor, recipe, candidates, experiment.features_s)
    seconds = seconds_for_training(experiment, recipe, clock) - ahead_s
    images = len(extractor.labels["train"])
    return choose_boundary(speeds, images, seconds, disk_for_views(extractor), least_epochs)


def _describe_start(transfer: TransferModel) -> str:
    which = (
        f"features of {', '.join(transfer.taps)} and the last" if transfer.taps else "last features"
    )
    if transfer.validated is None:
        return f"{'head from' if transfer.solved else 'random head on'} {which}"
    return (
        f"cross-validated accuracy {percent(transfer.validated.accuracy)}, log loss "
        f"{transfer.validated.log_loss:.3f} ({which}, penalty {transfer.validated.strength:g})"
    )


def _probe_allowance(extractor: FeatureExtractor) -> float:
    """Returns the seconds that solving the head may take, from the size of the problem."""
    rows = len(extractor.labels["train"])
    work = rows * extractor.backbone.features * len(extractor.classes)
    return 2 + 25 * min(1.0, work / 1.5e9)


def seconds_for_training(experiment: Experiment, recipe: Recipe, clock: Clock) -> float:
    """Returns the seconds left for training, after everything that follows the last step."""
    left = clock.left()
    assert left is not None
    passes = 2 if recipe.test_time_flip else 1
    test_s = passes * experiment.features_s + 1.5 * experiment.decode_s + REPORT_S_PER_IMAGE
    # The embeddings of the training images are computed again from the cached activations.
    gallery = len(experiment.split.train) + len(experiment.split.val)
    closing: float = len(experiment.split.test) * test_s + gallery * experiment.features_s / 2
    closing += _averaging_seconds(experiment, recipe)
    return left - closing - CLOSING_S


def _averaging_seconds(experiment: Experiment, recipe: Recipe) -> float:
    """Returns the seconds after the last step for fresh statistics and for a soup."""
    # Eager PyTorch takes several times as long as the frozen network's engine.
    eager_s = 4 * experiment.features_s
    seconds = 0.0
    if recipe.averaging.chooses_by_validation:
        seconds += MOST_EPOCHS * len(experiment.split.val) * eager_s
    if recipe.averaging.needs_fresh_statistics:
        seconds += len(experiment.split.train) * eager_s
    return seconds


def finetune(
    run: RunContext, experiment: Experiment, recipe: Recipe, transfer: TransferModel
) -> NDArray[np.float32]:
    """Fine-tunes the transfer model and keeps the weights that validate better, old or new.

    Returns:
        The validation logits (M, C) of the kept weights, which the modules hold.
    """
    extractor, device, record = experiment.extractor, experiment.extractor.device, run.record
    val_labels = extractor.labels["val"]
    at_start = TrainData(
        [transfer.cached["train"]],
        extractor.labels["train"],
        transfer.cached["val"],
        val_labels,
        val_mirrored=transfer.cached.get("val_mirrored"),
    )
    record.acted = list(transfer.acted)
    before = validation_logits(transfer.model.to(device), at_start, device)
    loss, accuracy = calibrated_score(before, val_labels)
    zero = EpochRecord(
        epoch=0, progress=0, lr=0, train_loss=None, val_loss=score(before, val_labels)[0],
        val_accuracy=accuracy, images_per_s=None, seconds=0,
    )  # fmt: skip
    EPOCHS.append(run.folder, zero)
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
    until = deadline = None
    with run.step("views", "augmented views") as step:
        if run.clock.budget_s is not None:
            seconds = seconds_for_training(experiment, recipe, run.clock)
            until = time.monotonic() + VIEWS_SHARE * seconds
        viewed = recipe.model_copy(update={"views": views})
        data = training_data(extractor, viewed, transfer, epochs, until)
        record.views = len(data.views)
        step.planned = counted(record.views, "view")
    saved = [
        copy.deepcopy(module.state_dict()) for module in (extractor.backbone.model, transfer.head)
    ]
    with run.step("training", planned) as step:
        if run.clock.budget_s is not None:
            deadline = time.monotonic() + seconds_for_training(experiment, recipe, run.clock)
        last = zero
        for last in train_blended(extractor, recipe, transfer, data, epochs, deadline, "training"):
            EPOCHS.append(run.folder, last)
        record.acted += last.acted
        after = validation_logits(transfer.model, data, device)
        record.epochs = last.epoch
        record.stop_reason = (
            "the time budget was used up: the schedule was cut to fit"
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
            f"{counted(last.epoch, 'epoch')}; validation accuracy {percent(accuracy)} to "
            f"{percent(after_accuracy)}, log loss {loss:.3f} to {after_loss:.3f}; kept: "
            f"{record.chosen}"
        )
        if better and recipe.blend < 1:
            outcome += f", weights blended: {percent(recipe.blend, 0)} fine-tuned"
        step.happened(outcome)
    if better:
        return after
    for module, state in zip((extractor.backbone.model, transfer.head), saved, strict=True):
        module.load_state_dict(state)
    return before


def _length(
    run: RunContext, experiment: Experiment, recipe: Recipe, transfer: TransferModel
) -> tuple[int, int]:
    """Returns the numbers of epochs and views: the recipe's, or as many as the time allows."""
    at_features = transfer.prefix.boundary == FEATURES
    if at_features and transfer.solved and not recipe.head.has_hidden_layer:
        return 0, 0
    if recipe.epochs:
        return recipe.epochs, recipe.views
    extractor = experiment.extractor
    boundary = extractor.traced.boundary(transfer.prefix.boundary)
    speed = measure_speeds(extractor, recipe, [boundary], experiment.features_s)[boundary.name]
    images, seconds = (
        len(extractor.labels["train"]),
        seconds_for_training(experiment, recipe, run.clock),
    )
    if recipe.views:
        epochs, views = choose_epochs(speed, images, seconds, recipe.views), recipe.views
    else:
        epochs, views = choose_length(speed, images, seconds)
    if not transfer.solved:  # nothing to fall back on: the schedule follows the clock
        return max(1, epochs), views
    if epochs < FEWEST_EPOCHS:
        run.record.stop_reason = "too little time was left to fine-tune, so the probe is kept"
        return 0, 0
    return epochs, views


def train_blended(
    extractor: FeatureExtractor,
    recipe: Recipe,
    transfer: TransferModel,
    data: TrainData,
    epochs: int,
    deadline: float | None,
    what: str,
) -> Iterator[EpochRecord]:
    """Trains a whole schedule, yields and shows each epoch, and finally blends the weights.

    Args:
        extractor: Feature extractor.
        recipe: Recipe, with the share of the trained weights to keep.
        transfer: Transfer model, trained in place.
        data: Training and validation data.
        epochs: Length of the schedule.
        deadline: End of the schedule, on the clock of `time.monotonic`; None without a limit.
        what: Name on the progress display.
    """
    before = weights_of(transfer) if recipe.blend < 1 else {}
    records = train(trainable(extractor, transfer), data, recipe, epochs, deadline)
    for epoch in extractor.progress.track(records, what, epochs):
        extractor.progress.say(describe_epoch(epoch, epochs))
        yield epoch
    if recipe.blend < 1:
        transfer.model.load_state_dict(blend(before, weights_of(transfer), recipe.blend))


def describe_epoch(epoch: EpochRecord, planned: int) -> str:
    """Returns a line of text about an epoch."""
    return (
        f"epoch {epoch.epoch}/{planned}: loss {epoch.train_loss:.3f}, "
        + (
            ""
            if epoch.val_accuracy is None
            else f"validation accuracy {percent(epoch.val_accuracy)}, "
        )
        + f"{epoch.images_per_s:.0f} images/s"
    )


def train_silently(
    extractor: FeatureExtractor,
    transfer: TransferModel,
    data: TrainData,
    recipe: Recipe,
    epochs: int,
) -> tuple[float, tuple[Acted, ...]]:
    """Trains to the end of the schedule.

    Returns:
        The training seconds per image and epoch, and the observed effect of each method.
    """
    records = list(train(trainable(extractor, transfer), data, recipe, epochs))
    image_s = float(np.mean([1 / (record.images_per_s or np.inf) for record in records]))
    return image_s, records[-1].acted
