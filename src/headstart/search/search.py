"""The search: runs the planned trials on cached activations and trains the winner.

Every step is journalled before it counts, so a killed search can be resumed.
"""

from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from headstart.artifacts.endings import NO_TIME_FOR_ALL, TRIALS_USED_UP
from headstart.artifacts.journal import TRIALS, SearchPlan, Trial, read_plan, write_plan
from headstart.artifacts.run import SEARCH_RECIPE
from headstart.artifacts.run_start import asked_recipe, write_recipe
from headstart.backbones.places import FEATURES
from headstart.errors import HeadstartError
from headstart.features.extractor import Picked
from headstart.recipes.label_sets import drawn_for_sets
from headstart.recipes.options import FitOptions
from headstart.recipes.recipe import Recipe
from headstart.recipes.space import drawn_families
from headstart.search.augmentations import without_unsafe
from headstart.search.budget import (
    end_of_trials,
    fits_an_epoch,
    fitted_plan,
    missing_views,
    speed_by_trials,
)
from headstart.search.executors.local import Executor, open_executor
from headstart.search.executors.parcel import pack, run_sent_trial
from headstart.search.executors.ray_cluster import open_cluster
from headstart.search.halving import successive_halving
from headstart.search.messages import (
    all_failed,
    describe_trial,
    describe_trials,
    note_ensemble,
    planned_trials,
    say_disk,
    trial_board,
    why_ended,
)
from headstart.search.planner import plan_search
from headstart.search.portfolio import Task, portfolio
from headstart.search.refit import finish
from headstart.search.sampler import Asking
from headstart.search.score import Score
from headstart.search.stopping import enough, not_yet, pays
from headstart.search.trial import (
    TrialContext,
    TrialJob,
    fresh_extractor,
    run_trial,
    solve_heads,
    trial_context,
)
from headstart.text import counted
from headstart.training.boundary import fixed_boundary
from headstart.training.budget import VIEWS_SHARE, Speed, views_for
from headstart.training.experiment import Experiment
from headstart.training.finetune import FittedClassifier, train_recipe
from headstart.training.reserve import deadline_of, seconds_for_training
from headstart.training.run_context import RunContext
from headstart.training.transfer import build_transfer_model, training_data


def search(run: RunContext, experiment: Experiment, base: Recipe) -> FittedClassifier:
    """Finds and trains the best recipe that the budget or the number of trials allows.

    A cluster that the run names also runs the frozen prefixes.

    Args:
        run: Run context; the journal is in its folder.
        experiment: Experiment with the backbone of the recipe.
        base: Recipe with the choices that are not searched.

    Returns:
        The fitted classifier, before the sealed test. If the budget only allows one recipe, that
        recipe is trained.

    Raises:
        HeadstartError: If every trial failed and the head was initialized at random.
        RecipeError: If there is nothing to search with the number of trials.
    """
    with open_cluster(run) as cluster:
        extractor = replace(experiment.extractor, cluster=cluster)
        return _search(run, replace(experiment, extractor=extractor), base)


def _search(run: RunContext, experiment: Experiment, base: Recipe) -> FittedClassifier:
    folder, record = run.folder, run.record
    plan = read_plan(folder)
    base_epochs = base.epochs
    if plan is None:
        base = without_unsafe(run, experiment, base)
        base_epochs = base.epochs
        experiment, base, plan = plan_search(run, experiment, base)
        if plan is None:
            note_ensemble(run, 1, "one recipe was trained")
            return train_recipe(run, experiment, base)
        write_recipe(folder, base, SEARCH_RECIPE)
        run.save()  # a resumed run shows it, too
        write_plan(folder, plan)  # from here on it counts
    context = trial_context(experiment, base, plan)
    say_disk(run, experiment, base, plan)
    speed = Speed(plan.view_s, plan.train_s, 0)
    ranking: list[Trial] = []
    if plan.rungs:
        context = replace(context, heads=solve_heads(context, base))
        views, base = _cache_views(run, experiment, context, base, plan)
        with run.step("search", planned_trials(plan)) as step:
            limited = replace(context, deadline=end_of_trials(run, experiment, base, plan))
            ranking, plan = _try_recipes(run, experiment, limited, views, base, plan)
            trials = TRIALS.read(folder)
            step.seconds = sum(trial.seconds for trial in trials)
            step.happened(describe_trials(base, plan, trials, ranking[0] if ranking else None))
        if not ranking:
            _fall_back_on_head(run, context, trials)
        speed = speed_by_trials(run, plan, trials)
        if run.clock.budget_s is not None and not base_epochs:
            left = seconds_for_training(experiment, base, run.clock)
            networks = len(_winners(run, ranking, plan))
            images = len(context.rows)
            plan = fitted_plan(plan, speed, left, images, base.views, max(1, networks))
        write_plan(folder, plan)
    winners = _winners(run, ranking, plan)
    late = bool(winners) and not fits_an_epoch(run, experiment, base, speed)
    if late:
        winners = []
    head_asked = fixed_boundary(experiment.extractor, asked_recipe(record) or base) == FEATURES
    record.stop_reason = NO_TIME_FOR_ALL if late else why_ended(plan, head_asked, ranking, winners)
    head_of = ranking[0] if ranking and not winners else None
    fitted = finish(run, experiment, context, base, plan, winners, head_of)
    why = record.stop_reason
    if len(winners) == run.options.ensemble:
        why = "the others failed, or were dropped, on the whole schedule"
    elif ranking:
        why = (
            f"{counted(len(ranking), 'trial')} completed the search, and the "
            f"validation loss of {len(winners)} is no higher than that of the head alone"
        )
    note_ensemble(run, 1 + len(fitted.others), why)
    write_recipe(folder, fitted.recipe)
    return fitted


