"""The main job: from labelled images to a proven classifier in a run folder."""

import copy
import shutil
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from math import ceil
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray

from headstart.artifacts.bundle import Bundle, load_bundle, predict_logits, save_bundle
from headstart.artifacts.run import (
    PlanStep,
    RunRecord,
    TestPrediction,
    append_epoch,
    check_unclaimed,
    claim_folder,
    machine,
    now,
    versions,
    write_record,
    write_result,
    write_start,
)
from headstart.backbones.catalog import Backbone, load_backbone
from headstart.backbones.cut import FEATURES, trace
from headstart.cache import default_cache_dir, evict
from headstart.data.audit import AuditResult, audit, summary_rows
from headstart.data.decode import Pixels, decode_dataset
from headstart.data.sources import load_dataset
from headstart.data.splits import Split, make_split, read_split, save_split, split_notes
from headstart.data.types import Dataset, Item
from headstart.errors import BudgetError, DataError, HeadstartError
from headstart.evaluate import Metrics, SealedTest, compute_metrics, fit_temperature, softmax
from headstart.methods.augmentation import NoAugmentation
from headstart.methods.averaging import NoAveraging
from headstart.methods.freezing import HeadOnly, LastBlocks
from headstart.predict import Run
from headstart.progress import SILENT, Progress, format_duration
from headstart.recipe import Recipe, load_recipe, with_settings
from headstart.report.page import write_report
from headstart.search.clock import Clock, parse_budget
from headstart.search.material import Material
from headstart.search.plan import (
    FEWEST_EPOCHS,
    VIEWS_SHARE,
    candidate_boundaries,
    choose_boundary,
    choose_epochs,
    unmeasured_boundary,
)
from headstart.search.stages import (
    Start,
    disk_for_views,
    fixed_boundary,
    measure_decoding,
    measure_features,
    measure_speeds,
    start_from,
    suffix_of,
    training_data,
    view_gap,
)
from headstart.train import EpochRecord, predict, score, train

Strategy = Literal["head", "finetune"]

DEFAULT_BUDGET = "10m"
CLOSING_S = 7.0
"""Seconds kept for comparing views, writing and reloading the bundle, and drawing the report."""
REPORT_S_PER_IMAGE = 0.002


@dataclass(frozen=True)
class _Prepared:
    """What is known before anything is trained."""

    dataset: Dataset
    pixels: Pixels
    audited: AuditResult
    split: Split
    material: Material
    decode_s: float
    features_s: float


