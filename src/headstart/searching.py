"""The search: what was planned is tried on what is cached, and the winner is trained.

Every step is journalled before it counts, so that a search that was killed goes on.
"""

import time
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np

from headstart.artifacts.journal import (
    SearchPlan,
    Trial,
    append_trial,
    read_plan,
    read_trials,
    write_plan,
)
from headstart.artifacts.run import (
    PlanStep,
    Request,
    RunRecord,
    asked_recipe,
    write_recipe,
    write_record,
)
from headstart.backbones.boundaries import FEATURES
from headstart.finetuning import seconds_for_training
from headstart.finished import Finished
from headstart.finishing import finish
from headstart.inference_stats import wilson_interval
from headstart.planning import plan_search
from headstart.preparing import Prepared, unsealed
from headstart.probe import parted
from headstart.progress import Progress, format_duration
from headstart.recipe import Recipe
from headstart.search.clock import Clock
from headstart.search.executors import Executor, open_executor
from headstart.search.material import Picked
from headstart.search.parcel import pack, run_sent_trial
from headstart.search.plan import (
    FEWEST_EPOCHS,
    MOST_EPOCHS,
    Speed,
    choose_epochs,
    views_for,
)
from headstart.search.rungs import Asking, run_rungs
from headstart.search.stages import (
    boundary_without_clock,
    fixed_boundary,
    start_from,
    training_data,
)
from headstart.search.study import (
    NOT_PAYING,
    SEARCH_RECIPE,
    differences,
    drawn_families,
    enough,
    pays,
    ranked,
    shown,
)
from headstart.search.trial import (
    Fold,
    Job,
    Score,
    Setting,
    fresh_material,
    run_trial,
    solve_heads,
)


def search(
    ready: Prepared,
    base: Recipe,
    request: Request,
    clock: Clock,
    folder: Path,
    record: RunRecord,
    workers: int | None,
    progress: Progress,
) -> Finished | tuple[Prepared, Recipe]:
    """Finds and trains the best recipe that the budget or the number of trials allows.

    Args:
        ready: The data and the backbone of the recipe.
        base: Gives what is not searched.
        request: What was asked for.
        clock: The budget.
        folder: Of the run; the journal lies there.
        record: Of the run; it learns what was planned and what became of it.
        workers: Processes that decode images.
        progress: Where progress is shown.

    Returns:
        What is proven; where there is one recipe only, the data and that recipe, to be trained.

    Raises:
        HeadstartError: If every trial failed.
        RecipeError: If there is nothing to search with `request.trials`.
    """
    plan, base_epochs = read_plan(folder), base.epochs
    if plan is None:
        ready, base, plan = plan_search(
            ready, base, request, clock, folder, record, workers, progress
        )
        if plan is None:
            _note_ensemble(request, 1, "one recipe was trained", record)
            return ready, base
        write_recipe(folder, base, SEARCH_RECIPE)
        _write_progress(folder, record, clock)  # a resumed run tells it, too
        write_plan(folder, plan)  # from here on it counts
    setting = shared_setting(ready, base, plan)
    _say_disk(ready, base, plan, record, progress)
    ranking: list[Trial] = []
    if plan.rungs:
        setting = replace(setting, heads=solve_heads(setting, base))
        entries = _cache_views(setting, base, plan, record, progress)
        ranking, plan = _try_recipes(
            setting, entries, base, plan, request, clock, ready, folder, record, progress
        )
        record.plan.append(_describe_trials(base, plan, read_trials(folder), ranking[0]))
        progress.say(f"search: {record.plan[-1].happened}")
        if clock.budget_s is not None and not base_epochs:
            left = seconds_for_training(ready, base, clock)
            networks = len(_winners(ranking, plan, request))
            speed = _speed(plan, read_trials(folder), request)
            images = len(setting.rows)
            plan = _fitted(plan, speed, left, images, base.views, max(1, networks))
        write_plan(folder, plan)
    winners = _winners(ranking, plan, request)
    head_asked = fixed_boundary(ready.material, asked_recipe(record) or base) == FEATURES
    record.stop_reason = _why_ended(plan, head_asked, unpaid=bool(ranking) and not winners)
    head_of = ranking[0] if ranking and not winners else None
    done = finish(ready, setting, base, plan, winners, head_of, clock, folder, record, progress)
    why = record.stop_reason
    if len(winners) == request.ensemble:
        why = "the others failed on the whole schedule"
    elif ranking:
        why = (
            f"{len(ranking)} trials were left in the end, of which {len(winners)} did not validate "
            "worse than the head that they began with"
        )
    _note_ensemble(request, 1 + len(done.others), why, record)
    write_recipe(folder, done.recipe)
    return done


