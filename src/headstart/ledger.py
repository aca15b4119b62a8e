"""The ablation ledger: from the naive recipe to the chosen one, and with each method left out.

All rows are trained for the same number of epochs from the pretrained backbone and judged on the
same held-out images, so that what a method brought is a difference on the same images.
"""

import hashlib
import json
import time
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from headstart.artifacts.journal import Rung, SearchPlan, Trial
from headstart.artifacts.ledger import MEASURED, Ledger, LedgerRow, Measured, write_ledger
from headstart.artifacts.run import (
    RunRecord,
    asked_recipe,
    check_unclaimed,
    claim_folder,
    locked,
    read_record,
)
from headstart.backbones.boundaries import FEATURES
from headstart.cache import default_cache_dir
from headstart.data.sources import load_dataset
from headstart.errors import BudgetError, InputError, RunError
from headstart.options import CompareOptions, with_keywords
from headstart.planning import at_boundary
from headstart.preparing import Prepared, SplitChoice, prepare_again
from headstart.progress import SILENT, Progress, format_duration
from headstart.recipe import NAMED, Recipe, load_recipe, parse_recipe, with_settings
from headstart.report.page import write_report
from headstart.run_context import Resources
from headstart.search.ablation import (
    Step,
    endpoints,
    ladder,
    ledger_rows,
    left_out,
    with_seed,
)
from headstart.search.clock import Clock
from headstart.search.measuring import measure_speeds
from headstart.search.outcome import Outcome, attempt
from headstart.search.plan import views_for
from headstart.search.shape import TRIAL_S, folds_for, passes
from headstart.search.stages import Solved, boundary_without_clock, check_head_alone
from headstart.search.study import as_trial
from headstart.search.trial import Job, Score, Setting, run_trial, solve_heads
from headstart.searching import shared_setting
from headstart.text import counted

_OF_A_HEAD = ("head", "seed", "views", "batch_size", "test_time_flip")
"""What of a recipe still counts where the head alone was kept."""
SLACK = 1.3
"""A training is begun where so many times what it should take is left: none is interrupted."""


@dataclass
class Bench:
    """What all rows are trained and judged with.

    Attributes:
        ready: The data and the backbone.
        plan: One rung, with the folds.
        seed: Of the folds.
        heads: Heads that were solved already, by what they depend on.
    """

    ready: Prepared
    plan: SearchPlan
    seed: int
    heads: dict[str, tuple[tuple[Solved | None, ...], ...]] = field(default_factory=dict)


def compare(
    source: Any = None,
    options: CompareOptions | None = None,
    *,
    progress: Progress = SILENT,
    started: float | None = None,
    **keywords: Any,
) -> Ledger:
    """Measures what each method of a recipe brings, from the naive recipe on and one left out.

    Every row is journalled where there is a folder for it; asked again, only what is missing, or
    failed, is trained. The test images stay sealed.

    Args:
        source: The images, as for `fit`; those of the run by default.
        options: What to compare, and for how long.
        progress: Progress display.
        started: Start of the process on `time.monotonic`; now by default.
        keywords: Fields of `CompareOptions` instead of `options`, such as `epochs=6`.

    Raises:
        InputError: If the options contradict each other, or there is nothing to compare.
        RunError: If the run is not finished, or the folder is in use.
        BudgetError: If no two rows fit into the budget.
    """
    options = with_keywords(CompareOptions, options, keywords)
    run, epochs, seeds, boxes = options.run, options.epochs, options.seeds, options.boxes
    if source is None and run is None:
        raise InputError("Name a folder of images, or a finished run with --run.")
    resources = Resources(
        Clock(started or time.monotonic(), options.budget_s),
        options.cache_dir or default_cache_dir(),
        options.workers,
        progress,
    )
    split: Path | None = None
    record: RunRecord | None = None
    folder = run or options.out
    if run is not None:
        record = read_record(run)
        if record.status != "done":
            raise RunError(f"{run} is not finished ({record.status}); compare needs its recipe.")
        chosen = chosen_by(run, record)
        source, boxes = source or record.source or record.data_root, record.boxes
        split = run / "split.csv"
    else:
        asked = options.recipe or "default"
        chosen = load_recipe(asked) if isinstance(asked, str) else asked
        chosen = with_settings(chosen, options.settings)
    if chosen.averaging.chooses_by_validation:
        raise InputError(
            "averaging = soup chooses its weights by the held-out images that compare judges by; "
            "compare the recipe (--recipe) with another averaging (--set averaging=ema)."
        )
    naive, chosen = endpoints(chosen, epochs)
    steps = ladder(naive, chosen)
    if len(steps) == 1:
        raise InputError("the chosen recipe is the naive one: there is nothing to compare.")
    steps += left_out(naive, chosen)
    if folder is not None and run is None and not MEASURED.path(folder).exists():
        check_unclaimed(folder)
    assert source is not None
    dataset = load_dataset(source, boxes=boxes)
    first = (asked_recipe(record) if record else None) or chosen
    ready = prepare_again(dataset, first, chosen, SplitChoice(split, options.split_seed), resources)
    if folder is not None and run is None and not MEASURED.path(folder).exists():
        claim_folder(folder)
    with locked(folder) if folder is not None else nullcontext():
        bench = _bench(ready, chosen, epochs)
        trials, missing = _measure(bench, steps, seeds, folder, resources)
        ledger = Ledger(
            epochs=epochs,
            seeds=seeds,
            folds=bench.plan.folds,
            rows=tuple(ledger_rows(steps, trials, seeds)),
            left_out=tuple(missing),
            whole=_is_measured(steps, trials, seeds),
            seconds=sum(trial.seconds for trial in trials),
        )
        if folder is not None:
            write_ledger(folder, ledger)
        if run is not None:
            write_report(run)
    return ledger


