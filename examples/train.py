"""Trains a classifier on paths and labels that a program has, and says what it is worth.

    python examples/train.py FOLDER --budget 3m

The labels here are the names of the folders. They could as well come from a table or a database.
"""

import argparse
from pathlib import Path

import headstart


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path, help="folder with one folder for each class")
    parser.add_argument("--budget", help="time such as 3m; without it only the head is trained")
    parser.add_argument("--out", type=Path, default=Path("example-run"), help="folder to write")
    args = parser.parse_args()
    images = sorted(path for path in args.folder.glob("*/*") if path.is_file())
    labels = [path.parent.name for path in images]
    how = {"budget": args.budget} if args.budget else {"strategy": "head"}
    run = headstart.fit(images, labels=labels, out=args.out, **how)
    low, high = run.metrics.accuracy_interval
    print(f"{run.metrics.accuracy:.1%} of {run.metrics.n} sealed images are correct")
    print(f"of new images like these, {low:.1%} to {high:.1%} (95% interval)")
    for each in run.metrics.classes:
        if each.recall is not None:
            print(f"  {each.name}: {each.recall:.1%} of its {each.n} images are found")
    print(f"report: {run.folder / 'report.html'}")


if __name__ == "__main__":
    main()
