"""One recipe from its start to the weights that are kept: cut, head, views, training."""

import copy
import time
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from headstart.artifacts.bundle import Member
from headstart.artifacts.run import EPOCHS, write_recipe
from headstart.averages import blend
from headstart.backbones.boundaries import FEATURES
from headstart.calibration import set_thresholds
from headstart.errors import BudgetError, RecipeError
from headstart.evaluate import calibrated_score, fit_temperature, score
from headstart.fingerprints import untrained
from headstart.preparing import CLOSING_S, Prepared
from headstart.recipe import Recipe
from headstart.run_context import RunContext
from headstart.search.clock import Clock
from headstart.search.material import Material
from headstart.search.measuring import disk_for_views, measure_speeds
from headstart.search.plan import (
    FEWEST_EPOCHS,
    MOST_EPOCHS,
    TARGET_EPOCHS,
    VIEWS_SHARE,
    candidate_boundaries,
    choose_boundary,
    choose_epochs,
    choose_length,
)
from headstart.search.stages import (
    Start,
    boundary_without_clock,
    check_head_alone,
    fixed_boundary,
    start_from,
    trainable,
    training_data,
    view_gap,
)
from headstart.search.trial import weights_of
from headstart.text import counted, percent
from headstart.train import (
    EpochRecord,
    TrainData,
    train,
    validation_logits,
)

REPORT_S_PER_IMAGE = 0.002


@dataclass(frozen=True)
class Finished:
    """A classifier that is trained and calibrated, and is to be proven and shipped.

    Attributes:
        ready: The data, with the images that it was trained on.
        recipe: The recipe that was trained.
        start: Holds the weights.
        temperature: For its logits, from held-out images.
        others: Further members of an ensemble, which differ behind the boundary alone.
        sets: Thresholds of class sets, from the same images; empty where there were none.
        held: Number of those images.
    """

    ready: Prepared
    recipe: Recipe
    start: Start
    temperature: float
    others: tuple[Member, ...] = ()
    sets: tuple[float, ...] = ()
    held: int = 0


def train_recipe(run: RunContext, ready: Prepared, recipe: Recipe) -> Finished:
    """Trains one recipe and calibrates it by the validation images.

    Args:
        run: The run; what was planned and done is recorded there.
        ready: The data and the backbone.
        recipe: What to train.
    """
    write_recipe(run.folder, recipe)
    start = begin(run, ready, recipe)
    logits = finetune(run, ready, recipe, start)
    labels = ready.material.labels["val"]
    temperature = fit_temperature(logits, labels)
    sets = set_thresholds(logits, labels, temperature)
    return Finished(ready, recipe, start, temperature, (), sets, len(labels))


def begin(run: RunContext, ready: Prepared, recipe: Recipe) -> Start:
    """Chooses the boundary, caches the evaluation views and makes the head."""
    material, clock = ready.material, run.clock
    fixed = fixed_boundary(material, recipe)
    by_clock = fixed is None and clock.budget_s is not None
    boundary = boundary_without_clock(material, recipe)
    images = len(material.labels["train"])
    if by_clock:
        ahead_s = images * ready.features_s + _probe_allowance(material)
        boundary = affordable_boundary(ready, recipe, clock, ahead_s)
    check_affordable(recipe, boundary, by_clock)
    if material.traced.reason:
        run.note(f"{material.backbone.name} is cut at its ends only: {material.traced.reason}.")
    began = time.monotonic()
    start = start_from(material, recipe, boundary)
    if by_clock:
        # Two seconds of measuring are easily disturbed. An earlier cut is worth what this start
        # took once more, but only where a whole schedule fits behind it.
        ahead_s = time.monotonic() - began
        again = affordable_boundary(ready, recipe, clock, ahead_s, TARGET_EPOCHS)
        if material.traced.boundary(again).position < material.traced.boundary(boundary).position:
            boundary = again
            start = start_from(material, recipe, boundary)
        if boundary == FEATURES:
            run.note("The budget leaves too few epochs at any boundary: only the head is trained.")
    if start.prefix.engine.note:
        run.note(start.prefix.engine.note + ".")
    run.record.boundary = boundary
    stage = "probe" if start.validated else "frozen prefix"
    with run.step(stage, f"run the frozen part up to {boundary!r} once on every image") as step:
        step.seconds = time.monotonic() - began
        step.happened(_describe_start(start))
    return start


