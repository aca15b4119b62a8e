"""The ladder from naive to chosen, one left out, and gains worked out by hand."""

from itertools import pairwise
from typing import Any

import numpy as np
import pytest

from headstart.ablation.steps import (
    FIELDS,
    ORDER,
    LedgerStep,
    change_between,
    endpoints,
    gain_of,
    ladder,
    ledger_rows,
    left_out,
    rows_of_trials,
    with_seed,
)
from headstart.artifacts.journal import Trial
from headstart.artifacts.records import Acted
from headstart.evaluation.intervals import wilson
from headstart.evaluation.metrics import flags_of
from headstart.evaluation.paired import sign_test
from headstart.recipes.parsing import NAMED, parse_recipe
from headstart.recipes.recipe import FAMILIES, Recipe
from headstart.recipes.space import RandomSuggest, draw_recipe
from headstart.report.ablation import shown

NAIVE, CHOSEN = endpoints(
    Recipe(
        feature_flip=True, blend=0.5, train_resolution=160, retrain_head=True, test_time_flip=True
    ),
    3,
)


def trial(recipe: Recipe, right: str, loss: float = 0.5, **fields: Any) -> Trial:
    given: dict[str, Any] = {"rung": 0, "number": 0, "epochs": 3, "seconds": 2.0, "state": "done"}
    return Trial(
        recipe=recipe.model_dump(mode="json"), val_bits=right, val_loss=loss,
        val_right=right.count("1"), val_images=len(right), **(given | fields),
    )  # fmt: skip


def failed(recipe: Recipe) -> Trial:
    return Trial(
        rung=0, number=0, epochs=3, state="failed", cause="the loss is not finite.",
        recipe=recipe.model_dump(mode="json"),
    )  # fmt: skip


@pytest.mark.parametrize("start", range(0, 120, 30))
def test_every_recipe_on_the_way_to_any_recipe_makes_sense(start: int) -> None:
    for seed in range(start, start + 30):
        drawn = draw_recipe(RandomSuggest(seed), parse_recipe({"blend": 0.75}))
        naive, chosen = endpoints(drawn, 5)
        climb, without = ladder(naive, chosen), left_out(naive, chosen)
        assert climb[0].recipe == naive
        assert climb[-1].recipe == chosen
        changed = [family for step in climb for family in step.families]
        assert len(changed) == len(set(changed)), "nothing changes twice"
        for step in [*climb, *without]:
            assert parse_recipe(step.recipe.model_dump()) == step.recipe
        for before, step in pairwise(climb):
            for family in set(Recipe.model_fields) - set(step.families):
                assert getattr(before.recipe, family) == getattr(step.recipe, family)
        assert {f for step in without for f in step.families} == set(changed)


def test_the_order_holds_every_family_that_is_not_shared() -> None:
    assert {*ORDER, "backbone"} == set(FAMILIES)
    own = set(Recipe.model_fields) - set(FAMILIES) - set(FIELDS)
    assert own == {"epochs", "views", "batch_size", "seed"}, "what the two ends share"


def test_the_ladder_of_the_default_recipe() -> None:
    families = [step.families for step in ladder(NAIVE, CHOSEN)]
    assert families == [
        (), ("optimizer",), ("schedule",), ("augmentation",), ("criterion",), ("freezing",),
        ("head",), ("averaging",), ("feature_flip",), ("blend",), ("retrain_head",),
        ("train_resolution",),
        ("test_time_flip",),
    ]  # fmt: skip


def test_what_makes_no_sense_alone_is_taken_with_another() -> None:
    nearest = parse_recipe({"head": "nearest", "metric_loss": {"name": "triplet"}})
    naive, chosen = endpoints(nearest, 3)
    without = {step.families: step.recipe for step in left_out(naive, chosen)}
    assert ("head", "metric_loss") in without, "nearest neighbours learn by a metric loss alone"
    assert ("head",) in without
    climb = [step.families for step in ladder(naive, chosen)]
    assert climb.index(("metric_loss",)) < climb.index(("head",)), "which comes first, therefore"


