"""How fast training views are made and run through the frozen part, beside the earlier version.

    python benchmarks/prefix_rate.py

draws augmented views of real images that are decoded, runs the frozen part on them and writes the
activations, as a fit does, each version in processes of its own, in turn, on all cores. A rate is
the median over the views of one process, in seconds on the clock, because drawing and the network
go on side by side: run it with nothing else on the machine.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

from ratios import Subject, facts, in_turn, keep, row, source_before, table
from records import DATA, HERE, ON_CPU

SOURCE = HERE.parent / "src"
NETWORK = "tf_efficientnet_lite0"
BOUNDARIES = ("blocks.3", "features")
GOAL = 1.0
"""No slower; 1.6 where the processor has bf16 or VNNI, if reduced precision is taken up."""

IMAGES, VIEWS = 128, 3


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--data", type=Path, default=DATA / "flowers17")
    parser.add_argument("--part", action="store_true", help="print the rates of one process")
    args = parser.parse_args()
    if args.part:
        print(json.dumps(views_per_s(args.data)))
        return
    subject = measure(args.rounds, args.data)
    print(table(subject))
    print(keep(subject))


def measure(rounds: int, data: Path = DATA / "flowers17") -> Subject:
    """Makes views with both versions `rounds` times after a first round."""
    each = in_turn({"views": (_rates(data, source_before()), _rates(data, SOURCE))}, rounds)
    rows = tuple(
        row(
            f"{NETWORK} up to {boundary}, 224 px",
            [(before[boundary], now[boundary]) for before, now in each["views"]],
            GOAL,
            more_is_better=True,
        )
        for boundary in BOUNDARIES
    )
    title = "Training views through the frozen part"
    return Subject("prefix", title, "images a second", rows, rounds, facts())


def _rates(data: Path, source: Path) -> Callable[[], dict[str, float]]:
    def run() -> dict[str, float]:
        done = subprocess.run(
            [sys.executable, __file__, "--part", "--data", str(data)],
            env={**os.environ, **ON_CPU, "PYTHONPATH": str(source)},
            check=True, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        found: dict[str, float] = json.loads(done.stdout)
        return found

    return run


def views_per_s(data: Path, images: int = IMAGES) -> dict[str, float]:
    """Makes a few views of the same images, with whichever version is imported.

    Returns:
        By boundary, the images of a second.
    """
    import numpy as np
    import torch

    from headstart.backbones.cut import trace
    from headstart.data.decode import decode_dataset
    from headstart.data.sources import load_dataset

    augmented: Callable[[Any, Any, int], Any]
    try:
        from headstart.data.views import View
        from headstart.features.extractor import FeatureExtractor as Material
        from headstart.features.extractor import activations, backbone_of, open_prefix
        from headstart.progress import SILENT
        from headstart.recipes.recipe import Recipe
    except ImportError:  # the earlier version
        from headstart.progress import SILENT
        from headstart.recipe import Recipe
        from headstart.search.material import Material, activations, backbone_of, open_prefix

        def augmented(material: Any, run: Any, number: int) -> Any:
            return activations(material, run, "train", Recipe().augmentation, 0, number)
    else:

        def augmented(material: Any, run: Any, number: int) -> Any:
            return activations(material, run, "train", View(Recipe().augmentation, 0, number))

    dataset = load_dataset(str(data))
    items = dataset.items[:: max(1, len(dataset.items) // images)][:images]
    backbone = backbone_of(Recipe())
    traced = trace(backbone.model, backbone.preprocessing.resolution)
    rows = {"train": np.arange(len(items))}
    labels = {"train": np.zeros(len(items), np.int64)}
    rates: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as temporary:
        cache = Path(temporary)
        pixels = decode_dataset(items, backbone.preprocessing.resize, cache)
        material = Material(
            pixels, rows, labels, rows["train"], dataset.classes, backbone, traced,
            torch.device("cpu"), cache, SILENT,
        )  # fmt: skip
        for boundary in BOUNDARIES:
            prefix = open_prefix(material, boundary)
            taken = []
            for number in range(VIEWS + 1):
                began = time.monotonic()
                augmented(material, prefix, number)
                taken.append(time.monotonic() - began)
            rates[boundary] = len(items) / median(taken[1:])
    return rates


if __name__ == "__main__":
    main()