def fit(
    source: Any,
    *,
    labels: Sequence[str] | None = None,
    budget: str | float | None = None,
    epochs: int | None = None,
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
    clock = Clock(started or time.monotonic(), _budget_seconds(budget, epochs, recipe))
    chosen = _recipe(recipe, strategy, backbone, weights, epochs, seed, settings)
    cache = Path(cache_dir) if cache_dir else default_cache_dir()
    if out is not None:
        check_unclaimed(Path(out))
    dataset = load_dataset(source, labels=labels, boxes=boxes)
    folder = Path(out) if out else _default_folder(dataset)
    ready = _prepare(dataset, chosen, clock, split, split_seed, cache, workers, progress)
    record = _first_record(ready, chosen, clock, command)
    claim_folder(folder)
    write_start(folder, record, chosen, ready.audited.audit)
    keys = [dataset.key(int(index)) for index in ready.audited.kept]
    save_split(folder / "split.csv", ready.split, keys)
    _say_start(ready, record, progress)
    with _ending(folder, record, clock, progress):
        start = _start(ready, chosen, clock, record, progress)
        result = _train(ready, chosen, clock, start, folder, record, progress)
        metrics = _prove(ready, chosen, start, result, folder, record, progress)
        record.status = "done"
        record.seconds = clock.elapsed()
        write_record(folder, record)
        write_report(folder)
        evict(cache)
    record.seconds = clock.elapsed()
    write_record(folder, record)
    return Run(folder, record, metrics)


def _budget_seconds(
    budget: str | float | None, epochs: int | None, recipe: str | Recipe
) -> float | None:
    if budget is not None and epochs is not None:
        raise BudgetError("give either a budget or a number of epochs, not both.")
    if budget is None:
        fixed = epochs is not None or (isinstance(recipe, Recipe) and recipe.epochs)
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
    return with_settings(chosen, [*flags, *settings])


def _default_folder(dataset: Dataset) -> Path:
    stamp = datetime.now().astimezone().strftime("%Y%m%d-%H%M%S")
    return Path("runs") / f"{dataset.name}-{stamp}"


def _prepare(
    dataset: Dataset,
    recipe: Recipe,
    clock: Clock,
    split_file: str | Path | None,
    split_seed: int,
    cache: Path,
    workers: int | None,
    progress: Progress,
) -> _Prepared:
    """Loads the backbone, decodes, audits and splits; refuses a budget that is too small."""
    network = _load_backbone(recipe)
    preprocessing = network.preprocessing
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    traced = trace(network.model, preprocessing.resolution)
    empty = np.empty(0, np.int64)
    none: dict[str, NDArray[np.int64]] = {}
    pixels = Pixels((), empty.reshape(0, 2), "", empty, np.empty(0, np.uint8))
    material = Material(
        pixels, none, none, empty, dataset.classes, network, traced, device, cache, progress
    )
    fixed_boundary(material, recipe)  # a wrong name is refused before any work
    decode_s = features_s = 0.0
    if clock.budget_s is not None:
        paths = [item.path for item in dataset.items]
        decode_s = measure_decoding(paths, preprocessing.resize) / (torch.get_num_threads())
        features_s = measure_features(material)
        _refuse_too_little(clock, len(dataset.items), decode_s, features_s)
    pixels = decode_dataset(
        dataset.items, preprocessing.resize, cache, workers=workers, progress=progress
    )
    audited = audit(dataset, pixels.facts, preprocessing.resolution)
    kept = audited.kept
    keys = [dataset.key(int(index)) for index in kept]
    names = [dataset.items[int(index)].label for index in kept]
    given = [dataset.items[int(index)].split for index in kept]
    if split_file is not None:
        given = read_split(Path(split_file), keys)
    split = make_split(names, audited.groups, given=given, seed=split_seed, keys=keys)
    if not len(split.val):
        raise DataError(
            f"{dataset.name} has too few images to validate on: at least one class needs 4 that "
            "are no copies of each other."
        )
    classes = tuple(sorted(set(names)))
    numbers = np.array([classes.index(name) for name in names], np.int64)
    material = Material(
        pixels=pixels,
        rows={"train": kept[split.train], "val": kept[split.val]},
        labels={"train": numbers[split.train], "val": numbers[split.val]},
        groups=audited.groups[split.train],
        classes=classes,
        backbone=network,
        traced=traced,
        device=device,
        cache_dir=cache,
        progress=progress,
    )
    return _Prepared(dataset, pixels, audited, split, material, decode_s, features_s)


def _load_backbone(recipe: Recipe) -> Backbone:
    choice = recipe.backbone
    return load_backbone(
        choice.name,
        weights=choice.weights,
        resolution=choice.resolution or None,
        drop_path=choice.drop_path,
        seed=recipe.seed,
    )


def _refuse_too_little(clock: Clock, images: int, decode_s: float, features_s: float) -> None:
    """Refuses a budget in which not even a head on frozen features can be trained and tested.

    Raises:
        BudgetError: With the least that would do.
    """
    assert clock.budget_s is not None
    least = clock.elapsed() + CLOSING_S + images * (1.3 * decode_s + features_s + 0.002)
    if least > clock.budget_s:
        shown = 5 * ceil(least * 1.1 / 5)
        raise BudgetError(
            f"a budget of {format_duration(clock.budget_s)} is too short for {images} images on "
            f"this machine: the cheapest path takes about {shown} s. Give --budget {shown}s."
        )


def _first_record(ready: _Prepared, recipe: Recipe, clock: Clock, command: str) -> RunRecord:
    dataset, split, network = ready.dataset, ready.split, ready.material.backbone
    names = [dataset.items[int(index)].label for index in ready.audited.kept]
    return RunRecord(
        command=command,
        started_at=now(),
        budget_s=clock.budget_s,
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


def _say_start(ready: _Prepared, record: RunRecord, progress: Progress) -> None:
    for what, severity, message in summary_rows(ready.audited.audit):
        if severity == "warning":
            progress.say(f"{severity}: {what}: {message}")
    progress.say(
        f"{record.data_name}: {record.n_train} images to train on, {record.n_val} to validate, "
        f"{record.n_test} sealed for the test; {len(record.classes)} classes; {record.backbone}"
    )


def _start(
    ready: _Prepared, recipe: Recipe, clock: Clock, record: RunRecord, progress: Progress
) -> Start:
    """Chooses the boundary, caches the evaluation views and makes the head."""
    material = ready.material
    fixed = fixed_boundary(material, recipe)
    by_clock = fixed is None and clock.budget_s is not None
    boundary = fixed or unmeasured_boundary(material.traced)
    if by_clock:
        boundary = _affordable_boundary(ready, recipe, clock)
    if material.traced.reason:
        record.notes.append(
            f"{material.backbone.name} is cut at its ends only: {material.traced.reason}."
        )
    began = time.monotonic()
    start = start_from(material, recipe, boundary)
    if by_clock:
        # Two seconds of measuring are easily disturbed; an earlier cut is worth a second start.
        again = _affordable_boundary(ready, recipe, clock)
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
        stage="probe" if start.probe else "frozen prefix",
        planned=f"run the frozen part up to {boundary!r} once on every image",
        happened=_describe_start(start),
        seconds=time.monotonic() - began,
    )
    record.plan.append(step)
    progress.say(f"{step.stage}: {step.happened}")
    return start


def _affordable_boundary(ready: _Prepared, recipe: Recipe, clock: Clock) -> str:
    """Measures every candidate and returns the earliest at which enough epochs fit."""
    material = ready.material
    images = len(material.labels["train"])
    candidates = candidate_boundaries(material.traced)
    speeds = measure_speeds(material, recipe, candidates, ready.features_s)
    seconds = _seconds_for_training(ready, clock)
    seconds -= images * ready.features_s + _probe_allowance(material)
    return choose_boundary(speeds, images, seconds, disk_for_views(material))


def _describe_start(start: Start) -> str:
    if start.probe is None:
        return "random head"
    validated = start.probe.validated
    which = f"features of {', '.join(start.taps)} and the last" if start.taps else "last features"
    return (
        f"cross-validated accuracy {validated.accuracy:.1%}, log loss {validated.log_loss:.3f} "
        f"({which}, penalty {validated.strength:g})"
    )


def _probe_allowance(material: Material) -> float:
    """Returns the seconds that solving the head may take, from the size of the problem."""
    rows = len(material.labels["train"])
    work = rows * material.backbone.features * len(material.classes)
    return 2 + 25 * min(1.0, work / 1.5e9)


def _seconds_for_training(ready: _Prepared, clock: Clock) -> float:
    """Returns what the budget leaves when the proof is paid for."""
    left = clock.left()
    assert left is not None
    tested = len(ready.split.test)
    proof: float = tested * (ready.features_s + 1.5 * ready.decode_s + REPORT_S_PER_IMAGE)
    return left - proof - CLOSING_S


@dataclass(frozen=True)
class _Trained:
    """The weights that were chosen are in the modules; these are their validation logits."""

    head: torch.nn.Module
    val_logits: NDArray[np.float32]


def _train(
    ready: _Prepared,
    recipe: Recipe,
    clock: Clock,
    start: Start,
    folder: Path,
    record: RunRecord,
    progress: Progress,
) -> _Trained:
    """Fine-tunes from the start and keeps whichever of both validates better."""
    material = ready.material
    trained_part = suffix_of(material, start)
    model = torch.nn.Sequential(trained_part, start.head)
    val, val_labels = start.cached["val"], material.labels["val"]
    before = predict(model.to(material.device), val, device=material.device)
    loss, accuracy = _calibrated_score(before, val_labels)
    zero = EpochRecord(
        epoch=0, progress=0, lr=0, train_loss=None, val_loss=score(before, val_labels)[0],
        val_accuracy=accuracy, images_per_s=None, seconds=0,
    )  # fmt: skip
    append_epoch(folder, zero)
    epochs = _epochs(ready, recipe, clock, start, record)
    if not epochs:
        record.chosen = "probe" if start.probe else "random head"
        record.stop_reason = record.stop_reason or "the head has a closed form: nothing to train"
        return _Trained(start.head, before)
    planned = f"{epochs} epochs from {record.boundary!r}"
    progress.say(f"training: {planned}")
    began = time.monotonic()
    until = deadline = None
    if clock.budget_s is not None:
        until = began + VIEWS_SHARE * _seconds_for_training(ready, clock)
    data = training_data(material, recipe, start, epochs, until)
    record.views = len(data.views)
    views_s = time.monotonic() - began
    if clock.budget_s is not None:
        seconds = _seconds_for_training(ready, clock)
        deadline = time.monotonic() + seconds
    saved = [copy.deepcopy(module.state_dict()) for module in (material.backbone.model, start.head)]
    records = train(trained_part, start.head, data, recipe, epochs, deadline, material.device)
    last = zero
    for last in progress.track(records, "training", epochs):
        append_epoch(folder, last)
        progress.say(_describe_epoch(last, epochs))
    after = predict(model, val, device=material.device)
    record.epochs = last.epoch
    record.stop_reason = (
        "the time budget was used up: the schedule ran by the clock"
        if last.epoch < epochs
        else "all planned epochs were trained"
    )
    after_loss, after_accuracy = _calibrated_score(after, val_labels)
    better = not start.probe or (last.epoch > 0 and after_loss <= loss)
    record.chosen = "fine-tuned" if better else "probe"
    gap = view_gap(material, recipe, start, model, data)
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
        return _Trained(start.head, after)
    for module, state in zip((material.backbone.model, start.head), saved, strict=True):
        module.load_state_dict(state)
    return _Trained(start.head, before)


def _epochs(ready: _Prepared, recipe: Recipe, clock: Clock, start: Start, record: RunRecord) -> int:
    """Returns the epochs to train: those of the recipe, or as many as the time allows."""
    if recipe.epochs:
        return recipe.epochs
    if start.prefix.boundary == FEATURES and start.probe:
        return 0
    material = ready.material
    boundary = material.traced.boundary(start.prefix.boundary)
    speed = measure_speeds(material, recipe, [boundary], ready.features_s)[boundary.name]
    images = len(material.labels["train"])
    epochs = choose_epochs(speed, images, _seconds_for_training(ready, clock))
    if start.probe is None:  # nothing else to fall back on: the schedule runs by the clock
        return max(1, epochs)
    if epochs < FEWEST_EPOCHS:
        record.stop_reason = "too little time was left to fine-tune: the probe is what there is"
        return 0
    return epochs


def _calibrated_score(
    logits: NDArray[np.float32], labels: NDArray[np.int64]
) -> tuple[float, float]:
    """Returns log loss at the best temperature, and accuracy: what candidates are compared by."""
    temperature = fit_temperature(logits, labels)
    return score((logits / temperature).astype(np.float32), labels)


def _describe_epoch(epoch: EpochRecord, planned: int) -> str:
    return (
        f"epoch {epoch.epoch}/{planned}: loss {epoch.train_loss:.3f}, validation accuracy "
        f"{epoch.val_accuracy:.1%}, {epoch.images_per_s:.0f} images/s"
    )


def _prove(
    ready: _Prepared,
    recipe: Recipe,
    start: Start,
    trained: _Trained,
    folder: Path,
    record: RunRecord,
    progress: Progress,
) -> Metrics:
    """Writes the bundle, reloads it, and opens the sealed test once with what was reloaded."""
    material, network = ready.material, ready.material.backbone
    temperature = fit_temperature(trained.val_logits, material.labels["val"])
    save_bundle(
        folder / "bundle",
        {
            "backbone": network.name,
            "features": _in_features(trained.head),
            "taps": start.taps,
            "head": recipe.head,
            "classes": material.classes,
            "preprocessing": network.preprocessing,
            "temperature": temperature,
            "recipe": recipe.model_dump(mode="json"),
            "pretrained_sha256": network.weights_hash,
            "licence": network.licence,
            "data_sha256": ready.pixels.key,
            "versions": record.versions,
        },
        network.model,
        trained.head,
    )
    bundle = load_bundle(folder / "bundle")
    items = [ready.dataset.items[int(index)] for index in ready.audited.kept[ready.split.test]]
    sealed = SealedTest(items)
    metrics, predictions = _test(bundle, sealed, ready, temperature, progress)
    record.test_opened_at = sealed.opened_at or ""
    write_result(folder, metrics, predictions)
    return metrics


def _test(
    bundle: Bundle,
    sealed: SealedTest[Item],
    ready: _Prepared,
    temperature: float,
    progress: Progress,
) -> tuple[Metrics, list[TestPrediction]]:
    items = sealed.open("every choice is made")
    paths, boxes = [item.path for item in items], [item.box for item in items]
    logits, failed = predict_logits(bundle, paths, boxes, progress, "sealed test")
    if failed:
        row, why = next(iter(failed.items()))
        raise DataError(f"{paths[row]} could be read before and cannot be read now: {why}")
    classes = bundle.spec.classes
    labels = np.array([classes.index(item.label) for item in items], np.int64)
    groups = ready.audited.groups[ready.split.test]
    metrics = compute_metrics(logits, labels, classes, temperature, groups=groups)
    probabilities = softmax(logits, temperature)
    rows = np.arange(len(items))
    keys = [ready.dataset.key(int(index)) for index in ready.audited.kept[ready.split.test]]
    best = probabilities.argmax(1)
    predictions = [
        TestPrediction(
            path=keys[row],
            label=items[row].label,
            prediction=classes[best[row]],
            probability=float(probabilities[row, best[row]]),
            probability_of_label=float(probabilities[row, labels[row]]),
        )
        for row in rows
    ]
    return metrics, predictions


def _in_features(head: torch.nn.Module) -> int:
    return next(m.in_features for m in head.modules() if isinstance(m, torch.nn.Linear))


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
                f"{folder} keeps the recipe, the split and the journal; decoded images and "
                "activations stay cached, so the same command with another --out starts from them."
            )
        raise
