"""Measurements of an ablation: every row trained once and judged on the same images."""

import hashlib
import json
from base64 import b64encode
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import ceil
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from headstart.ablation.record import MEASURED, LedgerRow, Measured
from headstart.ablation.set_gains import HeldSets
from headstart.ablation.steps import LedgerStep, with_seed
from headstart.artifacts.journal import Rung, SearchPlan, Trial
from headstart.errors import BudgetError
from headstart.progress import format_duration
from headstart.recipes.parsing import NAMED, parse_recipe
from headstart.recipes.recipe import Recipe
from headstart.search.budget import TRIAL_S, folds_for, passes
from headstart.search.executors.outcome import Outcome, attempt
from headstart.search.halving import as_trial
from headstart.search.leaderboard import right_words
from headstart.search.score import Score
from headstart.search.trial import (
    TrialContext,
    TrialJob,
    run_trial,
    solve_heads,
    trial_context,
)
from headstart.text import counted
from headstart.training.boundary import boundary_without_clock, check_head_alone
from headstart.training.budget import Clock, views_for
from headstart.training.experiment import Experiment
from headstart.training.run_context import Resources
from headstart.training.speed import measure_speeds
from headstart.training.transfer import Solved

SLACK = 1.3
"""A training starts only if this multiple of its expected time is left."""


@dataclass
class Bench:
    """The common conditions of all rows.

    Attributes:
        experiment: Data and backbone.
        plan: Plan with one rung and the folds.
        seed: Seed for the folds.
        heads: Cache of solved heads.
        planned_s: Seconds that a training of a kind is expected to take.
    """

    experiment: Experiment
    plan: SearchPlan
    seed: int
    heads: dict[str, tuple[tuple[Solved | None, ...], ...]] = field(default_factory=dict)
    planned_s: dict[str, float] = field(default_factory=dict)


def make_bench(experiment: Experiment, chosen: Recipe, epochs: int) -> Bench:
    """Returns the common conditions: one rung, and cross-validation if there are few images."""
    images = sum(len(rows) for rows in experiment.extractor.rows.values())
    plan = SearchPlan(
        rungs=(Rung(trials=1, epochs=epochs),), folds=folds_for(images), epochs=epochs
    )
    return Bench(experiment, plan, chosen.seed)


def measure_rows(
    bench: Bench,
    steps: Sequence[LedgerStep],
    seeds: int,
    folder: Path | None,
    resources: Resources,
) -> tuple[list[Trial], list[str], HeldSets | None]:
    """Trains the missing rows.

    Returns:
        All trials, the names of rows that did not fit, and what the trials say of the held-out
        images where they have any number of labels.
    """
    clock, progress = resources.clock, resources.progress
    data, marks = _digest(bench), _held_marks(bench)
    known = {} if folder is None else _read(folder, data, marks)
    # The two ends come first: the steps between them are useless without them.
    climb = [step for step in steps if step.part == "ladder"]
    rest = [*climb[1:-1], *(step for step in steps if step.part == "left_out")]
    costs = _Costs(bench, clock)
    if clock.budget_s is not None:  # cheap ones first, to measure as many as possible
        rest.sort(key=lambda step: costs.planned(step.recipe))
    order = [climb[0], climb[-1], *rest]
    wanted = [(step, with_seed(step.recipe, seed)) for seed in range(seeds) for step in order]
    todo = list(dict.fromkeys(_key(recipe) for _, recipe in wanted if _key(recipe) not in known))
    plan = bench.plan
    progress.say(
        f"compare: {counted(len(steps), 'row')}, {counted(len(todo), 'training run')} of "
        f"{counted(plan.epochs, 'epoch')}"
        + (f", each {plan.folds}-fold cross-validated" if plan.folds > 1 else "")
        + (f"; {len(known)} already done" if known else "")
    )
    for step, recipe in wanted:
        key = _key(recipe)
        if key in known or not costs.fits(recipe):
            continue
        job = TrialJob(
            len(known), 0, recipe.model_dump(mode="json"), plan.epochs, blends=(),
            keeps_logits=marks is not None,
        )  # fmt: skip
        outcome: Outcome[Score] = attempt(_train, bench, job)
        trial = as_trial(job, outcome)
        known[key] = _measured(data, trial, outcome.value)
        if folder is not None:
            MEASURED.append(folder, known[key])
        costs.learn(recipe, trial.seconds)
        name = "the chosen recipe" if step is climb[-1] else _step_name(step)
        progress.say(_describe(name, recipe, trial, clock))
    keys = {_key(recipe) for _, recipe in wanted}
    trials = [each.trial for key, each in known.items() if key in keys]
    if len(trials) < 2:
        raise BudgetError(f"{_too_short(clock)} Give a larger --budget or fewer --epochs.")
    there = [step for step, recipe in wanted if _key(recipe) in known]
    held = None if marks is None else HeldSets(marks, _logits(known, marks))
    return trials, [_step_name(step) for step in order if step not in there], held


