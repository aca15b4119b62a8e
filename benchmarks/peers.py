"""Seconds until fastai's accuracy is reached: `headstart fit` beside fastai's own training.

    python benchmarks/peers.py

runs the arms of `vs_fastai.py` on a few data sets, each with one split for all: a head twice,
fastai, a head once more. A head counts where it is at least as accurate on the sealed test as
fastai; else `headstart fit --strategy finetune` does, with the first of two budgets that is enough.
Seconds run from the start of a process until its test accuracy is in a file. A run that was
measured at this commit is not repeated, so that the script can be stopped and started again;
each case is kept when it is done.
"""

import argparse
import json
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from measure import commit, versions
from ratios import RESULTS, Row, Subject, facts, keep, name_of, read, row, table
from records import BENCH, DATA, HERE
from vs_fastai import fastai_venv

Run = dict[str, Any]

EPOCHS = 5
BUDGETS = ("90s", "3m")
HEAD, FINETUNE = "headstart-head", "headstart-finetune"
SHOWN = {
    "fastai-frozen-bn": "`fit_one_cycle(5)`, frozen, `train_bn=False`",
    "fastai-frozen": "`fit_one_cycle(5)`, frozen",
    "fastai-fine-tune": "`fine_tune(5)`",
}


@dataclass(frozen=True)
class Case:
    """A data set, what fastai does with it, and the ratio of seconds that was aimed at."""

    data: str
    arm: str
    goal: float


CASES = {
    "hymenoptera": Case("hymenoptera", "fastai-fine-tune", 12),
    "flowers17-frozen-bn": Case("flowers17", "fastai-frozen-bn", 20),
    "flowers17-frozen": Case("flowers17", "fastai-frozen", 40),
    "flowers17": Case("flowers17", "fastai-fine-tune", 12),
    "clothing10": Case("clothing10", "fastai-fine-tune", 12),
}
"""The short ones first."""


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--cases", nargs="+", choices=CASES, default=list(CASES))
    parser.add_argument("--fastai-python", help="interpreter with fastai; see vs_fastai.py")
    parser.add_argument("--folder", type=Path, default=DATA, help="folder of the data sets")
    parser.add_argument("--results", type=Path, default=RESULTS)
    args = parser.parse_args()
    python = args.fastai_python or fastai_venv()
    for name in args.cases:
        case = CASES[name]
        found = compared(case, measured(case, args.folder / case.data, python))
        subject = merged(found, args.results, python)
        keep(subject, args.results)
        print(f"{table(subject)}\n", flush=True)


def measured(case: Case, data: Path, python: str, epochs: int = EPOCHS) -> list[Run]:
    """Runs the arms of a case, as far as they were not run at this commit, and returns all runs."""
    kept = BENCH / "peers" / f"{data.name}-{commit()}.json"

    def run(*more: str) -> list[Run]:
        subprocess.run(
            [
                sys.executable, str(HERE / "vs_fastai.py"), "--data", str(data), "--out", str(kept),
                "--epochs", str(epochs), "--fastai-python", python, "--arms", *more,
            ],
            check=True, stdout=subprocess.DEVNULL,
        )  # fmt: skip
        runs: list[Run] = json.loads(kept.read_text(encoding="utf-8"))["runs"]
        return runs

    run(HEAD, "--repeats", "2")
    run(case.arm)
    runs = run(HEAD, "--repeats", "3")
    for budget in BUDGETS:
        if fast_enough(case, runs) is not None:
            break
        runs = run(FINETUNE, "--budget", budget)
    return runs


def fast_enough(case: Case, runs: Sequence[Run]) -> list[Run] | None:
    """Returns the first runs of headstart that are as accurate as fastai; None without any."""
    goal = median(run["accuracy"] for run in runs if run["key"]["arm"] == case.arm)
    ours = [[run for run in runs if run["key"]["arm"] == HEAD]]
    ours += [[run] for run in runs if run["key"]["arm"] == FINETUNE]
    for each in ours:
        if median(run["accuracy"] for run in each) >= goal:
            return each
    return None


def compared(case: Case, runs: Sequence[Run]) -> Row:
    """Returns the seconds of fastai and of headstart, each fastai run against each of headstart."""
    theirs = [run for run in runs if run["key"]["arm"] == case.arm]
    ours = fast_enough(case, runs)
    reached = ours or [run for run in runs if run["key"]["arm"] == HEAD]
    how = "head" if reached[0]["key"]["arm"] == HEAD else "fine-tuned"
    rights = [median(run["accuracy"] for run in each) for each in (theirs, reached)]
    told = f"{rights[0]:.1%} of the test images correct, {how} {rights[1]:.1%}"
    if ours is None:
        told += ", not reached"
    pairs = [(one["known_s"], other["known_s"]) for one in theirs for other in reached]
    return row(f"{case.data}, {SHOWN[case.arm]} ({told})", pairs, case.goal)


def merged(found: Row, folder: Path, python: str) -> Subject:
    """Returns the kept comparisons with this one, which takes the place of an earlier one."""
    path = folder / "peers.json"
    kept = read(path).rows if path.exists() else ()
    others = [each for each in kept if name_of(each) != name_of(found)]
    told = facts()
    told["versions"] |= versions(python, ("fastai",))
    told["before"] = "fastai"
    title = "Seconds to the accuracy of fastai"
    return Subject("peers", title, "s", (*others, found), 1, told)


if __name__ == "__main__":
    main()