def _winners(ranking: Sequence[Trial], plan: SearchPlan, request: Request) -> list[Trial]:
    """Returns the trials that are trained for the whole schedule, the best first."""
    return [trial for trial in ranking if pays(trial, plan.epochs)][: request.ensemble]


def _write_progress(folder: Path, record: RunRecord, clock: Clock) -> None:
    """Writes what was found so far and the time that it took, for a run that is killed."""
    record.seconds = clock.total()
    write_record(folder, record)


def _note_ensemble(request: Request, members: int, why: str, record: RunRecord) -> None:
    """Notes where fewer networks are shipped than were asked for."""
    if members < request.ensemble:
        record.notes.append(
            f"An ensemble of {request.ensemble} was asked for, and {members} is shipped: {why}."
        )


def shared_setting(ready: Prepared, base: Recipe, plan: SearchPlan) -> Setting:
    """Returns what all trials share: every rung has folds of its own, or the validation images."""
    material, plain = ready.material, unsealed(ready)
    parts: list[tuple[Fold, ...]] = []
    for number in range(len(plan.rungs)):
        if plan.folds == 1:
            parts.append((Fold(material.rows["train"], material.rows["val"]),))
            continue
        fold_of = parted(plain.labels, plain.groups, plan.folds, base.seed + number)
        parts.append(
            tuple(
                Fold(plain.rows[fold_of != fold], plain.rows[fold_of == fold])
                for fold in np.unique(fold_of)
            )
        )
    return Setting(
        cache_dir=material.cache_dir,
        pixels=ready.pixels.key,
        rows=plain.rows,
        labels=plain.labels,
        groups=plain.groups,
        classes=material.classes,
        boundary=boundary_without_clock(material, base),
        folds=tuple(parts),
        device=str(material.device),
    )


def _say_disk(
    ready: Prepared, base: Recipe, plan: SearchPlan, record: RunRecord, progress: Progress
) -> None:
    """Says how much of the disk the search takes at most, before it does."""
    shape = ready.material.traced.boundary(boundary_without_clock(ready.material, base)).shape
    views = (base.views or views_for(MOST_EPOCHS)) if plan.rungs else 0
    images = len(unsealed(ready).rows)
    activations_bytes = images * (views + 2) * 2 * int(np.prod(shape))
    text = (
        f"The cache takes at most {(activations_bytes + ready.pixels.data.nbytes) / 1e6:,.0f} MB: "
        f"{images} images decoded, and activations of {views + 2} views of each."
    )
    record.notes.append(text)
    progress.say(f"disk: {text}")


def _cache_views(
    setting: Setting, base: Recipe, plan: SearchPlan, record: RunRecord, progress: Progress
) -> list[Path]:
    """Caches the views that the first trials need, so that trials take what training takes.

    Returns:
        The folders of the cache that trials read.
    """
    began = time.monotonic()
    material = replace(
        fresh_material(setting, base), rows={"train": setting.rows, "val": setting.rows},
        labels={"train": setting.labels, "val": setting.labels}, progress=progress,
    )  # fmt: skip
    start = start_from(material, base, setting.boundary, setting.heads[0][0])
    views = training_data(material, base, start, plan.rungs[0].epochs).views
    step = PlanStep(
        stage="views",
        planned=f"{len(views)} views for the first trials",
        seconds=time.monotonic() - began,
    )
    record.plan.append(step)
    arrays = [each.array for each in (*views, *start.cached.values()) if isinstance(each, Picked)]
    stored = [Path(str(array.filename)).parent for array in arrays if isinstance(array, np.memmap)]
    return list(dict.fromkeys([setting.cache_dir / "pixels" / setting.pixels, *stored]))


