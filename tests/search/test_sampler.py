"""The sampler: what it proposes for a fixed seed is on record."""

import inspect

import optuna
import pytest

from headstart.artifacts.journal import Trial
from headstart.recipes.parsing import parse_recipe
from headstart.search.sampler import ask, prior_recipes

BASE = parse_recipe({"epochs": 8, "views": 2, "seed": 5})


def proposed(tried: int) -> tuple[str, ...]:
    """What TPE proposes after so many trials with made-up losses."""
    trials: list[Trial] = []
    for number in range(tried):
        recipe = ask(BASE, trials[:8], number).model_dump(mode="json")
        loss = 0.2 + 0.01 * (number * 7 % 11)
        made = {"recipe": recipe, "epochs": 2, "val_loss": loss, "val_images": 4, "state": "done"}
        trials.append(Trial.model_validate({"rung": 0, "number": number, **made}))
    recipe = ask(BASE, trials, tried)
    rate, schedule = f"{recipe.optimizer.lr:.3e}", recipe.schedule.name
    return recipe.optimizer.name, rate, schedule, recipe.criterion.name, recipe.batch_mixing.name


def test_the_first_recipes_are_the_known_ones() -> None:
    assert [ask(BASE, (), number) for number in range(6)] == prior_recipes(BASE)


@pytest.mark.parametrize(
    ("tried", "expected"),
    [
        (8, ("radam", "7.059e-05", "onecycle", "label_smoothing", "cutmix")),
        (12, ("radam", "2.821e-03", "cosine", "focal", "cutmix")),
        (17, ("adam", "3.290e-05", "cosine", "label_smoothing", "cutmix")),
        (26, ("radam", "2.701e-03", "cosine", "label_smoothing", "cutmix")),
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
