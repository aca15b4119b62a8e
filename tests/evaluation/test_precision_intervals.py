"""Intervals of average precision: what they do at their ends, and that few images widen them."""

import numpy as np
import pytest

from headstart.evaluation.intervals import share_interval
from headstart.evaluation.label_metrics import mean_precision_estimate, precision_interval


def world(images: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    marks = (random.random((images, 2)) < 0.3).astype(np.int64)
    return marks * 1.5 + random.standard_normal((images, 2)), marks


def test_fewer_images_and_groups_widen_it() -> None:
    told, marks = world(200)
    alone = precision_interval(told[:, 0], marks[:, 0], np.arange(200), 200)
    some = precision_interval(told[:50, 0], marks[:50, 0], np.arange(50), 200)
    assert some[1] - some[0] > alone[1] - alone[0]
    told, marks = np.repeat(told[:50], 4, 0), np.repeat(marks[:50], 4, 0)
    grouped = precision_interval(told[:, 0], marks[:, 0], np.arange(200) // 4, 200)
    assert grouped == pytest.approx(some, abs=0.08)


def test_the_ends() -> None:
    marks = np.array([[1, 0], [1, 0], [0, 1], [0, 0]])
    perfect = marks + 0.0
    point, (low, high) = mean_precision_estimate(perfect, marks, np.arange(4))
    assert point == high == 1
    assert low == share_interval(np.ones(3, np.bool_), np.arange(3))[0]
    assert mean_precision_estimate(-perfect, marks, np.zeros(4, np.int64))[1] == (0.0, 1.0)
    assert mean_precision_estimate(perfect, 0 * marks, np.arange(4)) == (0.0, (0.0, 1.0))
    point, (low, high) = mean_precision_estimate(*world(80), np.arange(80), 200)
    assert 0 < low < point < high < 1
