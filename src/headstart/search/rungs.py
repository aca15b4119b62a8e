"""The rungs of a search: recipes are asked for, run, journalled, and the best go on."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

from headstart.artifacts.journal import Rung, SearchPlan, Trial
from headstart.recipe import SEARCHED, Recipe
from headstart.search.executors import Executor
from headstart.search.study import (
    NOT_PAYING,
    Sampler,
    as_trial,
    ask,
    going_on,
    pays,
    ranked,
    short,
)
from headstart.search.trial import Job, Score

SMALLEST_BATCH = 4


@dataclass(frozen=True)
class Asking:
    """How recipes are asked for.

    Attributes:
        base: What all have in common.
        sampler: What draws.
        families: What is drawn.
        winners: Trials that must be left in the end.
    """

    base: Recipe
    sampler: Sampler = "tpe"
    families: Sequence[str] = SEARCHED
    winners: int = 1


WhyStop = Callable[[Sequence[Trial], Sequence[Trial], SearchPlan, int], str]
"""Trials of a rung so far, all trials, the plan and the rung's number to why it should end."""


def run_rungs(
    asking: Asking,
    plan: SearchPlan,
    known: Sequence[Trial],
    executor: Executor[Job, Score],
    journal: Callable[[Trial], None],
    why_stop: WhyStop = lambda tried, finished, plan, rung: "",
    keep_plan: Callable[[SearchPlan], None] = lambda plan: None,
) -> tuple[list[Trial], SearchPlan]:
    """Runs all rungs and returns the trials of the last one, the best first, and the plan as run.

    Trials run as many at a time as the executor has slots; what they teach counts from the next
    time on, in the order of their numbers, so that the same slots give the same search. Where no
    short schedule beats the head that it began with, the best of them is asked again on the next
    one. Where every trial of a later rung failed, those of the rung before it are returned.

    Args:
        asking: How recipes are asked for.
        plan: The rungs.
        known: Trials that were journalled before, in this search.
        executor: Runs trials.
        journal: Writes a trial; it counts only when this has returned.
        why_stop: Returns why a rung should end before all of its trials have run, or nothing.
        keep_plan: Writes the plan as run so far, after each rung and before the next.

    Raises:
        HeadstartError: If every trial of the first rung failed.
    """
    done = {(trial.rung, trial.number): trial for trial in known}
    best: list[Trial] = []
    for number in range(len(plan.rungs)):
        rung = plan.rungs[number]
        tried: list[Trial] = []
        judged = plan
        unpaid = number > 0 and not any(pays(trial, plan.epochs) for trial in best)
        again = unpaid and short(best[0], plan.epochs)
        if again and not rung.ended:
            rung = rung.model_copy(update={"trials": 1})
            # What is left then is for a whole schedule of this length at least.
            judged = plan.model_copy(update={"epochs": rung.epochs})
        while len(tried) < rung.trials:
            # A rung that was ended before has as many trials as it ended with.
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
            rung = rung.model_copy(update={"ended": "all that went on to longer schedules failed"})
        going = going_on(rung.trials, asking.winners)
        if len(best) < going and number + 1 < len(plan.rungs) and not rung.ended:
            rung = rung.model_copy(update={"ended": f"all but {len(best)} of its trials failed"})
        plan = _with_rung(plan, number, rung, min(going, len(best)))
        keep_plan(plan)
    return best, plan


def _with_rung(plan: SearchPlan, number: int, rung: Rung, going: int) -> SearchPlan:
    """Returns the plan with a rung as it was run; no more than `going` go on to the next."""
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
) -> Job:
    """Returns the next job: a recipe that is asked for, or the next best of the rung before."""
    base, epochs = asking.base, plan.rungs[rung].epochs
    last = not any(later.planned for later in plan.rungs[rung + 1 :])
    flips = last and base.augmentation.allows_mirroring
    if rung:
        survivor = best[place]
        # The blend that a short schedule liked is no choice for a longer one.
        recipe = {**survivor.recipe, "blend": base.blend, "test_time_flip": base.test_time_flip}
        return Job(survivor.number, rung, recipe, epochs, flips)
    asked = ask(base, tried, place, asking.sampler, asking.families)
    return Job(place, rung, asked.model_dump(mode="json"), epochs, flips)


def _run(executor: Executor[Job, Score], jobs: Sequence[Job]) -> Iterator[Trial]:
    """Yields each job's trial as it ends; those that lack memory run again with smaller batches."""
    waiting = [(job, "") for job in jobs]
    while waiting:
        again = []
        for position, outcome in executor.run([job for job, _ in waiting]):
            job, note = waiting[position]
            size = int(job.recipe["batch_size"]) // 2
            if outcome.out_of_memory and size >= SMALLEST_BATCH:
                smaller = replace(job, recipe={**job.recipe, "batch_size": size})
                again.append((smaller, f"batches of {size}, as larger ones ran out of memory"))
            else:
                yield as_trial(job, outcome, note)
        waiting = again
