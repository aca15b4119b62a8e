"""The rules that are compared with that of label-next: each against its definition, in loops."""

import importlib
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from headstart.diagnose.acquisition import margins, rank_to_label
from headstart.evaluation.retrieval import unit

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(BENCHMARKS)
    return importlib.import_module("label_rules")


def drawn(bench: ModuleType, seed: int):  # type: ignore[no-untyped-def]
    """Returns embeddings of 30 unlabelled and 6 labelled images, and what a rule knows of them."""
    rng = np.random.default_rng(seed)
    points = rng.normal(size=(36, 5)).astype(np.float32)
    directions = unit(points)
    directions = unit(directions - directions.mean(0))
    return points, bench.Asked(
        directions @ directions.T,
        rng.dirichlet(np.ones(3), 30),
        np.eye(3)[rng.integers(0, 3, 6)],
        np.arange(30) % 2 > 0,
        rng,
    )


@pytest.mark.parametrize("seed", range(3))
def test_the_rule_in_use_is_that_of_label_next(bench: ModuleType, seed: int) -> None:
    points, asked = drawn(bench, seed)
    wanted = rank_to_label(points[:30], asked.probabilities, points[30:], 8).tolist()
    assert bench.RULES[bench.IN_USE](asked, 8).tolist() == wanted
    narrow = bench.Covering(similarity=2, uncertainty=2)(asked, 8).tolist()
    assert narrow != wanted and len(set(narrow)) == 8


def test_kin_by_hand(bench: ModuleType) -> None:
    """Of two like images of other classes, a label of one does not cover the other."""
    cosines = np.array([[1, 0, 0.9], [0, 1, 0.5], [0.9, 0.5, 1]], np.float32)
    told = np.array([[0.1, 0.9], [0.9, 0.1]])  # both have the margin 0.8
    wrong, dice = np.array([True, False]), np.random.default_rng(0)
    asked = bench.Asked(cosines, told, np.array([[1.0, 0.0]]), wrong, dice)
    # What a choice adds: 1 - 0.9 = 0.1 or 1 - 0.5 = 0.5
    assert bench.Covering()(asked, 1).tolist() == [1]
    # 1 - 0.9 * sqrt(0.1) = 0.72 or 1 - 0.5 * sqrt(0.9) = 0.53
    assert bench.Covering(kinship=1)(asked, 1).tolist() == [0]
    # Nothing is to be gained but at the first, which is wrong
    assert bench.Covering(oracle=True)(asked, 1).tolist() == [0]


def test_least_variance_is_what_a_gaussian_process_says(bench: ModuleType) -> None:
    _, asked = drawn(bench, 5)
    kernel, weights = asked.cosines.astype(np.float64), 1 - margins(asked.probabilities)
    known = list(range(30, 36))

    def unsure(rows: list[int]) -> float:
        inside = kernel[np.ix_(rows, rows)] + bench.NOISE * np.eye(len(rows))
        across = kernel[:30][:, rows]
        return float(
            weights @ (np.diag(kernel)[:30] - ((across @ np.linalg.inv(inside)) * across).sum(1))
        )

    for _ in range(4):
        left = [row for row in range(30) if row not in known]
        known.append(min(left, key=lambda row: unsure([*known, row])))
    assert bench.least_variance(asked, 4).tolist() == known[6:]


def test_images_are_left_out_as_if_the_head_were_solved_without_them(bench: ModuleType) -> None:
    rng = np.random.default_rng(0)
    seen, marks = rng.normal(size=(12, 4)), np.eye(3)[rng.integers(0, 3, 12)]
    mean = marks.mean(0)
    shares, temperature = bench.ridge(seen, seen, marks)
    weights = np.linalg.solve(seen.T @ seen + bench.PENALTY * np.eye(4), seen.T @ (marks - mean))
    assert shares == pytest.approx(seen @ weights + mean)
    others = np.array([np.delete(seen, row, 0) for row in range(12)])
    left_out = []
    for row, some in enumerate(others):
        wanted = np.delete(marks, row, 0) - mean
        left_out.append(
            seen[row] @ np.linalg.solve(some.T @ some + bench.PENALTY * np.eye(4), some.T @ wanted)
            + mean
        )
    wanted_temperature = bench.fit_temperature(
        (bench.SCALE * np.array(left_out)).astype(np.float32), marks.argmax(1)
    )
    assert temperature == pytest.approx(wanted_temperature, rel=1e-3)


def test_the_table_pairs_by_seed(bench: ModuleType) -> None:
    """Random's accuracy with 200 labels, 0.7, is that of the rule in use with 110."""
    slow = [[(20, 0.3), (200, 0.6), (220, 0.65)], [(20, 0.5), (200, 0.8), (220, 0.85)]]
    fast = [[(20, 0.4), (200, 0.8), (220, 0.85)], [(20, 0.6), (200, 1.0), (220, 1.05)]]
    found = {"a": {rule: fast if rule == bench.IN_USE else slow for rule in bench.RULES}}
    text = bench.table(found, (0, 2))
    assert "| in use | 92.5%, 0.55 | – |" in text
    assert "| random | 72.5%, 1.00 | −20.0 (−20.0 to −20.0) |" in text
