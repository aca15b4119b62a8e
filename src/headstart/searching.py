"""The search: what was planned is tried on what is cached, and the winner is trained.

Every step is journalled before it counts, so that a search that was killed goes on.
"""

from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np

from headstart.artifacts.journal import (
    TRIALS,
    SearchPlan,
    Trial,
    read_plan,
    write_plan,
)
from headstart.artifacts.run import asked_recipe, write_recipe
from headstart.backbones.boundaries import FEATURES
from headstart.finetuning import Finished, seconds_for_training, train_recipe
from headstart.finishing import finish
from headstart.inference_stats import wilson_interval
from headstart.options import FitOptions
from headstart.planning import plan_search
from headstart.preparing import Prepared, unsealed
from headstart.probe import parted
from headstart.progress import format_duration
from headstart.recipe import Recipe
from headstart.run_context import RunContext
from headstart.safeguarding import without_unsafe
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
from headstart.text import counted, percent, percent_range


def search(run: RunContext, ready: Prepared, base: Recipe) -> Finished:
    """Finds and trains the best recipe that the budget or the number of trials allows.

    Args:
        run: The run; its record learns what was planned and done, and the journal lies in its
            folder.
        ready: The data and the backbone of the recipe.
        base: Gives what is not searched.

    Returns:
        What is to be proven. Where the budget allows one recipe only, that recipe is trained.

    Raises:
        HeadstartError: If every trial failed.
        RecipeError: If there is nothing to search with the number of trials.
    """
    folder, record = run.folder, run.record
    plan = read_plan(folder)
    base_epochs = base.epochs
    if plan is None:
        base = without_unsafe(run, ready, base)
        base_epochs = base.epochs
        ready, base, plan = plan_search(run, ready, base)
        if plan is None:
            _note_ensemble(run, 1, "one recipe was trained")
            return train_recipe(run, ready, base)
        write_recipe(folder, base, SEARCH_RECIPE)
        run.save()  # a resumed run tells it, too
        write_plan(folder, plan)  # from here on it counts
    setting = shared_setting(ready, base, plan)
    _say_disk(run, ready, base, plan)
    ranking: list[Trial] = []
    if plan.rungs:
        setting = replace(setting, heads=solve_heads(setting, base))
        entries = _cache_views(run, setting, base, plan)
        with run.step("search", _planned(plan)) as step:
            ranking, plan = _try_recipes(run, ready, setting, entries, base, plan)
            trials = TRIALS.read(folder)
            step.seconds = sum(trial.seconds for trial in trials)
            step.happened(_describe_trials(base, plan, trials, ranking[0]))
        if run.clock.budget_s is not None and not base_epochs:
            left = seconds_for_training(ready, base, run.clock)
            networks = len(_winners(run, ranking, plan))
            speed = _speed(run, plan, trials)
            images = len(setting.rows)
            plan = _fitted(plan, speed, left, images, base.views, max(1, networks))
        write_plan(folder, plan)
    winners = _winners(run, ranking, plan)
    head_asked = fixed_boundary(ready.material, asked_recipe(record) or base) == FEATURES
    record.stop_reason = _why_ended(plan, head_asked, unpaid=bool(ranking) and not winners)
    head_of = ranking[0] if ranking and not winners else None
    done = finish(run, ready, setting, base, plan, winners, head_of)
    why = record.stop_reason
    if len(winners) == run.options.ensemble:
        why = "the others failed on the whole schedule"
    elif ranking:
        why = (
            f"{counted(len(ranking), 'trial')} completed the search, of which {len(winners)} did "
            "not validate worse than the head alone"
        )
    _note_ensemble(run, 1 + len(done.others), why)
    write_recipe(folder, done.recipe)
    return done


def _winners(run: RunContext, ranking: Sequence[Trial], plan: SearchPlan) -> list[Trial]:
    """Returns the trials that are trained for the whole schedule, the best first."""
    return [trial for trial in ranking if pays(trial, plan.epochs)][: run.options.ensemble]


def _note_ensemble(run: RunContext, members: int, why: str) -> None:
    """Notes where fewer networks are shipped than were asked for."""
    asked = run.options.ensemble
    if members < asked:
        run.note(f"An ensemble of {asked} was requested, but it has {members}: {why}.")


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


