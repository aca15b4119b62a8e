"""An error that nobody expected: one line that asks for a report; its traceback with --debug."""

import subprocess
from collections.abc import Callable
from importlib import import_module
from pathlib import Path

import pytest

Command = Callable[..., subprocess.CompletedProcess[str]]


@pytest.mark.parametrize("error", [KeyError("name"), ZeroDivisionError("two\nlines"), TypeError()])
def test_a_bug_is_one_line(
    error: Exception, headstart: Command, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def broken(folder: Path) -> None:
        raise error

    monkeypatch.setattr(import_module("headstart.api.leaderboard"), "leaderboard_of", broken)
    ended = headstart("leaderboard", tmp_path)
    assert ended.returncode == 1
    (line,) = ended.stderr.splitlines()
    assert line.startswith(f"error: This is a bug of headstart ({type(error).__name__}")
    assert "headstart --debug" in line
    shown = headstart("--debug", "leaderboard", tmp_path)
    assert "Traceback" in shown.stderr and "in broken" in shown.stderr
