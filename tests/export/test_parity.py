"""The figures of an export beside its run, and what is refused."""

import numpy as np
import pytest

from headstart.artifacts.records import TestPrediction
from headstart.export.parity import EXACT, Limits, failures, measure

CLASSES = ("ant", "bee")


def predicted(name: str, label: str, prediction: str, probability: float) -> TestPrediction:
    of_label = probability if label == prediction else 1 - probability
    return TestPrediction(
        path=name, label=label, prediction=prediction, probability=probability,
        probability_of_label=of_label,
    )  # fmt: skip


RECORDED = [
    predicted("a", "ant", "ant", 0.9),
    predicted("b", "ant", "ant", 0.502),
    predicted("c", "bee", "bee", 0.7),
    predicted("d", "bee", "ant", 0.6),
]
SAME = np.array([[0.9, 0.1], [0.502, 0.498], [0.3, 0.7], [0.6, 0.4]])


def test_the_same_probabilities_are_the_same() -> None:
    parity = measure(RECORDED, SAME, CLASSES)
    assert (parity.images, parity.agreement, parity.differing) == (4, 1.0, ())
    assert parity.largest_difference == pytest.approx(0, abs=1e-12)
    assert parity.accuracy == parity.recorded_accuracy == 0.75
    assert parity.loss == 0
    assert parity.loss_interval[0] < 0 < parity.loss_interval[1]
    assert failures(parity, EXACT, 0.01) == []


def test_a_near_tie_may_turn_and_is_listed() -> None:
    given = SAME.copy()
    given[1] = 0.498, 0.502
    parity = measure(RECORDED, given, CLASSES)
    assert (parity.agreement, parity.differing, parity.near_ties) == (0.75, ("b",), 1)
    assert parity.largest_difference == pytest.approx(0.004)
    assert (parity.accuracy, parity.loss) == (0.5, 0.25)
    assert failures(parity, EXACT, 0.01) == []  # one image is always allowed


def test_a_difference_is_refused() -> None:
    given = SAME.copy()
    given[0] = 0.89, 0.11
    (why,) = failures(measure(RECORDED, given, CLASSES), EXACT, 0.01)
    assert why == "a probability differs by 0.01, at most 0.005 is allowed"
    assert failures(measure(RECORDED, given, CLASSES), Limits(None), 0.01) == []


def test_another_class_and_a_loss_are_refused() -> None:
    given = SAME[:, ::-1]
    parity = measure(RECORDED, given, CLASSES)
    # Only b is a near-tie; a, c and d have clearly the other class.
    assert (parity.agreement, parity.near_ties, parity.loss) == (0.0, 1, 0.5)
    agreement, loss = failures(parity, Limits(None, 0.9), 0.1)
    assert agreement.startswith("0% of 4 test images get the class of the run, at least 90.0%")
    assert loss == "it loses 50.0 points of accuracy, at most 10 or one image is allowed"


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_what_is_no_number_is_refused(value: float) -> None:
    given = SAME.copy()
    given[0] = value
    parity = measure(RECORDED, given, CLASSES)
    assert parity.largest_difference == pytest.approx(0.9)
    assert failures(parity, EXACT, 1.0)
