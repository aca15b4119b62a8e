"""Sorts photographs into one folder for each class, and those that a person should see into one.

    python examples/sort_photos.py RUN PHOTOS SORTED

A photograph goes to `to look at` if it is unlike the training images, if more than one class is
possible at 90%, or if it cannot be read. Nothing is moved: the folders hold copies.
"""

import argparse
import shutil
from collections import Counter
from pathlib import Path

import headstart

DOUBTFUL = "to look at"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("run", type=Path, help="folder of a finished run")
    parser.add_argument("photos", type=Path, help="folder of photographs")
    parser.add_argument("sorted", type=Path, help="folder to write")
    args = parser.parse_args()
    counts = Counter[str]()
    run = headstart.Run.open(args.run)
    for answer in run.predict(args.photos, set_coverage=0.9):
        sure = not answer.error and not answer.out_of_distribution and len(answer.classes) == 1
        place = args.sorted / (answer.label if sure else DOUBTFUL)
        place.mkdir(parents=True, exist_ok=True)
        source = Path(answer.image)
        shutil.copy2(source, place / source.name)
        counts[place.name] += 1
    for name, count in counts.most_common():
        print(f"{name}: {count}")


if __name__ == "__main__":
    main()
