"""Time, memory and accuracy of `headstart fit --strategy head`, beside the earlier version.

    python benchmarks/head_run.py

runs whole processes of both versions in turn, each with an empty cache. A version is not faster
where it is less accurate, so the accuracies on the sealed test stand beside the seconds: each round
splits the images by another seed, alike for both versions. The large data set is for memory, which
hardly changes from run to run: each version runs once on it.
"""

import argparse
import json
import os
import shutil
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from statistics import mean

from measure import run_measured, tail
from ratios import Subject, facts, in_turn, keep, row, source_before, table
from records import BENCH, DATA, HERE, ON_CPU

SOURCE = HERE.parent / "src"

CASES = (("flowers17", 2.0, 0.0), ("stanford_cars_crops", 0.0, 1.7))
"""Data set, and the goals for the ratios of seconds and of memory."""

NAMES = tuple(name for name, _, _ in CASES)
ONCE = ("stanford_cars_crops",)

SPLITS = 50
"""Seed of the split of the first round, which does not count; those after it are the next ones."""


@dataclass(frozen=True)
class Fitted:
    """What a run took and found: seconds, 10^6 bytes at its peak, share of correct test images."""

    seconds: float
    megabytes: float
    accuracy: float


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--data", nargs="+", default=NAMES)
    args = parser.parse_args()
    subject = measure(args.rounds, args.data)
    print(table(subject))
    print(keep(subject))


def measure(rounds: int, names: Sequence[str] = NAMES) -> Subject:
    """Fits a head to each data set with both versions, `rounds` times after a first round."""
    before = source_before()
    cases = [case for case in CASES if case[0] in names]
    runs = {name: (_fit(name, before), _fit(name, SOURCE)) for name, _, _ in cases}
    found = in_turn({name: both for name, both in runs.items() if name not in ONCE}, rounds)
    found |= {name: [(both[0](), both[1]())] for name, both in runs.items() if name in ONCE}
    rows = []
    for name, faster, smaller in cases:
        each = found[name]
        rights = [mean(one.accuracy for one in fits) for fits in zip(*each, strict=True)]
        once = ", one run each" if name in ONCE else ""
        correct = f"{rights[0]:.1%} of the test images correct on average, now {rights[1]:.1%}"
        seconds = [(one.seconds, other.seconds) for one, other in each]
        rows.append(row(f"{name}, seconds ({correct}{once})", seconds, faster))
        memory = [(one.megabytes, other.megabytes) for one, other in each]
        rows.append(row(f"{name}, peak of private memory in MB{once}", memory, smaller))
    return Subject("head", "`fit --strategy head`", "s or MB", tuple(rows), rounds, facts())


def _fit(name: str, source: Path) -> Callable[[], Fitted]:
    """Returns a function that fits a head with one version, from an empty cache."""
    folder, split_seeds = BENCH / "head_run", count(SPLITS)

    def run() -> Fitted:
        shutil.rmtree(folder, ignore_errors=True)
        command = [
            sys.executable, "-m", "headstart", "fit", str(DATA / name), "--strategy", "head",
            "--epochs", "0", "--split-seed", str(next(split_seeds)), "--out", str(folder / "run"),
        ]  # fmt: skip
        environment = {
            **ON_CPU,
            "PYTHONPATH": str(source),
            "PYTHONDONTWRITEBYTECODE": "",
            "PYTHONPYCACHEPREFIX": str(BENCH / "compiled"),
            "HEADSTART_CACHE": str(folder / "cache"),
        }
        done = run_measured(command, folder / "log.txt", {**os.environ, **environment})
        if done.returncode:
            sys.exit(f"exit status {done.returncode}:\n{tail(folder / 'log.txt')}")
        metrics = json.loads((folder / "run" / "metrics.json").read_text(encoding="utf-8"))
        return Fitted(done.wall_s, done.peak_anon_mb, metrics["accuracy"])

    return run


if __name__ == "__main__":
    main()
