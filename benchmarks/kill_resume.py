"""A search that is killed again and again must end as if it had not been.

    python benchmarks/kill_resume.py --kills 20

runs `headstart fit --trials` once undisturbed and once under `kill -9` at random moments, each
followed by `headstart resume`, and compares the weights, the trials and the files that are left.
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

    def fit(out: Path) -> list[str]:
        return [*HEADSTART, "fit", str(args.data), *search, "--out", str(out)]

    whole, parts = WORK / "whole", WORK / "parts"
    began = time.monotonic()
    subprocess.run(fit(whole), env=environment, check=True, capture_output=True)
    seconds = time.monotonic() - began
    print(f"undisturbed: {seconds:.0f} s", flush=True)

    dice = random.Random(args.seed)
    command = fit(parts)
    moments = []
    while len(moments) < args.kills:
        process = subprocess.Popen(
            command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        after = dice.uniform(0, seconds / 6)
        # Before the run folder is there, nothing was begun that could be gone on with.
        while process.poll() is None and not (parts / "run.json").exists():
            time.sleep(0.01)
        try:
            process.wait(after)
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGKILL)
            process.wait()
            moments.append(after)
            print(f"kill {len(moments)} after {after:.1f} s: {_trials(parts)} trials", flush=True)
        else:
            if process.returncode:
                sys.exit(f"it failed by itself: {' '.join(command)}")
            break
        if _status(parts) == "done":  # in its last moments
            break
        command = [*HEADSTART, "resume", str(parts)]
    if _status(parts) != "done":
        subprocess.run([*HEADSTART, "resume", str(parts)], env=environment, check=True)

    checks = {
        "same weights": _digest(whole) == _digest(parts),
        "same winner": (whole / "recipe.toml").read_text() == (parts / "recipe.toml").read_text(),
        "same trials": _scores(whole) == _scores(parts),
        "no orphan files": _files(whole) == _files(parts),
        "no orphan drafts in the cache": not list((WORK / "cache").glob("*/.draft-*")),
    }
    print(f"{len(moments)} kills of {args.kills}; {checks}")
    if not all(checks.values()):
        sys.exit(1)


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
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    return parser.parse_args()


if __name__ == "__main__":
    main()
