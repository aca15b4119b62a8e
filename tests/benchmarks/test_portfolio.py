"""The benchmark of the portfolio: its table and regrets, computed by hand."""

import importlib
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"


@pytest.fixture
def portfolio(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(BENCHMARKS)
    return importlib.import_module("portfolio")


def record(task: str, recipe: dict[str, object], loss: float, train_s: float) -> dict[str, object]:
    return {
        "task": task, "recipe": recipe, "classes": 10, "images": 150, "start_loss": 0.5,
        "loss": loss, "train_s": train_s,
    }  # fmt: skip


@pytest.fixture
def records(portfolio: ModuleType, monkeypatch: pytest.MonkeyPatch) -> list[dict[str, object]]:
    several = [{"batch_size": number} for number in range(4)]
    monkeypatch.setattr(portfolio, "recipes", lambda: several)
    losses = {"a/15": (0.5, 0.4, 0.6, 0.45), "b/15": (0.25, 0.4, 0.5, 0.3)}
    return [
        record(task, recipe, loss, 0.01 * (1 + number))
        for task, each in losses.items()
        for number, (recipe, loss) in enumerate(zip(several, each, strict=True))
    ]


def test_the_table_has_shares_of_the_log_loss_and_costs(
    portfolio: ModuleType, records: list[dict[str, object]]
) -> None:
    table = portfolio.table_of(records)
    assert [each["cost"] for each in table["recipes"]] == [1, 2, 3, 4]
    assert [each["gains"] for each in table["tasks"]] == [[0, 0.2, -0.2, 0.1], [0.5, 0.2, 0, 0.4]]
    missing = portfolio.table_of(records[:-1])
    assert len(missing["recipes"]) == 3, "only recipes that all tasks have"


def test_a_training_that_failed_gains_nothing(portfolio: ModuleType) -> None:
    assert portfolio.gain({"failed": "it diverged"}) == -1
    assert portfolio.gain({"start_loss": 0.1, "loss": 0.9}) == -1


def test_regrets_leave_the_data_set_out(
    portfolio: ModuleType, records: list[dict[str, object]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a, b's best recipe saves nothing; of b, a's best saves 0.2 of 0.5."""
    monkeypatch.setattr(portfolio, "hand_written", lambda base: [base])
    monkeypatch.setattr(portfolio, "faster", lambda base: [base])
    table = portfolio.table_of(records)
    for each in table["recipes"]:
        each["cost"] = 1.0
    regrets = portfolio.left_out(table)
    assert regrets["portfolio"][:, 0] == pytest.approx([0.2, 0.3])
    assert regrets["portfolio"][:, -1] == pytest.approx([0, 0])
    assert regrets["hand-written"][:, 0] == pytest.approx([0.2, 0])
    # At random between the last two: nothing or 0.1 of a, 0 or 0.4 of b.
    assert regrets["random"][:, 0] == pytest.approx([0.15, 0.3], abs=0.03)
    assert np.all(np.diff(regrets["random"]) <= 0)
