"""Which choices mattered in a search: functional ANOVA over its trials (Hutter et al. 2014)."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from headstart.artifacts.journal import TRIALS, Trial
from headstart.errors import RunError
from headstart.methods.method import Choices, Method, Range, searched
from headstart.recipe import FAMILIES, parse_recipe

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution

FEWEST_TRIALS = 8
TOO_FEW = (
    f"Fewer than {FEWEST_TRIALS} recipes were tried on the same schedule, or all scored alike: "
    "that says nothing of what mattered."
)


def importance(trials: Sequence[Trial]) -> list[tuple[str, float]]:
    """Returns what share of the differences in log loss each choice explains by itself.

    Functional ANOVA on a random forest (Hutter, Hoos and Leyton-Brown, ICML 2014), of the first
    rung, where all trials are comparable. A family counts by its method, and a field where the
    methods of all trials have it, such as `optimizer.lr`. Ranges differ from method to method (SGD
    wants higher rates than Adam), so a number counts by its place within its own method's range.
    Fields of some methods alone are part of the choice of the method.

    Args:
        trials: From the journal.

    Returns:
        Parameters with their shares, the most important first; what they lack to 1 is explained by
        several together, or by none. Empty where there are too few trials to tell, or all scored
        alike.
    """
    told = [trial for trial in trials if trial.rung == 0 and trial.val_loss is not None]
    told.sort(key=lambda trial: trial.number)  # side by side they end in any order
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
        RunError: If there was no search in it.
    """
    trials = TRIALS.read(folder)
    if not trials:
        raise RunError(f"{folder} holds no trials: no recipes were searched in it.")
    return importance(trials)


def _columns(trials: Sequence[Trial]) -> dict[str, list[Any]]:
    """Returns what differs between trials and all of them have, by path, with one value a trial."""
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
