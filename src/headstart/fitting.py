"""The main job: from labelled images to a proven classifier in a run folder."""

import shutil
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any, Literal

from headstart.artifacts.journal import read_plan
from headstart.artifacts.run import (
    Request,
    RunRecord,
    asked_recipe,
    check_unclaimed,
    claim_folder,
    clear_unfinished,
    locked,
    machine,
    now,
    read_record,
    versions,
    write_recipe,
    write_record,
    write_start,
)
from headstart.cache import default_cache_dir, evict
from headstart.calibration import set_thresholds
from headstart.data.audit import summary_rows
from headstart.data.sources import load_dataset
from headstart.data.splits import save_split, split_notes
from headstart.data.types import Dataset
from headstart.diagnose.suspects import SUSPECTS
from headstart.errors import BudgetError, HeadstartError, InputError, RecipeError, RunError
from headstart.evaluate import fit_temperature
from headstart.finetuning import begin, finetune
from headstart.finished import Finished
from headstart.methods.augmentation import NoAugmentation
from headstart.methods.averaging import NoAveraging
from headstart.methods.freezing import HeadOnly, LastBlocks
from headstart.picturing import keep_evidence
from headstart.planning import NOTHING_TO_TRY
from headstart.predict import Run
from headstart.preparing import Prepared, prepare, prepare_again
from headstart.progress import SILENT, Progress
from headstart.proving import prove
from headstart.recipe import FAMILIES, Recipe, load_recipe, with_settings
from headstart.report.model_card import write_model_card
from headstart.report.page import write_report
from headstart.safeguarding import without_unsafe
from headstart.search.clock import Clock, parse_budget
from headstart.search.executors import EngineName
from headstart.search.study import SEARCH_RECIPE, Sampler
from headstart.searching import search

Strategy = Literal["head", "finetune"]

DEFAULT_BUDGET = "10m"


