"""The portfolio: which recipe comes first, and what is expected of it."""

import numpy as np
import pytest

from headstart.recipes.parsing import parse_recipe
from headstart.recipes.recipe import SEARCHED
from headstart.recipes.space import drawn_families
from headstart.search.portfolio import Portfolio, Task, portfolio

SMALL, LARGE = Task(50, 10, 1.0), Task(5000, 10, 0.1)
PLAIN = {"criterion": {"name": "cross_entropy"}}
FAST = {"optimizer": {"name": "adamw", "lr": 2e-3}}
DECAYED = {"freezing": {"name": "last_blocks", "boundary": "blocks.5", "layer_decay": 0.7}}


def made(gains: list[list[float]], costs: tuple[float, ...] = (1, 1, 1)) -> Portfolio:
    return Portfolio([PLAIN, FAST, DECAYED], [SMALL, LARGE], np.array(gains), np.array(costs))


def test_the_likest_task_decides_what_comes_first() -> None:
    table = made([[0.5, 0.0, 0.1], [0.0, 0.5, 0.1]])
    assert table.order(SMALL)[0] == 0
    assert table.order(LARGE)[0] == 1
    assert table.likeness(SMALL).sum() == pytest.approx(1)


def test_a_recipe_is_worth_what_it_adds_to_those_before_it() -> None:
    """The second saves nearly as much as the first, but on the same task."""
    between = Task(500, 10)  # the loss is not known, and the middle is as near to both
    table = made([[0.5, 0.4, 0.0], [0.0, 0.0, 0.1]])
    assert table.likeness(between) == pytest.approx([0.5, 0.5])
    assert table.order(between) == [0, 2, 1]


def test_what_costs_more_comes_later() -> None:
    gains = [[0.3, 0.4, 0.0]] * 2
    assert made(gains).order(SMALL)[0] == 1
    assert made(gains, (1, 2, 1)).order(SMALL)[0] == 0


def test_the_expected_loss_is_that_of_the_head_less_what_training_saves() -> None:
    table = made([[0.5, -0.1, 0.0], [0.5, -0.1, 0.0]])
    known = table.known(parse_recipe({}), SEARCHED, Task(50, 10, 0.8))
    assert [each.loss for each in known] == pytest.approx([0.4, 0.8, 0.88])
    assert known[0].recipe.criterion.name == "cross_entropy"
    assert table.known(parse_recipe({}), SEARCHED, Task(50, 10))[0].loss is None


def test_recipes_keep_the_boundary_of_the_search_and_what_is_set_by_hand() -> None:
    table = made([[0.1, 0.2, 0.3]] * 2)
    base = parse_recipe({"freezing": {"name": "last_blocks", "boundary": "blocks.3"}})
    first = table.known(base, SEARCHED, SMALL)[0].recipe
    assert (first.freezing.boundary, first.freezing.layer_decay) == ("blocks.3", 0.7)
    by_hand = drawn_families(["freezing.layer_decay=0.9"])
    kept = [each.recipe.freezing for each in table.known(base, by_hand, SMALL)]
    assert kept == [base.freezing] * 2


def test_every_recipe_of_the_table_fits_the_default() -> None:
    table = portfolio()
    assert table.gains.shape == (len(table.tasks), len(table.recipes))
    assert np.isfinite(table.gains).all()
    assert (table.costs > 0).all()
    known = table.known(parse_recipe({}), SEARCHED, table.tasks[0])
    assert len(known) == len(table.recipes)
