import time

import pytest

from headstart.backbones.boundaries import Boundary
from headstart.backbones.cut import Traced
from headstart.errors import BudgetError
from headstart.recipes.options import parse_budget
from headstart.training.boundary import candidate_boundaries, unmeasured_boundary
from headstart.training.budget import (
    MOST_EPOCHS,
    MOST_VIEWS,
    Clock,
    Speed,
    choose_boundary,
    choose_epochs,
    choose_length,
    share_of_disk,
    views_for,
)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("90s", 90), ("10m", 600), ("1.5h", 5400), ("1h30m", 5400), ("2 min", 120)],
)
def test_budgets(text: str, seconds: float) -> None:
    assert parse_budget(text) == seconds


@pytest.mark.parametrize("text", ["", "soon", "-5m", "0", "5x", "m5", "10m!"])
def test_bad_budgets(text: str) -> None:
    with pytest.raises(BudgetError, match="Cannot read the budget"):
        parse_budget(text)


def test_clock_counts_from_its_start() -> None:
    clock = Clock(time.monotonic() - 5, 60)
    left = clock.left()
    assert left is not None
    assert 50 < left <= 55
    assert Clock(time.monotonic()).left() is None


def traced(*inner: Boundary) -> Traced:
    ends = (Boundary("input", (3, 8, 8), 0.0), *inner, Boundary("features", (4,), 1.0))
    return Traced(None, ends)  # type: ignore[arg-type]


EARLY = Boundary("a", (4, 4, 4), 0.2, stage=True)
MIDDLE = Boundary("b", (4, 4, 4), 0.5, stage=True)
BLOCK = Boundary("b.1", (4, 4, 4), 0.6)
LATE = Boundary("c", (4, 2, 2), 0.8, stage=True)


def test_candidates_are_stage_ends_behind_the_early_layers() -> None:
    network = traced(EARLY, MIDDLE, BLOCK, LATE)
    assert [b.name for b in candidate_boundaries(network)] == ["b", "c"]
    assert unmeasured_boundary(network) == "b"


def test_candidates_fall_back_to_blocks_and_to_the_features() -> None:
    assert [b.name for b in candidate_boundaries(traced(BLOCK))] == ["b.1"]
    assert [b.name for b in candidate_boundaries(traced(EARLY))] == ["a"]
    assert unmeasured_boundary(traced()) == "features"


def test_the_earliest_boundary_that_fits_is_chosen() -> None:
    speeds = {"b": Speed(0.01, 0.1, 100), "c": Speed(0.02, 0.01, 100)}
    # 12 epochs with 8 views of 100 images: 128 s at b, 28 s at c.
    assert choose_boundary(speeds, 100, seconds=200, disk_bytes=1e9) == "b"
    assert choose_boundary(speeds, 100, seconds=60, disk_bytes=1e9) == "c"
    assert choose_boundary(speeds, 100, seconds=5, disk_bytes=1e9) == "features"
    assert choose_boundary(speeds, 100, seconds=200, disk_bytes=100) == "features"
    # 4 epochs with 4 views take 44 s at b and 12 s at c; a whole schedule fits neither.
    assert choose_boundary(speeds, 100, seconds=20, disk_bytes=1e9) == "c"
    assert choose_boundary(speeds, 100, seconds=20, disk_bytes=1e9, least_epochs=12) == "features"


def test_epochs_fit_into_the_time() -> None:
    speed = Speed(prefix_s=0.01, train_s=0.1, bytes_per_view=1)
    epochs = choose_epochs(speed, 100, 100)
    assert speed.seconds(100, epochs, views_for(epochs)) <= 90
    assert speed.seconds(100, epochs + 1, views_for(epochs + 1)) > 90
    assert choose_epochs(speed, 100, 1e6) == MOST_EPOCHS
    assert choose_epochs(speed, 100, 5) == 0


def test_views_are_given_up_before_fine_tuning_is() -> None:
    speed = Speed(prefix_s=0.1, train_s=0.1, bytes_per_view=1)
    assert choose_length(speed, 100, 100 / 0.9) == (5, 5)  # 5 views and 5 epochs of 10 s each
    assert choose_length(speed, 100, 70 / 0.9) == (4, 3)
    assert choose_length(speed, 100, 60 / 0.9) == (4, 2)
    assert choose_length(speed, 100, 50 / 0.9)[0] < 4


def test_views_and_disk_have_limits() -> None:
    assert [views_for(epochs) for epochs in (0, 3, 1000)] == [1, 3, MOST_VIEWS]
    assert share_of_disk(free_bytes=10, limit_bytes=100) == 5
    assert share_of_disk(free_bytes=1000, limit_bytes=100) == 100