def _fall_back_on_head(run: RunContext, context: TrialContext, trials: Sequence[Trial]) -> None:
    """Notes that the solved head is kept because every trial failed.

    Raises:
        HeadstartError: If there is no solved head.
    """
    why = all_failed(trials)
    if context.heads[0][0] is None:  # a random head is not worth keeping
        raise HeadstartError(why)
    run.note(f"{why} The head on frozen features is kept.")
    run.say("note: the head on frozen features is kept, because every trial failed")


def _winners(run: RunContext, ranking: Sequence[Trial], plan: SearchPlan) -> list[Trial]:
    """Returns the trials that are trained for the whole schedule, the best first."""
    tried = plan.rungs[0].trials if plan.rungs else 1
    return [trial for trial in ranking if pays(trial, plan, tried)][: run.options.ensemble]


def _cache_views(
    run: RunContext, experiment: Experiment, context: TrialContext, base: Recipe, plan: SearchPlan
) -> tuple[Sequence["np.memmap[Any, np.dtype[Any]]"], Recipe]:
    """Caches the views for the first trials, so the duration of a trial is that of training.

    Returns:
        The arrays, which other processes do not evict while they live, and the recipe, with fewer
        views if the time did not allow more.
    """
    extractor = replace(
        fresh_extractor(context, base), rows={"train": context.rows, "val": context.rows},
        labels={"train": context.labels, "val": context.labels}, progress=run.progress,
    )  # fmt: skip
    with run.step("views", "views for the first trials") as step:
        transfer = build_transfer_model(extractor, base, context.boundary, context.heads[0][0])
        deadline = deadline_of(experiment, base, run.clock)
        until = None if deadline is None else deadline.part(VIEWS_SHARE)
        views = training_data(extractor, base, transfer, plan.rungs[0].epochs, until).views
        step.planned = f"{counted(len(views), 'view')} for the first trials"
        planned = 1 if base.augmentation.absent else base.views or views_for(plan.rungs[0].epochs)
        if len(views) < planned:
            base = base.model_copy(update={"views": len(views)})
            write_recipe(run.folder, base, SEARCH_RECIPE)
            step.happened(f"the time budget allowed {len(views)} of {counted(planned, 'view')}")
            run.note(f"The time budget allowed {len(views)} of {planned} views of each image.")
    arrays = [
        each.array for each in (*views, *transfer.cached.values()) if isinstance(each, Picked)
    ]
    return [array for array in arrays if isinstance(array, np.memmap)], base


def _try_recipes(
    run: RunContext,
    experiment: Experiment,
    context: TrialContext,
    views: Sequence["np.memmap[Any, np.dtype[Any]]"],
    base: Recipe,
    plan: SearchPlan,
) -> tuple[list[Trial], SearchPlan]:
    """Stage 3: runs successive halving; returns the trials of the last rung and what was done."""
    options, known = run.options, TRIALS.read(run.folder)
    run.say(
        f"search: {planned_trials(plan)}"
        + (f"; {len(known)} of them already done" if known else "")
    )
    finished = list(known)
    families = drawn_families(options.by_hand)
    task = Task(len(context.rows), len(context.classes), plan.head_loss)
    several = experiment.multilabel
    # What paid with one label an image says nothing about sets of labels.
    first = () if several else portfolio().known(base, families, task)
    only = drawn_for_sets() if several else {}
    asking = Asking(base, options.sampler, families, options.ensemble, first, only)

    def journal(trial: Trial) -> None:
        TRIALS.append(run.folder, trial)
        run.save()
        finished.append(trial)
        run.say(describe_trial(trial, base, finished, plan))
        run.progress.board(trial_board(finished, plan))

    def why_stop(
        tried: Sequence[Trial], finished: Sequence[Trial], plan: SearchPlan, rung: int
    ) -> str:
        more, reason = plan.rungs[rung].trials - len(tried), ""
        if not rung:
            reason = not_yet(tried, plan) or enough(tried, more)
        if reason or run.clock.budget_s is None or not plan.train_s or not finished:
            return reason
        run.clock.pace.measure()
        left = seconds_for_training(experiment, base, run.clock)
        epochs, missing = options.ensemble * plan.epochs, missing_views(plan, base.views)
        whole_s = speed_by_trials(run, plan, finished).seconds(len(context.rows), epochs, missing)
        used_up = left < _trials_seconds(finished, plan, rung) + whole_s
        return TRIALS_USED_UP if used_up else ""

    run.progress.board(trial_board(finished, plan))
    try:
        with _open_executor(options, context, views) as executor:
            return successive_halving(
                asking, plan, known, executor, journal, why_stop, partial(write_plan, run.folder)
            )
    finally:
        run.progress.board(())


def _open_executor(
    options: FitOptions, context: TrialContext, views: Sequence["np.memmap[Any, np.dtype[Any]]"]
) -> AbstractContextManager[Executor[TrialJob, Score]]:
    if options.executor == "ray":
        stored = [Path(str(array.filename)).parent for array in views]
        entries = dict.fromkeys([context.cache_dir / "pixels" / context.pixels, *stored])
        parcel = pack(context, list(entries))
        return open_executor(
            "ray", run_sent_trial, parcel, jobs=options.jobs, address=options.address
        )
    return open_executor(
        options.executor, run_trial, context,
        jobs=options.jobs, memory_limit=options.memory_limit,
    )  # fmt: skip


def _trials_seconds(finished: Sequence[Trial], plan: SearchPlan, rung: int) -> float:
    """Returns the seconds of one more trial of a rung, including its share of later rungs."""
    epoch_s = max(trial.seconds / trial.epochs for trial in finished)
    later = sum(each.epochs for each in plan.rungs[rung + 1 :] if each.trials)
    return epoch_s * (plan.rungs[rung].epochs + later)
