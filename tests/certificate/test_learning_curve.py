"""Learning curves of heads on features whose classes are known to be hard or easy."""

from typing import Any

import numpy as np
import pytest

from headstart.certificate.learning_curve import measure_curve, nested_order
from headstart.certificate.verdicts import KNOWN, judge_labels
from headstart.errors import DataError


def blobs(images: int, classes: int = 3, apart: float = 1.0) -> tuple[np.ndarray, ...]:
    rng = np.random.default_rng(0)
    labels = np.arange(images) % classes
    features = rng.normal(size=(images, 20)) + apart * np.eye(classes, 20)[labels]
    return features.astype(np.float32), labels.astype(np.int64), np.arange(images)


def test_the_first_of_an_order_hold_all_classes_evenly() -> None:
    labels = np.array([0] * 60 + [1] * 30 + [2] * 10)
    order = nested_order(labels, np.random.default_rng(0))
    assert sorted(order) == list(range(100))
    first = np.bincount(labels[order[:50]], minlength=3)
    assert np.abs(first - [30, 15, 5]).max() <= 1


def test_more_labels_make_a_hard_problem_easier() -> None:
    features, labels, groups = blobs(300)
    curve = measure_curve(features, labels, groups, 3)
    assert list(curve.sizes) == sorted(curve.sizes)
    assert curve.sizes[-1] == 240
    means = curve.hits.mean(0)
    assert means[-1] > means[0] + 0.05
    # On all labels of a fold there is one classifier, in whatever order they come.
    assert curve.hits[:, -1] == pytest.approx(curve.all_hits)


def test_labels_that_are_held_back_are_not_seen() -> None:
    features, labels, groups = blobs(300)
    curve = measure_curve(features, labels, groups, 3, known=KNOWN)
    assert curve.sizes[-1] == 168  # 70 % of 240
    assert curve.all_size == 240
    assert not np.array_equal(curve.hits[:, -1], curve.all_hits)


def test_too_few_images_are_refused() -> None:
    features, labels, groups = blobs(12)
    with pytest.raises(DataError, match="12 images cannot give a learning curve"):
        measure_curve(features, labels, groups, 3)


def test_noise_is_not_expected_to_get_better() -> None:
    features, labels, groups = blobs(300, apart=0.0)
    found = judge_labels(
        measure_curve(features, labels, groups, 3),
        measure_curve(features, labels, groups, 3, known=KNOWN, seed=1),
        0,
    )
    assert found.answer != "yes"
    assert found.expected[0].interval[0] < 0.4


@pytest.mark.slow
def test_forecasts_on_flowers_hold_in_8_of_10_repeats(flowers: Any) -> None:
    some = np.random.default_rng(0).permutation(len(flowers.labels))[:900]
    features, labels, groups = (each[some] for each in flowers[:3])
    features = np.ascontiguousarray(features[:, -32:])
    curve = measure_curve(features, labels, groups, 17)
    tests = [
        judge_labels(
            curve, measure_curve(features, labels, groups, 17, known=KNOWN, seed=seed), seed
        ).test
        for seed in range(1, 11)
    ]
    widths = [test.expected.interval[1] - test.expected.interval[0] for test in tests]
    assert sum(test.held for test in tests) >= 8
    assert np.median(widths) <= 0.05
