"""The leaderboard of a search, and the importance of each choice."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from headstart.artifacts.journal import TRIALS, Trial
from headstart.artifacts.run import SEARCH_RECIPE
from headstart.errors import RunError
from headstart.methods.method import Choices, Method, Range, searched
from headstart.recipes.parsing import load_recipe, parse_recipe
from headstart.recipes.recipe import FAMILIES, Recipe

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution


FEWEST_TRIALS = 8

NO_TRIALS = (
    "this run did not search recipes, or its budget left no time for it. A longer --budget does, "
    "without --recipe, --strategy and --epochs."
)
TOO_FEW = (
    f"Fewer than {FEWEST_TRIALS} recipes were tried on the same schedule, or all scored alike: "
    "the importance of choices cannot be estimated."
)


def importance(trials: Sequence[Trial]) -> list[tuple[str, float]]:
    """Returns what share of the differences in log loss each choice explains by itself.

    Functional ANOVA on a random forest (Hutter, Hoos and Leyton-Brown, ICML 2014), of the first
    rung, where all trials are comparable. A family counts by its method, and a field where the
    methods of all trials have it, such as `optimizer.lr`. Ranges differ between methods (SGD
    needs higher rates than Adam), so a number counts by its position within its method's range.
    Fields that only some methods have are part of the choice of the method.

    Args:
        trials: Trials from the journal.

    Returns:
        Parameters with their shares, the most important first; interactions and noise explain
        the rest. Empty if there are too few trials or all scored alike.
    """
    told = [trial for trial in trials if trial.rung == 0 and trial.val_loss is not None]
    told.sort(key=lambda trial: trial.number)  # parallel trials end in any order
    if len(told) < FEWEST_TRIALS or len({trial.val_loss for trial in told}) == 1:
        return []
    columns = _columns(told)
    if not columns:
        return []
    import optuna  # noqa: PLC0415 - takes a second
    from optuna.importance import FanovaImportanceEvaluator  # noqa: PLC0415

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(direction="minimize")
    distributions = {name: _distribution(values) for name, values in columns.items()}
    for place, trial in enumerate(told):
        params = {name: values[place] for name, values in columns.items()}
        study.add_trial(
            optuna.trial.create_trial(
                params=params, distributions=distributions, value=trial.val_loss
            )
        )
    try:
        shares = FanovaImportanceEvaluator(seed=0).evaluate(study)
    except RuntimeError:  # no tree of the forest divides so few or so similar trials
        return []
    if not any(shares.values()):
        return []
    found = [(name, float(share)) for name, share in shares.items()]
    return sorted(found, key=lambda pair: (-pair[1], pair[0]))


def importance_of(folder: Path) -> list[tuple[str, float]]:
    """Returns the importance of choices in the search of a run folder.

    Raises:
        RunError: If the run has no search.
    """
    trials = TRIALS.read(folder)
    if not trials:
        raise RunError(f"{folder} holds no trials: {NO_TRIALS}")
    return importance(trials)


def _columns(trials: Sequence[Trial]) -> dict[str, list[Any]]:
    """Returns the values that differ between trials, by path, with one value per trial."""
    recipes = [parse_recipe(trial.recipe) for trial in trials]
    columns: dict[str, list[Any]] = {}
    for family in FAMILIES:
        methods: list[Method] = [getattr(recipe, family) for recipe in recipes]
        fields = [set(type(method).model_fields) for method in methods]
        columns[family] = [getattr(method, "name", "") for method in methods]
        for field in sorted(set.intersection(*fields) - {"name"}):
            marks = [searched(type(method).model_fields[field].metadata) for method in methods]
            values = [getattr(method, field) for method in methods]
            if all(isinstance(mark, Range) for mark in marks):
                columns[f"{family}.{field}"] = [
                    _place(value, mark)
                    for value, mark in zip(values, marks, strict=True)
                    if isinstance(mark, Range)
                ]
            elif all(isinstance(mark, Choices) for mark in marks):
                columns[f"{family}.{field}"] = [str(value) for value in values]
    return {name: values for name, values in columns.items() if len(set(values)) > 1}


def _place(value: float, span: Range) -> float:
    """Returns where a value lies within a range, on its scale: 0 at its low end, 1 at its high."""
    low, high, at = span.low, span.high, min(max(value, span.low), span.high)
    if span.log:
        low, high, at = math.log(low), math.log(high), math.log(at)
    return (at - low) / (high - low)


def _distribution(values: Sequence[Any]) -> "BaseDistribution":
    from optuna.distributions import (  # noqa: PLC0415
        CategoricalDistribution,
        FloatDistribution,
    )

    if isinstance(values[0], float):
        return FloatDistribution(0.0, 1.0)
    return CategoricalDistribution(sorted(set(values)))


def differences(recipe: Mapping[str, Any], base: Mapping[str, Any]) -> dict[str, Any]:
    """Returns how a recipe differs from the base, by path such as `optimizer.lr`."""
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


def right_share(base: Recipe) -> str:
    """Returns the name of the share of images that a trial gets right."""
    return "exact label sets" if base.criterion.for_sets else "accuracy"


def right_words(base: Recipe) -> str:
    """Returns what counts as right in trials from a recipe, as words behind a number of images."""
    return "with exactly their labels" if base.criterion.for_sets else "correct"


def shown(value: Any) -> str:
    """Returns a value as readable text."""
    return f"{value:.3g}" if isinstance(value, float) else str(value)


@dataclass(frozen=True)
class Row:
    """One line of the leaderboard; shares are from 0 to 1, the interval is at 95%, by group.

    `right_share` says what the share is: accuracy, or of images with exactly their labels.
    """

    rank: int
    trial: int
    epochs: int
    val_loss: float | None
    val_accuracy: float | None
    interval: tuple[float, float] | None
    seconds: float
    changes: str
    failed: str
    right_share: str


def leaderboard(trials: Sequence[Trial], base: Recipe) -> list[Row]:
    """Returns a row for each trial: the longest schedules first, then by loss; failures last.

    Args:
        trials: Trials from the journal.
        base: The recipe that the search started from.
    """
    plain = base.model_dump(mode="json")
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
        changes = differences(trial.recipe, plain)
        right, images = trial.val_right, trial.val_images
        rows.append(
            Row(
                rank=rank,
                trial=trial.number + 1,
                epochs=trial.epochs,
                val_loss=trial.val_loss,
                val_accuracy=right / images if images else None,
                interval=trial.interval if images else None,
                seconds=trial.seconds,
                changes=", ".join(f"{path} = {shown(v)}" for path, v in changes.items()),
                failed=trial.cause,
                right_share=right_share(base),
            )
        )
    return rows


def leaderboard_of(folder: Path) -> list[Row]:
    """Returns the leaderboard of a run folder.

    Raises:
        RunError: If the run has no search.
    """
    trials = TRIALS.read(folder)
    if not trials:
        raise RunError(f"{folder} holds no trials: {NO_TRIALS}")
    return leaderboard(trials, load_recipe(str(folder / SEARCH_RECIPE)))
