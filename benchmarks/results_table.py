"""`headstart fit` on several data sets: every run listed in docs/results.md.

Each cell of the table below is one process with an empty cache. Its figures are kept in a file of
JSON lines as soon as it ends; started again, the script does only what is missing. Run it with
nothing else on the machine:

    python benchmarks/results_table.py
"""

import argparse
import json
import sys
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import mean, stdev

from measure import MEMORY_NOTE, markdown_table, write_whole
from records import BENCH, DATA, DOCS, ON_CPU, Record, did, fit, provenance, read_lines
from search_page import summary

WORK = BENCH / "results"
SEARCHES = (
    "What each of these runs did, and on what machine: [search_vs_fixed.md](search_vs_fixed.md)."
)


@dataclass(frozen=True)
class Cell:
    """One run: a data folder below --data or a named source, the split's seed, the budget."""

    data: str
    split_seed: int
    budget: str

    @property
    def command(self) -> str:
        """The command as a reader would type it."""
        return (
            f"headstart fit {self.data} --budget {self.budget} --seed 0 "
            f"--split-seed {self.split_seed}"
        )


CELLS = (
    *(Cell("flowers17", seed, "5m") for seed in range(5)),
    *(Cell("hymenoptera", seed, "2m") for seed in range(3)),
    Cell("neu_steel", 0, "5m"),
    Cell("demo:solar", 0, "3m"),
    Cell("stanford_cars_crops", 0, "30m"),
)


def main() -> None:
    args = _options()
    cells = [cell for cell in CELLS if not args.only or cell.data in args.only]
    records = read_lines(args.results)
    failed = []
    for number, cell in enumerate(cells, start=1):
        if args.render or any(record["cell"] == asdict(cell) for record in records):
            continue
        print(f"{number}/{len(cells)}: {cell.command}", flush=True)
        try:
            record = run_cell(cell, args.data)
        except RuntimeError as error:
            print(f"failed: {error}", file=sys.stderr)
            failed.append(cell.command)
            continue
        print(f"  {record['metrics']['accuracy']:.1%} in {record['wall_s']:.1f} s", flush=True)
        records.append(record)
        write_whole(args.results, "".join(f"{json.dumps(each)}\n" for each in records))
    if records:
        searches = read_lines(args.results.with_name("search_vs_fixed.jsonl"))
        write_whole(args.results.with_suffix(".md"), render(_ordered(records), searches))
    if failed:
        raise SystemExit(f"Failed: {'; '.join(failed)}. Run the script again to try them again.")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    names = list(dict.fromkeys(cell.data for cell in CELLS))
    parser.add_argument("--data", type=Path, default=DATA, help="where the data folders are")
    parser.add_argument("--only", nargs="+", choices=names, help="only these data sets")
    parser.add_argument("--render", action="store_true", help="only write the page")
    parser.add_argument(
        "--results",
        type=Path,
        default=DOCS / "results.jsonl",
        help="JSON lines; the page is written beside it",
    )
    return parser.parse_args()


def _ordered(records: Iterable[Record]) -> list[Record]:
    order = {json.dumps(asdict(cell)): number for number, cell in enumerate(CELLS)}
    return sorted(records, key=lambda record: order.get(json.dumps(record["cell"]), len(order)))


def run_cell(cell: Cell, data: Path) -> Record:
    """Runs one cell and returns its record.

    Raises:
        RuntimeError: The command failed.
    """
    source = cell.data if ":" in cell.data else str(data / cell.data)
    command = [source, "--budget", cell.budget, "--seed", "0"]
    command += ["--split-seed", str(cell.split_seed)]
    folder = WORK / f"{cell.data.replace(':', '-')}-{cell.split_seed}-{cell.budget}"
    return {"cell": asdict(cell), **fit(command, folder, ON_CPU)}


def render(records: list[Record], searches: list[Record]) -> str:
    """Returns the Markdown page.

    Args:
        records: Of this script's runs.
        searches: Of the runs of `search_vs_fixed.py`.
    """
    compared = [line.replace("## ", "### ") for line in summary(searches)] if searches else []
    return "\n".join(
        [
            "# Results",
            "",
            "Written by `python benchmarks/results_table.py` from `results.jsonl` beside this "
            "page; do not edit. All finished runs are listed.",
            "",
            "## By data set",
            "",
            _summary(records),
            "",
            "Runs of one data set differ only in the seed of the split. Their test sets overlap, "
            "so the spread shows the effect of the split and is not a confidence interval.",
            "",
            "## Every run",
            "",
            _runs(records),
            "",
            "Accuracy is measured once, by the reloaded bundle on the original files of the "
            "sealed test set, with Wilson's 95% interval. Seconds run from the start of the "
            "process to its exit, including the report, with an empty cache. The limit is the "
            f"budget plus 10 s or 5%, whichever is more. {MEMORY_NOTE}",
            "",
            *(["## The search against fixed and random recipes", ""] if compared else []),
            *compared,
            *([SEARCHES, ""] if compared else []),
            "## What each run of the first table did",
            "",
            *(f"- `{Cell(**record['cell']).command}`: {did(record)}" for record in records),
            "",
            *provenance(records),
            "",
        ]
    )


def _summary(records: list[Record]) -> str:
    groups: dict[tuple[str, str], list[Record]] = {}
    for record in records:
        cell = record["cell"]
        groups.setdefault((cell["data"], cell["budget"]), []).append(record)
    rows = []
    for (data, budget), runs in groups.items():
        found = [run["metrics"]["accuracy"] for run in runs]
        spread = "-"
        if len(found) > 1:
            spread = f"{min(found):.1%} to {max(found):.1%}, s = {stdev(found):.1%}"
        rows.append(
            (
                data,
                budget,
                str(len(runs)),
                f"{mean(found):.1%}",
                spread,
                f"{mean(run['wall_s'] for run in runs):.0f}",
                f"{max(run['peak_anon_mb'] for run in runs):,.0f}",
            )
        )
    header = ("data", "budget", "runs", "mean accuracy", "range", "mean s", "highest memory, MB")
    return markdown_table(header, rows)


def _runs(records: list[Record]) -> str:
    header = (
        "command",
        "test accuracy (95% interval)",
        "balanced accuracy",
        "ECE",
        "train / val / test",
        "s",
        "in budget",
        "memory, MB",
    )
    rows = []
    for record in records:
        metrics, run = record["metrics"], record["run"]
        low, high = metrics["accuracy_interval"]
        budget_s = run["budget_s"]
        kept = record["wall_s"] <= budget_s + max(10.0, 0.05 * budget_s)
        rows.append(
            (
                f"`{Cell(**record['cell']).command}`",
                f"{metrics['accuracy']:.1%} ({low:.1%} to {high:.1%})",
                f"{metrics['balanced_accuracy']:.1%}",
                f"{metrics['ece']:.3f}",
                f"{run['n_train']} / {run['n_val']} / {run['n_test']}",
                f"{record['wall_s']:.0f}",
                "yes" if kept else "no",
                f"{record['peak_anon_mb']:,.0f}",
            )
        )
    return markdown_table(header, rows)


if __name__ == "__main__":
    main()
