"""Standard output that cannot be written: the right exit code, one line at most, no traceback."""

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stderr, suppress
from importlib import import_module
from io import StringIO
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

import pytest

from headstart.cli.commands import COMMANDS
from headstart.cli.main import main
from headstart.cli.streams import abandon_output
from headstart.errors import OutputError

if TYPE_CHECKING:
    from headstart.inference.run import Run

OLDER = Path(__file__).parents[1] / "fixtures" / "run_6dddef2" / "finished"
FAULTS = ("closed", "full", "pipe")
FULL = Path("/dev/full")
NAMES = (
    "backbones", "benefit", "check", "compare", "diff", "embed", "fit", "label-next", "leaderboard",
    "methods", "predict", "report", "show", "similar", "suspects",
)  # fmt: skip
"""The commands; `resume` ends as `fit` does, `export` needs the images of its run, and `serve` runs
until it is stopped."""


@contextmanager
def unwritable(fault: str) -> Iterator[int | None]:
    """A standard output for a process; None if it has to close its own."""
    if fault == "closed":
        yield None
    elif fault == "full":
        descriptor = os.open(FULL, os.O_WRONLY)
        yield descriptor
        os.close(descriptor)
    else:
        reading, writing = os.pipe()
        os.close(reading)
        yield writing
        os.close(writing)


def ended(fault: str, *arguments: object) -> tuple[int, str]:
    """Exit code and messages of a command whose output cannot be written."""
    command = [sys.executable, "-m", "headstart", *map(str, arguments)]
    with unwritable(fault) as out:
        if out is None:
            command = ["sh", "-c", 'exec "$@" >&-', "sh", *command]
        done = subprocess.run(
            command, stdout=out, stderr=subprocess.PIPE, stdin=subprocess.DEVNULL, text=True,
            check=False,
        )  # fmt: skip
    return done.returncode, done.stderr


def ended_here(fault: str, *arguments: object) -> tuple[int, str]:
    """The same in this process, which has loaded torch already."""
    before, kept = sys.stdout, os.dup(1)
    errors, code = StringIO(), 0
    unwritten: list[TextIO] = []

    def abandon() -> None:
        unwritten.append(sys.stdout)
        abandon_output()

    try:
        with (
            unwritable(fault) as out,
            pytest.MonkeyPatch.context() as patch,
            redirect_stderr(errors),
        ):
            assert out is not None
            os.dup2(out, 1)
            patch.setattr("headstart.cli.main.abandon_output", abandon)
            patch.setattr(sys, "argv", ["headstart", *map(str, arguments)])
            # A budget counts from the start of the process, which is that of all tests here.
            patch.setattr(import_module("headstart.cli.fit"), "process_start", time.monotonic)
            sys.stdout = open(1, "w", encoding="utf-8", closefd=False)  # noqa: SIM115
            try:
                main()
            except SystemExit as end:
                code = int(end.code or 0)
            for stream in unwritten:  # or it would be written when it can be again
                with suppress(OutputError):
                    stream.close()
    finally:
        abandoned, sys.stdout = sys.stdout, before
        os.dup2(kept, 1)
        os.close(kept)
        abandoned.close()
    return code, errors.getvalue()


def check(fault: str, code: int, messages: str) -> None:
    errors = [line for line in messages.splitlines() if line.startswith("error:")]
    assert "Traceback" not in messages and "Exception ignored" not in messages, messages
    if fault == "pipe":
        assert (code, errors) == (141, []), messages
    else:
        why = "Bad file descriptor" if fault == "closed" else "No space left on device"
        assert (code, errors) == (1, [f"error: Cannot write to standard output: {why}."])


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("command", [("methods", "--json"), ("check", "--help"), ("--version",)])
def test_output_that_cannot_be_written(command: tuple[str, ...], fault: str) -> None:
    # What needs torch runs in this process, but its own output a process closes itself.
    end = ended_here if command[0] == "methods" and fault != "closed" else ended
    check(fault, *end(fault, *command))


def commands(run: Path, images: Path, out: Path) -> dict[str, tuple[object, ...]]:
    """A call of every command that prints something."""
    image = next((images / "rings").iterdir())
    benefit = ("--set", "augmentation=none", "--resolution", 64, "--seeds", 1, "--fractions", "100")
    return {
        "backbones": ("--json",),
        "benefit": (images, "--epochs", 1, *benefit, "--out", out),
        "check": (images,),
        "compare": (images, "--recipe", "probe", "--epochs", 1, "--out", out, *small()),
        "diff": (run, run),
        "embed": (run, image, "--out", out.with_suffix(".csv")),
        "fit": (images, "--recipe", "probe", "--out", out, *small()),
        "label-next": (run, images, "--count", 3, "--json"),
        "leaderboard": (run,),
        "methods": (),
        "predict": (run, image),
        "report": (run,),
        "show": (images, "--out", out, *small()),
        "similar": (run, image, "--json"),
        "suspects": (images, "--out", out.with_suffix(".csv")),
    }


def small() -> tuple[str, ...]:
    return ("--set", "backbone.name=test_efficientnet", "--set", "backbone.weights=random")


def test_every_command_is_tried(tmp_path: Path, pictures: Path) -> None:
    assert set(COMMANDS) == {*NAMES, "resume", "export", "serve"}
    assert tuple(commands(OLDER, pictures, tmp_path)) == NAMES


@pytest.mark.slow
@pytest.mark.parametrize("command", NAMES)
def test_every_command_ends_well(
    command: str, tmp_path: Path, pictures: Path, two_classes: Path, head_run: "Run"
) -> None:
    # `predict` is a process of its own, and without the graph of this run it would load torch.
    run = shutil.copytree(head_run.folder if command == "predict" else OLDER, tmp_path / "run")
    images = two_classes if command in {"compare", "fit", "show", "suspects"} else pictures
    arguments = commands(run, images, tmp_path / "out")[command]
    end = ended if command == "predict" else ended_here
    for fault in ("full", "pipe"):
        if command in ("fit", "show"):  # `compare` and `benefit` go on with what is there
            shutil.rmtree(tmp_path / "out", ignore_errors=True)
        check(fault, *end(fault, command, *arguments))


@pytest.mark.parametrize("fault", FAULTS)
def test_a_lost_message_is_no_error(fault: str) -> None:
    command = [sys.executable, "-m", "headstart", "check", "/nowhere"]
    with unwritable(fault) as errors:
        if errors is None:
            command = ["sh", "-c", 'exec "$@" 2>&-', "sh", *command]
        done = subprocess.run(
            command, stdout=subprocess.PIPE, stderr=errors, text=True, check=False
        )
    assert (done.returncode, done.stdout) == (2, ""), "nothing that belongs to standard error"


def test_progress_is_not_part_of_json_where_standard_error_is_closed(two_classes: Path) -> None:
    command = [sys.executable, "-m", "headstart", "check", str(two_classes), "--json"]
    done = subprocess.run(
        ["sh", "-c", 'exec "$@" 2>&-', "sh", *command], capture_output=True, text=True, check=False
    )
    assert json.loads(done.stdout)["n_images"] == 16


def test_streams_of_a_caller_stay(headstart: Callable[..., object]) -> None:
    before = sys.stdout, sys.stderr
    headstart("--version")
    assert (sys.stdout, sys.stderr) == before
