"""The main job: from labelled images to a proven classifier in a run folder."""

import copy
import shutil
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from headstart.artifacts.run import (
    PlanStep,
    Request,
    RunRecord,
    append_epoch,
    check_unclaimed,
    claim_folder,
    clear_unfinished,
    locked,
    machine,
    now,
    read_record,
    versions,
    write_record,
    write_start,
)
from headstart.backbones.cut import FEATURES
from headstart.cache import default_cache_dir, evict
from headstart.data.audit import summary_rows
from headstart.data.sources import load_dataset
from headstart.data.splits import save_split, split_notes
from headstart.data.types import Dataset
from headstart.errors import BudgetError, HeadstartError, InputError, RecipeError, RunError
from headstart.fingerprints import untrained
from headstart.methods.augmentation import NoAugmentation
from headstart.methods.averaging import SWA, GreedySoup, NoAveraging
from headstart.methods.freezing import HeadOnly, LastBlocks
from headstart.methods.head import MLP
from headstart.predict import Run
from headstart.preparing import CLOSING_S, Prepared, prepare
from headstart.progress import SILENT, Progress
from headstart.proving import prove
from headstart.recipe import FAMILIES, Recipe, load_recipe, with_settings
from headstart.report.page import write_report
from headstart.search.clock import Clock, parse_budget
from headstart.search.material import Material
from headstart.search.plan import (
    FEWEST_EPOCHS,
    MOST_EPOCHS,
    VIEWS_SHARE,
    candidate_boundaries,
    choose_boundary,
    choose_epochs,
)
from headstart.search.stages import (
    Start,
    blocks_of,
    boundary_without_clock,
    check_head_alone,
    disk_for_views,
    fixed_boundary,
    frozen_of,
    measure_speeds,
    start_from,
    training_data,
    view_gap,
)
from headstart.search.study import SEARCH_RECIPE
from headstart.searching import find_recipe, searchable
from headstart.train import (
    EpochRecord,
    TrainData,
    calibrated_score,
    score,
    train,
    validation_logits,
)

Strategy = Literal["head", "finetune"]

DEFAULT_BUDGET = "10m"
REPORT_S_PER_IMAGE = 0.002


def fit(
    source: Any,
    *,
    labels: Sequence[str] | None = None,
    budget: str | float | None = None,
    epochs: int | None = None,
    trials: int | None = None,
    recipe: str | Recipe = "default",
    strategy: Strategy | None = None,
    backbone: str | None = None,
    weights: str | None = None,
    settings: Sequence[str] = (),
    out: str | Path | None = None,
    seed: int | None = None,
    split_seed: int = 0,
    split: str | Path | None = None,
    boxes: Literal["crop", "keep"] = "crop",
    workers: int | None = None,
    cache_dir: str | Path | None = None,
    progress: Progress = SILENT,
    command: str = "",
    started: float | None = None,
) -> Run:
    """Trains, proves and ships a classifier, and returns the run.

    Args:
        source: A folder, a manifest, `demo:solar`, a DataFrame or a list of paths.
        labels: Of a list of paths.
        budget: Ceiling on the wall time, as seconds or text such as `10m`; 10 minutes unless
            epochs are given.
        epochs: Length of training instead of a budget; the result then repeats bit by bit.
        trials: Recipes to try on short schedules before the best one is trained on the whole
            one; the result then repeats bit by bit, and `resume` goes on with it if it is stopped.
        recipe: A recipe, a named one (`default`, `probe`, `naive`), or a TOML or JSON file.
        strategy: `head` trains the head alone; `finetune` the last blocks with it.
        backbone: Name of a timm model.
        weights: `pretrained`, `random` or a local file.
        settings: Changes to the recipe such as `optimizer.lr=3e-4`.
        out: Folder of the run; `runs/NAME-TIME` by default.
        seed: Of everything drawn in training and views.
        split_seed: Of the split, apart from `seed` so that seeds share one test set.
        split: A split file to use instead.
        boxes: Whether images are cropped to boxes that the source gives.
        workers: Processes that decode images.
        cache_dir: Folder of the cache; `$HEADSTART_CACHE` or the user's cache folder by default.
        progress: Where progress is shown.
        command: What repeats this run, for the record.
        started: When the process began, on `time.monotonic`; now by default.

    Raises:
        InputError: If nothing can be trained from what was given; nothing is written then.
        HeadstartError: If the machine failed.
    """
    clock = Clock(started or time.monotonic(), _budget_seconds(budget, epochs, trials, recipe))
    chosen = _recipe(recipe, strategy, backbone, weights, epochs, seed, settings)
    request = None
    if trials is not None:
        chosen = searchable(chosen)
        request = _request(source, boxes, trials, split_seed)
    cache = Path(cache_dir) if cache_dir else default_cache_dir()
    if out is not None:
        check_unclaimed(Path(out))
    dataset = load_dataset(source, labels=labels, boxes=boxes)
    folder = Path(out) if out else _default_folder(dataset)
    ready = prepare(dataset, chosen, clock, split, split_seed, cache, workers, progress)
    record = _first_record(ready, clock, command, request)
    claim_folder(folder)
    with locked(folder):
        write_start(folder, record, chosen, ready.audited.audit)
        _save_split(folder, ready)
        return _run(ready, chosen, clock, folder, record, cache, progress)


