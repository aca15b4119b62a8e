"""Successive halving: recipes are drawn, run and journalled, and the best continue."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

from headstart.artifacts.journal import Rung, SearchPlan, Trial
from headstart.errors import RecipeError
from headstart.recipes.parsing import parse_recipe
from headstart.search.executors.local import Executor
from headstart.search.executors.outcome import Outcome
from headstart.search.sampler import Asking, ask
from headstart.search.score import Score
from headstart.search.stopping import ALL_FAILED, NOT_PAYING, pays, ranked, short
from headstart.search.trial import TrialJob
from headstart.text import counted

SMALLEST_BATCH = 4

KEEP = 3
"""One in this many trials is promoted to the next rung."""

WhyStop = Callable[[Sequence[Trial], Sequence[Trial], SearchPlan, int], str]
"""Trials of a rung so far, all trials, the plan and the rung's number to why it should end."""


def successive_halving(
    asking: Asking,
    plan: SearchPlan,
    known: Sequence[Trial],
    executor: Executor[TrialJob, Score],
    journal: Callable[[Trial], None],
    why_stop: WhyStop = lambda tried, finished, plan, rung: "",
    keep_plan: Callable[[SearchPlan], None] = lambda plan: None,
) -> tuple[list[Trial], SearchPlan]:
    """Runs all rungs and returns the trials of the last one, the best first, and the plan as run.

    The executor runs one trial per slot at a time. The sampler learns from each batch of trials in
    the order of their numbers: the same number of slots gives the same search. If no short
    schedule beats its initial head, the best of them is tried again on the next schedule. If
    every trial of a later rung fails, the trials of the rung before it are returned; if every
    trial of the first rung fails, none is.

    Args:
        asking: Source of the recipes.
        plan: Plan with the rungs.
        known: Trials of this search that are already in the journal.
        executor: Executor of the trials.
        journal: Writes a trial; it counts only when this has returned.
        why_stop: Returns why a rung should end early, or an empty string.
        keep_plan: Writes the plan as run so far, after each rung and before the next.
    """
    done = {(trial.rung, trial.number): trial for trial in known}
    best: list[Trial] = []
    for number in range(len(plan.rungs)):
        rung = plan.rungs[number]
        tried: list[Trial] = []
        judged = plan
        unpaid = number > 0 and not any(pays(trial, plan, len(best)) for trial in best)
        again = unpaid and bool(best) and short(best[0], plan.epochs)
        if again and not rung.ended:
            rung = rung.model_copy(update={"trials": 1})
            # The remaining time must cover a whole schedule of at least this length.
            judged = plan.model_copy(update={"epochs": rung.epochs})
        while len(tried) < rung.trials:
            # A rung that ended earlier keeps its number of trials.
            reason = ""
            if not rung.ended:
                finished = list(done.values())
                hopeless = unpaid and not again
                reason = NOT_PAYING if hopeless else why_stop(tried, finished, judged, number)
            if reason:
                rung = rung.model_copy(update={"trials": len(tried), "ended": reason})
                break
            size = min(executor.slots, rung.trials - len(tried))
            places = range(len(tried), len(tried) + size)
            jobs = [_job(asking, plan, number, place, tried, best) for place in places]
            for trial in _run(executor, [j for j in jobs if (number, j.number) not in done]):
                journal(trial)
                done[number, trial.number] = trial
            tried += [done[number, job.number] for job in jobs]
        if number == 0 or any(trial.val_loss is not None for trial in tried):
            best = ranked(tried)
        elif tried and not rung.ended:
            rung = rung.model_copy(update={"ended": "all trials with longer schedules failed"})
        going = going_on(rung.trials, asking.winners)
        if len(best) < going and number + 1 < len(plan.rungs) and not rung.ended:
            ended = f"only {counted(len(best), 'trial')} did not fail" if best else ALL_FAILED
            rung = rung.model_copy(update={"ended": ended})
        plan = _with_rung(plan, number, rung, min(going, len(best)))
        keep_plan(plan)
    return best, plan


def _with_rung(plan: SearchPlan, number: int, rung: Rung, going: int) -> SearchPlan:
    """Returns the plan with a rung as it was run; at most `going` are promoted."""
    rungs = [*plan.rungs[:number], rung, *plan.rungs[number + 1 :]]
    if number + 1 < len(rungs) and not rungs[number + 1].ended:
        fewer = min(rungs[number + 1].trials, going)
        rungs[number + 1] = rungs[number + 1].model_copy(update={"trials": fewer})
    return plan.model_copy(update={"rungs": tuple(rungs)})


