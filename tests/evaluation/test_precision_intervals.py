"""Intervals of average precision: what they do at their ends, and that few images widen them."""

import numpy as np
import pytest

from headstart.evaluation.intervals import share_interval
from headstart.evaluation.label_metrics import precision_estimates
from headstart.evaluation.label_scores import average_precisions, weighted_precision


def world(images: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    marks = (random.random((images, 2)) < 0.3).astype(np.int64)
    return marks * 1.5 + random.standard_normal((images, 2)), marks


def test_fewer_images_and_groups_widen_it() -> None:
    told, marks = world(200)
    alone = precision_estimates(told, marks, np.arange(200), 200).labels[0]
    some = precision_estimates(told[:50], marks[:50], np.arange(50), 200).labels[0]
    assert some[1] - some[0] > alone[1] - alone[0]
    told, marks = np.repeat(told[:50], 4, 0), np.repeat(marks[:50], 4, 0)
    grouped = precision_estimates(told, marks, np.arange(200) // 4, 200).labels[0]
    assert grouped == pytest.approx(some, abs=0.08)


def test_the_ends() -> None:
    marks = np.array([[1, 0], [1, 0], [0, 1], [0, 0]])
    perfect = marks + 0.0
    found = precision_estimates(perfect, marks, np.arange(4))
    assert found.mean == found.mean_interval[1] == 1
    assert found.mean_interval[0] == share_interval(np.ones(3, np.bool_), np.arange(3))[0]
    assert found.labels[1] == share_interval(np.ones(1, np.bool_), np.arange(1))
    assert precision_estimates(-perfect, marks, np.zeros(4, np.int64)).mean_interval == (0.0, 1.0)
    nothing = precision_estimates(perfect, 0 * marks, np.arange(4))
    assert (nothing.mean, nothing.mean_interval, nothing.labels) == (0, (0, 1), ((0, 1), (0, 1)))
    found = precision_estimates(*world(80), np.arange(80), 200)
    for (low, high), point in zip(
        (found.mean_interval, *found.labels),
        (found.mean, *average_precisions(*world(80))),
        strict=True,
    ):
        assert 0 < low < point < high < 1


def test_precision_counts_where_a_label_is_and_ties_are_one_rank() -> None:
    """Ranks 3, 2 (with and without the label), 1; the weights are how often an image counts."""
    told, marks = np.array([1.0, 2.0, 2.0, 3.0]), np.array([1, 0, 1, 0])
    weights = np.array([[1.0, 1, 1, 1], [2, 0, 1, 1], [1, 1, 0, 0], [0, 1, 0, 1]])
    found = weighted_precision(told, marks, weights)
    # 1/2 at 1/3 and 1/2 at 2/4; 1/3 at 1/2 and 2/3 at 3/4; all at 1/2; no image has the label
    assert found[:3] == pytest.approx([1 / 6 + 1 / 4, 1 / 6 + 1 / 2, 1 / 2])
    assert np.isnan(found[3])
