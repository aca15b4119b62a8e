"""The main job: from labelled images to a proven classifier in a run folder."""

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

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
    write_start,
)
from headstart.cache import default_cache_dir, evict
from headstart.data.audit import summary_rows
from headstart.data.sources import load_dataset
from headstart.data.splits import save_split, split_notes
from headstart.diagnose.suspects import SUSPECTS
from headstart.errors import RecipeError, RunError
from headstart.finetuning import train_recipe
from headstart.methods.augmentation import NoAugmentation
from headstart.methods.averaging import NoAveraging
from headstart.methods.freezing import HeadOnly, LastBlocks
from headstart.options import NOTHING_TO_TRY, FitOptions, with_keywords
from headstart.picturing import keep_evidence
from headstart.predict import Run
from headstart.preparing import Prepared, SplitChoice, prepare, prepare_again
from headstart.progress import SILENT, Progress
from headstart.proving import prove
from headstart.recipe import FAMILIES, Recipe, load_recipe, with_settings
from headstart.report.model_card import write_model_card
from headstart.report.page import write_report
from headstart.run_context import Resources, RunContext, dated_folder
from headstart.search.clock import Clock
from headstart.search.study import SEARCH_RECIPE
from headstart.searching import search
from headstart.text import counted

MEASURED_ONCE = {"augmentations", "backbones", "frozen prefix", "heads"}
"""Stages before the plan of a search; a resumed search does not repeat them."""


def fit(
    source: Any,
    options: FitOptions | None = None,
    *,
    labels: Sequence[str] | None = None,
    progress: Progress = SILENT,
    command: str = "",
    started: float | None = None,
    **keywords: Any,
) -> Run:
    """Trains, proves and ships a classifier.

    Args:
        source: A folder, a manifest, `demo:solar`, a DataFrame or a list of paths.
        options: What to train, and for how long.
        labels: Class of each image, for a list of paths.
        progress: Progress display.
        command: The command that repeats this run, for the record.
        started: Start of the process on `time.monotonic`; now by default.
        keywords: Fields of `FitOptions` instead of `options`, such as `budget="5m"`.

    Raises:
        InputError: If nothing can be trained from what was given; nothing is written then.
        HeadstartError: If the machine failed.
    """
    options = with_keywords(FitOptions, options, keywords)
    recipe = chosen_recipe(options)
    resources = Resources(
        Clock(started or time.monotonic(), options.budget_s),
        options.cache_dir or default_cache_dir(),
        options.workers,
        progress,
    )
    if options.out is not None:
        check_unclaimed(options.out)
    dataset = load_dataset(source, labels=labels, boxes=options.boxes)
    ready = prepare(dataset, recipe, SplitChoice(options.split, options.split_seed), resources)
    request = None
    if options.searches:
        # The recipe that was given is kept as plain data, next to the options.
        kept = options.model_copy(update={"recipe": None})
        request = Request(options=kept, recipe=recipe.model_dump(mode="json"))
    record = RunRecord(
        command=command,
        started_at=now(),
        budget_s=options.budget_s,
        request=request,
        source=_named(source),
        boxes=options.boxes,
        split_seed=None if options.split else options.split_seed,
        **_described(ready),
    )
    run = RunContext(options.out or dated_folder(dataset.name), record, resources)
    claim_folder(run.folder)
    with locked(run.folder):
        write_start(run.folder, record, recipe, ready.audited.audit)
        keys = [ready.dataset.key(int(index)) for index in ready.audited.kept]
        save_split(run.folder / "split.csv", ready.split, keys)
        return _train_and_prove(run, ready, recipe)


def resume(
    folder: str | Path,
    *,
    workers: int | None = None,
    cache_dir: str | Path | None = None,
    progress: Progress = SILENT,
    started: float | None = None,
) -> Run:
    """Resumes an interrupted search; the result is that of an uninterrupted one.

    Args:
        folder: Run folder.
        workers: Processes that decode images.
        cache_dir: Cache folder; `$HEADSTART_CACHE` or the user's cache folder by default.
        progress: Progress display.
        started: Start of the process on `time.monotonic`; now by default.

    Raises:
        RunError: If there is no such search, it is finished, or another process works on it.
    """
    path = Path(folder)
    with locked(path):
        before = read_record(path)
        request, source = _resumable(path, before)
        planned = read_plan(path) is not None
        # What was planned is done, however long it takes; without a plan, the budget starts again.
        budget_s = None if planned else before.budget_s
        resources = Resources(
            Clock(started or time.monotonic(), budget_s, before.seconds),
            Path(cache_dir) if cache_dir else default_cache_dir(),
            workers,
            progress,
        )
        first = asked_recipe(before) or load_recipe(str(path / "recipe.toml"))
        recipe = load_recipe(str(path / SEARCH_RECIPE)) if planned else first
        dataset = load_dataset(source, boxes=before.boxes)
        split_file = path / "split.csv"
        split = SplitChoice(split_file if split_file.exists() else None, request.options.split_seed)
        ready = prepare_again(dataset, first, recipe, split, resources)
        clear_unfinished(path)
        if not planned:
            (path / SUSPECTS).unlink(missing_ok=True)
        opened = [before.test_opened_at] if before.test_opened_at else []
        record = RunRecord(
            command=before.command,
            started_at=before.started_at,
            budget_s=before.budget_s,
            request=request,
            source=source,
            boxes=before.boxes,
            split_seed=before.split_seed,
            plan=[step for step in before.plan if step.stage in MEASURED_ONCE] if planned else [],
            operations=before.operations if planned else [],
            test_opened_before=[*before.test_opened_before, *opened],
            **_described(ready),
        )
        return _train_and_prove(RunContext(path, record, resources), ready, recipe)