def fit(
    source: Any,
    *,
    labels: Sequence[str] | None = None,
    budget: str | float | None = None,
    epochs: int | None = None,
    trials: int | None = None,
    sampler: Sampler = "tpe",
    engine: EngineName = "here",
    jobs: int = 1,
    address: str | None = None,
    trial_memory: float | None = None,
    ensemble: int = 1,
    recipe: str | Recipe | None = None,
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
            one, instead of a budget; the result then repeats bit by bit.
        sampler: What draws recipes: `tpe`, or `random` for comparison.
        engine: Where trials run: `here`, in `processes`, or on a `ray` cluster.
        jobs: Trials that run at a time.
        address: Of a Ray cluster that runs already.
        trial_memory: GB that a trial may take, where it has a process of its own; what is free by
            default.
        ensemble: Networks to average, the best of the search; their frozen part runs once.
        recipe: The one recipe to train, without a search: a recipe, a named one (`default`,
            `probe`, `naive`), or a TOML or JSON file. With trials, what the search starts from.
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
    one_recipe = recipe is not None or strategy is not None or epochs is not None
    one_recipe = one_recipe and trials is None
    _refuse_idle_options(one_recipe, sampler, engine, jobs, address, trial_memory, ensemble)
    chosen = _recipe(recipe or "default", strategy, backbone, weights, epochs, seed, settings)
    request = None
    if not one_recipe:
        if trials is not None and trials < 1:
            raise InputError(f"{trials} trials were asked for; ask for one at least.")
        if trials is not None and chosen.closed_form:
            raise RecipeError(NOTHING_TO_TRY)
        by_hand = [f"backbone={name}" for name in (backbone, weights) if name]
        request = Request(
            trials=trials, split_seed=split_seed, recipe=chosen.model_dump(mode="json"),
            settings=(*by_hand, *settings), sampler=sampler, engine=engine, workers=jobs,
            address=address or "", ensemble=ensemble, trial_memory=int(1e9 * (trial_memory or 0)),
        )  # fmt: skip
    cache = Path(cache_dir) if cache_dir else default_cache_dir()
    if out is not None:
        check_unclaimed(Path(out))
    dataset = load_dataset(source, labels=labels, boxes=boxes)
    folder = Path(out) if out else _default_folder(dataset)
    ready = prepare(dataset, chosen, clock, split, split_seed, cache, workers, progress)
    record = _first_record(ready, clock, command, request, _named(source), boxes)
    record.split_seed = None if split else split_seed
    claim_folder(folder)
    with locked(folder):
        write_start(folder, record, chosen, ready.audited.audit)
        _save_split(folder, ready)
        return _run(ready, chosen, clock, folder, record, cache, workers, progress)


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
    with locked(path):
        record = read_record(path)
        asked, source = _resumable(path, record)
        begun = read_plan(path) is not None
        # What was planned is done, however long it takes; what was not gets its budget anew.
        budget_s = None if begun else record.budget_s
        clock = Clock(started or time.monotonic(), budget_s, record.seconds)
        first = asked_recipe(record) or load_recipe(str(path / "recipe.toml"))
        base = load_recipe(str(path / SEARCH_RECIPE)) if begun else first
        cache = Path(cache_dir) if cache_dir else default_cache_dir()
        dataset = load_dataset(source, boxes=record.boxes)
        split = path / "split.csv"
        given = split if split.exists() else None
        ready = prepare_again(
            dataset, first, base, clock, given, asked.split_seed, cache, workers, progress
        )
        clear_unfinished(path)
        if not begun:
            (path / SUSPECTS).unlink(missing_ok=True)
        fresh = _first_record(ready, clock, record.command, asked, source, record.boxes)
        opened = [record.test_opened_at] if record.test_opened_at else []
        # What was measured before it was stopped is told, and is not measured again.
        measured = {"augmentations", "backbones", "frozen prefix", "heads"}
        known = [step for step in record.plan if step.stage in measured]
        told = {
            "started_at": record.started_at,
            "budget_s": record.budget_s,
            "split_seed": record.split_seed,
            "plan": known if begun else [],
            "operations": record.operations if begun else [],
            "test_opened_before": [*record.test_opened_before, *opened],
        }
        fresh = fresh.model_copy(update=told)
        return _run(ready, base, clock, path, fresh, cache, workers, progress)


def _refuse_idle_options(
    one_recipe: bool,
    sampler: Sampler,
    engine: EngineName,
    jobs: int,
    address: str | None,
    trial_memory: float | None,
    ensemble: int,
) -> None:
    """Refuses options of a search that would do nothing.

    Raises:
        InputError: Naming them.
    """
    if ensemble < 1:
        raise InputError(f"an ensemble of {ensemble} was asked for; ask for one at least.")
    given = {
        "--sampler": sampler != "tpe",
        "--engine": engine != "here",
        "--jobs": jobs != 1,
        "--address": address is not None,
        "--trial-memory": trial_memory is not None,
        "--ensemble": ensemble != 1,
    }
    names = [name for name, there in given.items() if there]
    if one_recipe and names:
        raise InputError(
            f"{', '.join(names)}: one recipe is trained here, without a search. Leave --recipe, "
            "--strategy and --epochs out, or give --trials."
        )
    if engine == "here" and jobs != 1:
        raise InputError(f"--jobs {jobs} needs --engine processes or ray.")
    if engine != "processes" and trial_memory is not None:
        raise InputError("--trial-memory needs --engine processes.")
    if engine != "ray" and address is not None:
        raise InputError("--address needs --engine ray.")


def _resumable(folder: Path, record: RunRecord) -> tuple[Request, str]:
    """Returns what the search of a run was asked for, and its data set as it was named.

    Raises:
        RunError: If there is nothing to go on with.
    """
    if record.status == "done":
        raise RunError(f"{folder} is done; there is nothing to go on with.")
    if record.request is None:
        raise RunError(
            f"{folder} cannot be resumed, as it was no search; run its command again "
            "with another --out."
        )
    if not record.source:
        raise RunError(f"{folder} cannot be resumed: its images were given in Python, by no path.")
    return record.request, record.source


def _run(
    ready: Prepared,
    chosen: Recipe,
    clock: Clock,
    folder: Path,
    record: RunRecord,
    cache: Path,
    workers: int | None,
    progress: Progress,
) -> Run:
    """Searches where it is asked for, trains, proves and reports."""
    _say_start(ready, record, progress)
    with _ending(folder, record, clock, progress):
        done: Finished | None = None
        if record.request is not None:
            request = record.request
            if read_plan(folder) is None:
                chosen = without_unsafe(ready, chosen, request, clock, record, progress)
            found = search(ready, chosen, request, clock, folder, record, workers, progress)
            if isinstance(found, Finished):
                done = found
            else:
                ready, chosen = found
        if done is None:
            write_recipe(folder, chosen)
            start = begin(ready, chosen, clock, record, progress)
            logits = finetune(ready, chosen, clock, start, folder, record, progress)
            labels = ready.material.labels["val"]
            temperature = fit_temperature(logits, labels)
            sets = set_thresholds(logits, labels, temperature)
            done = Finished(ready, chosen, start, temperature, (), sets, len(labels))
        proof = prove(done, folder, record, progress)
        keep_evidence(done.ready, done.recipe, proof, folder, clock)
        record.seconds = clock.total()
        write_record(folder, record)
        write_report(folder)
        write_model_card(folder)
    # Last: a run that is done lacks nothing.
    record.status = "done"
    record.seconds = clock.total()
    write_record(folder, record)
    evict(cache)
    return Run(folder, record, proof.metrics)


def _named(source: Any) -> str:
    """Returns the path or name by which a data set is found again; empty for Python objects."""
    named = str(source) if isinstance(source, str | Path) else ""
    return str(Path(named).resolve()) if named and Path(named).exists() else named


def _save_split(folder: Path, ready: Prepared) -> None:
    keys = [ready.dataset.key(int(index)) for index in ready.audited.kept]
    save_split(folder / "split.csv", ready.split, keys)


def _budget_seconds(
    budget: str | float | None,
    epochs: int | None,
    trials: int | None,
    recipe: str | Recipe | None,
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
    elif strategy == "finetune" and chosen.freezing.head_alone:
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
    idle = sorted(each for each in families & by_gradient if not getattr(recipe, each).absent)
    if recipe.closed_form and idle:
        raise RecipeError(
            f"{', '.join(idle)}: nothing is trained by gradient, as the head is solved in closed "
            "form on frozen features. Set head.init=random or another freezing, or leave it out."
        )


def _default_folder(dataset: Dataset) -> Path:
    stamp = datetime.now().astimezone().strftime("%Y%m%d-%H%M%S")
    return Path("runs") / f"{dataset.name}-{stamp}"


def _first_record(
    ready: Prepared,
    clock: Clock,
    command: str,
    request: Request | None,
    source: str,
    boxes: Literal["crop", "keep"],
) -> RunRecord:
    dataset, split, network = ready.dataset, ready.split, ready.material.backbone
    names = [dataset.items[int(index)].label for index in ready.audited.kept]
    return RunRecord(
        command=command,
        started_at=now(),
        budget_s=clock.budget_s,
        request=request,
        source=source,
        boxes=boxes,
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


@contextmanager
def _ending(folder: Path, record: RunRecord, clock: Clock, progress: Progress) -> Iterator[None]:
    """Writes into the run how it ended when it did not end well."""
    try:
        yield
    except BaseException as error:
        record.seconds = clock.total()
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