def check_affordable(recipe: Recipe, boundary: str, by_clock: bool) -> None:
    """Refuses to train the head alone where the recipe needs more.

    Raises:
        BudgetError: If it was the clock that left no time for more.
        RecipeError: If it was not.
    """
    try:
        check_head_alone(recipe, boundary)
    except RecipeError as error:
        if not by_clock:
            raise
        raise BudgetError(
            "this budget leaves no time to train more than the head, and the recipe needs more: "
            f"{error} Give a larger --budget, or --epochs."
        ) from None


def affordable_boundary(
    ready: Prepared,
    recipe: Recipe,
    clock: Clock,
    ahead_s: float,
    least_epochs: int = FEWEST_EPOCHS,
) -> str:
    """Measures every candidate and returns the earliest at which enough epochs fit.

    Args:
        ready: The data and the backbone.
        recipe: What is to be trained.
        clock: The budget.
        ahead_s: Seconds that are needed before training.
        least_epochs: What is enough at least.
    """
    material = ready.material
    candidates = candidate_boundaries(material.traced)
    speeds = measure_speeds(material, recipe, candidates, ready.features_s)
    seconds = seconds_for_training(ready, recipe, clock) - ahead_s
    images = len(material.labels["train"])
    return choose_boundary(speeds, images, seconds, disk_for_views(material), least_epochs)


def _describe_start(start: Start) -> str:
    which = f"features of {', '.join(start.taps)} and the last" if start.taps else "last features"
    if start.validated is None:
        return f"{'head from' if start.solved else 'random head on'} {which}"
    return (
        f"cross-validated accuracy {start.validated.accuracy:.1%}, log loss "
        f"{start.validated.log_loss:.3f} ({which}, penalty {start.validated.strength:g})"
    )


def _probe_allowance(material: Material) -> float:
    """Returns the seconds that solving the head may take, from the size of the problem."""
    rows = len(material.labels["train"])
    work = rows * material.backbone.features * len(material.classes)
    return 2 + 25 * min(1.0, work / 1.5e9)


def seconds_for_training(ready: Prepared, recipe: Recipe, clock: Clock) -> float:
    """Returns what the budget leaves when all that comes after the last step is paid for."""
    left = clock.left()
    assert left is not None
    passes = 2 if recipe.test_time_flip else 1
    test_s = passes * ready.features_s + 1.5 * ready.decode_s + REPORT_S_PER_IMAGE
    # The training images' embeddings are taken once more, from what is cached at the boundary.
    gallery = len(ready.split.train) + len(ready.split.val)
    closing: float = len(ready.split.test) * test_s + gallery * ready.features_s / 2
    closing += _averaging_seconds(ready, recipe)
    return left - closing - CLOSING_S


def _averaging_seconds(ready: Prepared, recipe: Recipe) -> float:
    """Returns what is needed after the last step for statistics taken anew and for a soup."""
    # Eager PyTorch takes several times as long as the frozen network's engine.
    eager_s = 4 * ready.features_s
    seconds = 0.0
    if recipe.averaging.chooses_by_validation:
        seconds += MOST_EPOCHS * len(ready.split.val) * eager_s
    if recipe.averaging.needs_fresh_statistics:
        seconds += len(ready.split.train) * eager_s
    return seconds


