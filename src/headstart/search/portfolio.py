"""The portfolio: recipes that paid on other data sets, the likeliest to pay here first.

Many short trainings of many recipes on small tasks were run once; `portfolio.json` holds what each
recipe saved of the log loss of the head that it started from. For a new task the tasks that are
like it count most (Quick-Tune, arXiv:2306.03828). `benchmarks/portfolio.py` makes the table.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any

import numpy as np
from numpy.typing import NDArray

from headstart.errors import RecipeError
from headstart.recipes.parsing import parse_recipe
from headstart.recipes.recipe import Recipe

FIRST = 8
"""Number of recipes of the portfolio that a search tries before its sampler draws."""

LIKE = 0.7
"""Distance at which a task counts e^-0.5 of one that is the same, in spreads of the known tasks."""

ALL = 0.5
"""Share of the weight that all known tasks have alike: few of them are like any other."""

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Task:
    """What is known of a task before the first trial.

    Attributes:
        images: Number of training images.
        classes: Number of classes.
        head_loss: Held-out log loss in nats of the head; None if it is not known.
    """

    images: int
    classes: int
    head_loss: float | None = None

    @property
    def place(self) -> Floats:
        """Images per class, classes and log loss on a log scale (3,); NaN where not known."""
        loss = np.nan if self.head_loss is None else max(self.head_loss, 0.01)
        return np.log([self.images / self.classes, self.classes, loss])


@dataclass(frozen=True)
class Known:
    """A recipe to try, and the log loss in nats that it is expected to reach, if that is known."""

    recipe: Recipe
    loss: float | None = None


@dataclass(frozen=True, eq=False)
class Portfolio:
    """What recipes gained on known tasks.

    Attributes:
        recipes: What each recipe changes in the default recipe, R of them.
        tasks: The known tasks, T of them.
        gains: Share of the head's log loss that training saved (T, R); negative where it cost.
        costs: Training time of each recipe as a multiple of the default recipe's (R,).
    """

    recipes: Sequence[Mapping[str, Any]]
    tasks: Sequence[Task]
    gains: Floats
    costs: Floats

    def likeness(self, task: Task) -> Floats:
        """Returns how much each known task says about another one (T,); the sum is 1."""
        places = np.array([each.place for each in self.tasks])
        apart = (places - task.place) / np.maximum(places.std(0), 1e-9)
        distance = np.nan_to_num(apart) ** 2
        weights: Floats = np.exp(-0.5 * (distance.sum(1) - distance.sum(1).min()) / LIKE**2)
        return np.asarray((1 - ALL) * weights / weights.sum() + ALL / len(weights))

    def order(self, task: Task) -> list[int]:
        """Returns the numbers of the recipes, each the best addition to those before it.

        A search keeps the best recipe, or the head. So a recipe is worth what it saves beyond the
        best of those before it, on the tasks that are like this one, for its cost.

        Example:
            >>> gains = np.array([[0.4, 0.3, 0.0], [0.0, 0.0, 0.1]])
            >>> two = [Task(100, 10, 0.5), Task(100, 10, 0.5)]
            >>> Portfolio([{}] * 3, two, gains, np.ones(3)).order(two[0])
            [0, 2, 1]
        """
        weights, found = self.likeness(task), []
        best = np.zeros(len(self.tasks))
        left = list(range(len(self.recipes)))
        while left:
            more = weights @ np.maximum(self.gains[:, left] - best[:, None], 0)
            # Those that add nothing come in the order of what they gain alone.
            alone = 1e-6 * (weights @ self.gains[:, left])
            chosen = left[int(np.argmax((more + alone) / self.costs[left]))]
            best = np.maximum(best, self.gains[:, chosen])
            found.append(chosen)
            left.remove(chosen)
        return found

    def known(self, base: Recipe, families: Sequence[str], task: Task) -> tuple[Known, ...]:
        """Returns the recipes to try on a task, in order, with the log loss that is expected.

        Args:
            base: Recipe that they change.
            families: Method families that may be changed; a recipe that changes others is left out.
            task: The task at hand.
        """
        weights = self.likeness(task)
        found: dict[str, Known] = {}
        for number in self.order(task):
            recipe = _changed(base, self.recipes[number], families)
            if recipe is None:
                continue
            share = 1 - float(weights @ self.gains[:, number])
            loss = None if task.head_loss is None else share * task.head_loss
            found.setdefault(recipe.model_dump_json(), Known(recipe, loss))
        return tuple(found.values())


@cache
def portfolio() -> Portfolio:
    """Returns the portfolio that comes with headstart."""
    text = files("headstart.search").joinpath("portfolio.json").read_text(encoding="utf-8")
    return parsed(json.loads(text))


def parsed(table: Mapping[str, Any]) -> Portfolio:
    """Returns the portfolio of a table as `benchmarks/portfolio.py` writes it."""
    tasks = [Task(each["images"], each["classes"], each["head_loss"]) for each in table["tasks"]]
    gains = np.array([each["gains"] for each in table["tasks"]], float)
    changes = [each["changes"] for each in table["recipes"]]
    costs = np.array([each["cost"] for each in table["recipes"]], float)
    return Portfolio(changes, tasks, gains, costs)


def _changed(base: Recipe, changes: Mapping[str, Any], families: Sequence[str]) -> Recipe | None:
    """Returns the base with the changes; None if they are not allowed or do not fit."""
    if not changes.keys() <= set(families):
        return None
    fields = {name: dict(value) for name, value in changes.items()}
    if "freezing" in fields:
        if not base.freezing.shares_trials:
            return None
        place = {name: getattr(base.freezing, name) for name in ("boundary", "blocks")}
        fields["freezing"] |= place  # all trials of a search share the boundary
    try:
        return parse_recipe({**base.model_dump(), **fields})
    except RecipeError:  # such as mixing that the head of this search does not allow
        return None