def _say_disk(run: RunContext, ready: Prepared, base: Recipe, plan: SearchPlan) -> None:
    """Says how much of the disk the search takes at most, before it does."""
    shape = ready.material.traced.boundary(boundary_without_clock(ready.material, base)).shape
    views = (base.views or views_for(MOST_EPOCHS)) if plan.rungs else 0
    images = len(unsealed(ready).rows)
    activations_bytes = images * (views + 2) * 2 * int(np.prod(shape))
    text = (
        f"The cache takes at most {(activations_bytes + ready.pixels.data.nbytes) / 1e6:,.0f} MB: "
        f"{counted(images, 'decoded image')}, and activations of {views + 2} views of each."
    )
    run.note(text)
    run.say(f"disk: {text}")


def _cache_views(run: RunContext, setting: Setting, base: Recipe, plan: SearchPlan) -> list[Path]:
    """Caches the views that the first trials need, so that trials take what training takes.

    Returns:
        The folders of the cache that trials read.
    """
    material = replace(
        fresh_material(setting, base), rows={"train": setting.rows, "val": setting.rows},
        labels={"train": setting.labels, "val": setting.labels}, progress=run.progress,
    )  # fmt: skip
    with run.step("views", "views for the first trials") as step:
        start = start_from(material, base, setting.boundary, setting.heads[0][0])
        views = training_data(material, base, start, plan.rungs[0].epochs).views
        step.planned = f"{counted(len(views), 'view')} for the first trials"
    arrays = [each.array for each in (*views, *start.cached.values()) if isinstance(each, Picked)]
    stored = [Path(str(array.filename)).parent for array in arrays if isinstance(array, np.memmap)]
    return list(dict.fromkeys([setting.cache_dir / "pixels" / setting.pixels, *stored]))


def _try_recipes(
    run: RunContext,
    ready: Prepared,
    setting: Setting,
    entries: list[Path],
    base: Recipe,
    plan: SearchPlan,
) -> tuple[list[Trial], SearchPlan]:
    """Stage 3: runs successive halving; returns the trials of the last rung and what was done."""
    options, known = run.options, TRIALS.read(run.folder)
    run.say(f"search: {_planned(plan)}" + (f"; {len(known)} of them done before" if known else ""))
    finished = list(known)
    asking = Asking(base, options.sampler, drawn_families(options.by_hand), options.ensemble)

    def journal(trial: Trial) -> None:
        TRIALS.append(run.folder, trial)
        run.save()
        finished.append(trial)
        run.say(_describe(trial, base, finished, plan))
        run.progress.board(_board(finished, plan))

    def why_stop(
        tried: Sequence[Trial], finished: Sequence[Trial], plan: SearchPlan, rung: int
    ) -> str:
        reason = (
            enough(tried, plan.rungs[rung].trials - len(tried), plan.epochs) if not rung else ""
        )
        if reason or run.clock.budget_s is None or not plan.train_s or not finished:
            return reason
        left = seconds_for_training(ready, base, run.clock)
        epochs, missing = options.ensemble * plan.epochs, _missing_views(plan, base.views)
        whole_s = _speed(run, plan, finished).seconds(len(setting.rows), epochs, missing)
        used_up = left < _trials_seconds(finished, plan, rung) + whole_s
        return "the time for trials was used up" if used_up else ""

    run.progress.board(_board(finished, plan))
    try:
        with _open_executor(options, setting, entries) as executor:
            return run_rungs(
                asking, plan, known, executor, journal, why_stop, partial(write_plan, run.folder)
            )
    finally:
        run.progress.board(())


def _open_executor(
    options: FitOptions, setting: Setting, entries: list[Path]
) -> AbstractContextManager[Executor[Job, Score]]:
    if options.executor == "ray":
        parcel = pack(setting, entries)
        return open_executor(
            "ray", run_sent_trial, parcel, workers=options.jobs, address=options.address
        )
    return open_executor(
        options.executor, run_trial, setting,
        workers=options.jobs, memory_limit=options.memory_limit,
    )  # fmt: skip


def _trials_seconds(finished: Sequence[Trial], plan: SearchPlan, rung: int) -> float:
    """Returns what one more trial of a rung takes, with those of later rungs."""
    epoch_s = max(trial.seconds / trial.epochs for trial in finished)
    later = sum(each.epochs for each in plan.rungs[rung + 1 :] if each.trials)
    return epoch_s * (plan.rungs[rung].epochs + later)