def _held_marks(bench: Bench) -> NDArray[np.int64] | None:
    """Returns the labels (N, C) of the held-out images in the order of rows; None of classes."""
    if not bench.experiment.multilabel:
        return None
    context = _trial_context(bench, NAMED["probe"])
    place = {int(row): number for number, row in enumerate(context.rows)}
    held = np.sort(np.concatenate([fold.held for fold in context.folds[0]]))
    return context.labels[[place[int(row)] for row in held]]


def _measured(data: str, trial: Trial, score: Score | None) -> Measured:
    if score is None or score.logits is None:
        return Measured(data=data, trial=trial)
    logits = b64encode(score.logits.astype("<f4").tobytes())
    return Measured(data=data, trial=trial, logits=logits)


def _read(folder: Path, data: str, marks: NDArray[np.int64] | None) -> dict[str, Measured]:
    """Returns the trainings in the journal of a folder on the same images, by their recipe."""
    size = None if marks is None else 4 * marks.size
    return {
        json.dumps(each.trial.recipe): each
        for each in MEASURED.read(folder)
        if each.data == data
        and each.trial.state == "done"
        and (None if each.logits is None else len(each.logits)) == size
    }


def _logits(
    known: Mapping[str, Measured], marks: NDArray[np.int64]
) -> dict[str, NDArray[np.float32]]:
    return {
        key: np.frombuffer(each.logits, "<f4").reshape(marks.shape)
        for key, each in known.items()
        if each.logits is not None
    }


