"""The search against the fixed default recipe and against random recipes, in the same time.

Three arms on the same data, split and budget, each a process with an empty cache:

    searched    headstart fit DATA --budget B
    fixed       headstart fit DATA --budget B --recipe default
    random      headstart fit DATA --budget B --sampler random

The arms of a cell run right after each other, and which comes first changes from cell to cell.
Every run is kept as a line of JSON as soon as it ends; when started again, the script does
only what is missing. Run it with nothing else on the machine:

    python benchmarks/search_vs_fixed.py

`--pin` runs as many cells at a time as there are cores, each with all its processes on one core.

    python benchmarks/search_vs_fixed.py --few --pin --earlier OTHER/src

compares them with 15 training images of each class of eight data sets, and adds the search of an
earlier version, whose folder `src` is named (`git worktree add OTHER COMMIT`), as a fourth arm.
"""

import argparse
import fcntl
import json
import multiprocessing
import os
import sys
from dataclasses import asdict, replace
from pathlib import Path

from few_images import few
from measure import commit, write_whole
from records import (
    BENCH,
    DATA,
    DOCS,
    ON_CPU,
    Record,
    fit,
    read_lines,
)
from search_cells import ARMS, CELLS, FEW, Cell
from search_page import render

WORK = BENCH / "search_vs_fixed"


def main() -> None:
    args = _options()
    missing = [] if args.render else _missing(args)
    failed = _run_pinned(missing, args) if args.pin else _run(missing, args, None)
    records = read_lines(args.results)
    if records:
        write_whole(args.results.with_suffix(".md"), render(records))
    if failed:
        raise SystemExit("Some runs failed. Run the script again to try them again.")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    names = list(dict.fromkeys(cell.data for cell in (*CELLS, *FEW)))
    parser.add_argument("--data", type=Path, default=DATA, help="where the data folders are")
    parser.add_argument("--only", nargs="+", choices=names, help="only these data sets")
    parser.add_argument("--arms", nargs="+", choices=list(ARMS), help="only these arms")
    parser.add_argument("--seeds", type=int, nargs="+", help="only these split seeds")
    parser.add_argument("--budgets", nargs="+", help="only cells of these budgets")
    parser.add_argument("--budget", help="budget of every cell, to try the script out")
    parser.add_argument("--few", action="store_true", help="15 training images of each class")
    parser.add_argument("--earlier", type=Path, help="folder `src` of an earlier version")
    parser.add_argument(
        "--pin", action="store_true", help="run several cells at a time, one on each core"
    )
    parser.add_argument("--render", action="store_true", help="only write the page")
    parser.add_argument(
        "--results",
        type=Path,
        help="JSON lines; the page is written beside it (docs/search_vs_fixed.jsonl, or with "
        "--few docs/search_few.jsonl)",
    )
    args = parser.parse_args()
    args.results = args.results or DOCS / f"search_{'few' if args.few else 'vs_fixed'}.jsonl"
    args.arms = args.arms or [arm for arm in ARMS if arm != "earlier" or args.earlier]
    if "earlier" in args.arms and not args.earlier:
        parser.error("the arm earlier needs --earlier")
    records = [] if args.render else read_lines(args.results)
    for cell, _ in [] if args.render else _missing(args):
        if any(Cell(**r["cell"]) == cell and r["pinned"] != args.pin for r in records):
            parser.error(f"{cell} has runs {'without' if args.pin else 'with'} --pin")
    return args


def _wanted(args: argparse.Namespace) -> list[tuple[Cell, list[str]]]:
    """Returns the cells that are wanted, with their arms in the order of their turn."""
    wanted = []
    for number, cell in enumerate(FEW if args.few else CELLS):
        if args.only and cell.data not in args.only:
            continue
        if args.budgets and cell.budget not in args.budgets:
            continue
        if args.seeds and cell.split_seed not in args.seeds:
            continue
        arms = list(ARMS)
        first = number % len(arms)
        turn = [arm for arm in arms[first:] + arms[:first] if arm in args.arms]
        wanted.append((replace(cell, budget=args.budget or cell.budget), turn))
    return wanted


def _missing(args: argparse.Namespace) -> list[tuple[Cell, list[str]]]:
    """Returns the cells that are wanted, with those of their arms that have no record yet."""
    known = {(Cell(**each["cell"]), each["arm"]) for each in read_lines(args.results)}
    missing = []
    for cell, turn in _wanted(args):
        left = [arm for arm in turn if (cell, arm) not in known]
        if left:
            missing.append((cell, left))
    return missing


def _run_pinned(missing: list[tuple[Cell, list[str]]], args: argparse.Namespace) -> bool:
    """Runs the cells on as many cores as there are; returns whether any run failed."""
    cores = sorted(os.sched_getaffinity(0))
    lanes = [
        multiprocessing.Process(target=_lane, args=(missing[turn :: len(cores)], args, core))
        for turn, core in enumerate(cores)
    ]
    for lane in lanes:
        lane.start()
    for lane in lanes:
        lane.join()
    return any(lane.exitcode != 0 for lane in lanes)


def _lane(missing: list[tuple[Cell, list[str]]], args: argparse.Namespace, core: int) -> None:
    os.sched_setaffinity(0, {core})  # what it starts stays there, too
    if _run(missing, args, core):
        sys.exit(1)


def _run(missing: list[tuple[Cell, list[str]]], args: argparse.Namespace, core: int | None) -> bool:
    """Runs what is missing, one after the other; returns whether any run failed."""
    failed = False
    for cell, arms in missing:
        for arm in arms:
            print(cell.command(arm), flush=True)
            try:
                record = run_arm(cell, arm, args, core)
            except RuntimeError as error:
                print(f"failed: {cell.command(arm)}: {error}", file=sys.stderr)
                failed = True
                continue
            shown = record["metrics"]["accuracy"]
            print(f"  {arm}: {shown:.1%} in {record['wall_s']:.1f} s", flush=True)
            _append(args.results, record)
    return failed


def run_arm(cell: Cell, arm: str, args: argparse.Namespace, core: int | None) -> Record:
    """Runs one arm of a cell and returns its record.

    Raises:
        RuntimeError: The command failed.
    """
    environment = ON_CPU if core is None else {**ON_CPU, "OMP_NUM_THREADS": "1"}
    if arm == "earlier":
        environment = {**environment, "PYTHONPATH": str(args.earlier)}
    source = args.data / cell.data
    if cell.each:
        source = few(source, cell.each, cell.classes, cell.split_seed, WORK)
    folder = WORK / f"{cell.data}-{cell.split_seed}-{cell.budget}-{arm}"
    record = fit([str(source), *cell.options(arm)], folder, environment)
    if arm == "earlier":
        record["commit"] = commit(args.earlier)
    budget_s = record["run"]["budget_s"]
    kept = record["wall_s"] <= budget_s + max(10.0, 0.05 * budget_s)
    return {
        "cell": asdict(cell),
        "arm": arm,
        "pinned": core is not None,
        "budget_kept": kept,
        **record,
    }


def _append(path: Path, record: Record) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a", encoding="utf-8") as file:
        fcntl.flock(file, fcntl.LOCK_EX)  # pinned cells end at the same time
        file.write(json.dumps(record) + "\n")


if __name__ == "__main__":
    main()
