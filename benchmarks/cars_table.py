"""The article's table of methods, redone on cut-out cars with a small network on a CPU.

    python benchmarks/cars_table.py

trains the naive recipe, then one method more a row up to the default recipe, then the default for
longer, then the best recipe that a search finds; every row on the same images. The naive recipe is
trained as long as the last ones, too, so that length and method can be told apart. To be feasible
on two cores, all rows use the same `--classes` classes, drawn by a seed, at `--resolution` pixels.
Every run is kept as a line of JSON as soon as it ends; started again with the same options, the
script does only what is missing. To run a row again, delete its lines.
"""

import argparse
import json
import random
import shutil
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from statistics import mean, median

import numpy as np

from measure import markdown_table, write_whole
from records import (
    BENCH,
    DATA,
    DOCS,
    ON_CPU,
    Record,
    accuracy,
    check_paired,
    did,
    fit,
    provenance,
    read_lines,
    right,
    share_removed,
    shown_p,
)

WORK = BENCH / "cars_table"
BACKBONE = "tf_efficientnet_lite0"
ARTICLE = "The article went from 80.5% to about 94% on the official split, with EfficientNet-B3."

ROWS: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("naive: random head, everything fine-tuned, AdamW at 1e-3, no augmentation", ()),
    ("learning rate 5e-4", ("optimizer.lr=5e-4",)),
    ("weight decay and clipping", ("optimizer.weight_decay=1e-2", "optimizer.clip_norm=1.0")),
    ("OneCycle", ("schedule=onecycle",)),
    ("crops and flips", ("augmentation=flip_crop",)),
    ("TrivialAugment", ("augmentation=trivial_augment",)),
    ("label smoothing", ("criterion=label_smoothing",)),
    ("average of the weights (EMA)", ("averaging=ema",)),
    ("head from the probe", ("head.init=probe", "head.features=auto")),
    ("frozen first blocks: the default recipe", ("freezing=last_blocks",)),
)
"""What each row changes in the recipe of the row before. The last is the default recipe."""

LONGER = "the same for {times} times the epochs"
NAIVE_LONGER = "the naive recipe for {times} times the epochs"
WINNER = "the best recipe of a search, for as many epochs"
SEARCH = "search"


@dataclass(frozen=True)
class Row:
    """One row: its name, what it changes, and its recipe and length as options of `fit`."""

    label: str
    change: str
    options: tuple[str, ...]


def main() -> None:
    args = _options()
    records = read_lines(args.results)
    if not args.render:
        _run(args, records)
    kept = [record for record in records if record["key"].items() >= _shared(args).items()]
    if kept:
        write_whole(args.results.with_suffix(".md"), render(kept, args))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, default=DATA / "stanford_cars_crops")
    parser.add_argument("--classes", type=int, default=30, help="number of class folders")
    parser.add_argument("--subset-seed", type=int, default=0, help="seed for the choice of classes")
    parser.add_argument("--resolution", type=int, default=128)
    parser.add_argument(
        "--epochs", type=int, default=6, help="epochs of every row but the last two"
    )
    parser.add_argument(
        "--times", type=int, default=3, help="factor on the epochs of the last two rows"
    )
    parser.add_argument(
        "--trials", type=int, default=9, help="trials of the search for the last row"
    )
    parser.add_argument("--recipe", type=Path, help="recipe of the last row; searched by default")
    parser.add_argument("--seeds", type=int, default=1, help="runs of each row, seeds 0, 1, ...")
    parser.add_argument("--render", action="store_true", help="only write the page")
    parser.add_argument(
        "--results",
        type=Path,
        default=DOCS / "cars_table.jsonl",
        help="JSON lines; the page is written beside it",
    )
    args = parser.parse_args()
    if not args.data.is_dir() and not args.render:
        parser.error(f"there is no folder {args.data}; name one with --data")
    return args


