"""How long commands take from the start of their process to its end, beside the earlier version.

    python benchmarks/startup.py

runs whole processes of both versions in turn and takes the seconds that processors worked for
them: they compute in one thread, and other work on the machine disturbs these seconds least. The
run that they read is the one of the tests, and `check` reads a few real images with an empty cache.

    python benchmarks/startup.py --first-line

runs this version alone, on a terminal of its own, until it shows anything: the seconds that
processors worked for that, the seconds on the clock, and the ratio of the former to what `python
-c 'import torch'` takes.
"""

import argparse
import os
import pty
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

import psutil

from predict_process import measured
from ratios import Subject, facts, in_turn, keep, row, source_before, table
from records import DATA, HERE, ON_CPU

FINISHED = HERE.parent / "tests" / "fixtures" / "run_6dddef2" / "finished"
IMAGES = 40
SOURCE = HERE.parent / "src"
GOALS = {"`leaderboard`": 3.0, "`check`, 40 images": 3.0}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--data", type=Path, default=DATA / "flowers17")
    parser.add_argument("--first-line", action="store_true", help="time to the first output")
    args = parser.parse_args()
    if args.first_line:
        print(first_lines(args.rounds, args.data))
        return
    subject = measure(args.rounds, args.data)
    print(table(subject))
    print(keep(subject))


def measure(rounds: int, data: Path = DATA / "flowers17") -> Subject:
    """Runs every command of both versions `rounds` times after a first round."""
    with tempfile.TemporaryDirectory() as temporary:
        place = Path(temporary)
        some = few_images(data, place / "images")
        run = shutil.copytree(FINISHED, place / "run")
        commands: dict[str, list[str]] = {
            "`--help`": ["-m", "headstart", "--help"],
            "`methods`": ["-m", "headstart", "methods"],
            "`leaderboard`": ["-m", "headstart", "leaderboard", str(run)],
            "`diff`": ["-m", "headstart", "diff", str(run), str(run)],
            "`report`": ["-m", "headstart", "report", str(run)],
            f"`check`, {IMAGES} images": ["-m", "headstart", "check", str(some)],
            "imports of `fit`": ["-c", "import headstart; headstart.fit"],
        }
        before = source_before()
        found = in_turn(
            {
                name: (
                    _timed(command, before, place / "before"),
                    _timed(command, SOURCE, place / "now"),
                )
                for name, command in commands.items()
            },
            rounds,
        )
    rows = tuple(row(name, each, GOALS.get(name, 0.0)) for name, each in found.items())
    return Subject("startup", "Start-up of commands", "processor seconds", rows, rounds, facts())


def first_lines(rounds: int, data: Path) -> str:
    """Returns a table of what commands take until they show anything: medians of all rounds."""
    commands = ("check", "fit", "suspects", "show", "benefit")
    with tempfile.TemporaryDirectory() as temporary:
        place = Path(temporary)
        torch = _timed(["-c", "import torch"], SOURCE, place)
        whole = [torch() for _ in range(rounds + 1)][1:]
        rows = []
        for name in commands:
            out = [] if name == "check" else ["--out", str(place / name)]
            taken = [_until_shown([name, str(data), *out], place) for _ in range(rounds + 1)][1:]
            worked, clock = (median(each) for each in zip(*taken, strict=True))
            rows.append((f"`{name}`", worked, clock, worked / median(whole)))
    lines = ["command | processor seconds | seconds | ratio to `import torch`"]
    lines += [
        f"{name} | {worked:.2f} | {clock:.2f} | {ratio:.2f}" for name, worked, clock, ratio in rows
    ]
    return "\n".join(lines)


def _until_shown(command: list[str], place: Path) -> tuple[float, float]:
    """Returns processor seconds and seconds until a command shows anything; then it is ended."""
    shown, terminal = pty.openpty()
    started = time.monotonic()
    with subprocess.Popen(
        [sys.executable, "-m", "headstart", *command],
        stdin=subprocess.DEVNULL, stdout=terminal, stderr=terminal,
        env={**os.environ, **_environment(SOURCE, place)},
    ) as process:  # fmt: skip
        os.close(terminal)
        os.read(shown, 1)
        taken = psutil.Process(process.pid).cpu_times()
        seconds = time.monotonic() - started
        process.kill()
    os.close(shown)
    return taken.user + taken.system, seconds


def few_images(data: Path, folder: Path) -> Path:
    """Copies a few images of the first two classes of a data set."""
    for label in sorted(path for path in data.iterdir() if path.is_dir())[:2]:
        (folder / label.name).mkdir(parents=True)
        for file in sorted(path for path in label.iterdir() if path.is_file())[: IMAGES // 2]:
            shutil.copy(file, folder / label.name)
    return folder


def _timed(command: list[str], source: Path, place: Path) -> Callable[[], float]:
    """Returns a function that runs a command of one version and returns its processor seconds."""
    environment = _environment(source, place)

    def run() -> float:
        shutil.rmtree(place / "cache", ignore_errors=True)
        return measured([sys.executable, *command], {**os.environ, **environment}).worked

    return run


def _environment(source: Path, place: Path) -> dict[str, str]:
    return {
        **ON_CPU,
        "PYTHONPATH": str(source),
        "PYTHONDONTWRITEBYTECODE": "",
        "PYTHONPYCACHEPREFIX": str(place / "compiled"),  # as an installed package is
        "HEADSTART_CACHE": str(place / "cache"),
        "OMP_NUM_THREADS": "1",
    }


if __name__ == "__main__":
    main()
