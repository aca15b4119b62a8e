"""The messages of a search: what is planned, what each trial gave, and why it ended."""

from collections.abc import Sequence

import numpy as np

from headstart.artifacts.endings import ONLY_HEADS
from headstart.artifacts.journal import SearchPlan, Trial
from headstart.progress import format_duration
from headstart.recipes.recipe import Recipe
from headstart.search.leaderboard import differences, right_words, shown
from headstart.search.stopping import ALL_FAILED, NOT_PAYING, ranked
from headstart.text import counted, percent, percent_range
from headstart.training.boundary import boundary_without_clock
from headstart.training.budget import MOST_EPOCHS, views_for
from headstart.training.experiment import Experiment, development_set
from headstart.training.run_context import RunContext


def note_ensemble(run: RunContext, members: int, why: str) -> None:
    """Adds a note if the ensemble has fewer networks than requested."""
    asked = run.options.ensemble
    if members < asked:
        run.note(f"An ensemble of {asked} was requested, but it has {members}: {why}.")


def say_disk(run: RunContext, experiment: Experiment, base: Recipe, plan: SearchPlan) -> None:
    """Notes the maximum disk space of the search in advance."""
    shape = experiment.extractor.traced.boundary(
        boundary_without_clock(experiment.extractor, base)
    ).shape
    views = (base.views or views_for(MOST_EPOCHS)) if plan.rungs else 0
    images = len(development_set(experiment).rows)
    activations_bytes = images * (views + 2) * 2 * int(np.prod(shape))
    text = (
        f"The cache takes at most "
        f"{(activations_bytes + experiment.pixels.data.nbytes) / 1e6:,.0f} MB: "
        f"{counted(images, 'decoded image')}, and activations of {views + 2} views of each."
    )
    run.note(text)
    run.say(f"disk: {text}")


def why_ended(
    plan: SearchPlan, head_asked: bool, ranking: Sequence[Trial], winners: Sequence[Trial]
) -> str:
    """Returns why a search ended, in a few words."""
    if ranking and not winners:
        return NOT_PAYING
    if plan.rungs and not ranking:
        return ALL_FAILED
    if not plan.rungs and head_asked:
        return "the head has a closed-form solution, and there was nothing else to train"
    if not plan.rungs:
        return ONLY_HEADS
    return _endings(plan) or "all planned trials were run"


def all_failed(trials: Sequence[Trial]) -> str:
    """Returns a sentence on trials of which none succeeded."""
    return (
        f"All trials failed ({len(trials)}), the first with: {trials[0].cause.rstrip('.')}. "
        "Their causes and tracebacks are in trials.jsonl in the run folder."
    )


def _endings(plan: SearchPlan) -> str:
    """Returns why rungs ended early; empty if none did."""
    return "; ".join(dict.fromkeys(rung.ended for rung in plan.rungs if rung.ended))


def planned_trials(plan: SearchPlan) -> str:
    """Returns what a search plans to try, in a few words."""
    rungs = [rung for rung in plan.rungs if rung.planned]
    each = [
        f"{counted(rung.planned, 'recipe')} for {counted(rung.epochs, 'epoch')}" for rung in rungs
    ]
    return ", then ".join(each) + (
        f", each {plan.folds}-fold cross-validated" if plan.folds > 1 else ""
    )


def describe_trials(
    base: Recipe, plan: SearchPlan, trials: Sequence[Trial], best: Trial | None
) -> str:
    """Returns the outcome of the trials."""
    if best is None:
        return all_failed(trials)
    changes = differences(best.recipe, base.model_dump(mode="json"))
    chosen = ", ".join(f"{path} = {shown(value)}" for path, value in changes.items())
    happened = f"{counted(len(trials), 'trial')}; best: {chosen or 'the starting recipe'}"
    happened += f", log loss {best.val_loss:.3f}, {best.val_right} of {best.val_images} "
    happened += right_words(base)
    if best.start_loss is not None:
        happened += f" (before training {best.start_loss:.3f})"
    failed = sum(trial.state == "failed" for trial in trials)
    if failed:
        happened += f"; {counted(failed, 'trial')} failed"
    if ended := _endings(plan):
        happened += f"; ended because {ended}"
    return happened


def describe_trial(trial: Trial, base: Recipe, finished: Sequence[Trial], plan: SearchPlan) -> str:
    """Returns a line on a trial, the best so far in its rung, and the time left."""
    name = f"trial {trial.number + 1}, {counted(trial.epochs, 'epoch')}"
    changes = differences(trial.recipe, base.model_dump(mode="json"))
    what = ", ".join(f"{path} = {shown(value)}" for path, value in changes.items())
    if trial.note:
        name += f" ({trial.note})"
    left = _seconds_left(finished, plan)
    ending = f"trials end in about {format_duration(left)} at most"
    if trial.val_loss is None:
        return f"{name}: failed ({trial.cause}); {ending}"
    best = ranked([each for each in finished if each.rung == trial.rung])[0]
    return (
        f"{name}: log loss {trial.val_loss:.3f}, {trial.val_right} of {trial.val_images} "
        f"{right_words(base)} "
        f"({what or 'the starting recipe'}); best so far {best.val_loss:.3f} "
        f"({percent_range(best.interval)} {right_words(base)}); "
        f"{ending}"
    )


def trial_board(finished: Sequence[Trial], plan: SearchPlan) -> list[tuple[str, ...]]:
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
            share = percent(first.val_right / first.val_images)
            best = f"{share} ({percent_range(first.interval)}), log loss {first.val_loss:.3f}"
        epochs = sum(trial.epochs for trial in finished)
        seconds = sum(trial.seconds for trial in finished) / max(1, epochs)
        left = max(0, rung.trials - len(here)) * rung.epochs * seconds
        shown_left = format_duration(left) if finished else "–"
        rows.append(
            (counted(rung.epochs, "epoch"), f"{len(here)} of {rung.trials}", best, shown_left)
        )
    return rows


def _seconds_left(finished: Sequence[Trial], plan: SearchPlan) -> float:
    """Returns the seconds for the remaining trials at the current speed."""
    epochs = sum(trial.epochs for trial in finished)
    planned = sum(rung.trials * rung.epochs for rung in plan.rungs)
    return sum(trial.seconds for trial in finished) / epochs * max(0, planned - epochs)
