"""What mirroring cached feature maps gains, with and without augmented views.

    python benchmarks/feature_flip.py

fine-tunes each task of `portfolio.py` with 15 training images of each class, exactly as a trial of
a search does: on plain images and on two augmented views of each, both with and without
`feature_flip`. Every training is kept as a line of JSON as soon as it ends, so the script does only
what is missing when it is started again. The table goes to standard output.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from measure import machine, markdown_table, versions
from portfolio import BOUNDARY, EPOCHS, SETS, VIEWS, Drawn, gain, trained
from records import BENCH, DATA, PACKAGES, read_lines

PLAIN: dict[str, Any] = {"augmentation": {"name": "none"}, "views": 1}
MIRRORED: dict[str, Any] = {"feature_flip": True}

ARMS: dict[str, dict[str, Any]] = {
    "plain images": PLAIN,
    "mirrored": {**PLAIN, **MIRRORED},
    f"{VIEWS} views": {},
    f"{VIEWS} views, mirrored": MIRRORED,
}
"""What each arm changes in the recipe of the portfolio."""

EACH = 15


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, default=DATA, help="folder with the data sets")
    parser.add_argument("--only", nargs="+", default=SETS, help="data sets")
    parser.add_argument("--results", type=Path, default=BENCH / "feature_flip.jsonl")
    args = parser.parse_args()
    done = {(each["task"], each["arm"]) for each in read_lines(args.results)}
    for name in args.only:
        task = Drawn(name, EACH)
        for arm, changed in ARMS.items():
            if (task.key, arm) in done:
                continue
            record = {"arm": arm, **trained(task, changed, args.data)}
            with args.results.open("a", encoding="utf-8") as file:
                file.write(json.dumps(record) + "\n")
            print(f"{task.key}, {arm}: {gain(record):+.1%}", file=sys.stderr, flush=True)
    print(table(read_lines(args.results)))


def table(records: Sequence[dict[str, Any]]) -> str:
    """Returns the table as Markdown: the share of the head's log loss that each arm saves."""
    saved = {(each["task"], each["arm"]): gain(each) for each in records}
    right = {(each["task"], each["arm"]): each.get("right", np.nan) for each in records}
    tasks = [
        task
        for task in dict.fromkeys(each["task"] for each in records)
        if all((task, arm) in saved for arm in ARMS)
    ]
    rows = [
        (task.split("/")[0], *(f"{saved[task, arm]:.1%}, {right[task, arm]:.1%}" for arm in ARMS))
        for task in tasks
    ]
    mean = {
        arm: [np.mean([known[task, arm] for task in tasks]) for known in (saved, right)]
        for arm in ARMS
    }
    rows.append(("mean", *(f"{loss:.1%}, {share:.1%}" for loss, share in mean.values())))
    used = versions(sys.executable, PACKAGES)
    return "\n".join(
        [
            markdown_table(("data", *ARMS), rows),
            "",
            f"Share of the head's log loss saved, and images classified correctly; {EACH} training "
            f"images of each class, {EPOCHS} epochs behind `{BOUNDARY}` of "
            f"`tf_efficientnet_lite0`, one training each. {machine()}; "
            + ", ".join(f"{name} {found}" for name, found in used.items())
            + ".",
        ]
    )


if __name__ == "__main__":
    main()
