import builtins
import io
import sys
import time
from types import ModuleType

import pytest

from headstart.progress import (
    SILENT,
    PlainProgress,
    RichProgress,
    display,
    for_stream,
    format_duration,
)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.4, "0 s"), (59.4, "59 s"), (59.6, "1 min 00 s"), (241, "4 min 01 s"), (7500, "2 h 05 min")],
)
def test_durations(seconds: float, text: str) -> None:
    assert format_duration(seconds) == text


def test_a_pipe_gets_plain_lines_with_time_left() -> None:
    stream = io.StringIO()
    progress = for_stream(stream)
    assert isinstance(progress, PlainProgress)
    progress.say("hello")
    noisy = PlainProgress(stream, every_s=0.0)
    assert list(noisy.track(range(3), "work", 3)) == [0, 1, 2]
    lines = stream.getvalue().splitlines()
    assert lines[0] == "hello"
    assert lines[1].startswith("work: 1/3, ")
    assert lines[1].endswith(" left")
    assert len(lines) == 3


def test_silence_passes_items_through() -> None:
    SILENT.say("nothing")
    assert list(SILENT.track(iter("ab"), "work", 2)) == ["a", "b"]


def test_a_terminal_gets_a_table_over_the_bars_and_its_lines_back() -> None:
    from rich.console import Console

    stream = io.StringIO()
    console = Console(file=stream, force_terminal=True, width=80)
    progress = RichProgress(console)
    progress.board([("stage", "trials"), ("3 epochs", "1 of [bold]6")])
    for _ in progress.track(range(2), "training", 2):
        progress.say("a line [not markup]")
    progress.board([("stage", "trials"), ("3 epochs", "2 of 6")])
    progress.board(())
    text = stream.getvalue()
    for expected in ("stage", "1 of [bold]6", "training", "a line [not markup]", "2 of 6"):
        assert expected in text
    assert progress._live is None, "nothing is drawn any more"


def test_a_bar_is_taken_away_when_work_breaks_off() -> None:
    from rich.console import Console

    progress = RichProgress(Console(file=io.StringIO(), force_terminal=True))
    with pytest.raises(KeyError):
        for _ in progress.track(range(2), "training", 2):
            raise KeyError
    assert progress._live is None


class _Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture
def notebook(monkeypatch: pytest.MonkeyPatch) -> None:
    """What rich looks at to tell a notebook: the class of what `get_ipython` gives."""
    shell = type("ZMQInteractiveShell", (), {})()
    monkeypatch.setitem(sys.modules, "IPython", ModuleType("IPython"))
    monkeypatch.setattr(builtins, "get_ipython", lambda: shell, raising=False)


def test_a_function_shows_bars_on_a_terminal_and_nothing_in_a_pipe(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    assert display(None) is SILENT
    assert isinstance(display(True), PlainProgress)
    monkeypatch.setattr(sys, "stderr", _Terminal())
    assert isinstance(display(None), RichProgress)
    assert display(False) is SILENT
    own = PlainProgress()
    assert display(own) is own


@pytest.mark.usefixtures("notebook")
def test_a_notebook_without_widgets_gets_lines_in_its_output(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("headstart.progress.find_spec", lambda name: None)
    shown = display(None)
    shown.say("decoding")
    assert capsys.readouterr().out == "decoding\n"
    assert display(False) is SILENT


@pytest.mark.usefixtures("notebook")
def test_a_notebook_with_widgets_gets_bars(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("headstart.progress.find_spec", lambda name: object())
    assert isinstance(display(None), RichProgress)


def test_the_time_left_in_all_is_shown_with_the_work() -> None:
    from rich.console import Console

    stream = io.StringIO()
    lines = PlainProgress(stream, every_s=0.0)
    lines.until(time.monotonic() + 100.4)
    list(lines.track(range(2), "work", 2))
    assert stream.getvalue().rstrip().endswith("; total: 1 min 40 s left")
    stream = io.StringIO()
    bars = RichProgress(Console(file=stream, force_terminal=True, width=80))
    bars.until(time.monotonic() - 5)
    list(bars.track(range(2), "work", 2))
    assert "total: 5 s over the budget" in stream.getvalue()
    assert bars._live is None
