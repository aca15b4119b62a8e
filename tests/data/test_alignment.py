"""Alignment: what its moves are, and how alike crops are, against plain loops."""

import numpy as np
import pytest

from headstart.data.alignment import _MOVES, _correlations, _moved, cut_all, normalized


def test_a_move_shifts_the_region_or_one_side_of_it() -> None:
    expected = {
        (1, 0, 1, 0), (-1, 0, -1, 0), (0, 1, 0, 1), (0, -1, 0, -1),
        (1, 0, 0, 0), (-1, 0, 0, 0), (0, 0, 1, 0), (0, 0, -1, 0),
        (0, 1, 0, 0), (0, -1, 0, 0), (0, 0, 0, 1), (0, 0, 0, -1),
    }  # fmt: skip
    assert {tuple(map(int, move)) for move in _MOVES} == expected
    assert len(_MOVES) == 12


@pytest.mark.parametrize("step", [3.0, 1.5, 0.75])
def test_moved_crops_are_those_of_the_moved_regions(step: float) -> None:
    dice = np.random.default_rng(0)
    images = dice.normal(0, 50, (4, 64, 64)).astype(np.float32)
    at = np.array([[8, 8, 56, 56], [3.25, 10, 50, 61], [20, 20, 44.5, 44], [4, 4, 60, 60.75]])
    moved = _moved(images, at, step)
    for number, move in enumerate(_MOVES):
        there = at + step * move
        crops = cut_all(images, there[:, [0, 2]][:, None], there[:, [1, 3]][:, None])[:, 0]
        np.testing.assert_allclose(moved[:, number], crops, atol=1e-3)


@pytest.mark.parametrize(
    ("mean", "contrast", "error"), [(0, 50, 1e-5), (100, 2, 2e-3), (-128, 0.5, 2e-2)]
)
def test_a_correlation_is_that_of_pearson_whatever_the_brightness(
    mean: float, contrast: float, error: float
) -> None:
    dice = np.random.default_rng(1)
    shared = dice.normal(size=(3, 1, 32, 32))
    crops = mean + contrast * (shared + dice.normal(size=(3, 5, 32, 32)))
    vectors = crops.reshape(3, 5, -1).astype(np.float32)
    goals = dice.normal(size=(3, 32, 32)).astype(np.float32) + shared[:, 0].astype(np.float32)
    found = _correlations(vectors, normalized(goals))
    for row in range(3):
        for column in range(5):
            expected = np.corrcoef(vectors[row, column], goals[row].ravel())[0, 1]
            assert found[row, column] == pytest.approx(expected, abs=error)
            assert expected > 0.3


@pytest.mark.parametrize("value", [0.0, 3.0, -127.5])
def test_a_crop_without_contrast_is_like_nothing(value: float) -> None:
    flat = np.full((1, 2, 1024), value, np.float32)
    flat[0, 1] += np.random.default_rng(2).normal(0, 0.01, 1024)  # rounding, not structure
    goals = normalized(np.random.default_rng(3).normal(size=(1, 32, 32)).astype(np.float32))
    assert _correlations(flat, goals).tolist() == [[0.0, 0.0]]