def finetune(run: RunContext, ready: Prepared, recipe: Recipe, start: Start) -> NDArray[np.float32]:
    """Fine-tunes from the start and keeps whichever of both validates better.

    Returns:
        The validation logits (M, C) of the weights that were kept; they are in the modules.
    """
    material, device, record = ready.material, ready.material.device, run.record
    val_labels = material.labels["val"]
    at_start = TrainData(
        [start.cached["train"]],
        material.labels["train"],
        start.cached["val"],
        val_labels,
        val_mirrored=start.cached.get("val_mirrored"),
    )
    record.acted = list(start.acted)
    before = validation_logits(start.model.to(device), at_start, device)
    loss, accuracy = calibrated_score(before, val_labels)
    zero = EpochRecord(
        epoch=0, progress=0, lr=0, train_loss=None, val_loss=score(before, val_labels)[0],
        val_accuracy=accuracy, images_per_s=None, seconds=0,
    )  # fmt: skip
    EPOCHS.append(run.folder, zero)
    epochs, views = _length(run, ready, recipe, start)
    if not epochs:
        record.chosen = "probe" if start.solved else "random head"
        record.stop_reason = record.stop_reason or "the head has a closed form: nothing to train"
        record.acted += untrained(recipe, record.stop_reason)
        return before
    planned = f"{counted(epochs, 'epoch')} from {record.boundary!r}"
    run.say(f"training: {planned}")
    until = deadline = None
    with run.step("views", "augmented views") as step:
        if run.clock.budget_s is not None:
            seconds = seconds_for_training(ready, recipe, run.clock)
            until = time.monotonic() + VIEWS_SHARE * seconds
        viewed = recipe.model_copy(update={"views": views})
        data = training_data(material, viewed, start, epochs, until)
        record.views = len(data.views)
        step.planned = counted(record.views, "view")
    saved = [copy.deepcopy(module.state_dict()) for module in (material.backbone.model, start.head)]
    with run.step("training", planned) as step:
        if run.clock.budget_s is not None:
            deadline = time.monotonic() + seconds_for_training(ready, recipe, run.clock)
        last = zero
        for last in train_blended(material, recipe, start, data, epochs, deadline, "training"):
            EPOCHS.append(run.folder, last)
        record.acted += last.acted
        after = validation_logits(start.model, data, device)
        record.epochs = last.epoch
        record.stop_reason = (
            "the time budget was used up: the schedule was cut to fit"
            if last.epoch < epochs
            else "all planned epochs were trained"
        )
        after_loss, after_accuracy = calibrated_score(after, val_labels)
        better = not start.solved or (last.epoch > 0 and after_loss <= loss)
        record.chosen = "fine-tuned" if better else "probe"
        gap = view_gap(material, recipe, start, start.model, data)
        if gap is not None:
            record.cached_view_accuracy, record.fresh_view_accuracy = gap
        outcome = (
            f"{counted(last.epoch, 'epoch')}; validation accuracy {percent(accuracy)} to "
            f"{percent(after_accuracy)}, log loss {loss:.3f} to {after_loss:.3f}; kept: "
            f"{record.chosen}"
        )
        if better and recipe.blend < 1:
            outcome += f", weights blended {percent(recipe.blend, 0)} of the way from the start"
        step.happened(outcome)
    if better:
        return after
    for module, state in zip((material.backbone.model, start.head), saved, strict=True):
        module.load_state_dict(state)
    return before


def _length(run: RunContext, ready: Prepared, recipe: Recipe, start: Start) -> tuple[int, int]:
    """Returns the epochs and views to train: those of the recipe, or what the time allows."""
    at_features = start.prefix.boundary == FEATURES
    if at_features and start.solved and not recipe.head.has_hidden_layer:
        return 0, 0
    if recipe.epochs:
        return recipe.epochs, recipe.views
    material = ready.material
    boundary = material.traced.boundary(start.prefix.boundary)
    speed = measure_speeds(material, recipe, [boundary], ready.features_s)[boundary.name]
    images, seconds = len(material.labels["train"]), seconds_for_training(ready, recipe, run.clock)
    if recipe.views:
        epochs, views = choose_epochs(speed, images, seconds, recipe.views), recipe.views
    else:
        epochs, views = choose_length(speed, images, seconds)
    if not start.solved:  # nothing else to fall back on: the schedule runs by the clock
        return max(1, epochs), views
    if epochs < FEWEST_EPOCHS:
        run.record.stop_reason = "too little time was left to fine-tune, so the probe is kept"
        return 0, 0
    return epochs, views


def train_blended(
    material: Material,
    recipe: Recipe,
    start: Start,
    data: TrainData,
    epochs: int,
    deadline: float | None,
    what: str,
) -> Iterator[EpochRecord]:
    """Trains a whole schedule, yields and tells each epoch, and blends the weights in the end.

    Args:
        material: The backbone and where to train.
        recipe: Says how, and what share of the trained weights is kept.
        start: Where it begins, and where the weights end up.
        data: To train on.
        epochs: Of the schedule.
        deadline: On `time.monotonic`, by which the schedule has run; None for as long as it takes.
        what: Its name on the progress display.
    """
    before = weights_of(start) if recipe.blend < 1 else {}
    records = train(trainable(material, start), data, recipe, epochs, deadline)
    for epoch in material.progress.track(records, what, epochs):
        material.progress.say(describe_epoch(epoch, epochs))
        yield epoch
    if recipe.blend < 1:
        start.model.load_state_dict(blend(before, weights_of(start), recipe.blend))


def describe_epoch(epoch: EpochRecord, planned: int) -> str:
    """Returns a line on an epoch."""
    return (
        f"epoch {epoch.epoch}/{planned}: loss {epoch.train_loss:.3f}, "
        + ("" if epoch.val_accuracy is None else f"validation accuracy {epoch.val_accuracy:.1%}, ")
        + f"{epoch.images_per_s:.0f} images/s"
    )