def test_what_acts_by_gradient_is_no_difference_of_a_head_in_closed_form() -> None:
    naive, chosen = endpoints(NAMED["probe"], 3)
    assert [step.families for step in ladder(naive, chosen)] == [(), ("freezing",), ("head",)]


def test_gains_are_those_worked_out_by_hand() -> None:
    plain = NAIVE.model_copy(update={"optimizer": CHOSEN.optimizer})
    steps = [
        LedgerStep("ladder", (), NAIVE),
        LedgerStep("ladder", ("optimizer",), plain),
        LedgerStep("left_out", ("optimizer",), NAIVE),
    ]
    acted = Acted(family="optimizer", method="adamw", state="acted", evidence="it moved")
    other = Acted(family="schedule", method="onecycle", state="acted", evidence="rates")
    trials = [
        trial(NAIVE, "1111000000", 0.9),
        trial(plain, "1110111111", 0.4, acted=(acted, other)),
    ]
    start, ladder_row, out = ledger_rows(steps, trials, 1)
    assert (start.gain, start.p, start.accuracy) == (None, None, 0.4)
    assert start.change == "the naive recipe"
    # 6 images won, 1 lost, of 10: 5/10 more; two-sided binomial: 2 (1 + 7) / 2^7 = 0.125.
    assert ladder_row.gain == pytest.approx(0.5)
    assert ladder_row.p == pytest.approx(0.125)
    assert ladder_row.loss_gain == pytest.approx(0.5)
    assert ladder_row.interval is not None
    assert ladder_row.interval[0] < 0.5 < ladder_row.interval[1]
    assert ladder_row.acted == (acted,), "of the family in question alone"
    assert "lr 0.001 → 0.0005" in ladder_row.change
    # The same comparison from the other side: what the chosen recipe has over itself without it.
    assert out.gain == pytest.approx(0.5)
    assert out.accuracy == 0.4
    assert out.acted == (acted,), "seen where the method was at work"
    assert "lr 0.0005 → 0.001" in out.change
    assert [ladder_row.p_holm, out.p_holm] == pytest.approx([0.25, 0.25]), "two rows"


def test_a_row_that_is_missing_or_failed_is_bridged_and_said() -> None:
    steps = ladder(NAIVE, CHOSEN)
    first, second, third = (step.recipe for step in steps[:3])
    known = [trial(first, "1100"), failed(second), trial(third, "1110"), trial(CHOSEN, "1111")]
    rows = ledger_rows(steps, known, 1)
    assert [row.failed for row in rows] == ["", "the loss is not finite.", "", ""]
    assert rows[1].gain is None
    assert rows[1].accuracy is None
    assert rows[2].families == ("optimizer", "schedule"), "against the last that was measured"
    assert rows[2].gain == pytest.approx(0.25)
    assert rows[3].families[-1] == "test_time_flip"
    assert rows[3].name.startswith("+ augmentation + criterion")


def test_without_the_naive_row_the_next_one_says_what_it_is() -> None:
    steps = ladder(NAIVE, CHOSEN)
    (row,) = ledger_rows(steps, [trial(steps[1].recipe, "10")], 1)
    assert row.gain is None
    assert row.change.startswith("the naive recipe with optimizer: ")


def test_seeds_are_averaged_and_images_count_once() -> None:
    steps = ladder(NAIVE, CHOSEN)[:2]
    pairs = [("1000", "1111"), ("1100", "1101")]
    trials = [
        trial(with_seed(step.recipe, seed), right[place])
        for seed, right in enumerate(pairs)
        for place, step in enumerate(steps)
    ]
    _, row = ledger_rows(steps, trials, 2)
    assert row.seeds == 2
    assert row.accuracy == pytest.approx((1 + 0.75) / 2)
    assert row.gain == pytest.approx((0.75 + 0.25) / 2)
    # Images 2, 3 and 4 were won in the mean, none was lost: 2 / 2^3.
    assert row.p == pytest.approx(0.25)


