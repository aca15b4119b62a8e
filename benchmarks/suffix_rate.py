"""How fast the part behind the boundary is trained, beside the earlier version.

    python benchmarks/suffix_rate.py

trains one suffix after the other with the default recipe on random activations, each version in
processes of its own, in turn, with one thread. A rate is the median over the epochs of one process,
in seconds that the processor worked for it, which other work on the machine disturbs least.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from itertools import pairwise
from statistics import median

from ratios import Subject, facts, in_turn, keep, row, source_before, table
from records import HERE, ON_CPU

SOURCE = HERE.parent / "src"

CASES = (
    ("tf_efficientnet_lite0", "blocks.2", 224),
    ("tf_efficientnet_lite0", "blocks.3", 224),
    ("tf_efficientnet_lite0", "blocks.4", 224),
    ("resnet18", "layer2", 224),
)
"""Network, boundary and resolution."""

GOAL = 1.3
IMAGES, BATCH, CLASSES, EPOCHS = 64, 32, 17, 3


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--part", nargs=3, metavar=("NETWORK", "BOUNDARY", "RESOLUTION"))
    args = parser.parse_args()
    if args.part:
        network, boundary, resolution = args.part
        print(json.dumps(trained_images_per_s(network, boundary, int(resolution))))
        return
    subject = measure(args.rounds)
    print(table(subject))
    print(keep(subject))


def measure(rounds: int) -> Subject:
    """Trains every suffix in both versions `rounds` times after a first round."""
    before = str(source_before())
    pairs = {
        f"{network} behind {boundary}, {resolution} px": (
            _rate((network, boundary, str(resolution)), before),
            _rate((network, boundary, str(resolution)), str(SOURCE)),
        )
        for network, boundary, resolution in CASES
    }
    found = in_turn(pairs, rounds)
    rows = tuple(row(name, each, GOAL, more_is_better=True) for name, each in found.items())
    title = f"Training the suffix, batches of {BATCH}"
    return Subject("suffix", title, "images a processor second", rows, rounds, facts())


def _rate(case: tuple[str, str, str], source: str) -> Callable[[], float]:
    def run() -> float:
        done = subprocess.run(
            [sys.executable, __file__, "--part", *case],
            env={**os.environ, **ON_CPU, "PYTHONPATH": source},
            check=True, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        return float(done.stdout)

    return run


def trained_images_per_s(network: str, boundary: str, resolution: int) -> float:
    """Trains for a few short epochs on random activations, with whichever version is imported."""
    import numpy as np
    import torch
    from torch import nn

    from headstart.backbones.catalog import build_backbone
    from headstart.backbones.cut import suffix, trace
    from headstart.methods.head import Linear

    torch.set_num_threads(1)
    traced = trace(build_backbone(network, resolution=resolution), resolution)
    model = suffix(traced, boundary)
    random = np.random.default_rng(0)
    shape = traced.boundary(boundary).shape
    # As a ReLU leaves them: half of them are zero.
    views = np.maximum(random.standard_normal((IMAGES, *shape)), 0).astype(np.float16)
    labels = random.integers(0, CLASSES, IMAGES)
    labels[:CLASSES] = range(CLASSES)
    width = traced.boundary("features").shape[0]
    try:
        from headstart.recipes.recipe import Recipe
        from headstart.training.loop import TrainData, train
        from headstart.training.network import TrainableNetwork
    except ImportError:  # the earlier version
        from headstart.recipe import Recipe
        from headstart.train import TrainData, train

        head = Linear().build(width, CLASSES, nn.ReLU())
        data = TrainData([views], labels, None, np.empty(0, np.int64))
        records = train(model, head, data, Recipe(batch_size=BATCH), EPOCHS)
    else:
        head = Linear().build((width,), CLASSES, nn.ReLU())
        data = TrainData([views], labels, None, np.empty(0, np.int64))
        records = train(TrainableNetwork(model, head), data, Recipe(batch_size=BATCH), EPOCHS)
    ends = [time.process_time() for _ in records]
    return IMAGES / median(after - before for before, after in pairwise(ends))


if __name__ == "__main__":
    main()