def chosen_recipe(options: FitOptions) -> Recipe:
    """Returns the recipe that `fit` trains, or that its search starts from.

    Raises:
        RecipeError: If a name or value is wrong, or a setting could have no effect.
    """
    asked = options.recipe or "default"
    chosen = load_recipe(asked) if isinstance(asked, str) else asked
    if options.strategy == "head":
        # The head is solved on evaluation views in closed form; nothing else is trained.
        simple = {"freezing": HeadOnly(), "augmentation": NoAugmentation()}
        chosen = chosen.model_copy(update={**simple, "averaging": NoAveraging()})
    elif options.strategy == "finetune" and chosen.freezing.head_alone:
        chosen = chosen.model_copy(update={"freezing": LastBlocks()})
    given = {
        "backbone.name": options.backbone, "backbone.weights": options.weights,
        "epochs": options.epochs, "seed": options.seed,
    }  # fmt: skip
    flags = [f"{key}={value}" for key, value in given.items() if value is not None]
    chosen = with_settings(chosen, [*flags, *options.settings])
    _refuse_idle_settings(chosen, options.settings)
    if options.trials is not None and chosen.closed_form:
        raise RecipeError(NOTHING_TO_TRY)
    return chosen


def _train_and_prove(run: RunContext, ready: Prepared, recipe: Recipe) -> Run:
    """Searches where a search was asked for, trains, proves and reports."""
    _say_start(run, ready)
    with run.recording_failure():
        searched = run.record.request is not None
        done = search(run, ready, recipe) if searched else train_recipe(run, ready, recipe)
        proof = prove(run, done)
        keep_evidence(run, done, proof)
        run.save()
        write_report(run.folder)
        write_model_card(run.folder)
    # Last: a run that is done lacks nothing.
    run.record.status = "done"
    run.save()
    evict(run.resources.cache_dir)
    return Run(run.folder, run.record, proof.metrics)


def _resumable(folder: Path, record: RunRecord) -> tuple[Request, str]:
    """Returns what the search of a run was asked for, and its data set as it was named.

    Raises:
        RunError: If there is nothing to resume.
    """
    if record.status == "done":
        raise RunError(f"{folder} is finished; there is nothing to resume.")
    if record.request is None:
        raise RunError(
            f"{folder} cannot be resumed, as only searches can. Run its command again with "
            "another --out."
        )
    if not record.source:
        raise RunError(
            f"{folder} cannot be resumed, as its images were given in Python and not by a path. "
            "Call fit again."
        )
    return record.request, record.source


def _named(source: Any) -> str:
    """Returns the path or name of a data set, so that it is found again; "" for Python objects."""
    named = str(source) if isinstance(source, str | Path) else ""
    return str(Path(named).resolve()) if named and Path(named).exists() else named


def _described(ready: Prepared) -> dict[str, Any]:
    """Returns what `run.json` says of the data, the split, the backbone and the machine."""
    dataset, split, network = ready.dataset, ready.split, ready.material.backbone
    names = [dataset.items[int(index)].label for index in ready.audited.kept]
    return {
        "data_name": dataset.name,
        "data_root": str(dataset.root.resolve()),
        "licence": dataset.licence,
        "n_train": len(split.train),
        "n_val": len(split.val),
        "n_test": len(split.test),
        "classes": ready.material.classes,
        "backbone": network.name,
        "backbone_source": network.source,
        "notes": [*dataset.notes, *split_notes(names, split)],
        "versions": versions(),
        "machine": machine(),
    }


def _say_start(run: RunContext, ready: Prepared) -> None:
    for what, severity, message in summary_rows(ready.audited.audit):
        if severity == "warning":
            run.say(f"{severity}: {what}: {message}")
    record = run.record
    run.say(
        f"{record.data_name}: {counted(record.n_train, 'image')} to train on, {record.n_val:,} for "
        f"validation, {record.n_test:,} sealed for the test; "
        f"{counted(len(record.classes), 'class', 'classes')}; {record.backbone}"
    )


def _refuse_idle_settings(recipe: Recipe, settings: Sequence[str]) -> None:
    """Refuses settings that cannot have an effect, as nothing is trained by gradient descent.

    Raises:
        RecipeError: Naming all of them.
    """
    by_gradient = set(FAMILIES) - {"backbone", "head", "freezing"}
    families = {setting.partition("=")[0].partition(".")[0].strip() for setting in settings}
    idle = sorted(each for each in families & by_gradient if not getattr(recipe, each).absent)
    if recipe.closed_form and idle:
        raise RecipeError(
            f"{', '.join(idle)}: this has no effect, as the head is solved in closed form on "
            "frozen features. Set head.init=random or another freezing, or leave it out."
        )