def least_passes(images: int, steps: Sequence[LedgerStep], epochs: int) -> float:
    """Returns how often an image goes through the network in the two cheapest rows, at least.

    Only rows that train the whole backbone are counted, an image as two passes: the gradient takes
    at least as long as the output. Half of the images are counted: the others may be sealed.

    Args:
        images: Number of images.
        steps: Rows of the ablation.
        epochs: Length of a training.
    """
    whole: list[bool] = [step.recipe.freezing.whole_backbone for step in steps]
    cheapest: float = sum(sorted(2.0 * epochs * each for each in whole)[:2])
    return cheapest * passes(folds_for(images)) * (images // 2)


def check_two_fit(bench: Bench, steps: Sequence[LedgerStep], clock: Clock) -> None:
    """Checks before anything is trained that the two cheapest rows fit into the budget.

    Raises:
        BudgetError: If they do not; the message names a budget that suffices.
    """
    left = clock.left()
    if left is None:
        return
    costs = _Costs(bench, clock)
    needed = SLACK * sum(sorted(costs.planned(step.recipe) for step in steps)[:2])
    if needed > left:
        shown = 5 * ceil((clock.elapsed() + needed) * 1.1 / 5)
        raise BudgetError(f"{_too_short(clock)} Give --budget {shown}s or more, or fewer --epochs.")


def is_measured(steps: Sequence[LedgerStep], trials: Sequence[Trial], seeds: int) -> bool:
    """Returns whether the chosen recipe itself was measured."""
    chosen = [step for step in steps if step.part == "ladder"][-1]
    wanted = [with_seed(chosen.recipe, seed).model_dump(mode="json") for seed in range(seeds)]
    return any(trial.state == "done" and trial.recipe in wanted for trial in trials)


def _train(bench: Bench, job: TrialJob) -> Score:
    """Trains and evaluates a row at its own boundary, with its own head."""
    recipe = parse_recipe(job.recipe)
    context = _trial_context(bench, recipe)
    check_head_alone(recipe, context.boundary)
    if recipe.head.init == "probe":
        fields = {name: getattr(recipe, name).model_dump() for name in ("head", "activation")}
        key = json.dumps([context.boundary, recipe.seed, fields])
        if key not in bench.heads:
            bench.heads[key] = solve_heads(context, recipe)
        context = replace(context, heads=bench.heads[key])
    return run_trial(context, job)


def _trial_context(bench: Bench, recipe: Recipe) -> TrialContext:
    """Returns the context of a row; all rows share the folds, whatever their seed."""
    alike = recipe.model_copy(update={"seed": bench.seed})
    return trial_context(bench.experiment, alike, bench.plan)


class _Costs:
    """Expected training times, from similar rows or from a corrected measurement of speed."""

    def __init__(self, bench: Bench, clock: Clock) -> None:
        self._bench, self._clock = bench, clock
        self._took: dict[str, float] = {}
        self._sums = [0.0, 0.0]

    def fits(self, recipe: Recipe) -> bool:
        """Returns whether a training fits the rest of the budget."""
        left = self._clock.left()
        if left is None:
            return True
        planned, taken = self._sums
        off = max(1.0, taken / planned) if planned else 1.0
        known = self._took.get(self._kind(recipe))
        return SLACK * (off * self.planned(recipe) if known is None else known) <= left

    def learn(self, recipe: Recipe, seconds: float) -> None:
        """Records the time of a training."""
        if self._clock.budget_s is None:
            return
        kind = self._kind(recipe)
        self._took[kind] = max(self._took.get(kind, 0.0), seconds)
        self._sums = [self._sums[0] + self.planned(recipe), self._sums[1] + seconds]

    def _kind(self, recipe: Recipe) -> str:
        boundary = boundary_without_clock(self._bench.experiment.extractor, recipe)
        mixing = recipe.batch_mixing.name
        return f"{boundary} {recipe.closed_form} {recipe.augmentation.name} {mixing}"

    def planned(self, recipe: Recipe) -> float:
        """Returns the expected seconds of a training, from the measured speed."""
        extractor, plan = self._bench.experiment.extractor, self._bench.plan
        boundary, key = boundary_without_clock(extractor, recipe), self._kind(recipe)
        if key not in self._bench.planned_s:
            bounds = [extractor.traced.boundary(boundary)]
            speed = measure_speeds(extractor, recipe, bounds, self._bench.experiment.features_s)[
                boundary
            ]
            images = sum(len(rows) for rows in extractor.rows.values())
            epochs = 0 if recipe.closed_form else plan.epochs
            views = 1 if recipe.augmentation.absent else views_for(plan.epochs)
            self._bench.planned_s[key] = plan.folds * TRIAL_S + images * (
                passes(plan.folds) * epochs * speed.train_s + views * speed.prefix_s
            )
        return self._bench.planned_s[key]


def _too_short(clock: Clock) -> str:
    budget = format_duration(clock.budget_s or 0)
    return f"A budget of {budget} leaves no time to train two recipes."


def _digest(bench: Bench) -> str:
    """Returns a hash of the images and their folds."""
    extractor = bench.experiment.extractor
    context = _trial_context(bench, NAMED["probe"])
    digest = hashlib.sha256(bench.experiment.pixels.key.encode())
    arrays: list[Any] = [context.labels]
    arrays += [part for fold in context.folds[0] for part in (fold.train, fold.held)]
    for array in arrays:
        digest.update(array.tobytes())
    digest.update(json.dumps(extractor.classes).encode())
    return digest.hexdigest()[:16]


def _key(recipe: Recipe) -> str:
    return json.dumps(recipe.model_dump(mode="json"))


def _step_name(step: LedgerStep) -> str:
    return LedgerRow(part=step.part, families=step.families, change="", epochs=0).name


def _describe(name: str, recipe: Recipe, trial: Trial, clock: Clock) -> str:
    """Returns a line on a finished training."""
    took = f"{format_duration(trial.seconds)}; {format_duration(clock.elapsed())} so far"
    if trial.val_loss is None:
        return f"{name}: failed ({trial.cause}); {took}"
    return (
        f"{name}: {trial.val_right} of {trial.val_images} {right_words(recipe)}, log loss "
        f"{trial.val_loss:.3f}; {took}"
    )
