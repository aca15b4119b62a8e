"""Thresholds of prediction sets from held-out images, by hand."""

import numpy as np
import pytest

from headstart.evaluation.calibration import softmax
from headstart.evaluation.conformal import COVERAGES, calibrate, conformal_quantile, set_thresholds


def test_thresholds_by_hand() -> None:
    # 1 - p(truth) is 0.01 … 0.19, and of the n + 1 = 20 ranks the 16th, 18th and 19th are taken;
    # the 20th would be wanted for 99 %, and there are only 19 images.
    of_truth = 1 - np.arange(1, 20) / 100
    logits = np.log(np.stack([of_truth, 1 - of_truth], 1))
    found = set_thresholds(logits, np.zeros(19, np.int64), 1.0)
    assert COVERAGES == (0.8, 0.9, 0.95, 0.99)
    assert found == pytest.approx((0.16, 0.18, 0.19, 1.0))


def test_they_are_those_of_split_conformal_prediction() -> None:
    rng = np.random.default_rng(0)
    logits, labels = rng.normal(size=(300, 4)), rng.integers(0, 4, 300)
    probabilities = softmax(logits, 1.7)
    wanted = [calibrate(probabilities, labels, coverage).value for coverage in COVERAGES]
    assert set_thresholds(logits, labels, 1.7) == pytest.approx(wanted)


def test_no_image_lets_every_class_in() -> None:
    assert set_thresholds(np.empty((0, 3)), [], 1.0) == (1.0,) * 4
    assert conformal_quantile(np.empty(0), 0.5) == float("inf")
