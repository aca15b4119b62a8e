"""The article's experiment: EfficientNet-B3 on Stanford Cars with its official split.

    python benchmarks/stanford_cars.py --data FOLDER --budget 2h

trains the naive recipe (a random head, everything fine-tuned, no augmentation) and searches, each
in the same time, and writes how much of the naive error is gone. FOLDER holds the devkit with
`cars_test_annos_withlabels.mat`, `cars_train/` and `cars_test/`, or `cars_annos.mat` with
`car_ims/`. A GPU is used where there is one. Every run is kept as a line of JSON as soon as it
ends; started again with the same options, the script does only what is missing.
"""

import argparse
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from measure import markdown_table, write_whole
from records import (
    BENCH,
    DATA,
    DOCS,
    Record,
    accuracy,
    did,
    fit,
    provenance,
    read_lines,
    right,
    share_removed,
    shown_p,
)

WORK = BENCH / "stanford_cars"
ARTICLE = (0.805, 0.94)
"""Accuracy of the article's naive recipe, and about what it found in the end."""


def main() -> None:
    args = _options()
    arms = _arms(args)
    records = read_lines(args.results)
    missing = {
        arm: options
        for arm, options in arms.items()
        if all(record["options"] != options for record in records)
    }
    lacking = what_is_missing(args.data, args.backbone, args.set) if missing else ""
    if lacking:
        print(lacking, file=sys.stderr)
        sys.exit(2)
    for arm, options in missing.items():
        print(f"headstart fit {' '.join(options)}", flush=True)
        try:
            record = fit([str(args.data), *options], args.work / arm, {}, _device())
        except RuntimeError as error:
            sys.exit(f"{arm} failed: {error}\nRun the script again to try it again.")
        records.append({"arm": arm, "options": options, **record})
        write_whole(args.results, "".join(f"{json.dumps(each)}\n" for each in records))
    ours = {
        arm: record for arm, options in arms.items() for record in records
        if record["options"] == options
    }  # fmt: skip
    page = render(ours)
    write_whole(args.results.with_suffix(".md"), page)
    print(page)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, default=DATA / "stanford_cars")
    parser.add_argument("--backbone", default="tf_efficientnet_b3.in1k", help="a timm model")
    parser.add_argument("--budget", default="2h", help="of each arm")
    parser.add_argument("--epochs", type=int, help="length of training instead of the budget")
    parser.add_argument("--trials", type=int, help="length of the search instead of the budget")
    parser.add_argument("--set", action="append", default=[], help="for both arms, as for `fit`")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--work", type=Path, default=WORK, help="where the runs are kept")
    parser.add_argument(
        "--results",
        type=Path,
        default=DOCS / "stanford_cars.jsonl",
        help="JSON lines; the page is written beside it",
    )
    args = parser.parse_args()
    if (args.epochs is None) != (args.trials is None):
        parser.error("give --epochs and --trials together, or a budget")
    return args


def _arms(args: argparse.Namespace) -> dict[str, list[str]]:
    common = ["--backbone", args.backbone, "--seed", str(args.seed)]
    common += [part for setting in args.set for part in ("--set", setting)]
    length, search = ["--budget", args.budget], ["--budget", args.budget]
    if args.epochs is not None:
        length = ["--epochs", str(args.epochs)]
        search = [*length, "--trials", str(args.trials)]
    return {"naive": ["--recipe", "naive", *length, *common], "searched": [*search, *common]}


def what_is_missing(data: Path, backbone: str, settings: Sequence[str] = ()) -> str:
    """Says in one sentence what is not at hand, nothing where all is.

    Weights that a setting names are not looked for.
    """
    from headstart.data.sources import load_dataset
    from headstart.data.stanford_cars import is_stanford_cars
    from headstart.errors import HeadstartError

    if not data.is_dir() or not is_stanford_cars(data):
        return f"Stanford Cars is missing: {data} holds no cars_train_annos.mat or cars_annos.mat."
    try:
        dataset = load_dataset(data)
        if not any(item.split == "test" for item in dataset.items):
            return dataset.notes[-1].replace("is not used", "is missing")
        if not any(each.startswith("backbone.weights=") for each in settings):
            # Imported late: it takes seconds.
            from headstart.backbones.catalog import load_backbone

            load_backbone(backbone)
    except HeadstartError as error:
        return str(error)
    return ""


def _device() -> str:
    import torch

    if not torch.cuda.is_available() or os.environ.get("CUDA_VISIBLE_DEVICES") == "":
        return "no GPU used"
    return torch.cuda.get_device_name()


def render(runs: dict[str, Record]) -> str:
    """Returns the Markdown page."""
    from headstart.evaluation.statistics import mcnemar_exact

    naive, searched = runs["naive"], runs["searched"]
    rows = []
    for arm, record in runs.items():
        run = record["run"]
        rows.append(
            (
                arm,
                accuracy([record]),
                f"{1 - record['metrics']['accuracy']:.1%}",
                _removed(naive, record) if arm != "naive" else "-",
                str(run["epochs"]),
                f"{record['wall_s']:,.0f}",
            )
        )
    first, last = ARTICLE
    gone = 1 - (1 - last) / (1 - first)
    rows.append(("the article, naive", f"{first:.1%}", f"{1 - first:.1%}", "-", "-", "-"))
    rows.append(("the article, best", f"about {last:.0%}", f"{1 - last:.1%}", f"{gone:.0%}"))
    header = (
        "method",
        "test accuracy (95% interval)",
        "error",
        "share of the naive error removed",
        "epochs",
        "s",
    )
    rows = [(*row, *["-"] * (len(header) - len(row))) for row in rows]
    p = mcnemar_exact(right(naive), right(searched))
    return "\n".join(
        [
            "# Stanford Cars, the official split",
            "",
            "Written by `python benchmarks/stanford_cars.py`; do not edit. Backbone "
            f"`{naive['run']['backbone']}` ({naive['run']['backbone_source']}); images are cut to "
            f"their official boxes; {naive['run']['n_train']:,} to train on, "
            f"{naive['run']['n_val']:,} to validate, {naive['run']['n_test']:,} official test "
            "images.",
            "",
            markdown_table(header, rows),
            "",
            "Intervals: 95%, Wilson's for accuracy, BCa over test images for the share removed. "
            f"Exact McNemar between the two runs, p: {shown_p(p)}. The article's figures are from "
            "its own code, backbone weights and hardware.",
            "",
            *(
                f"- `headstart fit DATA {' '.join(record['options'])}`: {did(record)}"
                for record in runs.values()
            ),
            "",
            *provenance(list(runs.values())),
            "",
        ]
    )


def _removed(naive: Record, better: Record) -> str:
    found = share_removed([naive], [better])
    return "-" if found is None else "{:.0%} ({:.0%} to {:.0%})".format(*found)


if __name__ == "__main__":
    main()
