"""The study: which recipes are tried, in rungs of longer and longer schedules, on Optuna.

Nothing of Optuna's is stored. What was tried lies in the run's journal as recipes; each time a
recipe is asked for, a study is made from them in memory, with a sampler whose seed is that of the
search, the rung and the trial's number. So a search repeats, and one that was killed goes on where
it was.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from scipy.stats import norm

from headstart.artifacts.journal import TRIALS, Rung, Trial
from headstart.errors import HeadstartError, RunError
from headstart.evaluate import flags_of
from headstart.inference_stats import wilson_interval
from headstart.methods.criterion import CrossEntropy
from headstart.methods.method import Range, method_name
from headstart.methods.optimizer import SGD, AdamW
from headstart.recipe import FAMILIES, SEARCHED, Recipe, load_recipe, parse_recipe
from headstart.search.outcome import Outcome
from headstart.search.space import RandomSuggest, draw_recipe
from headstart.search.trial import Job, Score

if TYPE_CHECKING:
    import optuna

Sampler = Literal["tpe", "random"]
SEARCH_RECIPE = "search.toml"
"""The file of the run that holds what a search started from."""
NOT_YET = "no short schedule validates better than the head that it began with"
NOT_PAYING = "fine-tuning does not pay: no trial validates better than the head that it began with"
KEEP = 3
"""One of so many trials goes on to the next rung."""
_LOOK_AFTER = 3
"""Trials after which it is asked whether training beats the head alone."""
_STARTUP = 8
"""Trials before Optuna's sampler learns from them."""


