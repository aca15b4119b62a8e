"""A budget must hold although other work takes a core in the middle of the run.

    python benchmarks/budget_under_load.py --runs 10

runs `headstart fit --budget` on data sets in turn. At a random moment of each run a process begins
to compute without a pause, and goes on to the end of the run. A run is on time if it takes at most
10 s or 5% longer than its budget, from the start of the process to its exit. The script ends with 1
if fewer than nine in ten are.
"""

import argparse
import json
import os
import random
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).resolve().parent
WORK = HERE.parent / ".bench" / "budget_under_load"
SETS = (
    "hymenoptera", "neu_steel", "flowers17", "rice_leaf",
    "sign_digits", "clothing10", "magnetic_tile",
)  # fmt: skip
BUSY = "while True: pass"
GIVEN_UP = 10
"""A run is stopped when it has taken this many times its budget."""


@dataclass(frozen=True)
class Timed:
    """A run: what was asked, when the load began, what it took and what came out."""

    data: str
    budget_s: int
    load_s: float
    took_s: float
    code: int
    machine_load: float
    chosen: str = ""
    epochs: int = 0
    accuracy: float | None = None
    notes: tuple[str, ...] = ()

    @property
    def on_time(self) -> bool:
        """Whether it ended well and at most 10 s or 5% late."""
        late = self.took_s - self.budget_s
        return self.code == 0 and late <= max(10.0, 0.05 * self.budget_s)


def main() -> None:
    args = _options()
    shutil.rmtree(WORK, ignore_errors=True)
    WORK.mkdir(parents=True)
    dice = random.Random(args.seed)
    runs = []
    print(_line("data", "budget", "load from", "took", "on time", "result"), flush=True)
    for number in range(args.runs):
        name = args.only[number % len(args.only)]
        budget = args.budgets[number // len(args.only) % len(args.budgets)]
        load_s = dice.uniform(0, budget) if not args.no_load else float("inf")
        runs.append(timed(args.data / name, budget, load_s, WORK / f"run{number}"))
        print(_row(runs[-1]), flush=True)
        if args.keep:
            with args.keep.open("a", encoding="utf-8") as file:
                file.write(json.dumps(vars(runs[-1])) + "\n")
    held = sum(run.on_time for run in runs)
    print(f"{held} of {len(runs)} runs were on time")
    sys.exit(10 * held < 9 * len(runs))


def timed(data: Path, budget: int, load_s: float, out: Path) -> Timed:
    """Runs a fit with an empty cache, and a busy process from a moment on."""
    cache = WORK / "cache"
    shutil.rmtree(cache, ignore_errors=True)
    environment = {**os.environ, "HEADSTART_CACHE": str(cache)}
    command = [sys.executable, "-m", "headstart", "fit", str(data), "--budget", f"{budget}s"]
    loaded = os.getloadavg()[0]
    began = time.monotonic()
    busy = None
    log = out.with_suffix(".log")
    with log.open("wb") as file:
        fit = subprocess.Popen(
            [*command, "--out", str(out)], env=environment, stdout=file, stderr=subprocess.STDOUT
        )
        try:
            while fit.poll() is None and time.monotonic() - began < GIVEN_UP * budget:
                if busy is None and time.monotonic() - began >= load_s:
                    busy = subprocess.Popen([sys.executable, "-c", BUSY])
                time.sleep(0.05)
        finally:
            took = time.monotonic() - began
            for process in (fit, busy):
                if process is not None:
                    process.kill()
                    process.wait()
    asked = Timed(data.name, budget, load_s, took, fit.returncode, loaded)
    if fit.returncode:
        last = log.read_text(encoding="utf-8").strip().splitlines()[-1:]
        return Timed(**{**vars(asked), "notes": tuple(last)})
    record = json.loads((out / "run.json").read_text(encoding="utf-8"))
    metrics = json.loads((out / "metrics.json").read_text(encoding="utf-8"))
    return Timed(
        **{
            **vars(asked),
            "chosen": record["chosen"],
            "epochs": record["epochs"],
            "accuracy": metrics["accuracy"],
            "notes": tuple(note for note in record["notes"] if "budget" in note),
        }
    )


def _row(run: Timed) -> str:
    result = run.notes[0] if run.code and run.notes else run.chosen
    if run.accuracy is not None:
        result += f", {run.epochs} epochs, {run.accuracy:.1%} correct"
    load = "none" if run.load_s == float("inf") else f"{run.load_s:.0f} s"
    return _line(
        run.data, f"{run.budget_s} s", load, f"{run.took_s:.1f} s",
        "yes" if run.on_time else "no", result,
    )  # fmt: skip


def _line(*cells: str) -> str:
    widths = (16, 8, 10, 9, 8, 0)
    return "  ".join(cell.ljust(width) for cell, width in zip(cells, widths, strict=True))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    default = os.environ.get("HEADSTART_DATA") or HERE.parents[1] / "shared" / "data"
    parser.add_argument("--data", type=Path, default=default, help="folder with the data sets")
    parser.add_argument("--only", nargs="+", default=SETS, help="data sets, in this order")
    parser.add_argument("--budgets", nargs="+", type=int, default=[60, 180], help="in seconds")
    parser.add_argument("--runs", type=int, default=14)
    parser.add_argument("--seed", type=int, default=0, help="for the moments")
    parser.add_argument("--no-load", action="store_true", help="for comparison")
    parser.add_argument("--keep", type=Path, help="file that gets a JSON line for each run")
    return parser.parse_args()


if __name__ == "__main__":
    main()
