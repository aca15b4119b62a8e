"""What the report says each method brought: from a ledger, or from the search's own trials."""

from pathlib import Path

from headstart.ablation.record import Ledger, LedgerRow, write_ledger
from headstart.artifacts.journal import TRIALS, Trial
from headstart.artifacts.run import SEARCH_RECIPE
from headstart.artifacts.run_start import write_recipe
from headstart.recipes.parsing import parse_recipe
from headstart.recipes.recipe import Recipe
from headstart.report.ablation import points, shown, what_each_brought


def write_trial(folder: Path, number: int, recipe: Recipe, right: int) -> None:
    bits = "1" * right + "0" * (40 - right)
    TRIALS.append(
        folder,
        Trial(
            rung=0, number=number, state="done", recipe=recipe.model_dump(mode="json"), epochs=2,
            val_loss=1 - right / 40, val_right=right, val_images=40, val_bits=bits,
        ),
    )  # fmt: skip


def test_without_a_search_or_a_ledger_there_is_nothing_to_say(tmp_path: Path) -> None:
    assert what_each_brought(tmp_path) is None


def test_a_search_says_what_its_trials_answer_and_how_to_measure_the_rest(tmp_path: Path) -> None:
    write_recipe(tmp_path, Recipe())
    write_recipe(tmp_path, Recipe(), SEARCH_RECIPE)
    write_trial(tmp_path, 0, Recipe(), 20)
    write_trial(tmp_path, 1, parse_recipe({"schedule": "cosine"}), 30)
    found = what_each_brought(tmp_path)
    assert found is not None
    assert not found.measured
    assert found.command == f"headstart compare --run {tmp_path}"
    ((_, (row,)),) = found.tables
    assert (row.name, row.gain, row.change) == ("schedule", "+25.0", "schedule: onecycle → cosine")
    assert row.p == "0.002", "2 / 2^10, of one row"
    assert found.waterfall_svg is None
    assert found.gains_svg is not None
    assert found.importance == ()
    assert "Fewer than 8" in found.too_few


def test_a_ledger_takes_its_place(tmp_path: Path) -> None:
    write_recipe(tmp_path, Recipe())
    naive = LedgerRow(part="ladder", families=(), change="the naive recipe", epochs=6, seeds=1,
                      images=40, accuracy=0.5, loss=0.7)  # fmt: skip
    better = naive.model_copy(
        update={"families": ("head",), "accuracy": 0.75, "gain": 0.25, "interval": (0.1, 0.4),
                "p_holm": 0.0004}
    )  # fmt: skip
    broken = LedgerRow(part="left_out", families=("head",), change="", epochs=6, failed="it broke")
    ledger = Ledger(
        epochs=6, seeds=1, folds=3, rows=(naive, better, broken), left_out=("without freezing",)
    )
    write_ledger(tmp_path, ledger)
    found = what_each_brought(tmp_path)
    assert found is not None
    assert found.measured
    assert "6 epochs" in found.lead
    assert "by 3-fold cross-validation" in found.lead
    assert found.waterfall_svg is not None
    assert found.missing == ("without freezing",)
    assert [len(rows) for _, rows in found.tables] == [2, 1]
    assert found.tables[0][1][1].p == "< 0.001"
    assert found.tables[1][1][0].accuracy == "failed: it broke"
    assert found.too_few == "", "there was no search"
    assert "chosen recipe" in found.waterfall_svg
    assert "by these images" not in found.lead
    assert found.test == "McNemar’s exact test"
    # Two of three seeds, a ladder that does not reach its end, and a search before it.
    short = tuple(row.model_copy(update={"seeds": 2}) for row in (naive, better))
    write_ledger(tmp_path, ledger.model_copy(update={"seeds": 3, "rows": short, "whole": False}))
    write_trial(tmp_path, 0, Recipe(), 20)
    found = what_each_brought(tmp_path)
    assert found is not None
    assert "6 epochs from up to 3 seeds" in found.lead
    assert found.test.startswith("sign test")
    assert "also chose among its trials by these images" in found.lead
    assert found.waterfall_svg is not None
    assert "chosen recipe" not in found.waterfall_svg


def test_rows_for_people() -> None:
    assert [points(gain) for gain in (0.1234, -0.05, 0.0, -1e-9)] == ["+12.3", "−5.0", "0.0", "0.0"]
    row = LedgerRow(part="ladder", families=("head",), change="", epochs=6, seeds=3, images=100,
                    accuracy=0.9, loss=0.3)  # fmt: skip
    assert shown(row).accuracy == "90.0% (82.6% to 94.5%), mean of 3 seeds"
    assert shown(row).acted == "–"
