"""The time budget: its clock, the boundary it allows, and the length of the schedule."""

import time
from collections.abc import Mapping
from dataclasses import dataclass

from headstart.backbones.boundaries import FEATURES

TARGET_EPOCHS = 12

FEWEST_EPOCHS = 4

MOST_EPOCHS = 24

MOST_VIEWS = 8

FEWEST_VIEWS = 2

VIEWS_SHARE = 0.5
"""Share of the time up to which views may be made when they take longer than planned."""

UNHURRIED = 0.9
"""Share of the time that is planned with; machines slow down."""


@dataclass(frozen=True)
class Speed:
    """Seconds an image at one boundary.

    Attributes:
        prefix_s: To make one view and run the prefix on it.
        train_s: To train the suffix on one activation.
        bytes_per_view: Size of one activation on the disk.
    """

    prefix_s: float
    train_s: float
    bytes_per_view: int

    def seconds(self, images: int, epochs: int, views: int) -> float:
        """Returns the seconds to cache `views` views of all images and train `epochs` epochs."""
        return images * (views * self.prefix_s + epochs * self.train_s)


def choose_boundary(
    speeds: Mapping[str, Speed],
    images: int,
    seconds: float,
    disk_bytes: float,
    least_epochs: int = FEWEST_EPOCHS,
) -> str:
    """Returns the earliest boundary at which enough epochs fit, `features` where none does.

    Args:
        speeds: By boundary, nearest the input first.
        images: Number of training images.
        seconds: For caching views and training.
        disk_bytes: For the cached views.
        least_epochs: What is enough at least.
    """
    lengths = (TARGET_EPOCHS, (TARGET_EPOCHS + FEWEST_EPOCHS) // 2, FEWEST_EPOCHS)
    for epochs in (length for length in lengths if length >= least_epochs):
        for name, speed in speeds.items():
            fits_time = speed.seconds(images, epochs, views_for(epochs)) <= UNHURRIED * seconds
            if fits_time and views_for(epochs) * images * speed.bytes_per_view <= disk_bytes:
                return name
    return FEATURES


def choose_epochs(speed: Speed, images: int, seconds: float, views: int | None = None) -> int:
    """Returns how many epochs fit into the time, with their views unless these are given."""

    def takes(epochs: int) -> float:
        return speed.seconds(images, epochs, views_for(epochs) if views is None else views)

    epochs = MOST_EPOCHS
    while epochs and takes(epochs) > UNHURRIED * seconds:
        epochs -= 1
    return epochs


def choose_length(speed: Speed, images: int, seconds: float) -> tuple[int, int]:
    """Returns how many epochs and views fit: a view an epoch, or fewer for the fewest epochs."""
    epochs = choose_epochs(speed, images, seconds)
    if epochs >= FEWEST_EPOCHS:
        return epochs, views_for(epochs)
    for views in range(views_for(FEWEST_EPOCHS) - 1, FEWEST_VIEWS - 1, -1):
        if choose_epochs(speed, images, seconds, views) >= FEWEST_EPOCHS:
            return FEWEST_EPOCHS, views
    return epochs, views_for(epochs)


def views_for(epochs: int) -> int:
    """Returns how many augmented views to cache: one an epoch, up to a limit."""
    return max(1, min(epochs, MOST_VIEWS))


def share_of_disk(free_bytes: int, limit_bytes: int) -> float:
    """Returns how much of the disk views may take: half of what is free, at most the limit."""
    return min(free_bytes / 2, limit_bytes)


@dataclass(frozen=True)
class Clock:
    """When the work began and, under a budget, when it must have ended.

    Attributes:
        started: On `time.monotonic`.
        budget_s: The budget in seconds, or None where only the recipe says how long to train.
        earlier_s: Seconds of earlier goes at the same work, which no budget counts.
    """

    started: float
    budget_s: float | None = None
    earlier_s: float = 0.0

    def elapsed(self) -> float:
        """Returns the seconds since the start."""
        return time.monotonic() - self.started

    def total(self) -> float:
        """Returns the seconds that the work has taken, earlier goes included."""
        return self.earlier_s + self.elapsed()

    def left(self) -> float | None:
        """Returns the seconds until the budget ends, or None where there is none."""
        return None if self.budget_s is None else self.budget_s - self.elapsed()
