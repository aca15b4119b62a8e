import math

import pytest

from headstart.methods.schedule import Constant, CosineAnnealing, OneCycle


def test_constant() -> None:
    assert [Constant().factor(p) for p in (0.0, 0.5, 1.0)] == [1.0, 1.0, 1.0]


def test_onecycle_end_points_and_peak() -> None:
    schedule = OneCycle(rise=0.25, start=0.04, end=1e-4)
    assert schedule.factor(0.0) == pytest.approx(0.04)
    assert schedule.factor(0.25) == pytest.approx(1.0)
    assert schedule.factor(1.0) == pytest.approx(1e-4)
    # Half of the rise is the mean of both ends of half a cosine.
    assert schedule.factor(0.125) == pytest.approx((0.04 + 1.0) / 2)
    assert schedule.factor(0.625) == pytest.approx((1.0 + 1e-4) / 2)


def test_onecycle_without_rise_starts_at_the_top() -> None:
    assert OneCycle(rise=0).factor(0.0) == pytest.approx(1.0)


def test_cosine_annealing() -> None:
    schedule = CosineAnnealing(warmup=0.1)
    assert schedule.factor(0.0) == 0.0
    assert schedule.factor(0.05) == pytest.approx(0.5)
    assert schedule.factor(0.1) == pytest.approx(1.0)
    third = (1 + math.cos(math.pi / 3)) / 2
    assert schedule.factor(0.1 + 0.9 / 3) == pytest.approx(third)
    assert schedule.factor(1.0) == pytest.approx(0.0, abs=1e-12)


def test_cosine_annealing_with_restarts() -> None:
    schedule = CosineAnnealing(warmup=0.0, cycles=2, growth=3.0, end=0.1)
    # A cycle of 1/4 and one of 3/4.
    assert schedule.factor(0.0) == pytest.approx(1.0)
    assert schedule.factor(0.125) == pytest.approx(0.55)
    assert schedule.factor(0.2499) == pytest.approx(0.1, abs=1e-3)
    assert schedule.factor(0.25) == pytest.approx(1.0)
    assert schedule.factor(0.625) == pytest.approx(0.55)
    assert schedule.factor(1.0) == pytest.approx(0.1)
