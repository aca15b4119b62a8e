"""A search that is killed again and again must end as if it had not been.

    python benchmarks/kill_resume.py --kills 20

runs `headstart fit --trials` once undisturbed and once under `kill -9`, each followed by `headstart
resume`, and compares the weights, the trials and the files that are left. The moments are drawn
uniformly over the undisturbed run and are met by the journal: a moment 4 s after the fifth trial is
4 s after the fifth trial, on a slow machine too. They begin with the run folder, and end with three
quarters of what follows the last trial: a run that was resumed finds its views cached, and is
through with it sooner.
"""

import argparse
import hashlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
WORK = HERE.parent / ".bench" / "kill_resume"
HEADSTART = [sys.executable, "-m", "headstart"]


def main() -> None:
    args = _options()
    shutil.rmtree(WORK, ignore_errors=True)
    WORK.mkdir(parents=True)
    environment = {**os.environ, "HEADSTART_CACHE": str(WORK / "cache")}
    search = ["--trials", str(args.trials), "--epochs", str(args.epochs), "--set"]
    search += [f"backbone.resolution={args.resolution}"]

    def start(*command: str) -> "subprocess.Popen[bytes]":
        return subprocess.Popen(
            [*HEADSTART, *command], env=environment, stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )  # fmt: skip

    whole, parts = WORK / "whole", WORK / "parts"
    began = time.monotonic()
    events = _watch(start("fit", str(args.data), *search, "--out", str(whole)), whole)
    begun_s = events[0] - began
    print(f"undisturbed: {events[-1] - began:.0f} s, {len(events) - 2} trials", flush=True)

    dice = random.Random(args.seed)
    last = events[-2] + 0.75 * (events[-1] - events[-2])
    drawn = sorted(dice.uniform(events[0], last) for _ in range(args.kills))
    kills = 0
    command = ["fit", str(args.data), *search, "--out", str(parts)]
    for moment in drawn:
        trials = sum(event <= moment for event in events[1:-1])
        after = moment - events[trials]
        # What was there before it begins again comes after its imports and the images.
        after += begun_s if kills and _trials(parts) >= trials else 0
        process = start(*command)
        if not _reach(process, parts, trials, after):
            break
        process.send_signal(signal.SIGKILL)
        process.wait()
        kills += 1
        print(
            f"kill {kills}: {after:.1f} s after trial {trials}; {_trials(parts)} trials", flush=True
        )
        if _status(parts) == "done":  # in its last moments
            break
        command = ["resume", str(parts)]
    if _status(parts) != "done" and start("resume", str(parts)).wait():
        sys.exit("it could not be resumed")

    checks = {
        "same weights": _digest(whole) == _digest(parts),
        "same winner": (whole / "recipe.toml").read_text() == (parts / "recipe.toml").read_text(),
        "same trials": _scores(whole) == _scores(parts),
        "no orphan files": _files(whole) == _files(parts),
        "no orphan drafts in the cache": not list((WORK / "cache").glob("*/.draft-*")),
    }
    print(f"{kills} kills of {args.kills}; {checks}")
    if not all(checks.values()):
        sys.exit(1)


def _watch(process: "subprocess.Popen[bytes]", run: Path) -> list[float]:
    """Returns when the run folder was there, when each trial was in the journal, and the end."""
    events: list[float] = []
    while process.poll() is None:
        there = (run / "run.json").exists() + _trials(run)
        events += [time.monotonic()] * (there - len(events))
        time.sleep(0.01)
    if process.returncode:
        sys.exit("the undisturbed search failed")
    return [*events, time.monotonic()]


def _reach(process: "subprocess.Popen[bytes]", run: Path, trials: int, after: float) -> bool:
    """Waits until a run is some seconds beyond a trial; returns False where it ended before."""
    while process.poll() is None and not ((run / "run.json").exists() and _trials(run) >= trials):
        time.sleep(0.01)
    try:
        process.wait(after)
    except subprocess.TimeoutExpired:
        return True
    if process.returncode:
        sys.exit("it failed by itself")
    return False


def _digest(run: Path) -> str:
    return hashlib.sha256((run / "bundle" / "model.safetensors").read_bytes()).hexdigest()


def _trials(run: Path) -> int:
    journal = run / "trials.jsonl"
    return journal.read_text().count("\n") if journal.exists() else 0


def _scores(run: Path) -> list[tuple[object, ...]]:
    lines = (run / "trials.jsonl").read_text().splitlines()
    return [
        tuple(json.loads(line)[key] for key in ("rung", "number", "val_loss", "recipe"))
        for line in lines
    ]


def _files(run: Path) -> set[str]:
    return {str(path.relative_to(run)) for path in run.rglob("*")}


def _status(run: Path) -> str:
    return str(json.loads((run / "run.json").read_text())["status"])


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    shared = Path(os.environ.get("HEADSTART_DATA", HERE.parents[1] / "shared" / "data"))
    parser.add_argument("--data", type=Path, default=shared / "hymenoptera")
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--trials", type=int, default=12)
    parser.add_argument("--epochs", type=int, default=12)
    parser.add_argument("--resolution", type=int, default=96)
    parser.add_argument("--seed", type=int, default=0, help="seed for the moments")
    return parser.parse_args()


if __name__ == "__main__":
    main()
