"""The study: rungs, journal, failures, and the same result however often it is stopped."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from headstart.artifacts.journal import JOURNAL, Trial, append_trial, read_trials
from headstart.errors import HeadstartError, RunError
from headstart.recipe import Recipe, parse_recipe
from headstart.search.study import (
    Rung,
    Score,
    differences,
    leaderboard,
    plan_rungs,
    prior_recipes,
    ranked,
    search,
)

BASE = parse_recipe({"epochs": 8, "views": 2})


def score_of(recipe: Recipe, epochs: int) -> Score:
    """A made-up score that likes a learning rate of 3e-4, SGD less, and long schedules."""
    rate = abs(np.log(recipe.optimizer.lr / 3e-4))
    loss = 0.2 + 0.1 * rate + 0.3 * (recipe.optimizer.name == "sgd") + 0.5 / epochs
    return Score(loss, round(100 * float(np.exp(-loss))), 100)


def run(
    folder: Path,
    trials: int = 12,
    evaluate: Callable[[Recipe, int], Score] = score_of,
    stop_after: int | None = None,
) -> Recipe | None:
    """Searches with a journal in `folder`; may be stopped dead after so many new trials."""

    class Killed(BaseException):
        pass

    written = 0

    def journal(trial: Trial) -> None:
        nonlocal written
        if written == stop_after:
            raise Killed
        append_trial(folder, trial)
        written += 1

    try:
        return search(BASE, plan_rungs(trials, 8), read_trials(folder), evaluate, journal)
    except Killed:
        return None


def test_rungs_are_whole_schedules_of_growing_length() -> None:
    assert plan_rungs(12, 8) == [Rung(12, 2), Rung(4, 4)]
    assert plan_rungs(2, 8) == [Rung(2, 2)]
    assert plan_rungs(1, 1) == [Rung(1, 1)]


def test_finds_a_better_recipe_and_journals_every_trial(tmp_path: Path) -> None:
    best = run(tmp_path)
    assert best is not None
    trials = read_trials(tmp_path)
    assert [t.number for t in trials if t.rung == 0] == list(range(12))
    assert len([t for t in trials if t.rung == 1]) == 4
    assert score_of(best, 8).loss <= score_of(BASE, 8).loss
    finalists = [t for t in trials if t.rung == 1]
    assert best.model_dump(mode="json") == ranked(finalists)[0].recipe
    assert {t.epochs for t in finalists} == {4}


def test_trials_share_what_is_cached_and_the_first_is_the_base(tmp_path: Path) -> None:
    run(tmp_path, trials=20)
    recipes = [parse_recipe(trial.recipe) for trial in read_trials(tmp_path)]
    assert recipes[0] == BASE
    for recipe in recipes:
        for name in ("backbone", "head", "activation", "augmentation", "views", "seed"):
            assert getattr(recipe, name) == getattr(BASE, name)
        assert recipe.freezing.boundary == "auto"  # type: ignore[union-attr]
    assert len({str(t.recipe) for t in read_trials(tmp_path) if t.rung == 0}) == 20


@pytest.mark.parametrize("stop_after", [0, 1, 5, 9, 13])
def test_a_stopped_search_goes_on_to_the_same_end(tmp_path: Path, stop_after: int) -> None:
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    whole.mkdir()
    parts.mkdir()
    expected = run(whole)
    assert run(parts, stop_after=stop_after) is None
    assert len(read_trials(parts)) == stop_after
    assert run(parts) == expected
    without_time = [
        [trial.model_dump(exclude={"seconds"}) for trial in read_trials(folder)]
        for folder in (whole, parts)
    ]
    assert without_time[0] == without_time[1]


def test_a_torn_line_is_tried_again(tmp_path: Path) -> None:
    expected = run(tmp_path)
    path = tmp_path / JOURNAL
    data = path.read_bytes()
    path.write_bytes(data[:-40])
    assert len(read_trials(tmp_path)) == 15
    assert run(tmp_path) == expected
    assert len(read_trials(tmp_path)) == 16


def test_a_broken_journal_is_named(tmp_path: Path) -> None:
    (tmp_path / JOURNAL).write_text("{}\n")
    with pytest.raises(RunError, match="cannot read"):
        read_trials(tmp_path)


def test_failures_are_failures_with_their_cause_and_the_search_goes_on(tmp_path: Path) -> None:
    errors = iter(
        [HeadstartError("the loss is not finite."), RuntimeError("out of memory"), MemoryError()]
    )

    def evaluate(recipe: Recipe, epochs: int) -> Score:
        error = next(errors, None)
        if error is not None:
            raise error
        return score_of(recipe, epochs)

    assert run(tmp_path, evaluate=evaluate) is not None
    failed = [trial for trial in read_trials(tmp_path) if trial.state == "failed"]
    assert [t.cause for t in failed] == ["the loss is not finite.", "out of memory", "MemoryError"]
    assert all(t.val_loss is None and "Traceback" in t.traceback for t in failed)
    rows = leaderboard(read_trials(tmp_path), BASE.model_dump(mode="json"))
    assert [row.failed for row in rows[-3:]] == [t.cause for t in failed]


def test_all_trials_failing_is_an_error_that_says_why(tmp_path: Path) -> None:
    def evaluate(recipe: Recipe, epochs: int) -> Score:
        raise HeadstartError("it always breaks.")

    with pytest.raises(HeadstartError, match=r"all 3 trials failed.*always breaks"):
        run(tmp_path, trials=3, evaluate=evaluate)


def test_ctrl_c_is_no_failed_trial(tmp_path: Path) -> None:
    def evaluate(recipe: Recipe, epochs: int) -> Score:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, evaluate=evaluate)
    assert read_trials(tmp_path) == []


def test_the_leaderboard_ranks_what_came_farthest_first(tmp_path: Path) -> None:
    run(tmp_path)
    rows = leaderboard(read_trials(tmp_path), BASE.model_dump(mode="json"))
    assert [row.rank for row in rows] == list(range(1, 13))
    assert [row.epochs for row in rows] == [4] * 4 + [2] * 8
    losses = [row.val_loss for row in rows[:4]]
    assert losses == sorted(losses)
    base = next(row for row in rows if row.trial == 1)
    assert base.changes == ""
    assert base.interval is not None
    assert base.interval[0] < (base.val_accuracy or 0) < base.interval[1]


def test_differences_are_named_by_path() -> None:
    other = parse_recipe({"optimizer": {"name": "adamw", "lr": 0.001}, "schedule": "cosine"})
    found = differences(other.model_dump(), Recipe().model_dump())
    assert found == {"optimizer.lr": 0.001, "schedule": "cosine"}


@pytest.mark.parametrize(
    "settings",
    [
        {"freezing": "full"},
        {"freezing": {"name": "last_blocks", "blocks": 3}},
        {"head": "nearest", "metric_loss": {"name": "triplet", "per_class": 3}},
        {"optimizer": {"name": "ranger", "sync_every": 7}},
        {"freezing": "head_only", "head": "mlp"},
    ],
)
def test_searches_around_any_base(tmp_path: Path, settings: dict[str, object]) -> None:
    base = parse_recipe({"epochs": 4, **settings})
    assert prior_recipes(base)[0] == base
    journal: list[Trial] = []
    search(base, plan_rungs(10, 4), [], score_of, journal.append)
    for trial in journal:
        assert trial.state == "done", trial.cause
        assert parse_recipe(trial.recipe).head == base.head