def resume(
    folder: str | Path,
    *,
    workers: int | None = None,
    cache_dir: str | Path | None = None,
    progress: Progress = SILENT,
    started: float | None = None,
) -> Run:
    """Goes on with a search that was stopped, however it was; the result is that of one go.

    Args:
        folder: Of the run.
        workers: Processes that decode images.
        cache_dir: Folder of the cache; `$HEADSTART_CACHE` or the user's cache folder by default.
        progress: Where progress is shown.
        started: When the process began, on `time.monotonic`; now by default.

    Raises:
        RunError: If there is no such search, it is done, or another process works on it.
    """
    path = Path(folder)
    clock = Clock(started or time.monotonic())
    record = read_record(path)
    if record.status == "done":
        raise RunError(f"{path} is done; there is nothing to go on with.")
    if record.request is None:
        raise RunError(
            f"{path} cannot be resumed, as it was no search with --trials; run its command again "
            "with another --out."
        )
    if not record.request.source:
        raise RunError(f"{path} cannot be resumed: its images were given in Python, by no path.")
    with locked(path):
        clear_unfinished(path)
        begun = (path / SEARCH_RECIPE).exists()
        base = load_recipe(str(path / (SEARCH_RECIPE if begun else "recipe.toml")))
        cache = Path(cache_dir) if cache_dir else default_cache_dir()
        asked = record.request
        dataset = load_dataset(asked.source, boxes=asked.boxes)
        split = path / "split.csv"
        given = split if split.exists() else None
        ready = prepare(dataset, base, clock, given, asked.split_seed, cache, workers, progress)
        fresh = _first_record(ready, clock, record.command, asked)
        fresh = fresh.model_copy(update={"started_at": record.started_at})
        return _run(ready, base, clock, path, fresh, cache, progress)


def _run(
    ready: Prepared,
    chosen: Recipe,
    clock: Clock,
    folder: Path,
    record: RunRecord,
    cache: Path,
    progress: Progress,
) -> Run:
    """Searches where it is asked for, trains, proves and reports."""
    _say_start(ready, record, progress)
    with _ending(folder, record, clock, progress):
        if record.request is not None:
            trials = record.request.trials
            chosen = find_recipe(ready, chosen, trials, folder, record, progress)
        start = _start(ready, chosen, clock, record, progress)
        logits = _train(ready, chosen, clock, start, folder, record, progress)
        metrics = prove(ready, chosen, start, logits, folder, record, progress)
        record.status = "done"
        record.seconds = clock.elapsed()
        write_record(folder, record)
        write_report(folder)
        evict(cache)
    record.seconds = clock.elapsed()
    write_record(folder, record)
    return Run(folder, record, metrics)


def _request(source: Any, boxes: Literal["crop", "keep"], trials: int, split_seed: int) -> Request:
    if trials < 1:
        raise InputError(f"{trials} trials were asked for; ask for one at least.")
    named = str(source) if isinstance(source, str | Path) else ""
    if named and Path(named).exists():
        named = str(Path(named).resolve())
    return Request(source=named, boxes=boxes, trials=trials, split_seed=split_seed)


def _save_split(folder: Path, ready: Prepared) -> None:
    keys = [ready.dataset.key(int(index)) for index in ready.audited.kept]
    save_split(folder / "split.csv", ready.split, keys)


def _budget_seconds(
    budget: str | float | None, epochs: int | None, trials: int | None, recipe: str | Recipe
) -> float | None:
    if budget is not None and epochs is not None:
        raise BudgetError("give either a budget or a number of epochs, not both.")
    if budget is not None and trials is not None:
        raise BudgetError("give either a budget or a number of trials, not both.")
    if budget is None:
        fixed = (
            epochs is not None
            or trials is not None
            or (isinstance(recipe, Recipe) and recipe.epochs)
        )
        return None if fixed else parse_budget(DEFAULT_BUDGET)
    return parse_budget(budget) if isinstance(budget, str) else float(budget)