def test_a_row_is_the_mean_of_its_own_seeds_and_gains_of_shared_ones() -> None:
    naive, other = ladder(NAIVE, CHOSEN)[:2]
    trials = [
        trial(with_seed(naive.recipe, 0), "1000"),
        trial(with_seed(other.recipe, 0), "1100"),
        trial(with_seed(other.recipe, 1), "1110"),
    ]
    _, row = ledger_rows([naive, other], trials, 2)
    assert (row.seeds, row.accuracy) == (2, pytest.approx((0.5 + 0.75) / 2))
    assert row.gain == pytest.approx(0.25)


def test_held_out_images_of_a_group_count_together() -> None:
    groups = tuple((np.arange(40) // 5).tolist())
    low, high = "1" * 20 + "0" * 20, "1" * 35 + "0" * 5
    alone = gain_of([trial(NAIVE, low)], [trial(CHOSEN, high)])
    alike = gain_of(
        [trial(NAIVE, low, val_groups=groups)], [trial(CHOSEN, high, val_groups=groups)]
    )
    assert alike["gain"] == alone["gain"] == pytest.approx(0.375)
    assert alike["interval"][0] < alone["interval"][0]
    # Three groups of five on which the chosen recipe alone is right.
    assert alike["p"] == pytest.approx(2 / 2**3)
    assert alone["p"] == pytest.approx(2 / 2**15)


def test_the_accuracy_of_a_row_has_an_interval_by_group() -> None:
    steps = ladder(NAIVE, CHOSEN)
    groups = tuple((np.arange(40) // 5).tolist())
    trials = [trial(step.recipe, "1" * 30 + "0" * 10, val_groups=groups) for step in steps]
    row = ledger_rows(steps, trials, 1)[0]
    assert row.accuracy_interval == pytest.approx(wilson(0.75, 8))
    assert shown(row).accuracy.startswith("75.0% (")
    older = row.model_copy(update={"accuracy_interval": None})
    assert shown(older).accuracy != shown(row).accuracy


def test_the_sign_test_of_one_pair_is_mcnemars() -> None:
    assert sign_test([(flags_of("1100"), flags_of("0011"))]) == 1.0
    assert sign_test([(flags_of("0" * 6), flags_of("1" * 6))]) == pytest.approx(2 / 2**6)


def test_changes_are_named_for_people() -> None:
    changed = change_between(
        Recipe().model_dump(), parse_recipe({"schedule": "cosine", "blend": 0.5}).model_dump()
    )
    assert changed == "schedule: onecycle → cosine; blend: 1 → 0.5"


def test_the_trials_of_a_search_answer_what_they_can() -> None:
    base = Recipe()
    other = parse_recipe({"criterion": "cross_entropy"})
    both = parse_recipe({"criterion": "cross_entropy", "schedule": "cosine"})
    blended = base.model_copy(update={"blend": 0.5})
    trials = [
        trial(blended, "1100", 0.6, start_bits="1000", start_loss=0.8),
        trial(other, "1111", 0.3, number=1),
        trial(both, "0000", number=2),
        failed(other),
        # Its first recipe did not get this far, so nothing can be said of this rung.
        trial(other, "1111", rung=1, number=1, epochs=6),
    ]
    training, criterion = rows_of_trials(trials, base.model_dump(mode="json"))
    assert training.families == ("training",)
    assert training.gain == pytest.approx(0.25), "against the head that it began with"
    assert criterion.families == ("criterion",)
    assert criterion.gain == pytest.approx(0.5)
    assert criterion.loss_gain == pytest.approx(0.3)
    assert criterion.p == pytest.approx(0.5)
    assert criterion.p_holm == pytest.approx(1.0)
    assert criterion.change == "criterion: label_smoothing → cross_entropy"
    assert rows_of_trials([trials[2]], base.model_dump(mode="json")) == []