def _run(args: argparse.Namespace, records: list[Record]) -> None:
    """Runs what is missing, and adds it to the records and their file."""
    data = subset(args.data, args.classes, args.subset_seed)

    def known(label: str, seed: int) -> Record | None:
        key = {**_shared(args), "row": label, "seed": seed}
        return next((record for record in records if record["key"] == key), None)

    def run(label: str, options: Sequence[str], seed: int) -> None:
        print(f"{label}, seed {seed}", flush=True)
        pixels = f"backbone.resolution={args.resolution}"
        command = [str(data), *options, "--set", pixels, "--seed", str(seed), "--split-seed", "0"]
        try:
            record = fit(command, WORK / "run", ON_CPU)
        except RuntimeError as error:
            sys.exit(f"failed: {error}\nRun the script again to go on.")
        print(f"  {record['metrics']['accuracy']:.1%} in {record['wall_s']:.0f} s", flush=True)
        records.append({"key": {**_shared(args), "row": label, "seed": seed}, **record})
        write_whole(args.results, "".join(f"{json.dumps(each)}\n" for each in records))

    for row in (*rows(args.epochs, args.times), naive_longer(args.epochs, args.times)):
        for seed in range(args.seeds):
            if known(row.label, seed) is None:
                run(row.label, row.options, seed)
    last = str(args.times * args.epochs)
    recipe = args.recipe
    if recipe is None:
        if known(SEARCH, 0) is None:
            run(SEARCH, ("--backbone", BACKBONE, "--trials", str(args.trials), "--epochs", last), 0)
        found = known(SEARCH, 0)
        recipe = WORK / "searched.json"
        write_whole(recipe, json.dumps(found["recipe"] if found else {}))
    for seed in range(args.seeds):
        if known(WINNER, seed) is None:
            run(WINNER, ("--recipe", str(recipe), "--epochs", last), seed)


def _shared(args: argparse.Namespace) -> dict[str, int]:
    """Returns what all rows of one table have in common."""
    names = ("classes", "subset_seed", "resolution", "epochs", "times")
    return {name: getattr(args, name) for name in names}


def rows(epochs: int, times: int) -> list[Row]:
    """Returns all rows but that of the search."""
    found: list[Row] = []
    options: tuple[str, ...] = ("--recipe", "naive", "--set", f"backbone={BACKBONE}")
    for label, changes in ROWS:
        options += tuple(part for change in changes for part in ("--set", change))
        shown = ", ".join(f"`{change}`" for change in changes) or "`--recipe naive`"
        found.append(Row(label, shown, (*options, "--epochs", str(epochs))))
    longer = (*options, "--epochs", str(times * epochs))
    return [*found, Row(LONGER.format(times=times), f"`--epochs {times * epochs}`", longer)]


def naive_longer(epochs: int, times: int) -> Row:
    """Returns the naive recipe for as many epochs as the last rows have."""
    first = rows(times * epochs, 1)[0]
    return Row(NAIVE_LONGER.format(times=times), f"`--epochs {times * epochs}`", first.options)


def subset(data: Path, classes: int, seed: int) -> Path:
    """Copies class folders chosen by a seed; links out of a folder would not be followed."""
    folder = WORK / f"cars-{classes}-{seed}"
    if not folder.exists():
        draft = folder.with_name(f".{folder.name}")
        shutil.rmtree(draft, ignore_errors=True)
        for name in chosen_classes(data, classes, seed):
            shutil.copytree(data / name, draft / name)
        draft.rename(folder)
    return folder


def chosen_classes(data: Path, classes: int, seed: int) -> list[str]:
    """Returns the names of so many class folders, drawn without replacement."""
    names = sorted(path.name for path in data.iterdir() if path.is_dir())
    return sorted(random.Random(seed).sample(names, min(classes, len(names))))


def render(records: list[Record], args: argparse.Namespace) -> str:
    """Returns the Markdown page."""
    by_label: dict[str, list[Record]] = {}
    for record in sorted(records, key=lambda record: record["key"]["seed"]):
        by_label.setdefault(record["key"]["row"], []).append(record)
    table = [row for row in rows(args.epochs, args.times) if row.label in by_label]
    if WINNER in by_label:
        before = by_label[table[-1].label][0]["recipe"]
        table.append(Row(WINNER, _changes(by_label[WINNER][0]["recipe"], before), ()))
    run = records[0]["run"]
    naive = naive_longer(args.epochs, args.times)
    equal = [naive, *(row for row in table[len(ROWS) :] if naive.label in by_label)]
    return "\n".join(
        [
            "# From the naive recipe to the best one, method by method",
            "",
            "Written by `python benchmarks/cars_table.py` from `cars_table.jsonl` beside this "
            "page; do not edit. All finished runs are listed.",
            "",
            f"Cars cut out of their photographs, {args.classes} classes drawn by seed "
            f"{args.subset_seed}, {args.resolution} px, `{BACKBONE}` on a CPU; "
            f"{run['n_train']} images to train on, {run['n_val']} to validate, {run['n_test']} "
            f"to test, the same for all rows; {args.epochs} epochs, and {args.times} times as "
            "many in the last two rows. Each row makes one change to the row before.",
            "",
            _table(table, by_label),
            "",
            "Accuracy is that of the sealed test set, with Wilson's 95% interval. With several "
            "seeds it is the mean, and the interval is for the images of one seed. The difference "
            "to the row before is in percentage points; p is exact McNemar on the same test "
            "images, with several seeds twice the median, which is valid under any dependence; "
            "Holm's correction is over all rows. The share of the naive error has a 95% interval "
            "over test images (BCa). Seconds cover making views and training.",
            "",
            f"## All for {args.times * args.epochs} epochs",
            "",
            _equal_length(equal, by_label),
            "",
            f"{ARTICLE} The figures here are for fewer classes, fewer images, a smaller network "
            "and a lower resolution, so the gains can be compared but the accuracies cannot.",
            "",
            "## What each run did",
            "",
            *(
                f"- {label}, seed {record['key']['seed']}: {accuracy([record])}; {did(record)}"
                for label in (*(row.label for row in table), naive.label, SEARCH)
                for record in by_label.get(label, ())
            ),
            "",
            *provenance(records),
            "",
        ]
    )