def _job(
    asking: Asking,
    plan: SearchPlan,
    rung: int,
    place: int,
    tried: Sequence[Trial],
    best: Sequence[Trial],
) -> TrialJob:
    """Returns the next job: a new recipe, or the next best of the rung before."""
    base, epochs = asking.base, plan.rungs[rung].epochs
    last = not any(later.planned for later in plan.rungs[rung + 1 :])
    flips = last and base.augmentation.allows_mirroring
    if rung:
        survivor = best[place]
        # The best blend of a short schedule does not suit a longer one.
        after = ("blend", "retrain_head", "test_time_flip")
        recipe = {**survivor.recipe, **{name: getattr(base, name) for name in after}}
        return TrialJob(survivor.number, rung, recipe, epochs, flips)
    asked = ask(asking, tried, place)
    return TrialJob(place, rung, asked.model_dump(mode="json"), epochs, flips)


def _run(executor: Executor[TrialJob, Score], jobs: Sequence[TrialJob]) -> Iterator[Trial]:
    """Yields each trial as it ends; one that runs out of memory is retried with smaller batches."""
    waiting = [(job, "") for job in jobs]
    while waiting:
        again = []
        for position, outcome in executor.run([job for job, _ in waiting]):
            job, note = waiting[position]
            smaller = _with_half_the_batch(job) if outcome.out_of_memory else None
            if smaller is None:
                yield as_trial(job, outcome, note)
                continue
            size = smaller.recipe["batch_size"]
            again.append((smaller, f"batches of {size}, because larger ones ran out of memory"))
        waiting = again


def _with_half_the_batch(job: TrialJob) -> TrialJob | None:
    """Returns the job with half the batch size, or None if its methods need larger batches."""
    size = int(job.recipe["batch_size"]) // 2
    recipe = {**job.recipe, "batch_size": size}
    try:
        parse_recipe(recipe)
    except RecipeError:
        return None
    return replace(job, recipe=recipe) if size >= SMALLEST_BATCH else None


def plan_rungs(trials: int, epochs: int, winners: int = 1) -> list[Rung]:
    """Returns the rungs before the full schedule: a quarter of its epochs, then a half.

    Successive halving (Jamieson & Talwalkar, AISTATS 2016), with a third promoted. With few trials,
    none is promoted unless it is unclear whether training helps; see `rungs.successive_halving`.

    Args:
        trials: In the first rung.
        epochs: Length of the full schedule.
        winners: Minimum number of promoted trials, if there are as many.
    """
    more = going_on(trials, winners) if trials >= KEEP else 0
    sizes = [(trials, max(1, epochs // 4)), (more, max(1, epochs // 2))]
    return [Rung(planned=size, trials=size, epochs=length) for size, length in sizes]


def going_on(trials: int, winners: int = 1) -> int:
    """Returns how many trials of a rung are promoted: a third, or at least the winners."""
    return min(trials, max(winners, -(-trials // KEEP)))


def trial_epochs(trials: int, epochs: int) -> int:
    """Returns the epochs that all rungs take together."""
    return sum(rung.trials * rung.epochs for rung in plan_rungs(trials, epochs))


def as_trial(job: TrialJob, outcome: Outcome[Score], note: str = "") -> Trial:
    """Returns the journal entry of a finished job; its recipe includes the chosen blend."""
    score = outcome.value
    recipe = dict(job.recipe)
    common: dict[str, Any] = {
        "rung": job.rung, "number": job.number, "epochs": job.epochs,
        "seconds": outcome.seconds, "note": note,
    }  # fmt: skip
    if score is None:
        failed = {"cause": outcome.cause, "traceback": outcome.traceback}
        return Trial(state="failed", recipe=recipe, **failed, **common)
    measured = dict(vars(score))  # named like the fields of a trial
    measured.pop("logits")
    recipe["blend"] = measured.pop("blend")
    if measured.pop("retrained"):
        recipe["retrain_head"] = True
    if measured.pop("flip"):
        recipe["test_time_flip"] = True
    if measured.pop("cut"):
        cut = f"the time budget cut it to {score.cut} of {counted(job.epochs, 'epoch')}"
        common["note"] = "; ".join(filter(None, [note, cut]))
    return Trial(
        state="done", recipe=recipe, val_right=score.val_bits.count("1"),
        val_images=len(score.val_bits), **measured, **common,
    )  # fmt: skip