def _speed(run: RunContext, plan: SearchPlan, trials: Sequence[Trial]) -> Speed:
    """Returns what an image costs, by what was measured and by what the trials took.

    Trials that ran elsewhere, or side by side, say nothing of what this process can do alone.
    """
    here = run.options.executor == "here"
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
        return "the head was solved in closed form, and there was nothing else to train"
    if not plan.rungs:
        return "the budget left no time to try more than heads"
    return _endings(plan) or "all planned trials were run"


def _endings(plan: SearchPlan) -> str:
    """Returns why rungs ended before all of their trials had run; empty where none did."""
    return "; ".join(dict.fromkeys(rung.ended for rung in plan.rungs if rung.ended))


def _planned(plan: SearchPlan) -> str:
    rungs = [rung for rung in plan.rungs if rung.planned]
    each = [
        f"{counted(rung.planned, 'recipe')} for {counted(rung.epochs, 'epoch')}" for rung in rungs
    ]
    return ", then ".join(each) + (
        f", each {plan.folds}-fold cross-validated" if plan.folds > 1 else ""
    )


def _describe_trials(base: Recipe, plan: SearchPlan, trials: Sequence[Trial], best: Trial) -> str:
    """Returns what became of the trials."""
    changes = differences(best.recipe, base.model_dump(mode="json"))
    chosen = ", ".join(f"{path} = {shown(value)}" for path, value in changes.items())
    happened = f"{counted(len(trials), 'trial')}; best: {chosen or 'the starting recipe'}"
    happened += f", log loss {best.val_loss:.3f}, {best.val_right} of {best.val_images} right"
    if best.start_loss is not None:
        happened += f" (before training {best.start_loss:.3f})"
    failed = sum(trial.state == "failed" for trial in trials)
    if failed:
        happened += f"; {counted(failed, 'trial')} failed"
    if ended := _endings(plan):
        happened += f"; ended because {ended}"
    return happened


def _describe(trial: Trial, base: Recipe, finished: Sequence[Trial], plan: SearchPlan) -> str:
    """Returns a line on a trial, the best so far in its rung, and the time left."""
    name = f"trial {trial.number + 1}, {counted(trial.epochs, 'epoch')}"
    changes = differences(trial.recipe, base.model_dump(mode="json"))
    what = ", ".join(f"{path} = {shown(value)}" for path, value in changes.items())
    left = _seconds_left(finished, plan)
    ending = f"trials end in about {format_duration(left)} at most"
    if trial.val_loss is None:
        return f"{name}: failed ({trial.cause}); {ending}"
    best = ranked([each for each in finished if each.rung == trial.rung])[0]
    low, high = wilson_interval(best.val_right, best.val_images)
    return (
        f"{name}: log loss {trial.val_loss:.3f}, {trial.val_right} of {trial.val_images} right "
        f"({what or 'the starting recipe'}); best so far {best.val_loss:.3f} "
        f"({percent_range((low, high))} right); "
        f"{ending}"
    )


def _board(finished: Sequence[Trial], plan: SearchPlan) -> list[tuple[str, ...]]:
    """Returns a table of the rungs: how far each is, the best so far, and the time left."""
    rows: list[tuple[str, ...]] = [("stage", "trials", "best so far (95%)", "time left at most")]
    for number, rung in enumerate(plan.rungs):
        here = [trial for trial in finished if trial.rung == number]
        if not here and not rung.planned:
            continue
        good = [trial for trial in here if trial.val_loss is not None]
        best = "–"
        if good:
            first = ranked(good)[0]
            interval = wilson_interval(first.val_right, first.val_images)
            share = percent(first.val_right / first.val_images)
            best = f"{share} ({percent_range(interval)}), log loss {first.val_loss:.3f}"
        epochs = sum(trial.epochs for trial in finished)
        seconds = sum(trial.seconds for trial in finished) / max(1, epochs)
        left = max(0, rung.trials - len(here)) * rung.epochs * seconds
        shown_left = format_duration(left) if finished else "–"
        rows.append(
            (counted(rung.epochs, "epoch"), f"{len(here)} of {rung.trials}", best, shown_left)
        )
    return rows


def _seconds_left(finished: Sequence[Trial], plan: SearchPlan) -> float:
    """Returns what the trials that are left take, at the speed so far."""
    epochs = sum(trial.epochs for trial in finished)
    planned = sum(rung.trials * rung.epochs for rung in plan.rungs)
    return sum(trial.seconds for trial in finished) / epochs * max(0, planned - epochs)
