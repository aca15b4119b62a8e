"""Damaged files of each kind: read, or refused in one line, but never a traceback and never a hang.

    python benchmarks/fuzz.py --mutations 2000

damages files of each kind at random, lets the readers and the commands of headstart use them in
this process, and prints how often they were refused in one line, read, ended in a traceback, or
took longer than `--patience` seconds. It ends with 1 if there was a traceback or a hang; the files
are then in `.bench/fuzz`. The same seed gives the same damage.
"""

import argparse
import io
import random
import shutil
import signal
import sys
import tempfile
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from _damaged_files import (
    fuzz_bundle,
    fuzz_caches,
    fuzz_recipes,
    fuzz_run,
    fuzz_tables,
    fuzz_weights,
)
from headstart.errors import HeadstartError

ROOT = Path(__file__).resolve().parents[1]
KEPT = ROOT / ".bench" / "fuzz"


class Hung(BaseException):
    """A reader took too long; not an `Exception`, so that nobody catches it."""


@dataclass
class Outcome:
    """How often damage of one kind ended how, and what went wrong."""

    counts: Counter[str] = field(default_factory=Counter)
    faults: list[str] = field(default_factory=list)

    @property
    def tried(self) -> int:
        return self.counts.total()

    def line(self, kind: str) -> str:
        parts = [f"{self.counts[each]:>6}" for each in ("refused", "read", "traceback", "hung")]
        return f"{kind:<12}{self.tried:>8}" + "".join(f"{part:>11}" for part in parts)


HEADER = f"{'kind':<12}{'tried':>8}" + "".join(
    f"{name:>11}" for name in ("refused", "read", "traceback", "hung")
)


@contextmanager
def patience(seconds: int) -> Iterator[None]:
    """Raises `Hung` when a block takes too long."""

    def stop(*_: object) -> None:
        raise Hung

    before = signal.signal(signal.SIGALRM, stop)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def attempt(use: Callable[[], Any], seconds: int) -> tuple[str, str]:
    """Returns how using a damaged file ended, and its traceback if that is a fault."""
    quiet = io.StringIO()
    try:
        with patience(seconds), redirect_stdout(quiet), redirect_stderr(quiet):
            use()
    except HeadstartError as error:
        said = str(error)
        good = said.strip() and "\n" not in said and len(said) < 2000
        return ("refused", "") if good else ("traceback", f"not one short line: {said[:300]!r}")
    except Hung:
        return "hung", "".join(traceback.format_exc(limit=-6))
    except (Exception, SystemExit):
        return "traceback", traceback.format_exc(limit=-6)
    return "read", ""


KINDS = {
    "run files": fuzz_run,
    "bundles": fuzz_bundle,
    "weights": fuzz_weights,
    "recipes": fuzz_recipes,
    "caches": fuzz_caches,
    "tables": fuzz_tables,
}


def fuzz(
    kind: str, mutations: int, seed: int = 0, seconds: int = 20, minutes: float = float("inf")
) -> Outcome:
    """Damages files of one kind and uses them.

    Args:
        kind: One of `KINDS`.
        mutations: Number of damaged files.
        seed: Seed for the damage.
        seconds: What takes longer hangs.
        minutes: Time after which no more files are damaged.
    """
    end = time.monotonic() + 60 * minutes
    draw, outcome = random.Random(f"{kind} {seed}"), Outcome()
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as work, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        cases = KINDS[kind](Path(work), draw)
        for number in range(mutations):
            if time.monotonic() > end:
                break
            path, use = next(cases)
            ended, fault = attempt(use, seconds)
            outcome.counts[ended] += 1
            if fault:
                outcome.faults.append(f"{kind} {number}: {path.name}\n{fault}")
                if path.is_file():
                    KEPT.mkdir(parents=True, exist_ok=True)
                    kept = f"{kind.replace(' ', '_')}-{seed}-{number}-{path.name}"
                    shutil.copy(path, KEPT / kept)
        if isinstance(cases, Generator):
            cases.close()
    torch.set_num_threads(before)
    return outcome


def main() -> None:
    parser = argparse.ArgumentParser(description="Damage files and use them.")
    parser.add_argument("--mutations", type=int, default=2000, help="damaged files of each kind")
    parser.add_argument("--seed", type=int, default=0, help="seed for the damage")
    parser.add_argument("--kinds", nargs="+", choices=list(KINDS), default=list(KINDS))
    parser.add_argument("--patience", type=int, default=20, help="seconds that one file may take")
    parser.add_argument("--minutes", type=float, default=float("inf"), help="limit for each kind")
    arguments = parser.parse_args()
    print(HEADER)
    bad = 0
    for kind in arguments.kinds:
        found = fuzz(
            kind, arguments.mutations, arguments.seed, arguments.patience, arguments.minutes
        )
        print(found.line(kind), flush=True)
        bad += len(found.faults)
        for fault in found.faults[:50]:
            print(fault, file=sys.stderr)
    sys.exit(1 if bad else 0)


if __name__ == "__main__":
    main()
