"""The pooled difference, against values worked out by hand."""

import importlib
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
N = 400


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(BENCHMARKS)
    return importlib.import_module("search_page")


def record(right: str) -> dict[str, Any]:
    return {"images": "".join(f"{number:08x}" for number in range(len(right))), "right": right}


def half_width(difference: Any) -> float:
    return float(difference.high - difference.low) / 2


def test_both_means_and_their_intervals(script: ModuleType) -> None:
    # Cell 0: 40 images won and 20 lost of 400. Cell 1, other data: 4 won of 40.
    large = script.Cell("a", 0, "1m"), record("1" * 380 + "0" * 20), record("0" * 40 + "1" * 360)
    small = script.Cell("b", 0, "1m"), record("1" * 40), record("0" * 4 + "1" * 36)
    by_cell, by_image = script.pooled_difference([large, small], lambda cell: cell)
    assert by_cell.value == pytest.approx((20 / 400 + 4 / 40) / 2)
    assert by_image.value == pytest.approx(24 / 440)
    variance_large = 60 / 400 - (20 / 400) ** 2
    variance_small = 4 / 40 - (4 / 40) ** 2
    error = np.sqrt(variance_large / 400 + variance_small / 40) / 2
    assert half_width(by_cell) == pytest.approx(1.96 * error, rel=0.05)


def test_images_in_several_cells_are_drawn_together(script: ModuleType) -> None:
    won, lost = record("1" * N), record("0" * 50 + "1" * (N - 50))
    runs = [(script.Cell("a", seed, "1m"), won, lost) for seed in range(4)]
    alone, _ = script.pooled_difference(runs, lambda cell: cell)
    shared, _ = script.pooled_difference(runs, lambda cell: cell.data)
    assert alone.value == shared.value == pytest.approx(50 / N)
    # Four times the same images say no more than once.
    assert half_width(shared) == pytest.approx(2 * half_width(alone), rel=0.05)


def test_other_images_are_not_compared(script: ModuleType) -> None:
    runs = [(script.Cell("a", 0, "1m"), record("11"), record("111"))]
    with pytest.raises(ValueError, match="not tested on the same images"):
        script.pooled_difference(runs, lambda cell: cell)