def _try_recipes(
    setting: Setting,
    entries: list[Path],
    base: Recipe,
    plan: SearchPlan,
    request: Request,
    clock: Clock,
    ready: Prepared,
    folder: Path,
    record: RunRecord,
    progress: Progress,
) -> tuple[list[Trial], SearchPlan]:
    """Stage 3: runs the rungs and returns the trials of the last one, and what was done."""
    known = read_trials(folder)
    progress.say(f"search: {_planned(plan)}" + (f"; {len(known)} are known" if known else ""))
    finished = list(known)
    asking = Asking(base, request.sampler, drawn_families(request.settings), request.ensemble)

    def journal(trial: Trial) -> None:
        append_trial(folder, trial)
        _write_progress(folder, record, clock)
        finished.append(trial)
        progress.say(_describe(trial, base, finished, plan))
        progress.board(_board(finished, plan))

    def why_stop(
        tried: Sequence[Trial], finished: Sequence[Trial], plan: SearchPlan, rung: int
    ) -> str:
        left = None if clock.budget_s is None else seconds_for_training(ready, base, clock)
        images = len(setting.rows)
        epochs = request.ensemble * plan.epochs
        speed = _speed(plan, finished, request)
        return _why_stop(tried, finished, plan, rung, left, images, epochs, base.views, speed)

    progress.board(_board(finished, plan))
    try:
        with _open_executor(request, setting, entries) as executor:
            return run_rungs(
                asking, plan, known, executor, journal, why_stop, partial(write_plan, folder)
            )
    finally:
        progress.board(())


def _open_executor(
    request: Request, setting: Setting, entries: list[Path]
) -> AbstractContextManager[Executor[Job, Score]]:
    if request.engine == "ray":
        parcel = pack(setting, entries)
        address = request.address or None
        return open_executor(
            "ray", run_sent_trial, parcel, workers=request.workers, address=address
        )
    limit = request.trial_memory or None
    return open_executor(
        request.engine, run_trial, setting, workers=request.workers, memory_limit=limit
    )


def _why_stop(
    tried: Sequence[Trial],
    finished: Sequence[Trial],
    plan: SearchPlan,
    number: int,
    left: float | None,
    images: int,
    epochs: int,
    views: int,
    speed: Speed,
) -> str:
    """Returns why no further trial of a rung is worth it; empty where one is."""
    rung = plan.rungs[number]
    reason = enough(tried, rung.trials - len(tried), plan.epochs) if number == 0 else ""
    if reason or left is None or not plan.train_s or not finished:
        return reason
    epoch_s = max(trial.seconds / trial.epochs for trial in finished)
    later = sum(each.epochs for each in plan.rungs[number + 1 :] if each.trials)
    trials_s = epoch_s * (rung.epochs + later)
    if left < trials_s + speed.seconds(images, epochs, _missing_views(plan, views)):
        return "the time for trials was used up"
    return ""


def _speed(plan: SearchPlan, trials: Sequence[Trial], request: Request) -> Speed:
    """Returns what an image costs, by what was measured and by what the trials took.

    Trials that ran elsewhere, or side by side, say nothing of what this process can do alone.
    """
    here = request.engine == "here"
    seen_s = [trial.train_s for trial in trials if trial.train_s and here]
    return Speed(plan.view_s, float(np.median(seen_s)) if seen_s else plan.train_s, 0)


def _missing_views(plan: SearchPlan, views: int) -> int:
    """Returns how many views the whole schedule needs beyond those of the first trials."""
    return max(0, (views or views_for(plan.epochs)) - (views or views_for(plan.rungs[0].epochs)))


def _fitted(
    plan: SearchPlan,
    speed: Speed,
    left: float,
    images: int,
    views: int,
    networks: int,
) -> SearchPlan:
    """Returns the plan with as many epochs for the winner as the time that is left allows."""
    more_views = _missing_views(plan, views)
    seconds = (left - more_views * images * speed.prefix_s) / networks
    epochs = choose_epochs(speed, images, seconds, views=0)
    return plan.model_copy(update={"fitted_epochs": max(FEWEST_EPOCHS, epochs)})


def _why_ended(plan: SearchPlan, head_asked: bool, unpaid: bool) -> str:
    if unpaid:
        return NOT_PAYING
    if not plan.rungs and head_asked:
        return "the head has a closed form, and nothing else was to be trained"
    if not plan.rungs:
        return "the budget leaves no time to try more than heads"
    return _endings(plan) or "all planned trials were run"


