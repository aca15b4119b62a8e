"""The pace of the machine during a run, and the end of a training that depends on it."""

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

_CONV_S, _LOOP_S = 0.2, 0.05
"""Seconds that the two parts of the yardstick take at least."""

WINDOW_S = 2.0
"""Seconds of training after which its speed is looked at."""

SLOWER = 1.25
"""Factor by which training must have become slower for the pace to be measured again."""


@dataclass
class Pace:
    """The pace of the machine, relative to the time when the speeds of a run were measured.

    What is still to be done after training is reserved at the slowest pace that was seen.

    Attributes:
        first_s: Seconds of the yardstick when `now` was 1; 0 before the first measurement.
        now: How many times longer the yardstick takes now than at first.
        slowest: Largest value of `now`, each the mean of two measurements in a row.
        waits: Wall time of one thread per second that a processor worked for it, now.
        contention: Largest value of `waits`, each the mean of two measurements in a row.
    """

    first_s: float = 0.0
    now: float = 1.0
    slowest: float = 1.0
    waits: float = 1.0
    contention: float = 1.0

    def measure(self) -> None:
        """Measures the pace; takes a quarter of a second."""
        seconds, contention = yardstick()
        self.see(seconds, contention)

    def see(self, seconds: float, contention: float) -> None:
        """Takes in one measurement.

        Args:
            seconds: Seconds of the yardstick.
            contention: Wall time per second of processor time.

        Example:
            >>> pace = Pace()
            >>> for seconds in (1.0, 2.0, 2.0, 1.0):
            ...     pace.see(seconds, 1.0)
            >>> pace.now, pace.slowest
            (1.0, 2.0)
        """
        before = self.now
        self.first_s = self.first_s or seconds / self.now
        self.now = seconds / self.first_s
        self.slowest = max(self.slowest, (before + self.now) / 2)
        self.contention = max(self.contention, (self.waits + contention) / 2)
        self.waits = contention


def yardstick() -> tuple[float, float]:
    """Returns the seconds of a fixed convolution, and the contention for processors.

    The convolution uses all threads, as the network does. The contention is the wall time of a
    loop in one thread, divided by its processor time.
    """
    inputs, kernel = torch.ones(4, 32, 56, 56), torch.ones(32, 32, 3, 3)
    times = 0
    with torch.inference_mode():
        torch.nn.functional.conv2d(inputs, kernel, padding=1)  # the first call starts threads
        began = time.monotonic()
        while time.monotonic() - began < _CONV_S:
            torch.nn.functional.conv2d(inputs, kernel, padding=1)
            times += 1
    seconds = (time.monotonic() - began) / times
    began, worked = time.monotonic(), time.thread_time()
    while time.thread_time() - worked < _LOOP_S:
        sum(range(1000))
    return seconds, (time.monotonic() - began) / (time.thread_time() - worked)


@dataclass
class Deadline:
    """The end of a training under a budget, which comes earlier when the machine slows down.

    Attributes:
        ends: End of the budget, on the clock of `time.monotonic`.
        pace: Pace of the run.
        work_s: Seconds of work reserved after the training, at the first pace.
        single_s: Seconds of it that are one thread's, without contention.
        began: Start of the training.
        share: Share of the time until the reserve begins that this training may use.
        least_s: Seconds that the training may take in any case.
    """

    ends: float
    pace: Pace
    work_s: float
    single_s: float
    began: float = 0.0
    share: float = 1.0
    least_s: float = 0.0
    _images: int = 0
    _since: float = 0.0
    _rate: float = 0.0

    @property
    def at(self) -> float:
        """The end of the training, on the clock of `time.monotonic`."""
        reserved = reserve(self.work_s, self.single_s, self.pace)
        allowed = self.share * (self.ends - reserved - self.began)
        return self.began + max(allowed, self.least_s)

    def part(self, share: float) -> float:
        """Returns when a share of the training's time is over."""
        return self.began + share * (self.at - self.began)

    def begin_window(self) -> None:
        """Ignores the time since the last step, in which nothing was trained."""
        self._images, self._since = 0, time.monotonic()

    def saw(self, images: int) -> None:
        """Counts trained images, and measures the pace again if training became slower."""
        self._images += images
        elapsed = time.monotonic() - self._since
        if elapsed < WINDOW_S:
            return
        rate = self._images / elapsed
        if SLOWER * rate < self._rate:
            self.pace.measure()
            self.pace.measure()  # one alone may be a disturbance
            self._rate = rate  # later blocks that are unfrozen make steps slower, too
        self._rate = max(self._rate, rate)
        self.begin_window()


def begin(deadline: Deadline | None) -> float:
    """Begins a training now, and returns the time on the clock of `time.monotonic`.

    Another process than that of the run first measures what its own threads can do.
    """
    if deadline is not None and not deadline.pace.first_s:
        deadline.pace.measure()
    now = time.monotonic()
    if deadline is not None:
        deadline.began = now
    return now


def watched(
    batches: Sequence[NDArray[np.int64]], deadline: Deadline | None
) -> Iterator[NDArray[np.int64]]:
    """Yields the batches of an epoch, and lets the deadline see how fast they are trained."""
    if deadline is not None:
        deadline.begin_window()
    for rows in batches:
        yield rows
        if deadline is not None:
            deadline.saw(len(rows))


def reserve(work_s: float, single_s: float, pace: Pace) -> float:
    """Returns the seconds to reserve for work at the slowest pace that was seen.

    Args:
        work_s: Seconds of work at the first pace.
        single_s: Seconds of one thread's work, without contention.
        pace: Pace of the run.

    Example:
        >>> reserve(20.0, 10.0, Pace(slowest=1.5, contention=2.0))
        50.0
    """
    return work_s * pace.slowest + single_s * pace.contention