def _recipe(
    recipe: str | Recipe,
    strategy: Strategy | None,
    backbone: str | None,
    weights: str | None,
    epochs: int | None,
    seed: int | None,
    settings: Sequence[str],
) -> Recipe:
    chosen = load_recipe(recipe) if isinstance(recipe, str) else recipe
    if strategy == "head":
        # The head is solved on the images as they are evaluated; nothing else moves.
        simple = {"freezing": HeadOnly(), "augmentation": NoAugmentation()}
        chosen = chosen.model_copy(update={**simple, "averaging": NoAveraging()})
    elif strategy == "finetune" and isinstance(chosen.freezing, HeadOnly):
        chosen = chosen.model_copy(update={"freezing": LastBlocks()})
    given = {"backbone.name": backbone, "backbone.weights": weights, "epochs": epochs, "seed": seed}
    flags = [f"{key}={value}" for key, value in given.items() if value is not None]
    chosen = with_settings(chosen, [*flags, *settings])
    _refuse_idle_settings(chosen, settings)
    return chosen


def _refuse_idle_settings(recipe: Recipe, settings: Sequence[str]) -> None:
    """Refuses what was set by hand and cannot act, as nothing is trained by gradient.

    Raises:
        RecipeError: Naming all of it.
    """
    by_gradient = set(FAMILIES) - {"backbone", "head", "freezing"}
    families = {setting.partition("=")[0].partition(".")[0].strip() for setting in settings}
    idle = sorted(
        family
        for family in families & by_gradient
        if getattr(recipe, family).name not in {"none", "keep"}
    )
    if recipe.closed_form and idle:
        raise RecipeError(
            f"{', '.join(idle)}: nothing is trained by gradient, as the head is solved in closed "
            "form on frozen features. Set head.init=random or another freezing, or leave it out."
        )


def _default_folder(dataset: Dataset) -> Path:
    stamp = datetime.now().astimezone().strftime("%Y%m%d-%H%M%S")
    return Path("runs") / f"{dataset.name}-{stamp}"


def _first_record(
    ready: Prepared, clock: Clock, command: str, request: Request | None
) -> RunRecord:
    dataset, split, network = ready.dataset, ready.split, ready.material.backbone
    names = [dataset.items[int(index)].label for index in ready.audited.kept]
    return RunRecord(
        command=command,
        started_at=now(),
        budget_s=clock.budget_s,
        request=request,
        data_name=dataset.name,
        data_root=str(dataset.root.resolve()),
        licence=dataset.licence,
        n_train=len(split.train),
        n_val=len(split.val),
        n_test=len(split.test),
        classes=ready.material.classes,
        backbone=network.name,
        backbone_source=network.source,
        notes=[*dataset.notes, *split_notes(names, split)],
        versions=versions(),
        machine=machine(),
    )


def _say_start(ready: Prepared, record: RunRecord, progress: Progress) -> None:
    for what, severity, message in summary_rows(ready.audited.audit):
        if severity == "warning":
            progress.say(f"{severity}: {what}: {message}")
    progress.say(
        f"{record.data_name}: {record.n_train} images to train on, {record.n_val} to validate, "
        f"{record.n_test} sealed for the test; {len(record.classes)} classes; {record.backbone}"
    )


