"""How long commands take from the start of their process to its end, beside the earlier version.

    python benchmarks/startup.py

runs whole processes of both versions in turn and takes the seconds that processors worked for
them: they compute in one thread, and other work on the machine disturbs these seconds least. The
run that they read is the one of the tests, and `check` reads a few real images with an empty cache.
"""

import argparse
import os
import shutil
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

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
    args = parser.parse_args()
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


def few_images(data: Path, folder: Path) -> Path:
    """Copies a few images of the first two classes of a data set."""
    for label in sorted(path for path in data.iterdir() if path.is_dir())[:2]:
        (folder / label.name).mkdir(parents=True)
        for file in sorted(path for path in label.iterdir() if path.is_file())[: IMAGES // 2]:
            shutil.copy(file, folder / label.name)
    return folder


def _timed(command: list[str], source: Path, place: Path) -> Callable[[], float]:
    """Returns a function that runs a command of one version and returns its processor seconds."""
    environment = {
        **ON_CPU,
        "PYTHONPATH": str(source),
        "PYTHONDONTWRITEBYTECODE": "",
        "PYTHONPYCACHEPREFIX": str(place / "compiled"),  # as an installed package is
        "HEADSTART_CACHE": str(place / "cache"),
        "OMP_NUM_THREADS": "1",
    }

    def run() -> float:
        shutil.rmtree(place / "cache", ignore_errors=True)
        return measured([sys.executable, *command], {**os.environ, **environment}).worked

    return run


if __name__ == "__main__":
    main()
