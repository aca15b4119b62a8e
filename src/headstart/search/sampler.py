"""The sampler of a search: recipes of the portfolio first, then Optuna's TPE."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from typing import TYPE_CHECKING, Any, Literal

from headstart.artifacts.journal import Trial
from headstart.methods.method import Range, method_name
from headstart.recipes.parsing import parse_recipe
from headstart.recipes.recipe import FAMILIES, SEARCHED, Recipe
from headstart.recipes.space import RandomSuggest, draw_recipe
from headstart.search.portfolio import FIRST, Known
from headstart.search.stopping import STARTUP_TRIALS

if TYPE_CHECKING:
    import optuna


Sampler = Literal["tpe", "random"]


@dataclass(frozen=True)
class Asking:
    """The source of the recipes to try.

    Attributes:
        base: Recipe that the trials vary.
        sampler: `tpe` begins with the known recipes and learns from finished trials, and from what
            is expected of known recipes; `random` draws every recipe independently.
        families: Method families to draw.
        winners: Number of trials to keep in the end.
        known: Recipes of the portfolio, the first to try first.
        only: The methods among which a family is drawn, where the task allows no others.
    """

    base: Recipe
    sampler: Sampler = "tpe"
    families: Sequence[str] = SEARCHED
    winners: int = 1
    known: tuple[Known, ...] = ()
    only: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    @property
    def first(self) -> list[Recipe]:
        """The recipes that are tried before any is drawn."""
        return [each.recipe for each in self.known[:FIRST]] or [self.base]


class _OptunaSuggest:
    """Draws values through an Optuna trial."""

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
    """Reads the values of a given recipe instead of drawing.

    Attributes:
        params: Values by name.
        choices: Offered choices by name.
        spans: Ranges by name.
    """

    def __init__(self, recipe: Recipe) -> None:
        self._recipe = recipe
        self.params: dict[str, Any] = {}
        self.choices: dict[str, list[str]] = {}
        self.spans: dict[str, Range] = {}

    def choice(self, name: str, values: Sequence[Any]) -> Any:
        """Returns the recipe's value.

        Raises:
            LookupError: If the value is not among the choices.
        """
        value = self._value(name)
        key, options = _options(name, values)
        if str(value) not in options:
            raise LookupError(name)
        self.params[key], self.choices[key] = str(value), list(options)
        return value

    def number(self, name: str, span: Range) -> float:
        """Returns the recipe's value; the sampler learns from the nearest one in the range."""
        value = float(self._value(name))
        self.params[name], self.spans[name] = min(max(value, span.low), span.high), span
        return value

    def _value(self, name: str) -> Any:
        family, *rest = name.split(".")
        method = getattr(self._recipe, family)
        return getattr(method, rest[-1]) if rest else method.name


def _options(name: str, values: Sequence[Any]) -> tuple[str, dict[str, Any]]:
    """Returns a name with its choices: Optuna needs the same choices under the same name."""
    options = {str(value): value for value in values}
    return f"{name} of {'/'.join(options)}", options


def ask(asking: Asking, tried: Sequence[Trial], number: int) -> Recipe:
    """Returns the recipe of a trial of the first rung.

    Args:
        asking: Source of the recipes.
        tried: Finished trials of this rung.
        number: Number of the trial.
    """
    base, families = asking.base, asking.families
    only = {**_only(base), **asking.only}
    seed = int.from_bytes(sha256(f"{base.seed}/0/{number}".encode()).digest()[:4], "little")
    if asking.sampler == "random":
        return draw_recipe(RandomSuggest(seed), base, families, only)
    first = asking.first
    if number < len(first):
        return first[number]
    import optuna  # noqa: PLC0415 - takes a second, and only searches need it

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(sampler=_learner(seed), direction="minimize")
    expected = [(each.recipe, each.loss) for each in asking.known[FIRST:]]
    found = [(parse_recipe(trial.recipe), trial.val_loss) for trial in tried]
    for recipe, loss in (*expected, *found):
        reading = _Reading(recipe)
        try:
            draw_recipe(reading, base, families, only)
        except LookupError:  # set by hand outside the search space: nothing to learn from
            continue
        if loss is not None:
            study.add_trial(_as_optuna(reading, loss))
    return draw_recipe(_OptunaSuggest(study.ask()), base, families, only)


def _learner(seed: int) -> "optuna.samplers.TPESampler":
    """Returns Optuna's TPE with every argument that it has: defaults change between versions.

    Those that Optuna 5 deprecates cannot be given without a warning. Its share of good trials is
    one of them and is another than in Optuna 4, so the dependency allows Optuna 5 alone.
    """
    import optuna  # noqa: PLC0415

    return optuna.samplers.TPESampler(
        n_startup_trials=STARTUP_TRIALS,
        n_ei_candidates=24,
        seed=seed,
        multivariate=True,
        group=False,
        constant_liar=True,
    )


def _only(base: Recipe) -> dict[str, tuple[str, ...]]:
    """Returns the methods that trials draw from a family, if these are not all of them."""
    only: dict[str, tuple[str, ...]] = {
        family: tuple(method_name(each) for each in FAMILIES[family] if each.shares_trials)
        for family in SEARCHED
        if getattr(base, family).shares_trials
    }
    if not base.freezing.shares_trials:  # chosen by hand, so it stays
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
