"""The study: which recipes are tried, in rungs of longer and longer schedules, on Optuna.

Nothing of Optuna's is stored. What was tried lies in the run's journal as recipes; each time a
recipe is asked for, a study is made from them in memory, with a sampler whose seed is that of the
search, the rung and the trial's number. So a search repeats, and one that was killed goes on where
it was.
"""

import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any

from headstart.artifacts.journal import Trial, read_trials
from headstart.errors import HeadstartError, RunError
from headstart.inference_stats import wilson_interval
from headstart.methods.criterion import CrossEntropy
from headstart.methods.method import Range
from headstart.methods.optimizer import SGD, AdamW
from headstart.recipe import Recipe, load_recipe, parse_recipe
from headstart.search.space import draw_recipe

if TYPE_CHECKING:
    import optuna

FAMILIES = (
    "freezing", "metric_loss", "batch_mixing", "optimizer", "schedule", "criterion", "averaging",
)  # fmt: skip
"""What is drawn. The rest decides what is cached, so that all trials share one cache."""
_FREEZING = ("last_blocks", "gradual")
"""The ways of freezing that can share a boundary; another one that was chosen by hand stays."""
SEARCH_RECIPE = "search.toml"
"""The file of the run that holds what a search started from."""
KEEP = 3
"""One of so many trials goes on to the next rung."""
_STARTUP = 8
"""Trials before Optuna's sampler learns from them."""


@dataclass(frozen=True)
class Score:
    """What a trial's validation showed: log loss in nats, and images right of so many."""

    loss: float
    right: int
    images: int


@dataclass(frozen=True)
class Rung:
    """Trials that train for the same number of epochs, each on a whole schedule of that length."""

    trials: int
    epochs: int