def plan_rungs(trials: int, epochs: int, winners: int = 1) -> list[Rung]:
    """Returns the rungs before the full schedule: a quarter of its epochs, then a half.

    Successive halving (Jamieson & Talwalkar, AISTATS 2016), with a third going on. Of few trials
    none goes on, unless they are in doubt whether training pays; see `rungs.run_rungs`.

    Args:
        trials: In the first rung.
        epochs: Of the full schedule.
        winners: So many go on at least, where there are as many.
    """
    more = going_on(trials, winners) if trials >= KEEP else 0
    sizes = [(trials, max(1, epochs // 4)), (more, max(1, epochs // 2))]
    return [Rung(planned=size, trials=size, epochs=length) for size, length in sizes]


def going_on(trials: int, winners: int = 1) -> int:
    """Returns how many of a rung's trials go on to the next: a third, or as many as must win."""
    return min(trials, max(winners, -(-trials // KEEP)))


def trial_epochs(trials: int, epochs: int) -> int:
    """Returns the epochs that all rungs take together."""
    return sum(rung.trials * rung.epochs for rung in plan_rungs(trials, epochs))


def drawn_families(settings: Sequence[str], families: Sequence[str] = SEARCHED) -> tuple[str, ...]:
    """Returns what is drawn of some families: what was set by hand stays as it is."""
    by_hand = {setting.partition("=")[0].partition(".")[0].strip() for setting in settings}
    return tuple(family for family in families if family not in by_hand)


def enough(tried: Sequence[Trial], more: int, whole: int) -> str:
    """Returns why further trials are not worth it; empty where they are.

    Args:
        tried: Trials of the first rung so far.
        more: How many would follow.
        whole: Epochs of the whole schedule.
    """
    good = [trial for trial in tried if trial.val_loss is not None]
    if len(good) >= _LOOK_AFTER and not any(pays(trial, whole) for trial in good):
        return NOT_YET
    if len(good) < _STARTUP:
        return ""
    shares = np.array([trial.val_right / trial.val_images for trial in good])
    spread = max(float(shares.std(ddof=1)), 1e-9)
    gain = spread * (_expected_best(len(good) + more) - _expected_best(len(good)))
    first, second = (flags_of(trial.val_bits).astype(float) for trial in ranked(good)[:2])
    noise = float((first - second).std()) / len(first) ** 0.5
    if gain < noise:
        return (
            f"{more} more trials would gain about {gain:.2%}, less than the noise of validation "
            f"({noise:.2%})"
        )
    return ""


def _expected_best(number: int) -> float:
    """Returns the expected maximum of so many standard normals (Blom 1958)."""
    return float(norm.ppf((number - 0.375) / (number + 0.25)))


def short(trial: Trial, whole: int) -> bool:
    """Returns whether a trial's schedule was much shorter than the whole one, in epochs."""
    return 3 * trial.epochs < whole


def pays(trial: Trial, whole: int) -> bool:
    """Returns whether training beats the head that the trial started from.

    A short schedule that is not clearly worse, by more than the noise, is given the benefit of the
    doubt: a longer one is better.

    Args:
        trial: That ended well.
        whole: Epochs of the whole schedule.
    """
    if trial.start_loss is None or trial.val_loss is None:
        return True
    allowed = trial.gain_noise if short(trial, whole) else 0.0
    return trial.start_loss - trial.val_loss > -allowed


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


def prior_recipes(base: Recipe, families: Sequence[str] = SEARCHED) -> list[Recipe]:
    """Returns what is worth trying first on small data: effective learning rates, then decay.

    The learning rate matters most in fine-tuning (Li et al., ICLR 2020); layer-wise decay spares
    the early blocks; plain cross-entropy and SGD are the field's other habits.

    Args:
        base: The first of them.
        families: Those that may differ from it.
    """
    optimizer = base.optimizer
    recipes: list[dict[str, Any]] = [{}]

    def rate(factor: float) -> dict[str, Any]:
        return {**optimizer.model_dump(), "lr": optimizer.lr * factor}

    recipes += [{"optimizer": rate(2.0)}, {"optimizer": rate(0.4)}]
    if "layer_decay" in type(base.freezing).model_fields:
        decayed = {**base.freezing.model_dump(), "layer_decay": 0.8}
        recipes.append({"optimizer": rate(2.0), "freezing": decayed})
    other = next(each for each in (AdamW(), SGD()) if each.name != optimizer.name)
    recipes.append({"optimizer": other.model_dump()})
    recipes.append({"criterion": CrossEntropy().model_dump()})
    return [
        parse_recipe({**base.model_dump(), **changed})
        for changed in recipes
        if changed.keys() <= set(families)
    ]


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
    trials = TRIALS.read(folder)
    if not trials:
        raise RunError(f"{folder} holds no trials: no recipes were searched in it.")
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


def ask(
    base: Recipe,
    tried: Sequence[Trial],
    number: int,
    sampler: Sampler = "tpe",
    families: Sequence[str] = SEARCHED,
) -> Recipe:
    """Returns the recipe of a trial of the first rung.

    Args:
        base: What all have in common.
        tried: Trials of this rung that have ended.
        number: Of the trial.
        sampler: `tpe` begins with what is known to be good and learns from what was tried;
            `random` draws every recipe independently.
        families: Those to draw.
    """
    only = _only(base)
    seed = int.from_bytes(sha256(f"{base.seed}/0/{number}".encode()).digest()[:4], "little")
    if sampler == "random":
        return draw_recipe(RandomSuggest(seed), base, families, only)
    priors = prior_recipes(base, families)
    if number < len(priors):
        return priors[number]
    import optuna  # noqa: PLC0415 - takes a second, and only searches need it

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    learner = optuna.samplers.TPESampler(n_startup_trials=_STARTUP, seed=seed)
    study = optuna.create_study(sampler=learner, direction="minimize")
    for trial in tried:
        reading = _Reading(parse_recipe(trial.recipe))
        try:
            draw_recipe(reading, base, families, only)
        except LookupError:  # set by hand to what no search draws: nothing to learn from
            continue
        if trial.val_loss is not None:
            study.add_trial(_as_optuna(reading, trial.val_loss))
    return draw_recipe(_OptunaSuggest(study.ask()), base, families, only)


def _only(base: Recipe) -> dict[str, tuple[str, ...]]:
    """Returns the methods that trials draw of a family, where these are not all of them."""
    only: dict[str, tuple[str, ...]] = {
        family: tuple(method_name(each) for each in FAMILIES[family] if each.shares_trials)
        for family in SEARCHED
        if getattr(base, family).shares_trials
    }
    if not base.freezing.shares_trials:  # it was chosen by hand, and stays
        only["freezing"] = (base.freezing.name,)
    return only


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


def as_trial(job: Job, outcome: Outcome[Score], note: str = "") -> Trial:
    """Returns what the journal says of a job that ended; the blend becomes part of the recipe."""
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
    recipe["blend"] = measured.pop("blend")
    if measured.pop("flip"):
        recipe["test_time_flip"] = True
    return Trial(
        state="done", recipe=recipe, val_right=score.val_bits.count("1"),
        val_images=len(score.val_bits), **measured, **common,
    )  # fmt: skip
