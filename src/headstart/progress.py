"""Progress of long work: bars with time left on a terminal, plain lines elsewhere, or nothing."""

import sys
import time
from collections.abc import Iterable, Iterator
from typing import Protocol, TextIO, TypeVar

T = TypeVar("T")


class Progress(Protocol):
    """Shows how far long work has come."""

    def track(self, items: Iterable[T], description: str, total: int) -> Iterator[T]:
        """Yields `items` unchanged and shows how many of `total` have passed."""
        ...

    def say(self, message: str) -> None:
        """Prints one line."""
        ...


class SilentProgress:
    """Shows nothing: what library calls use unless told otherwise."""

    def track(self, items: Iterable[T], description: str, total: int) -> Iterator[T]:
        """Yields `items` unchanged."""
        yield from items

    def say(self, message: str) -> None:
        """Prints nothing."""


class PlainProgress:
    """Plain lines for logs and pipes: a line when work starts to take long, then one every 10 s."""

    def __init__(self, stream: TextIO | None = None, every_s: float = 10.0) -> None:
        self._stream = stream or sys.stderr
        self._every_s = every_s

    def track(self, items: Iterable[T], description: str, total: int) -> Iterator[T]:
        """Yields `items` and prints a line with the time left every `every_s` seconds."""
        start = last = time.monotonic()
        for done, item in enumerate(items, start=1):
            yield item
            now = time.monotonic()
            if now - last >= self._every_s and done < total:
                last = now
                left = (now - start) / done * (total - done)
                self.say(f"{description}: {done}/{total}, {format_duration(left)} left")

    def say(self, message: str) -> None:
        """Prints one line."""
        print(message, file=self._stream, flush=True)


class RichProgress:
    """Bars with time left, on a terminal."""

    def __init__(self) -> None:
        from rich.console import Console  # noqa: PLC0415 - only a terminal needs it

        self._console = Console(stderr=True)

    def track(self, items: Iterable[T], description: str, total: int) -> Iterator[T]:
        """Yields `items` under a bar that disappears when they end."""
        from rich import progress  # noqa: PLC0415

        columns = (
            progress.TextColumn("[progress.description]{task.description}"),
            progress.BarColumn(),
            progress.MofNCompleteColumn(),
            progress.TimeRemainingColumn(),
        )
        with progress.Progress(*columns, console=self._console, transient=True) as bars:
            task = bars.add_task(description, total=total)
            for item in items:
                yield item
                bars.advance(task)

    def say(self, message: str) -> None:
        """Prints one line above any bar."""
        self._console.print(message, markup=False, highlight=False, soft_wrap=True)


SILENT = SilentProgress()


def for_stream(stream: TextIO) -> Progress:
    """Returns bars where `stream` is a terminal and plain lines where it is not."""
    return RichProgress() if stream.isatty() else PlainProgress(stream)


def format_duration(seconds: float) -> str:
    """Returns a duration for people: `48 s`, `4 min 01 s`, `2 h 05 min`."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"
