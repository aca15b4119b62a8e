"""How many heads a minute the search tries on features that are cached.

    python benchmarks/probe_rate.py

runs `headstart fit flowers17 --budget 3m` once, or reads the run that `--run` names, and divides
the heads in its `heads.jsonl` by the seconds of the step "heads" in its plan.
"""

import argparse
import sys
from pathlib import Path

from records import BENCH, DATA, ON_CPU, fit, read_run


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, default=DATA / "flowers17", help="folder of images")
    parser.add_argument("--budget", default="3m")
    parser.add_argument("--run", type=Path, help="a finished run to read instead")
    args = parser.parse_args()
    folder = BENCH / "probe_rate"
    if args.run is None:
        fit([str(args.data), "--budget", args.budget], folder, ON_CPU)
    run = args.run or folder / "run"
    steps = [step for step in read_run(run)["run"]["plan"] if step["stage"] == "heads"]
    seconds = sum(step["seconds"] or 0 for step in steps)
    if not seconds:
        sys.exit(f"{run} searched no heads: its plan has no timed step of the stage 'heads'.")
    heads = (run / "heads.jsonl").read_text(encoding="utf-8").splitlines()
    print(
        f"{60 * len(heads) / seconds:.0f} heads a minute: {len(heads)} in {seconds:.1f} s "
        f"({'; '.join(step['happened'] for step in steps)})"
    )


if __name__ == "__main__":
    main()
