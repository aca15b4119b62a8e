"""What people see on a terminal: long lines are broken between words."""

import io
import sys

import pytest

from headstart.cli.output import say
from headstart.progress import RichProgress


class _Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def told(text: str, terminal: bool, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    stream = _Terminal() if terminal else io.StringIO()
    with monkeypatch.context() as patch:
        patch.setattr(sys, "stdout", stream)
        patch.setenv("COLUMNS", "30")
        say(text)
    return stream.getvalue().splitlines()


def test_a_terminal_gets_lines_that_fit_and_a_pipe_one_line(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    text = "note: 12 images are copies of others and are left out"
    assert told(text, True, monkeypatch) == [
        "note: 12 images are copies of",
        "  others and are left out",
    ]
    assert told(text, False, monkeypatch) == [text]


@pytest.mark.parametrize(
    "whole",
    ["/a/path/that/is-longer/than-the-line/report.html", "`headstart resume runs/flowers-2026`"],
)
def test_a_path_and_a_command_stay_whole(whole: str, monkeypatch: pytest.MonkeyPatch) -> None:
    lines = told(f"It is kept. Continue with {whole} if you like.", True, monkeypatch)
    assert lines == ["It is kept. Continue with", f"  {whole}", "  if you like."]


def test_progress_on_a_terminal_is_broken_between_words_too() -> None:
    from rich.console import Console

    stream = io.StringIO()
    progress = RichProgress(Console(file=stream, force_terminal=True, width=30))
    progress.say("note: 12 images are copies of others; see `headstart check some/data`")
    assert stream.getvalue().splitlines() == [
        "note: 12 images are copies of",
        "  others; see",
        "  `headstart check some/data`",
    ]
