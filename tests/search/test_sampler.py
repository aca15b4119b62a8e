"""The sampler: what it proposes for a fixed seed is on record."""

import inspect

import optuna
import pytest

from headstart.artifacts.journal import Trial
from headstart.recipes.parsing import parse_recipe
from headstart.recipes.recipe import SEARCHED
from headstart.search.portfolio import FIRST, Known, Task, portfolio
from headstart.search.sampler import Asking, ask

BASE = parse_recipe({"epochs": 8, "views": 2, "seed": 5})
ASKING = Asking(BASE)


def proposed(tried: int) -> tuple[str, ...]:
    """What TPE proposes after so many trials with made-up losses."""
    trials: list[Trial] = []
    for number in range(tried):
        recipe = ask(ASKING, trials[:8], number).model_dump(mode="json")
        loss = 0.2 + 0.01 * (number * 7 % 11)
        made = {"recipe": recipe, "epochs": 2, "val_loss": loss, "val_images": 4, "state": "done"}
        trials.append(Trial.model_validate({"rung": 0, "number": number, **made}))
    recipe = ask(ASKING, trials, tried)
    rate, schedule = f"{recipe.optimizer.lr:.3e}", recipe.schedule.name
    return recipe.optimizer.name, rate, schedule, recipe.criterion.name, recipe.batch_mixing.name


def test_the_first_recipes_are_those_of_the_portfolio() -> None:
    known = portfolio().known(BASE, SEARCHED, Task(200, 10, 0.5))
    asking = Asking(BASE, known=known)
    assert len(known) > FIRST
    assert [ask(asking, (), number) for number in range(FIRST)] == [
        each.recipe for each in known[:FIRST]
    ]
    assert ask(asking, (), FIRST) not in [each.recipe for each in known]


def test_without_a_portfolio_the_given_recipe_comes_first() -> None:
    assert ask(ASKING, (), 0) == BASE
    assert ask(ASKING, (), 1) != BASE


def test_draws_follow_what_is_expected_of_known_recipes() -> None:
    """What is expected to cost is not drawn; without expectations it is."""

    def drawn(good: str) -> list[str]:
        known = [
            Known(
                parse_recipe({**BASE.model_dump(), "criterion": name, "seed": 5}),
                0.1 if name == good else 0.9,
            )
            for name in ("cross_entropy", "label_smoothing") * 10
        ]
        asking = Asking(BASE, families=("criterion",), known=(Known(BASE),) * FIRST + (*known,))
        return [ask(asking, (), FIRST + number).criterion.name for number in range(12)]

    assert "label_smoothing" not in drawn("cross_entropy")
    assert "cross_entropy" not in drawn("label_smoothing")
    blank = Asking(BASE, families=("criterion",), known=(Known(BASE),) * FIRST)
    free = {ask(blank, (), FIRST + number).criterion.name for number in range(12)}
    assert {"cross_entropy", "label_smoothing"} <= free


@pytest.mark.parametrize(
    ("tried", "expected"),
    [
        (8, ("adamw", "2.239e-03", "onecycle", "label_smoothing", "none")),
        (12, ("adamw", "4.858e-04", "onecycle", "cross_entropy", "cutmix")),
        (17, ("adamw", "4.534e-04", "onecycle", "label_smoothing", "none")),
        (26, ("adamw", "4.832e-04", "constant", "label_smoothing", "none")),
    ],
)
def test_proposals_for_a_fixed_seed_are_as_recorded(tried: int, expected: tuple[str, ...]) -> None:
    assert proposed(tried) == expected


def test_every_argument_of_the_sampler_is_given() -> None:
    """A new argument, or one that is no longer deprecated, changes the algorithm unnoticed."""
    given = {"n_startup_trials", "n_ei_candidates", "seed", "multivariate", "group"}
    given |= {"constant_liar"}
    deprecated = {"consider_prior", "prior_weight", "consider_magic_clip", "consider_endpoints"}
    deprecated |= {"gamma", "weights", "warn_independent_sampling", "constraints_func"}
    known = set(inspect.signature(optuna.samplers.TPESampler).parameters)
    assert known - deprecated == given
