"""The continuation of an interrupted search."""

import time
from pathlib import Path
from typing import Any

from headstart.api.fit import MEASURED_ONCE, described, train_and_prove
from headstart.api.further_images import check_further, with_further
from headstart.artifacts.journal import read_plan
from headstart.artifacts.records import Request, RunRecord
from headstart.artifacts.run import SEARCH_RECIPE, clear_unfinished, locked, read_record
from headstart.artifacts.run_start import asked_recipe
from headstart.artifacts.unchanged import ANOTHER_RUN, check_unchanged
from headstart.data.cache_dir import default_cache_dir
from headstart.data.sources import load_dataset, say_understood
from headstart.diagnose.reasons import SUSPECTS
from headstart.errors import RunError
from headstart.export.tracking import check_log, log_run
from headstart.inference.run import Run
from headstart.progress import Shown, display
from headstart.recipes.keywords import lists_fields, with_keywords
from headstart.recipes.options import ResumeOptions
from headstart.recipes.parsing import load_recipe
from headstart.training.budget import Clock
from headstart.training.experiment import SplitChoice, prepare_again
from headstart.training.run_context import Resources, RunContext


@lists_fields(ResumeOptions)
def resume(
    folder: str | Path,
    options: ResumeOptions | None = None,
    *,
    progress: Shown = None,
    started: float | None = None,
    **keywords: Any,
) -> Run:
    """Resumes an interrupted search; its result equals that of an uninterrupted one.

    Args:
        folder: Run folder.
        options: Where trials run, and what they may use.
        progress: Progress display; by default one where there is a terminal or a notebook. False
            shows nothing.
        started: Start of the process on `time.monotonic`; now by default.
        keywords: Fields of `ResumeOptions` instead of `options`, such as `executor="processes"`.

    Raises:
        RunError: If the folder has no search, the search is finished, the folder is in use, or the
            data changed since the run began.

    Example:
        >>> import headstart
        >>> run = headstart.resume("runs/flowers-20260102-1530")  # doctest: +SKIP
    """
    progress = display(progress)
    options = with_keywords(ResumeOptions, options, keywords)
    path = Path(folder)
    with locked(path):
        before = read_record(path)
        asked, source = _resumable(path, before)
        request, moved = placed_request(asked, options)
        check_log(request.options.log)
        planned = read_plan(path) is not None
        # A plan is completed, however long it takes. Without a plan, the budget starts anew.
        budget_s = None if planned else before.budget_s
        resources = Resources(
            Clock(started or time.monotonic(), budget_s, before.seconds),
            options.cache_dir or default_cache_dir(),
            options.workers,
            progress,
        )
        first = asked_recipe(before) or load_recipe(str(path / "recipe.toml"))
        recipe = load_recipe(str(path / SEARCH_RECIPE)) if planned else first
        several = before.task == "multilabel"
        dataset = load_dataset(
            source, before.reading, cache_dir=resources.cache_dir, multilabel=several
        )
        say_understood(dataset, progress)
        unknown = check_unchanged(path, before, dataset, ANOTHER_RUN, progress)
        beside = check_further(path, request.options)
        split_file = path / "split.csv"
        split = SplitChoice(split_file if split_file.exists() else None, request.options.split_seed)
        experiment = prepare_again(dataset, first, recipe, split, resources)
        further = with_further(experiment, request.options, resources, before=path)
        experiment = further.experiment
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
            reading=before.reading,
            task=before.task,
            precision=before.precision,
            split_seed=before.split_seed,
            plan=[step for step in before.plan if step.stage in MEASURED_ONCE] if planned else [],
            operations=before.operations if planned else [],
            test_opened_before=[*before.test_opened_before, *opened],
            **described(experiment),
        )
        run = RunContext(path, record, resources)
        run.save()  # it is no longer interrupted
        for note in filter(None, (unknown, *beside, moved, *further.notes)):
            run.note(note)
            run.say(f"note: {note}")
        done = train_and_prove(run, experiment, recipe)
    if request.options.log is not None:
        run.say(f"note: {log_run(request.options.log, run.folder)}")
    return done


def placed_request(request: Request, options: ResumeOptions) -> tuple[Request, str]:
    """Returns the request with trials where `resume` is told to run them, and what that changes."""
    before = request.options
    where = options.model_dump(include={"executor", "jobs", "address", "trial_memory"})
    # A folder may come from elsewhere: it connects this machine to nothing.
    update = {**where, "download": False}
    now = request.model_copy(update={"options": before.model_copy(update=update)})
    notes = []
    if before.download:
        notes.append("--download is not taken from the run folder, so nothing is fetched.")
    if (before.executor, before.jobs) != (options.executor, options.jobs):
        notes.append(
            f"The search began with --executor {before.executor} --jobs {before.jobs}, and "
            f"continues with --executor {options.executor} --jobs {options.jobs}: where trials run "
            "is not taken from the run folder."
        )
    return now, " ".join(notes)


def _resumable(folder: Path, record: RunRecord) -> tuple[Request, str]:
    """Returns the request of a run's search, and the source of its data set.

    Raises:
        RunError: If there is nothing to resume.
    """
    if record.status == "done":
        raise RunError(f"{folder} is finished; there is nothing to resume.")
    if record.request is None:
        raise RunError(
            f"{folder} cannot be resumed: only searches can. Run its command again with another "
            "--out."
        )
    if not record.source:
        raise RunError(
            f"{folder} cannot be resumed: its images were passed in Python and not as a path. "
            "Call fit again."
        )
    return record.request, record.source