def _endings(plan: SearchPlan) -> str:
    """Returns why rungs ended before all of their trials had run; empty where none did."""
    return "; ".join(dict.fromkeys(rung.ended for rung in plan.rungs if rung.ended))


def _planned(plan: SearchPlan) -> str:
    rungs = [rung for rung in plan.rungs if rung.planned]
    each = [f"{rung.planned} recipes for {rung.epochs} epochs" for rung in rungs]
    return ", then ".join(each) + (
        f", each cross-validated in {plan.folds} parts" if plan.folds > 1 else ""
    )


def _describe_trials(
    base: Recipe, plan: SearchPlan, trials: Sequence[Trial], best: Trial
) -> PlanStep:
    """Returns what was planned and what became of it."""
    changes = differences(best.recipe, base.model_dump(mode="json"))
    chosen = ", ".join(f"{path} = {shown(value)}" for path, value in changes.items())
    happened = f"{len(trials)} trials; best: {chosen or 'the recipe that it started from'}"
    happened += f", log loss {best.val_loss:.3f}, {best.val_right} of {best.val_images} right"
    if best.start_loss is not None:
        happened += f" (before training {best.start_loss:.3f})"
    failed = sum(trial.state == "failed" for trial in trials)
    if failed:
        happened += f"; {failed} trials failed"
    if ended := _endings(plan):
        happened += f"; ended because {ended}"
    seconds = sum(trial.seconds for trial in trials)
    return PlanStep(stage="search", planned=_planned(plan), happened=happened, seconds=seconds)


def _describe(trial: Trial, base: Recipe, finished: Sequence[Trial], plan: SearchPlan) -> str:
    """Returns a line on a trial, the best so far in its rung, and the time left."""
    name = f"trial {trial.number + 1}, {trial.epochs} epochs"
    changes = differences(trial.recipe, base.model_dump(mode="json"))
    what = ", ".join(f"{path} = {shown(value)}" for path, value in changes.items())
    left = _seconds_left(finished, plan)
    ending = f"at most about {format_duration(left)} of trials left"
    if trial.val_loss is None:
        return f"{name}: failed ({trial.cause}); {ending}"
    best = ranked([each for each in finished if each.rung == trial.rung])[0]
    low, high = wilson_interval(best.val_right, best.val_images)
    return (
        f"{name}: log loss {trial.val_loss:.3f}, {trial.val_right} of {trial.val_images} right "
        f"({what or 'as given'}); best so far {best.val_loss:.3f} ({low:.1%} to {high:.1%} right); "
        f"{ending}"
    )


def _board(finished: Sequence[Trial], plan: SearchPlan) -> list[tuple[str, ...]]:
    """Returns a table of the rungs: how far each is, the best so far, and the time left."""
    rows: list[tuple[str, ...]] = [("stage", "trials", "best so far (95 %)", "time left at most")]
    for number, rung in enumerate(plan.rungs):
        here = [trial for trial in finished if trial.rung == number]
        if not here and not rung.planned:
            continue
        good = [trial for trial in here if trial.val_loss is not None]
        best = "–"
        if good:
            first = ranked(good)[0]
            low, high = wilson_interval(first.val_right, first.val_images)
            share = first.val_right / first.val_images
            best = f"{share:.1%} ({low:.1%} to {high:.1%}), log loss {first.val_loss:.3f}"
        epochs = sum(trial.epochs for trial in finished)
        seconds = sum(trial.seconds for trial in finished) / max(1, epochs)
        left = max(0, rung.trials - len(here)) * rung.epochs * seconds
        shown_left = format_duration(left) if finished else "–"
        rows.append((f"{rung.epochs} epochs", f"{len(here)} of {rung.trials}", best, shown_left))
    return rows


def _seconds_left(finished: Sequence[Trial], plan: SearchPlan) -> float:
    """Returns what the trials that are left take, at the speed so far."""
    epochs = sum(trial.epochs for trial in finished)
    planned = sum(rung.trials * rung.epochs for rung in plan.rungs)
    return sum(trial.seconds for trial in finished) / epochs * max(0, planned - epochs)
