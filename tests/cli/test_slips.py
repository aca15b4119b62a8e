"""Every slip of docs/messages.md is made, and gets the message that stands there."""

import re
import shlex
import shutil
from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess

import pytest

PAGE = Path(__file__).parents[2] / "docs" / "messages.md"
SLIPS = re.findall(r"^\| `headstart (.+?)` \| (.+) \|$", PAGE.read_text("utf-8"), re.MULTILINE)
CURE = re.compile(
    r"did you mean|possible options|give |check |write |put |rename |choose |must be|now called|"
    r"ends in|m or \d+s|is not one of '",
    re.IGNORECASE,
)
BOX = re.compile(r"[╭╮╰╯│─]")


def in_one_line(printed: str) -> str:
    """What a command printed, without the frame around errors of the parser."""
    return " ".join(BOX.sub(" ", printed).split())


@pytest.fixture
def place(pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with what the commands name, and nothing of what they misspell."""
    shutil.copytree(pictures, tmp_path / "flowers")
    (tmp_path / "empty").mkdir()
    (tmp_path / "one" / "only").mkdir(parents=True)
    picture = next(pictures.rglob("*.png"))
    shutil.copy(picture, tmp_path / "one" / "only")
    shutil.copy(picture, tmp_path / "new.png")
    (tmp_path / "typo.toml").write_text('bugdet = "5m"\n')
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_there_are_twenty_slips_or_more() -> None:
    assert len(SLIPS) == len(dict(SLIPS)) >= 20


@pytest.mark.parametrize(("command", "message"), SLIPS, ids=[command for command, _ in SLIPS])
def test_a_slip_is_told_its_cure_before_any_work(
    command: str, message: str, place: Path, headstart: Callable[..., CompletedProcess[str]]
) -> None:
    before = sorted(place.rglob("*"))
    done = headstart(*shlex.split(command))
    printed = in_one_line(done.stderr).replace(f"{place.resolve()}/", "…/")
    assert message in printed
    assert CURE.search(message), "it says what to do"
    assert (done.returncode, done.stdout) == (2, "")
    assert sorted(place.rglob("*")) == before, "nothing is written"
