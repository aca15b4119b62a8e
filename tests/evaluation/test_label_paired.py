"""The paired difference in mean average precision, by hand."""

import numpy as np
import pytest

from headstart.evaluation.label_paired import mean_precision_difference
from headstart.evaluation.label_scores import mean_average_precision


def test_the_difference_is_that_of_the_means() -> None:
    random = np.random.default_rng(0)
    marks = (random.random((80, 3)) < 0.4).astype(np.int64)
    good = marks + random.standard_normal((80, 3))
    bad = marks + 4 * random.standard_normal((80, 3))
    assert mean_precision_difference(good, good, marks) == (0.0, (0.0, 0.0))
    point, (low, high) = mean_precision_difference(good, bad, marks)
    wanted = mean_average_precision(good, marks) - mean_average_precision(bad, marks)
    assert point == pytest.approx(wanted)
    assert 0 < low < point < high
    back, ends = mean_precision_difference(bad, good, marks)
    assert back == pytest.approx(-point) and ends[0] < back < ends[1] < 0


def test_groups_widen_it_and_a_label_that_no_image_has_does_not_count() -> None:
    random = np.random.default_rng(1)
    marks = np.repeat((random.random((20, 2)) < 0.5).astype(np.int64), 4, 0)
    noise = np.repeat(random.standard_normal((20, 2)), 4, 0)
    good, bad = marks + noise, marks + 3 * noise
    alone = mean_precision_difference(good, bad, marks)[1]
    grouped = mean_precision_difference(good, bad, marks, np.repeat(np.arange(20), 4))[1]
    assert grouped[1] - grouped[0] > alone[1] - alone[0]
    more = np.concatenate([marks, np.zeros((80, 1), np.int64)], 1)
    wider = [np.concatenate([each, noise[:, :1]], 1) for each in (good, bad)]
    assert mean_precision_difference(*wider, more)[0] == pytest.approx(
        mean_precision_difference(good, bad, marks)[0]
    )
    none = np.zeros((80, 2), np.int64)
    assert mean_precision_difference(good, bad, none) == (0.0, (0.0, 0.0))
