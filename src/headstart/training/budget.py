"""The time budget: its clock, the boundary it allows, and the length of the schedule."""

import time
from collections.abc import Mapping
from dataclasses import dataclass, field

from headstart.backbones.places import FEATURES
from headstart.training.pace import Pace

TARGET_EPOCHS = 12

FEWEST_EPOCHS = 4

MOST_EPOCHS = 24

MOST_VIEWS = 8

FEWEST_VIEWS = 2

VIEWS_SHARE = 0.5
"""Latest point, as a share of the time, for making views that take longer than planned."""

MEASURING_SHARE = 0.08
"""Largest share of the remaining time for measuring the speeds at the possible boundaries."""

UNHURRIED = 0.9
"""Share of the time to plan with: a reserve, because machines slow down."""


@dataclass(frozen=True)
class Speed:
    """Seconds per image at one boundary.

    Attributes:
        prefix_s: Seconds to make one view and run the prefix on it.
        train_s: Seconds to train the suffix on one activation.
        bytes_per_view: Bytes of one activation on disk.
    """

    prefix_s: float
    train_s: float
    bytes_per_view: int

    def at(self, share: float) -> "Speed":
        """Returns the speed for views with a share of the pixels."""
        bytes_per_view = round(share * self.bytes_per_view)
        return Speed(share * self.prefix_s, share * self.train_s, bytes_per_view)

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
    """Returns the earliest boundary at which enough epochs fit, or `features` if none does.

    Args:
        speeds: Speed at each boundary, nearest the input first.
        images: Number of training images.
        seconds: Time for caching views and training.
        disk_bytes: Disk space for the cached views.
        least_epochs: Smallest sufficient number of epochs.
    """
    lengths = (TARGET_EPOCHS, (TARGET_EPOCHS + FEWEST_EPOCHS) // 2, FEWEST_EPOCHS)
    for epochs in (length for length in lengths if length >= least_epochs):
        for name, speed in speeds.items():
            fits_time = speed.seconds(images, epochs, views_for(epochs)) <= UNHURRIED * seconds
            if fits_time and views_for(epochs) * images * speed.bytes_per_view <= disk_bytes:
                return name
    return FEATURES


def choose_epochs(speed: Speed, images: int, seconds: float, views: int | None = None) -> int:
    """Returns how many epochs fit into the time, including their views."""

    def takes(epochs: int) -> float:
        return speed.seconds(images, epochs, views_for(epochs) if views is None else views)

    epochs = MOST_EPOCHS
    while epochs and takes(epochs) > UNHURRIED * seconds:
        epochs -= 1
    return epochs


def choose_length(speed: Speed, images: int, seconds: float) -> tuple[int, int]:
    """Returns how many epochs and views fit: one view per epoch, or fewer if few epochs fit."""
    epochs = choose_epochs(speed, images, seconds)
    if epochs >= FEWEST_EPOCHS:
        return epochs, views_for(epochs)
    for views in range(views_for(FEWEST_EPOCHS) - 1, FEWEST_VIEWS - 1, -1):
        if choose_epochs(speed, images, seconds, views) >= FEWEST_EPOCHS:
            return FEWEST_EPOCHS, views
    return epochs, views_for(epochs)


def views_for(epochs: int) -> int:
    """Returns how many augmented views to cache: one per epoch, up to a limit."""
    return max(1, min(epochs, MOST_VIEWS))


def share_of_disk(free_bytes: int, limit_bytes: int) -> float:
    """Returns the bytes that views may take: half of the free space, at most the limit."""
    return min(free_bytes / 2, limit_bytes)


@dataclass(frozen=True)
class Clock:
    """The start of the work and its time budget, if any.

    Attributes:
        started: Start of the work, on the clock of `time.monotonic`.
        budget_s: The budget in seconds, or None if the recipe alone sets the length of training.
        earlier_s: Seconds of earlier attempts, which do not count towards the budget.
        pace: Pace of the machine, measured again at every stage of a run with a budget.
    """

    started: float
    budget_s: float | None = None
    earlier_s: float = 0.0
    pace: Pace = field(default_factory=Pace)

    def elapsed(self) -> float:
        """Returns the seconds since the start."""
        return time.monotonic() - self.started

    def total(self) -> float:
        """Returns the seconds that the work has taken, including earlier attempts."""
        return self.earlier_s + self.elapsed()

    def left(self) -> float | None:
        """Returns the seconds until the budget ends, or None without a budget."""
        return None if self.budget_s is None else self.budget_s - self.elapsed()

    @property
    def end(self) -> float | None:
        """When the budget ends, on `time.monotonic`; None without a budget."""
        return None if self.budget_s is None else self.started + self.budget_s

    def until(self, share: float) -> float | None:
        """Returns when a share of the remaining time is over, or None without a budget."""
        left = self.left()
        return None if left is None else time.monotonic() + share * left