def chosen_by(folder: Path, record: RunRecord) -> Recipe:
    """Returns the recipe that a run ended with, cut where it was cut.

    Where the head alone was kept, that is what was chosen, whatever else the recipe names.

    Args:
        folder: Of the run.
        record: Of the run.
    """
    recipe = load_recipe(str(folder / "recipe.toml"))
    if record.boundary and not (record.head_alone and record.boundary == FEATURES):
        recipe = at_boundary(recipe, record.boundary)
    if record.head_alone and not recipe.freezing.head_alone:
        probe = NAMED["probe"]
        head_alone = probe.model_copy(update={name: getattr(recipe, name) for name in _OF_A_HEAD})
        backbone = {**recipe.backbone.model_dump(), "drop_path": 0.0}
        head_alone = parse_recipe({**head_alone.model_dump(), "backbone": backbone})
        return head_alone if head_alone.closed_form else recipe
    return recipe


def _bench(ready: Prepared, chosen: Recipe, epochs: int) -> Bench:
    images = sum(len(rows) for rows in ready.material.rows.values())
    plan = SearchPlan(
        rungs=(Rung(trials=1, epochs=epochs),), folds=folds_for(images), epochs=epochs
    )
    return Bench(ready, plan, chosen.seed)


def _measure(
    bench: Bench,
    steps: Sequence[Step],
    seeds: int,
    folder: Path | None,
    resources: Resources,
) -> tuple[list[Trial], list[str]]:
    """Trains what is not known yet; returns all that is known, and what did not fit."""
    clock, progress = resources.clock, resources.progress
    data = _digest(bench)
    known: dict[str, Trial] = {}
    if folder is not None:
        for measured in MEASURED.read(folder):
            if measured.data == data and measured.trial.state == "done":
                known[json.dumps(measured.trial.recipe)] = measured.trial
    # The two ends first: what lies between them is of no use without them.
    climb = [step for step in steps if step.part == "ladder"]
    rest = [*climb[1:-1], *(step for step in steps if step.part == "left_out")]
    costs = _Costs(bench, clock)
    if clock.budget_s is not None:  # cheap ones first, so that as many as can be are measured
        rest.sort(key=lambda step: costs.planned(step.recipe))
    order = [climb[0], climb[-1], *rest]
    wanted = [(step, with_seed(step.recipe, seed)) for seed in range(seeds) for step in order]
    todo = list(dict.fromkeys(_key(recipe) for _, recipe in wanted if _key(recipe) not in known))
    plan = bench.plan
    progress.say(
        f"compare: {counted(len(steps), 'row')}, {counted(len(todo), 'training')} of "
        f"{counted(plan.epochs, 'epoch')}"
        + (f", each {plan.folds}-fold cross-validated" if plan.folds > 1 else "")
        + (f"; {len(known)} done before" if known else "")
    )
    for step, recipe in wanted:
        key = _key(recipe)
        if key in known or not costs.fits(recipe):
            continue
        job = Job(len(known), 0, recipe.model_dump(mode="json"), plan.epochs, blends=())
        outcome: Outcome[Score] = attempt(_train, bench, job)
        trial = as_trial(job, outcome)
        if folder is not None:
            MEASURED.append(folder, Measured(data=data, trial=trial))
        known[key] = trial
        costs.learn(recipe, trial.seconds)
        name = "the chosen recipe" if step is climb[-1] else _step_name(step)
        progress.say(_describe(name, trial, clock))
    keys = {_key(recipe) for _, recipe in wanted}
    trials = [trial for key, trial in known.items() if key in keys]
    if len(trials) < 2:
        raise BudgetError(
            f"a budget of {format_duration(clock.budget_s or 0)} leaves no time to train two "
            "recipes. Give a larger --budget or fewer --epochs."
        )
    there = [step for step, recipe in wanted if _key(recipe) in known]
    return trials, [_step_name(step) for step in order if step not in there]