def plan_rungs(trials: int, epochs: int) -> list[Rung]:
    """Returns the rungs before the full schedule: a quarter of its epochs, then a half.

    Successive halving (Jamieson & Talwalkar, AISTATS 2016), with a third going on.
    """
    rungs = [Rung(trials, max(1, epochs // 4))]
    if trials >= KEEP:
        rungs.append(Rung(-(-trials // KEEP), max(1, epochs // 2)))
    return rungs


def search(
    base: Recipe,
    rungs: Sequence[Rung],
    known: Sequence[Trial],
    evaluate: Callable[[Recipe, int], Score],
    journal: Callable[[Trial], None],
) -> Recipe:
    """Tries recipes and returns the best of the last rung.

    Args:
        base: The first recipe tried, and what all have in common.
        rungs: From `plan_rungs`.
        known: Trials that were journalled before, in this search.
        evaluate: Trains a recipe for so many epochs and scores it on validation.
        journal: Writes a trial; it counts only when this has returned.

    Raises:
        HeadstartError: If every trial of a rung failed.
    """
    done = {(trial.rung, trial.number): trial for trial in known}

    def run(rung: int, number: int, recipe: Recipe) -> Trial:
        if (rung, number) not in done:
            done[rung, number] = _try(rung, number, recipe, rungs[rung].epochs, evaluate)
            journal(done[rung, number])
        return done[rung, number]

    tried: list[Trial] = []
    for number in range(rungs[0].trials):
        tried.append(run(0, number, _ask(base, tried, number)))
    for rung, plan in enumerate(rungs[1:], start=1):
        best = ranked(tried)[: plan.trials]
        tried = [run(rung, each.number, parse_recipe(each.recipe)) for each in best]
    return parse_recipe(ranked(tried)[0].recipe)


def ranked(trials: Sequence[Trial]) -> list[Trial]:
    """Returns the trials that ended well, the least validation loss first.

    Raises:
        HeadstartError: If there are none.
    """
    good = [trial for trial in trials if trial.val_loss is not None]
    if not good:
        raise HeadstartError(
            f"all {len(trials)} trials failed, the first with: {trials[0].cause.rstrip('.')}. "
            "Their tracebacks are in trials.jsonl in the run's folder."
        )
    return sorted(good, key=lambda trial: (trial.val_loss, trial.number))


def prior_recipes(base: Recipe) -> list[Recipe]:
    """Returns what is worth trying first on small data: effective learning rates, then decay.

    The learning rate matters most in fine-tuning (Li et al., ICLR 2020); layer-wise decay spares
    the early blocks; plain cross-entropy and SGD are the field's other habits.
    """
    optimizer = base.optimizer

    def changed(**families: Any) -> Recipe:
        return parse_recipe({**base.model_dump(), **families})

    def rate(factor: float) -> dict[str, Any]:
        return {**optimizer.model_dump(), "lr": optimizer.lr * factor}

    recipes = [base, changed(optimizer=rate(0.4)), changed(optimizer=rate(2.0))]
    if "layer_decay" in type(base.freezing).model_fields:
        decayed = {**base.freezing.model_dump(), "layer_decay": 0.8}
        recipes.append(changed(optimizer=rate(2.0), freezing=decayed))
    other = SGD() if isinstance(optimizer, AdamW) else AdamW()
    recipes.append(changed(optimizer=other.model_dump()))
    recipes.append(changed(criterion=CrossEntropy().model_dump()))
    return recipes


def differences(recipe: Mapping[str, Any], base: Mapping[str, Any]) -> dict[str, Any]:
    """Returns what a recipe has otherwise than the base, by path such as `optimizer.lr`."""
    found: dict[str, Any] = {}
    for family, value in recipe.items():
        other = base[family]
        if not isinstance(value, dict):
            if value != other:
                found[family] = value
        elif value["name"] != other["name"]:
            found[family] = value["name"]
        else:
            found |= {f"{family}.{k}": v for k, v in value.items() if v != other[k]}
    return found


def shown(value: Any) -> str:
    """Returns a value for people."""
    return f"{value:.3g}" if isinstance(value, float) else str(value)


@dataclass(frozen=True)
class Row:
    """One line of the leaderboard; shares are between 0 and 1, the interval is Wilson's 95 %."""

    rank: int
    trial: int
    epochs: int
    val_loss: float | None
    val_accuracy: float | None
    interval: tuple[float, float] | None
    seconds: float
    changes: str
    failed: str


def leaderboard(trials: Sequence[Trial], base: Mapping[str, Any]) -> list[Row]:
    """Returns a row for each trial: those that came farthest first, then by loss; failures last.

    Args:
        trials: From the journal.
        base: The recipe that the search started from, as plain data.
    """
    last: dict[int, Trial] = {}
    for trial in sorted(trials, key=lambda trial: trial.rung):
        if trial.state == "done" or trial.number not in last:
            last[trial.number] = trial
    order = sorted(
        last.values(),
        key=lambda t: (t.val_loss is None, -t.rung, t.val_loss or 0.0, t.number),
    )
    rows = []
    for rank, trial in enumerate(order, start=1):
        changes = differences(trial.recipe, base)
        right, images = trial.val_right, trial.val_images
        rows.append(
            Row(
                rank=rank,
                trial=trial.number + 1,
                epochs=trial.epochs,
                val_loss=trial.val_loss,
                val_accuracy=right / images if images else None,
                interval=wilson_interval(right, images) if images else None,
                seconds=trial.seconds,
                changes=", ".join(f"{path} = {shown(v)}" for path, v in changes.items()),
                failed=trial.cause,
            )
        )
    return rows


def leaderboard_of(folder: Path) -> list[Row]:
    """Returns the leaderboard of a run folder.

    Raises:
        RunError: If there was no search in it.
    """
    trials = read_trials(folder)
    if not trials:
        raise RunError(f"{folder} holds no trials: it is no run of a search with --trials.")
    return leaderboard(trials, load_recipe(str(folder / SEARCH_RECIPE)).model_dump(mode="json"))


class _OptunaSuggest:
    """Draws through one of Optuna's trials."""

    def __init__(self, trial: "optuna.Trial") -> None:
        self._trial = trial

    def choice(self, name: str, values: Sequence[Any]) -> Any:
        """Returns one of the values."""
        key, options = _options(name, values)
        return options[self._trial.suggest_categorical(key, list(options))]

    def number(self, name: str, span: Range) -> float:
        """Returns a number within a range."""
        return float(self._trial.suggest_float(name, span.low, span.high, log=span.log))


class _Reading:
    """Draws nothing, but reads what a recipe would have drawn.

    Attributes:
        params: Values by name.
        choices: What was offered, by name.
        spans: Ranges, by name.
    """

    def __init__(self, recipe: Recipe) -> None:
        self._recipe = recipe
        self.params: dict[str, Any] = {}
        self.choices: dict[str, list[str]] = {}
        self.spans: dict[str, Range] = {}

    def choice(self, name: str, values: Sequence[Any]) -> Any:
        """Returns the recipe's value.

        Raises:
            LookupError: If it is not offered.
        """
        value = self._value(name)
        key, options = _options(name, values)
        if str(value) not in options:
            raise LookupError(name)
        self.params[key], self.choices[key] = str(value), list(options)
        return value

    def number(self, name: str, span: Range) -> float:
        """Returns the recipe's value; the nearest one within the range is what is learnt from."""
        value = float(self._value(name))
        self.params[name], self.spans[name] = min(max(value, span.low), span.high), span
        return value

    def _value(self, name: str) -> Any:
        family, *rest = name.split(".")
        method = getattr(self._recipe, family)
        return getattr(method, rest[-1]) if rest else method.name


def _options(name: str, values: Sequence[Any]) -> tuple[str, dict[str, Any]]:
    """Returns a name that says what is offered: Optuna wants the same choices under one name."""
    options = {str(value): value for value in values}
    return f"{name} of {'/'.join(options)}", options


def _ask(base: Recipe, tried: Sequence[Trial], number: int) -> Recipe:
    """Returns the recipe of a trial of the first rung, given those before it."""
    priors = prior_recipes(base)
    if number < len(priors):
        return priors[number]
    import optuna  # noqa: PLC0415 - takes a second, and only searches need it

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    seed = int.from_bytes(sha256(f"{base.seed}/0/{number}".encode()).digest()[:4], "little")
    sampler = optuna.samplers.TPESampler(n_startup_trials=_STARTUP, seed=seed)
    study = optuna.create_study(sampler=sampler, direction="minimize")
    own = base.freezing.name
    only = {"freezing": _FREEZING if own in _FREEZING else (own,)}
    for trial in tried:
        reading = _Reading(parse_recipe(trial.recipe))
        try:
            draw_recipe(reading, base, FAMILIES, only)
        except LookupError:  # set by hand to what no search draws: nothing to learn from
            continue
        if trial.val_loss is not None:
            study.add_trial(_as_optuna(reading, trial.val_loss))
    return draw_recipe(_OptunaSuggest(study.ask()), base, FAMILIES, only)


def _as_optuna(reading: _Reading, loss: float) -> "optuna.trial.FrozenTrial":
    from optuna.distributions import (  # noqa: PLC0415
        BaseDistribution,
        CategoricalDistribution,
        FloatDistribution,
    )
    from optuna.trial import create_trial  # noqa: PLC0415

    distributions: dict[str, BaseDistribution] = {
        name: CategoricalDistribution(options) for name, options in reading.choices.items()
    }
    for name, span in reading.spans.items():
        distributions[name] = FloatDistribution(span.low, span.high, log=span.log)
    return create_trial(params=reading.params, distributions=distributions, value=loss)


def _try(
    rung: int,
    number: int,
    recipe: Recipe,
    epochs: int,
    evaluate: Callable[[Recipe, int], Score],
) -> Trial:
    began = time.monotonic()
    plain = recipe.model_dump(mode="json")
    try:
        score = evaluate(recipe, epochs)
    except (HeadstartError, RuntimeError, MemoryError, ArithmeticError) as error:
        cause = str(error).splitlines()[0] if str(error) else type(error).__name__
        return Trial(
            rung=rung, number=number, state="failed", recipe=plain, epochs=epochs,
            seconds=time.monotonic() - began, cause=cause, traceback=traceback.format_exc(),
        )  # fmt: skip
    return Trial(
        rung=rung, number=number, state="done", recipe=plain, epochs=epochs, val_loss=score.loss,
        val_right=score.right, val_images=score.images,
        seconds=time.monotonic() - began,
    )  # fmt: skip
