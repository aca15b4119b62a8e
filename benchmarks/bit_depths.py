"""Accuracy on the same pictures in other bit depths: the table of `docs/formats.md`.

    python benchmarks/bit_depths.py FOLDER OUT

FOLDER holds grey 8-bit images, one subfolder a class (NEU surface defects, for the table). Forty of
each class are written in each way; `--recipe probe` is trained on five splits of them, the same for
all. Needs `headstart[scientific]`. A folder of OUT that is there already is taken as it is, and a
row that was measured is not measured again.
"""

import json
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import tifffile
from numpy.typing import NDArray
from PIL import Image

import headstart

IMAGES = 40
SPLITS = 5

Grey = NDArray[np.uint8]


def exposed(top: float) -> Callable[[Grey, int], tuple[NDArray[np.generic], dict[str, object]]]:
    """Writes 12-bit values in 16 bits; `top` is what 255 becomes."""

    def scale(grey: Grey, number: int) -> tuple[NDArray[np.generic], dict[str, object]]:
        return np.rint(grey * (top / 255)).astype(np.uint16), {}

    return scale


def any_exposure(grey: Grey, number: int) -> tuple[NDArray[np.generic], dict[str, object]]:
    """Each image has an exposure of its own, so that this is not the same data."""
    top = np.random.default_rng(number).uniform(100, 1000)
    return np.rint(grey * (top / 255)).astype(np.uint16), {}


def plain(grey: Grey, number: int) -> tuple[NDArray[np.generic], dict[str, object]]:
    return grey, {}


def floats(grey: Grey, number: int) -> tuple[NDArray[np.generic], dict[str, object]]:
    return (grey / 255 * 1.07).astype(np.float32), {}


def one_negative(grey: Grey, number: int) -> tuple[NDArray[np.generic], dict[str, object]]:
    values = grey.astype(np.int16) * 16
    values[number % len(values), 0] = -1
    return values, {}


def with_nodata(grey: Grey, number: int) -> tuple[NDArray[np.generic], dict[str, object]]:
    values = grey.astype(np.int16) * 16
    values[:2, :2] = -9999
    return values, {"extratags": [(42113, 2, 0, "-9999", True)]}


def negative_print(grey: Grey, number: int) -> tuple[NDArray[np.generic], dict[str, object]]:
    return 65535 - grey.astype(np.uint16) * 257, {"photometric": "miniswhite"}


WAYS = {
    "8 bits": plain,
    "12 bits in 16, white at 100": exposed(100),
    "12 bits in 16, white at 300": exposed(300),
    "12 bits in 16, white at 1,000": exposed(1000),
    "12 bits in 16, white at 4,095": exposed(4095),
    "floats from 0 to 1.07": floats,
    "int16 with one negative pixel": one_negative,
    "int16 with −9999 as nodata": with_nodata,
    "16 bits, MINISWHITE": negative_print,
    "12 bits in 16, each image its own white (100 to 1,000)": any_exposure,
}


def write(source: Path, folder: Path, way: str) -> None:
    if folder.exists():
        return
    for label in sorted(each for each in source.iterdir() if each.is_dir()):
        chosen = sorted(label.iterdir())[:IMAGES]
        for number, path in enumerate(chosen):
            grey = np.asarray(Image.open(path).convert("L"))
            values, more = WAYS[way](grey, number)
            target = folder / label.name / f"{path.stem}.tif"
            target.parent.mkdir(parents=True, exist_ok=True)
            tifffile.imwrite(target, values, **{"photometric": "minisblack", **more})


def measure(folder: Path) -> list[float]:
    """Returns the test accuracy on each split."""
    kept = folder / "accuracies.json"
    if kept.exists():
        return [float(each) for each in json.loads(kept.read_text())]
    accuracies = []
    for seed in range(SPLITS):
        run = headstart.fit(
            folder / "images", recipe="probe", split_seed=seed, seed=0, out=folder / f"run{seed}"
        )
        accuracies.append(run.metrics.accuracy)
    kept.write_text(json.dumps(accuracies))
    return accuracies


def main() -> None:
    source, out = Path(sys.argv[1]), Path(sys.argv[2])
    print("| Files | test accuracy | difference |\n| --- | --- | --- |")
    first = None
    for number, way in enumerate(WAYS):
        folder = out / str(number)
        write(source, folder / "images", way)
        mean = 100 * float(np.mean(measure(folder)))
        first = mean if first is None else first
        print(f"| {way} | {mean:.1f}% | {mean - first:+.1f} |", flush=True)


if __name__ == "__main__":
    main()
