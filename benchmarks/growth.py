"""How time and memory of `headstart fit` grow with images, classes and trials.

    python benchmarks/growth.py

makes small images out of real ones, as `check_growth.py` does, and fits them in whole processes
with empty caches: a head on the frozen network for more images and for more classes, and a search
with more trials. It keeps `benchmarks/results/growth.jsonl` line by line, in which a run takes the
place of an earlier one of the same kind and number, and draws `docs/pictures/growth.svg`. `--draw`
only draws what is kept.

    python benchmarks/growth.py --images 5000 50000 --classes --trials

compares the memory of two sizes.
"""

import argparse
import json
import shutil
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from check_growth import pieces, write
from measure import commit, machine, markdown_table, run_measured, tail, write_whole
from ratios import RESULTS
from records import DATA, DOCS, ON_CPU, read_lines

KEPT = RESULTS / "growth.jsonl"
PICTURE = DOCS / "pictures" / "growth.svg"

IMAGES = (100, 1_000, 5_000, 50_000)
CLASSES = (2, 20, 200)
TRIALS = (1, 3, 10)
CLASSES_OF_IMAGES, IMAGES_OF_TRIALS = 10, 100
IMAGES_A_CLASS = 5
SMALL = ("--set", "backbone.resolution=64")


@dataclass(frozen=True)
class Point:
    """One run: what grew, how far, and what it took."""

    grows: str
    number: int
    images: int
    classes: int
    seconds: float
    megabytes: float
    machine: str
    commit: str


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, default=DATA, help="folder with real images")
    parser.add_argument("--images", type=int, nargs="*", default=IMAGES)
    parser.add_argument("--classes", type=int, nargs="*", default=CLASSES)
    parser.add_argument("--trials", type=int, nargs="*", default=TRIALS)
    parser.add_argument("--draw", action="store_true", help="draw what is kept")
    args = parser.parse_args()
    if not args.draw:
        head = ("--strategy", "head", "--epochs", "0")
        cases = [("images", n, n, CLASSES_OF_IMAGES, head) for n in args.images]
        cases += [("classes", n, IMAGES_A_CLASS * n, n, head) for n in args.classes]
        for n in args.trials:
            search = ("--trials", str(n), "--epochs", "2")
            cases.append(("trials", n, IMAGES_OF_TRIALS, CLASSES_OF_IMAGES, search))
        some = list(pieces(args.data))
        for grows, number, images, classes, options in cases:
            with tempfile.TemporaryDirectory() as temporary:
                folder = Path(temporary)
                write(folder / "images", images, classes, some)
                seconds, megabytes = _fit(folder, options)
            point = Point(grows, number, images, classes, seconds, megabytes, machine(), commit())
            keep_point(point)
            print(f"{grows} {number:,}: {seconds:.1f} s, {megabytes:.0f} MB", flush=True)
    points = kept_points()
    print(points_table(points))
    for grows in dict.fromkeys(point.grows for point in points):
        each = [point for point in points if point.grows == grows]
        print(f"{grows}: {told(each)}")
    draw(points)


def _fit(folder: Path, options: Sequence[str]) -> tuple[float, float]:
    """Returns the seconds of a whole process and its peak of private memory in MB."""
    command = [
        sys.executable, "-m", "headstart", "fit", str(folder / "images"), *options, *SMALL,
        "--out", str(folder / "run"),
    ]  # fmt: skip
    environment = {**ON_CPU, "HEADSTART_CACHE": str(folder / "cache")}
    done = run_measured(command, folder / "log.txt", environment)
    if done.returncode:
        sys.exit(f"exit status {done.returncode}:\n{tail(folder / 'log.txt')}")
    shutil.rmtree(folder / "cache")
    return done.wall_s, done.peak_anon_mb


def kept_points(path: Path = KEPT) -> list[Point]:
    """Returns all runs that were kept, by what grows and how far."""
    order = ("images", "classes", "trials")
    found = [Point(**line) for line in read_lines(path)]
    return sorted(found, key=lambda point: (order.index(point.grows), point.number))