def _changes(recipe: Record, before: Record) -> str:
    """Returns the fields in which a recipe differs from another, as settings."""

    def flat(data: Record) -> dict[str, object]:
        return {
            f"{family}.{name}": value
            for family, fields in data.items()
            if isinstance(fields, dict)
            for name, value in fields.items()
        }

    old = flat(before)
    changed = [(path, value) for path, value in flat(recipe).items() if old.get(path) != value]
    return ", ".join(f"`{path}={_shown(value)}`" for path, value in changed) or "nothing"


def _shown(value: object) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def _table(table: list[Row], by_label: dict[str, list[Record]]) -> str:
    from headstart.evaluation.statistics import holm

    naive = by_label[ROWS[0][0]]
    compared = [
        _compared(by_label[row.label], by_label[before.label]) for before, row in pairwise(table)
    ]
    differences = ["-", *(f"{100 * gain:+.1f}" for gain, _ in compared)]
    p_values = ["-", *(shown_p(p) for _, p in compared)]
    adjusted = ["-", *(shown_p(p) for p in holm([p for _, p in compared]))]
    lines = []
    for row, difference, p, corrected in zip(table, differences, p_values, adjusted, strict=True):
        runs = by_label[row.label]
        lines.append(
            (
                row.label,
                row.change,
                str(len(runs)),
                accuracy(runs),
                difference,
                p,
                corrected,
                _removed(naive, runs),
                f"{mean(_seconds(run) for run in runs):.0f}",
            )
        )
    header = (
        "row", "changes", "runs", "test accuracy (95% interval)", "difference", "p", "p, Holm",
        "share of the naive error removed", "s",
    )  # fmt: skip
    return markdown_table(header, lines)


def _equal_length(table: list[Row], by_label: dict[str, list[Record]]) -> str:
    """Returns what methods bring where all have as many epochs; the first row is the naive one."""
    if table[0].label not in by_label:
        return "Not run yet."
    naive = by_label[table[0].label]
    names = ("the naive recipe", "the default recipe", "the best recipe of a search")
    lines = []
    for name, row in zip(names, table, strict=False):
        runs = by_label[row.label]
        gain, p = ("-", "-")
        if row is not table[0]:
            difference, value = _compared(runs, naive)
            gain, p = f"{100 * difference:+.1f}", shown_p(value)
        seconds = f"{mean(_seconds(run) for run in runs):.0f}"
        lines.append((name, accuracy(runs), gain, p, _removed(naive, runs), seconds))
    header = (
        "recipe",
        "test accuracy (95% interval)",
        "against the naive one",
        "p",
        "share of its error removed",
        "s",
    )
    return markdown_table(header, lines)


def _compared(runs: list[Record], before: list[Record]) -> tuple[float, float]:
    """Returns by how much the mean accuracy is higher than before, and the p-value."""
    from headstart.evaluation.statistics import mcnemar_exact

    for run in (*runs, *before):
        check_paired(runs[0], run)
    gain = np.mean([right(run) for run in runs]) - np.mean([right(run) for run in before])
    p_values = [mcnemar_exact(right(a), right(b)) for a, b in zip(runs, before, strict=False)]
    # Twice the median is a p-value whatever the dependence (Meinshausen, Meier, Bühlmann 2009).
    factor = 1 if len(p_values) == 1 else 2
    return float(gain), min(1.0, factor * median(p_values))


def _removed(naive: list[Record], runs: list[Record]) -> str:
    found = None if runs is naive else share_removed(naive, runs)
    return "-" if found is None else "{:.0%} ({:.0%} to {:.0%})".format(*found)


def _seconds(record: Record) -> float:
    steps = record["run"]["plan"]
    return sum(step["seconds"] or 0 for step in steps if step["stage"] in {"views", "training"})


if __name__ == "__main__":
    main()