def _is_measured(steps: Sequence[Step], trials: Sequence[Trial], seeds: int) -> bool:
    """Returns whether there are figures of the chosen recipe itself."""
    chosen = [step for step in steps if step.part == "ladder"][-1]
    wanted = [with_seed(chosen.recipe, seed).model_dump(mode="json") for seed in range(seeds)]
    return any(trial.state == "done" and trial.recipe in wanted for trial in trials)


def _train(bench: Bench, job: Job) -> Score:
    """Trains and judges a row behind its own boundary, with its own head."""
    recipe = parse_recipe(job.recipe)
    setting = _setting(bench, recipe)
    check_head_alone(recipe, setting.boundary)
    if recipe.head.init == "probe":
        fields = {name: getattr(recipe, name).model_dump() for name in ("head", "activation")}
        key = json.dumps([setting.boundary, recipe.seed, fields])
        if key not in bench.heads:
            bench.heads[key] = solve_heads(setting, recipe)
        setting = replace(setting, heads=bench.heads[key])
    return run_trial(setting, job)


def _setting(bench: Bench, recipe: Recipe) -> Setting:
    """Returns what a row is trained with; the folds are those of all rows, whatever its seed."""
    alike = recipe.model_copy(update={"seed": bench.seed})
    return shared_setting(bench.ready, alike, bench.plan)


class _Costs:
    """What a training takes: as rows like it took, or as measured times how far that was off."""

    def __init__(self, bench: Bench, clock: Clock) -> None:
        self._bench, self._clock = bench, clock
        self._planned: dict[str, float] = {}
        self._took: dict[str, float] = {}
        self._sums = [0.0, 0.0]

    def fits(self, recipe: Recipe) -> bool:
        """Returns whether a training ends before the budget does."""
        left = self._clock.left()
        if left is None:
            return True
        planned, taken = self._sums
        off = max(1.0, taken / planned) if planned else 1.0
        known = self._took.get(self._kind(recipe))
        return SLACK * (off * self.planned(recipe) if known is None else known) <= left

    def learn(self, recipe: Recipe, seconds: float) -> None:
        """Takes into account what a training took."""
        if self._clock.budget_s is None:
            return
        kind = self._kind(recipe)
        self._took[kind] = max(self._took.get(kind, 0.0), seconds)
        self._sums = [self._sums[0] + self.planned(recipe), self._sums[1] + seconds]

    def _kind(self, recipe: Recipe) -> str:
        boundary = boundary_without_clock(self._bench.ready.material, recipe)
        mixing = recipe.batch_mixing.name
        return f"{boundary} {recipe.closed_form} {recipe.augmentation.name} {mixing}"

    def planned(self, recipe: Recipe) -> float:
        """Returns the seconds that a training should take, by what was measured on the spot."""
        material, plan = self._bench.ready.material, self._bench.plan
        boundary, key = boundary_without_clock(material, recipe), self._kind(recipe)
        if key not in self._planned:
            bounds = [material.traced.boundary(boundary)]
            speed = measure_speeds(material, recipe, bounds, self._bench.ready.features_s)[boundary]
            images = sum(len(rows) for rows in material.rows.values())
            epochs = 0 if recipe.closed_form else plan.epochs
            views = 1 if recipe.augmentation.absent else views_for(plan.epochs)
            self._planned[key] = plan.folds * TRIAL_S + images * (
                passes(plan.folds) * epochs * speed.train_s + views * speed.prefix_s
            )
        return self._planned[key]


def _digest(bench: Bench) -> str:
    """Returns a hash of the images and of how they are divided."""
    material = bench.ready.material
    setting = _setting(bench, NAMED["probe"])
    digest = hashlib.sha256(bench.ready.pixels.key.encode())
    arrays: list[Any] = [setting.labels]
    arrays += [part for fold in setting.folds[0] for part in (fold.train, fold.held)]
    for array in arrays:
        digest.update(array.tobytes())
    digest.update(json.dumps(material.classes).encode())
    return digest.hexdigest()[:16]


def _key(recipe: Recipe) -> str:
    return json.dumps(recipe.model_dump(mode="json"))


def _step_name(step: Step) -> str:
    return LedgerRow(part=step.part, families=step.families, change="", epochs=0).name


def _describe(name: str, trial: Trial, clock: Clock) -> str:
    """Returns a line on what was trained."""
    took = f"{format_duration(trial.seconds)}; {format_duration(clock.elapsed())} so far"
    if trial.val_loss is None:
        return f"{name}: failed ({trial.cause}); {took}"
    return (
        f"{name}: {trial.val_right} of {trial.val_images} right, log loss {trial.val_loss:.3f}; "
        f"{took}"
    )