def keep_point(point: Point, path: Path = KEPT) -> None:
    """Keeps a run instead of an earlier one of the same kind and number."""
    others = [
        each
        for each in kept_points(path)
        if (each.grows, each.number) != (point.grows, point.number)
    ]
    write_whole(path, "".join(json.dumps(asdict(each)) + "\n" for each in [*others, point]))


def points_table(points: Sequence[Point]) -> str:
    """Returns all runs as a Markdown table, each beside the one before it of its kind."""
    rows = []
    for before, point in zip([None, *points], points, strict=False):
        ratios = ["", ""]
        if before is not None and before.grows == point.grows:
            ratios = [
                f"{point.seconds / before.seconds:.2f}",
                f"{point.megabytes / before.megabytes:.2f}",
            ]
        numbers = [f"{value:,}" for value in (point.images, point.classes)]
        trials = str(point.number) if point.grows == "trials" else ""
        measured = [f"{point.seconds:.1f}", f"{point.megabytes:.0f}"]
        rows.append([*numbers, trials, *measured, *ratios])
    header = (
        "images", "classes", "trials", "seconds", "private memory, MB", "times the seconds above",
        "times the memory above",
    )  # fmt: skip
    return markdown_table(header, rows)


def slope(numbers: Sequence[float], values: Sequence[float]) -> float:
    """Returns the power with which values grow between the last two numbers.

    What every run takes alike is taken out: the value at the first number. 1 is linear growth.

    Example:
        >>> slope([1, 10, 100], [5.0, 5.9, 14.9])
        1.0
    """
    (a, b), (x, y) = numbers[-2:], [value - values[0] for value in values[-2:]]
    a, b = a - numbers[0], b - numbers[0]
    if min(x, y) <= 0 or a <= 0:
        return 0.0
    return round(float(np.log(y / x) / np.log(b / a)), 2)


def told(points: Sequence[Point]) -> str:
    """Returns the growth of time and memory over points of one kind, in words."""
    numbers = [float(point.number) for point in points]
    time_slope = slope(numbers, [point.seconds for point in points])
    memory_slope = slope(numbers, [point.megabytes for point in points])
    return f"seconds grow with the power {time_slope:g}, private memory with {memory_slope:g}"


def draw(points: Sequence[Point], path: Path = PICTURE) -> None:
    """Draws seconds and memory of all runs, one column for each thing that grows."""
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    kinds = list(dict.fromkeys(point.grows for point in points))
    settings = {"svg.hashsalt": "growth", "svg.fonttype": "none", "font.family": "sans-serif"}
    with rc_context(settings):
        figure = Figure(figsize=(3.2 * len(kinds), 4.6), layout="constrained")
        grid = figure.subplots(2, len(kinds), sharey="row", squeeze=False)
        # The columns share an axis.
        lowest = (min(p.seconds for p in points), min(p.megabytes for p in points))
        for column, grows in enumerate(kinds):
            each = [point for point in points if point.grows == grows]
            numbers = [point.number for point in each]
            measured = ([p.seconds for p in each], [p.megabytes for p in each])
            for axes, values, low in zip(grid[:, column], measured, lowest, strict=True):
                axes.plot(numbers, values, "o-", color="#0072b2")
                rates = [values[0] * number / numbers[0] for number in numbers]
                axes.plot(numbers, rates, ":", color="#555555")
                axes.set_xscale("log")
                axes.set_yscale("log")
                axes.set_ylim(low / 2, None)
                axes.spines[["top", "right"]].set_visible(False)
            grid[1, column].set_xlabel(grows)
        grid[0, 0].set_ylabel("seconds")
        grid[1, 0].set_ylabel("private memory, MB")
        figure.savefig(path, metadata={"Date": None})


if __name__ == "__main__":
    main()
