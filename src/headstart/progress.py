"""Progress displays: bars with the time left on a terminal, plain lines elsewhere, or nothing."""

import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from importlib.util import find_spec
from typing import TYPE_CHECKING, Protocol, TextIO, TypeVar

from headstart.names import printable
from headstart.text import wrapped

if TYPE_CHECKING:
    from rich.console import Console, Group, RenderableType
    from rich.live import Live
    from rich.table import Table

T = TypeVar("T")


class Progress(Protocol):
    """A display of the progress of long work."""

    def track(self, items: Iterable[T], description: str, total: int | None) -> Iterator[T]:
        """Yields `items` unchanged and shows how many of `total` are done; None is not known."""
        ...

    def say(self, message: str) -> None:
        """Prints one line."""
        ...

    def board(self, rows: Sequence[Sequence[str]]) -> None:
        """Shows a table in place of the previous one; the first row is its header.

        No rows remove the table.
        """
        ...

    def until(self, end: float | None) -> None:
        """Shows the time that is left in all, with every bar or line on progress.

        Args:
            end: When the budget ends, on `time.monotonic`; None without a budget.
        """
        ...


class SilentProgress:
    """A display that shows nothing."""

    def track(self, items: Iterable[T], description: str, total: int | None) -> Iterator[T]:
        """Yields `items` unchanged."""
        yield from items

    def say(self, message: str) -> None:
        """Prints nothing."""

    def board(self, rows: Sequence[Sequence[str]]) -> None:
        """Shows nothing."""

    def until(self, end: float | None) -> None:
        """Shows nothing."""


class PlainProgress:
    """Plain lines for logs and pipes: one every `every_s` seconds of work."""

    def __init__(self, stream: TextIO | None = None, every_s: float = 10.0) -> None:
        self._stream = stream or sys.stderr
        self._every_s = every_s
        self._end: float | None = None

    def track(self, items: Iterable[T], description: str, total: int | None) -> Iterator[T]:
        """Yields `items` and prints a line with the time left every `every_s` seconds."""
        start = last = time.monotonic()
        for done, item in enumerate(items, start=1):
            yield item
            now = time.monotonic()
            if now - last < self._every_s:
                continue
            last = now
            in_all = "" if self._end is None else f"; {left_in_all(self._end)}"
            if total is None:
                self.say(f"{description}: {done}{in_all}")
            elif done < total:
                left = (now - start) / done * (total - done)
                self.say(f"{description}: {done}/{total}, {format_duration(left)} left{in_all}")

    def say(self, message: str) -> None:
        """Prints one line."""
        print(printable(message, keep="\n"), file=self._stream, flush=True)

    def board(self, rows: Sequence[Sequence[str]]) -> None:
        """Shows nothing: a table that updates in place needs a terminal."""

    def until(self, end: float | None) -> None:
        """Adds the time that is left in all to every line on progress."""
        self._end = end


class RichProgress:
    """Bars with the time left, below a table, on a terminal."""

    def __init__(self, console: "Console | None" = None) -> None:
        from rich import progress  # noqa: PLC0415 - only a terminal needs it
        from rich.console import Console  # noqa: PLC0415

        self._console = console or Console(stderr=True)
        self._bars = progress.Progress(
            progress.TextColumn("[progress.description]{task.description}"),
            progress.BarColumn(),
            progress.MofNCompleteColumn(),
            progress.TimeRemainingColumn(),
            console=self._console,
        )
        self._table: Table | None = None
        self._live: Live | None = None
        self._end: float | None = None

    def __rich__(self) -> "Group":
        """Returns what is drawn: the table, the bars and the time that is left in all."""
        from rich.console import Group  # noqa: PLC0415
        from rich.text import Text  # noqa: PLC0415

        parts: list[RenderableType] = [] if self._table is None else [self._table]
        parts.append(self._bars)
        if self._end is not None:
            parts.append(Text(left_in_all(self._end)))
        return Group(*parts)

    def track(self, items: Iterable[T], description: str, total: int | None) -> Iterator[T]:
        """Yields `items` under a bar that disappears when they end."""
        task = self._bars.add_task(description, total=total)
        self._draw()
        try:
            for item in items:
                yield item
                self._bars.advance(task)
        finally:
            self._bars.remove_task(task)
            self._draw()

    def say(self, message: str) -> None:
        """Prints one line above any bar; a long one is broken between words."""
        text = wrapped(printable(message, keep="\n"), self._console.width)
        self._console.print(text, markup=False, highlight=False, soft_wrap=True)

    def board(self, rows: Sequence[Sequence[str]]) -> None:
        """Shows a table above the bars; no rows remove it."""
        from rich.table import Table  # noqa: PLC0415
        from rich.text import Text  # noqa: PLC0415

        self._table = None
        if rows:
            self._table = Table()
            for name in rows[0]:
                self._table.add_column(Text(printable(name)))
            for row in rows[1:]:
                self._table.add_row(*(Text(printable(cell)) for cell in row))
        self._draw()

    def until(self, end: float | None) -> None:
        """Shows the time that is left in all in a line below the bars."""
        self._end = end

    def _draw(self) -> None:
        """Draws the table and the bars, or frees their lines if there are none."""
        from rich.live import Live  # noqa: PLC0415

        if self._table is None and not self._bars.task_ids:
            if self._live is not None:
                self._live.stop()
            self._live = None
        elif self._live is None:
            self._live = Live(self, console=self._console, transient=True)
            self._live.start()
        else:
            self._live.refresh()


SILENT = SilentProgress()

Shown = Progress | bool | None
"""What a function of the library may be told to show; see `display`."""


def display(shown: Shown) -> Progress:
    """Returns the display that a function of the library was told to use.

    Args:
        shown: A display; False for none; True for one in any case; None for one where somebody
            watches, in a terminal or a notebook.

    Example:
        >>> display(False) is SILENT, display(SILENT) is SILENT
        (True, True)
    """
    if shown is False:
        return SILENT
    if shown is not None and shown is not True:
        return shown
    if _in_notebook():
        # Bars in a notebook are widgets; a line is printed more often than in a log.
        return RichProgress() if find_spec("ipywidgets") else PlainProgress(sys.stdout, 2.0)
    return for_stream(sys.stderr) if shown or sys.stderr.isatty() else SILENT


def for_stream(stream: TextIO) -> Progress:
    """Returns bars if `stream` is a terminal, else plain lines."""
    return RichProgress() if stream.isatty() else PlainProgress(stream)


def _in_notebook() -> bool:
    if "IPython" not in sys.modules:
        return False
    from rich.console import Console  # noqa: PLC0415

    return Console().is_jupyter


def format_duration(seconds: float) -> str:
    """Returns a duration as text.

    Example:
        >>> format_duration(48), format_duration(241), format_duration(7500)
        ('48 s', '4 min 01 s', '2 h 05 min')
    """
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"


def left_in_all(end: float) -> str:
    """Returns how much of the budget is left.

    Args:
        end: When it ends, on `time.monotonic`.

    Example:
        >>> left_in_all(time.monotonic() + 200.4)
        'total: 3 min 20 s left'
    """
    left = end - time.monotonic()
    if left < 0:
        return f"total: {format_duration(-left)} over the budget"
    return f"total: {format_duration(left)} left"
