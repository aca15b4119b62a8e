"""One recipe from its start to the weights that are kept: cut, head, views, training."""

import copy
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from headstart.artifacts.run import PlanStep, RunRecord, append_epoch
from headstart.averages import blend
from headstart.backbones.boundaries import FEATURES
from headstart.errors import BudgetError, RecipeError
from headstart.evaluate import calibrated_score, score
from headstart.fingerprints import untrained
from headstart.preparing import CLOSING_S, Prepared
from headstart.progress import Progress
from headstart.recipe import Recipe
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
from headstart.train import (
    EpochRecord,
    TrainData,
    train,
    validation_logits,
)

REPORT_S_PER_IMAGE = 0.002


def begin(
    ready: Prepared, recipe: Recipe, clock: Clock, record: RunRecord, progress: Progress
) -> Start:
    """Chooses the boundary, caches the evaluation views and makes the head."""
    material = ready.material
    fixed = fixed_boundary(material, recipe)
    by_clock = fixed is None and clock.budget_s is not None
    boundary = boundary_without_clock(material, recipe)
    images = len(material.labels["train"])
    if by_clock:
        ahead_s = images * ready.features_s + _probe_allowance(material)
        boundary = affordable_boundary(ready, recipe, clock, ahead_s)
    check_affordable(recipe, boundary, by_clock)
    if material.traced.reason:
        record.notes.append(
            f"{material.backbone.name} is cut at its ends only: {material.traced.reason}."
        )
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
            record.notes.append(
                "No boundary leaves enough epochs in this budget: the head is trained alone."
            )
    if start.prefix.engine.note:
        record.notes.append(start.prefix.engine.note + ".")
    record.boundary = boundary
    step = PlanStep(
        stage="probe" if start.validated else "frozen prefix",
        planned=f"run the frozen part up to {boundary!r} once on every image",
        happened=_describe_start(start),
        seconds=time.monotonic() - began,
    )
    record.plan.append(step)
    progress.say(f"{step.stage}: {step.happened}")
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


def finetune(
    ready: Prepared,
    recipe: Recipe,
    clock: Clock,
    start: Start,
    folder: Path,
    record: RunRecord,
    progress: Progress,
) -> NDArray[np.float32]:
    """Fine-tunes from the start and keeps whichever of both validates better.

    Returns:
        The validation logits (M, C) of the weights that were kept; they are in the modules.
    """
    material, device = ready.material, ready.material.device
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
    append_epoch(folder, zero)
    epochs, views = _length(ready, recipe, clock, start, record)
    if not epochs:
        record.chosen = "probe" if start.solved else "random head"
        record.stop_reason = record.stop_reason or "the head has a closed form: nothing to train"
        record.acted += untrained(recipe, record.stop_reason)
        return before
    planned = f"{epochs} epochs from {record.boundary!r}"
    progress.say(f"training: {planned}")
    began = time.monotonic()
    until = deadline = None
    if clock.budget_s is not None:
        until = began + VIEWS_SHARE * seconds_for_training(ready, recipe, clock)
    viewed = recipe.model_copy(update={"views": views})
    data = training_data(material, viewed, start, epochs, until)
    record.views = len(data.views)
    views_s = time.monotonic() - began
    if clock.budget_s is not None:
        seconds = seconds_for_training(ready, recipe, clock)
        deadline = time.monotonic() + seconds
    saved = [copy.deepcopy(module.state_dict()) for module in (material.backbone.model, start.head)]
    last = zero
    for last in train_blended(
        material, recipe, start, data, epochs, deadline, "training", progress
    ):
        append_epoch(folder, last)
    record.acted += last.acted
    after = validation_logits(start.model, data, device)
    record.epochs = last.epoch
    record.stop_reason = (
        "the time budget was used up: the schedule ran by the clock"
        if last.epoch < epochs
        else "all planned epochs were trained"
    )
    after_loss, after_accuracy = calibrated_score(after, val_labels)
    better = not start.solved or (last.epoch > 0 and after_loss <= loss)
    record.chosen = "fine-tuned" if better else "probe"
    gap = view_gap(material, recipe, start, start.model, data)
    if gap is not None:
        record.cached_view_accuracy, record.fresh_view_accuracy = gap
    happened = (
        f"validation accuracy {accuracy:.1%} to {after_accuracy:.1%}, "
        f"log loss {loss:.3f} to {after_loss:.3f}; kept: {record.chosen}"
    )
    if better and recipe.blend < 1:
        happened += f", weights {recipe.blend:.0%} of the way from where they began"
    record.plan += [
        PlanStep(stage="views", planned=f"{len(data.views)} views", seconds=views_s),
        PlanStep(
            stage="training",
            planned=planned,
            happened=f"{last.epoch} epochs; {happened}",
            seconds=time.monotonic() - began - views_s,
        ),
    ]
    progress.say(f"training: {happened}")
    if better:
        return after
    for module, state in zip((material.backbone.model, start.head), saved, strict=True):
        module.load_state_dict(state)
    return before


def _length(
    ready: Prepared, recipe: Recipe, clock: Clock, start: Start, record: RunRecord
) -> tuple[int, int]:
    """Returns the epochs and views to train: those of the recipe, or what the time allows."""
    at_features = start.prefix.boundary == FEATURES
    if at_features and start.solved and not recipe.head.has_hidden_layer:
        return 0, 0
    if recipe.epochs:
        return recipe.epochs, recipe.views
    material = ready.material
    boundary = material.traced.boundary(start.prefix.boundary)
    speed = measure_speeds(material, recipe, [boundary], ready.features_s)[boundary.name]
    images, seconds = len(material.labels["train"]), seconds_for_training(ready, recipe, clock)
    if recipe.views:
        epochs, views = choose_epochs(speed, images, seconds, recipe.views), recipe.views
    else:
        epochs, views = choose_length(speed, images, seconds)
    if not start.solved:  # nothing else to fall back on: the schedule runs by the clock
        return max(1, epochs), views
    if epochs < FEWEST_EPOCHS:
        record.stop_reason = "too little time was left to fine-tune: the probe is what there is"
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
    progress: Progress,
) -> Iterator[EpochRecord]:
    """Trains a whole schedule, yields and tells each epoch, and blends the weights in the end.

    Args:
        material: The backbone and where to train.
        recipe: Says how, and what share of the trained weights is kept.
        start: Where it begins, and where the weights end up.
        data: To train on.
        epochs: Of the schedule.
        deadline: On `time.monotonic`, by which the schedule has run; None for as long as it takes.
        what: Names it to people.
        progress: Where progress is shown.
    """
    before = weights_of(start) if recipe.blend < 1 else {}
    records = train(trainable(material, start), data, recipe, epochs, deadline)
    for epoch in progress.track(records, what, epochs):
        progress.say(describe_epoch(epoch, epochs))
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
