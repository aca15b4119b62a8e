"""Importance of choices, over made-up trials whose loss is known."""

import json
from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess

import numpy as np
import pytest

from headstart.artifacts.journal import TRIALS, Trial
from headstart.errors import RunError
from headstart.evaluation.intervals import wilson
from headstart.recipes.recipe import SEARCHED, Recipe
from headstart.recipes.space import RandomSuggest, draw_recipe
from headstart.search.leaderboard import (
    FEWEST_TRIALS,
    importance,
    importance_of,
    leaderboard,
)

Command = Callable[..., CompletedProcess[str]]


def made(count: int, rung: int = 0, alike: bool = False) -> list[Trial]:
    """Trials whose loss is ruled by the schedule, a little by the criterion."""
    trials = []
    for number in range(count):
        recipe = draw_recipe(RandomSuggest(number), Recipe(), SEARCHED)
        loss = 0.2 + 0.5 * (recipe.schedule.name == "constant")
        loss += 0.02 * (recipe.criterion.name == "focal")
        trials.append(
            Trial(
                rung=rung, number=number, state="done", recipe=recipe.model_dump(mode="json"),
                epochs=2, val_loss=0.3 if alike else loss, val_images=10,
            )
        )  # fmt: skip
    return trials


def test_what_rules_the_loss_is_found() -> None:
    found = importance(made(40))
    assert found[0][0] == "schedule"
    assert found[0][1] > 0.8
    assert 0.9 < sum(share for _, share in found) <= 1.0
    names = {name for name, _ in found}
    assert "optimizer.lr" in names, "which all optimizers have"
    assert not any("beta" in name for name in names), "which no search draws"
    assert found == importance(made(40)), "the same each time"
    assert found == importance(made(40)[::-1]), "in whatever order they ended"


def test_too_few_or_equal_trials_say_nothing() -> None:
    assert importance(made(FEWEST_TRIALS - 1)) == []
    assert importance(made(20, alike=True)) == []
    assert importance(made(20, rung=1)) == [], "later rungs hold the best alone"
    assert importance(made(FEWEST_TRIALS)) != []


def test_failures_do_not_count() -> None:
    broken = [trial.model_copy(update={"state": "failed", "val_loss": None}) for trial in made(20)]
    assert importance(broken) == []
    assert np.isfinite([share for _, share in importance(made(12) + broken)]).all()


def test_a_folder_without_a_search_is_named(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="holds no trials"):
        importance_of(tmp_path)


@pytest.mark.parametrize(("count", "words"), [(3, "Fewer than 8 recipes"), (12, "")])
def test_the_leaderboard_prints_it(
    tmp_path: Path, count: int, words: str, headstart: Command
) -> None:
    for trial in made(count):
        TRIALS.append(tmp_path, trial)
    done = headstart("leaderboard", tmp_path, "--importance", "--json")
    assert done.returncode == 0
    assert words in done.stderr
    assert bool(json.loads(done.stdout)) is (count == 12)


@pytest.mark.parametrize(
    ("groups", "independent"), [((), 24), (tuple(range(24)), 24), (tuple(np.arange(24) // 4), 6)]
)
def test_intervals_of_trials_count_groups(groups: tuple[int, ...], independent: int) -> None:
    # The images of a group are right or wrong together: 16 of 24, or 4 of 6.
    bits = "1" * 16 + "0" * 8
    plain = made(1)[0].model_dump() | {"val_images": 24, "val_right": 16, "val_bits": bits}
    trial = Trial.model_validate(plain | {"val_groups": groups})
    (row,) = leaderboard([trial], Recipe())
    assert row.interval == pytest.approx(wilson(2 / 3, independent))
    # Trials of older runs, without bits, count every image.
    older = trial.model_copy(update={"val_groups": (), "val_bits": ""})
    assert older.interval == pytest.approx(wilson(2 / 3, 24))
    with pytest.raises(ValueError, match="val_groups and val_bits"):
        Trial.model_validate(plain | {"val_groups": (0, 1)})