def _start(
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
        boundary = _affordable_boundary(ready, recipe, clock, ahead_s)
    try:
        check_head_alone(recipe, boundary)
    except RecipeError as error:
        if not by_clock:
            raise
        raise BudgetError(
            "this budget leaves no time to train more than the head, and the recipe needs more: "
            f"{error} Give a larger --budget, or --epochs."
        ) from None
    if material.traced.reason:
        record.notes.append(
            f"{material.backbone.name} is cut at its ends only: {material.traced.reason}."
        )
    began = time.monotonic()
    start = start_from(material, recipe, boundary)
    if by_clock:
        # Two seconds of measuring are easily disturbed; an earlier cut is worth a second start.
        again = _affordable_boundary(ready, recipe, clock, 0.0)
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


def _affordable_boundary(ready: Prepared, recipe: Recipe, clock: Clock, ahead_s: float) -> str:
    """Measures every candidate and returns the earliest at which enough epochs fit.

    Args:
        ready: The data and the backbone.
        recipe: What is to be trained.
        clock: The budget.
        ahead_s: Seconds that are needed before training.
    """
    material = ready.material
    candidates = candidate_boundaries(material.traced)
    speeds = measure_speeds(material, recipe, candidates, ready.features_s)
    seconds = _seconds_for_training(ready, recipe, clock) - ahead_s
    images = len(material.labels["train"])
    return choose_boundary(speeds, images, seconds, disk_for_views(material))


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


def _seconds_for_training(ready: Prepared, recipe: Recipe, clock: Clock) -> float:
    """Returns what the budget leaves when all that comes after the last step is paid for."""
    left = clock.left()
    assert left is not None
    passes = 2 if recipe.test_time_flip else 1
    test_s = passes * ready.features_s + 1.5 * ready.decode_s + REPORT_S_PER_IMAGE
    # The training images' embeddings are taken once more.
    closing: float = len(ready.split.test) * test_s + len(ready.split.train) * ready.features_s
    closing += _averaging_seconds(ready, recipe)
    return left - closing - CLOSING_S


def _averaging_seconds(ready: Prepared, recipe: Recipe) -> float:
    """Returns what is needed after the last step for statistics taken anew and for a soup."""
    # Eager PyTorch takes several times as long as the frozen network's engine.
    eager_s = 4 * ready.features_s
    seconds = 0.0
    if isinstance(recipe.averaging, GreedySoup):
        seconds += MOST_EPOCHS * len(ready.split.val) * eager_s
    if isinstance(recipe.averaging, SWA | GreedySoup):
        seconds += len(ready.split.train) * eager_s
    return seconds


def _train(
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
    epochs = _epochs(ready, recipe, clock, start, record)
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
        until = began + VIEWS_SHARE * _seconds_for_training(ready, recipe, clock)
    data = training_data(material, recipe, start, epochs, until)
    record.views = len(data.views)
    views_s = time.monotonic() - began
    if clock.budget_s is not None:
        seconds = _seconds_for_training(ready, recipe, clock)
        deadline = time.monotonic() + seconds
    saved = [copy.deepcopy(module.state_dict()) for module in (material.backbone.model, start.head)]
    records = train(
        start.suffix,
        start.head,
        data,
        recipe,
        epochs,
        deadline,
        device,
        blocks_of(material, start),
        frozen_of(material, start),
    )
    last = zero
    for last in progress.track(records, "training", epochs):
        append_epoch(folder, last)
        progress.say(_describe_epoch(last, epochs))
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


def _epochs(ready: Prepared, recipe: Recipe, clock: Clock, start: Start, record: RunRecord) -> int:
    """Returns the epochs to train: those of the recipe, or as many as the time allows."""
    at_features = start.prefix.boundary == FEATURES
    if at_features and start.solved and not isinstance(recipe.head, MLP):
        return 0
    if recipe.epochs:
        return recipe.epochs
    material = ready.material
    boundary = material.traced.boundary(start.prefix.boundary)
    speed = measure_speeds(material, recipe, [boundary], ready.features_s)[boundary.name]
    images = len(material.labels["train"])
    epochs = choose_epochs(speed, images, _seconds_for_training(ready, recipe, clock))
    if not start.solved:  # nothing else to fall back on: the schedule runs by the clock
        return max(1, epochs)
    if epochs < FEWEST_EPOCHS:
        record.stop_reason = "too little time was left to fine-tune: the probe is what there is"
        return 0
    return epochs


def _describe_epoch(epoch: EpochRecord, planned: int) -> str:
    return (
        f"epoch {epoch.epoch}/{planned}: loss {epoch.train_loss:.3f}, validation accuracy "
        f"{epoch.val_accuracy:.1%}, {epoch.images_per_s:.0f} images/s"
    )


@contextmanager
def _ending(folder: Path, record: RunRecord, clock: Clock, progress: Progress) -> Iterator[None]:
    """Writes into the run how it ended when it did not end well."""
    try:
        yield
    except BaseException as error:
        record.seconds = clock.elapsed()
        record.status = "interrupted" if isinstance(error, KeyboardInterrupt) else "failed"
        record.stop_reason = f"{type(error).__name__}: {error}".rstrip(": ")
        try:
            write_record(folder, record)
        except (HeadstartError, OSError):
            shutil.rmtree(folder / "bundle", ignore_errors=True)
        if record.status == "interrupted":
            progress.say(
                f"{folder} keeps every trial that ended: `headstart resume {folder}` goes on."
                if record.request
                else f"{folder} keeps the recipe, the split and the journal; decoded images and "
                "activations stay cached, so the same command with another --out starts from them."
            )
        raise
