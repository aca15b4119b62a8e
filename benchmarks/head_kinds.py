"""What the kinds of heads on frozen features are worth with few images.

    python benchmarks/head_kinds.py --images 15 --splits 3

draws training images of each class of the shared data sets, groups kept apart, and the other images
are the test. The search of heads chooses by cross-validation: one head among those without the
covariance of the last map and without parts of unit length (before), one among all kinds (best),
and one of these or the mean of several (mean). It prints the mean accuracy and log loss of each on
the test, and how often the mean was chosen.
"""

import argparse
import json
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from headstart.backbones.boundaries import FEATURES
from headstart.backbones.catalog import load_backbone
from headstart.backbones.cut import trace
from headstart.data.audit import audit
from headstart.data.decode import decode_dataset
from headstart.data.sources import load_dataset
from headstart.evaluation.calibration import fit_temperature, score
from headstart.features.extractor import FeatureExtractor, activations, open_prefix
from headstart.features.layout import FeatureLayout, FeatureTable, layout_behind
from headstart.features.probe import LabelledFeatures, fit_probe
from headstart.methods.head import HeadUnion, Linear
from headstart.progress import SILENT
from headstart.search.heads import search_heads
from headstart.training.solving import mean_of_heads
from records import BENCH, DATA

SETS = (
    "flowers17", "hymenoptera", "clothing10", "sign_digits",
    "magnetic_tile", "rice_leaf", "neu_steel", "stanford_cars_crops",
)  # fmt: skip
MOST_CLASSES, MOST_EACH = 60, 60
"""Of larger sets, the first classes, and images of each drawn at random."""


@dataclass(frozen=True)
class Drawn:
    """Features of the images of a data set that are used."""

    table: FeatureTable
    labels: NDArray[np.int64]
    groups: NDArray[np.int64]
    classes: int


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, default=DATA, help="folder with the data sets")
    parser.add_argument("--only", nargs="+", default=SETS, help="data sets")
    parser.add_argument("--images", type=int, nargs="+", default=[5, 15], help="of each class")
    parser.add_argument("--splits", type=int, default=3, help="how many for each number")
    parser.add_argument("--first", type=int, default=0, help="seed of the first split")
    parser.add_argument("--backbone", default="tf_efficientnet_lite0")
    parser.add_argument("--keep", type=Path, help="file that gets a JSON line for each head")
    args = parser.parse_args()
    print("| data | images a class | accuracy: before | best | mean | log loss | mean chosen |")
    print("|-|-|-|-|-|-|-|")
    for name in args.only:
        drawn = features(args.data / name, args.backbone)
        for images in args.images:
            seeds = range(args.first, args.first + args.splits)
            rows = list(compared(drawn, images, seeds))
            if args.keep:
                with args.keep.open("a", encoding="utf-8") as file:
                    file.writelines(json.dumps({"data": name, **row}) + "\n" for row in rows)
            print(_row(name, images, rows), flush=True)


def features(folder: Path, name: str) -> Drawn:
    """Returns all that a head may see of the images of a data set, by a pretrained backbone."""
    backbone = load_backbone(name)
    resolution = backbone.preprocessing.resolution
    traced = trace(backbone.model, resolution)
    dataset = load_dataset(folder)
    cache = BENCH / "head_kinds"
    pixels = decode_dataset(dataset.items, backbone.preprocessing.resize, cache, 1)
    audited = audit(dataset, pixels.facts, resolution)
    names = [dataset.items[int(row)].label for row in audited.kept]
    classes = tuple(sorted(set(names)))[:MOST_CLASSES]
    labels = np.array([classes.index(name) if name in classes else -1 for name in names])
    dice = np.random.default_rng(0)
    used = np.sort(
        np.concatenate(
            [dice.permutation(np.flatnonzero(labels == n))[:MOST_EACH] for n in range(len(classes))]
        )
    )
    groups = audited.groups[used]
    extractor = FeatureExtractor(
        pixels, {"train": audited.kept[used]}, {"train": labels[used]}, groups, classes, backbone,
        traced, torch.device("cpu"), cache, SILENT,
    )  # fmt: skip
    layout = layout_behind(traced, FEATURES, backbone.features)
    cached = activations(extractor, open_prefix(extractor, FEATURES, layout.taps), "train")
    table = FeatureTable(np.asarray(cached, np.float32), layout)
    return Drawn(table, labels[used].astype(np.int64), groups, len(classes))


def compared(drawn: Drawn, images: int, seeds: Iterable[int]) -> Iterator[dict[str, object]]:
    """Yields the results of each of the three searches on each split."""
    for seed in seeds:
        train = _some_of_each(drawn, images, seed)
        plain = drawn.table.layout.only("stages")
        for arm, layout, given in (
            ("before", plain, Linear(normalize="none")),
            ("best", drawn.table.layout, Linear()),
            ("mean", drawn.table.layout, Linear()),
        ):
            began = time.monotonic()
            head = _searched(drawn, train, layout, given, seed, arm == "mean")
            took = time.monotonic() - began
            logits = _fitted(drawn, train, layout, head)
            loss, accuracy = _calibrated(logits, drawn.labels[~train])
            yield {
                "images": images, "split": seed, "arm": arm, "accuracy": accuracy, "loss": loss,
                "seconds": took, "features": head.features, "normalize": head.normalize,
                "head": head.name, "mean_of": len(head.solutions),
            }  # fmt: skip


def _some_of_each(drawn: Drawn, images: int, seed: int) -> NDArray[np.bool_]:
    """Returns which images train (N,): about a number of each class, in whole groups."""
    dice = np.random.default_rng(seed)
    train = np.zeros(len(drawn.labels), bool)
    for number in range(drawn.classes):
        of_class = drawn.labels == number
        for group in dice.permutation(np.unique(drawn.groups[of_class])):
            if (train & of_class).sum() >= min(images, of_class.sum() // 2):
                break
            train |= drawn.groups == group
    return train


def _searched(
    drawn: Drawn,
    train: NDArray[np.bool_],
    layout: FeatureLayout,
    given: Linear,
    seed: int,
    averages: bool,
) -> HeadUnion:
    array = drawn.table.layout.pick(drawn.table.array, layout)[train]
    data = LabelledFeatures(array, drawn.labels[train], drawn.classes, drawn.groups[train])
    return search_heads(data, layout, given, seed, averages=averages).trials[0].head


def _fitted(
    drawn: Drawn, train: NDArray[np.bool_], layout: FeatureLayout, method: HeadUnion
) -> NDArray[np.float32]:
    """Returns the logits of the test images of a head that is solved on the training images."""
    part = layout.only(method.features)
    seen = torch.from_numpy(np.array(drawn.table.layout.pick(drawn.table.array, part)))
    head = method.build(part.widths, drawn.classes, torch.nn.Identity()).eval()

    def solve(embeddings: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        columns, labels = embeddings.numpy(), drawn.labels[train]
        if method.solutions:
            mean = mean_of_heads(method, columns, part, labels, drawn.classes)
            return torch.from_numpy(mean[0]), torch.from_numpy(mean[1])
        probe = fit_probe(
            columns, labels, drawn.classes, method.solved_penalty,
            method.solved_smoothing, method.has_unit_parts,
        )  # fmt: skip
        return torch.from_numpy(probe.weight), torch.from_numpy(probe.bias)

    with torch.no_grad():
        method.start(head, seen[train], torch.from_numpy(drawn.labels[train]), solve)
        logits: NDArray[np.float32] = head(seen[~train]).numpy()
    return logits


def _calibrated(logits: NDArray[np.float32], labels: NDArray[np.int64]) -> tuple[float, float]:
    """Returns log loss, at the best temperature on every other image, and accuracy."""
    temperature = fit_temperature(logits[::2], labels[::2])
    _, accuracy = score(logits, labels)
    return score((logits[1::2] / temperature).astype(np.float32), labels[1::2])[0], accuracy


def _row(name: str, images: int, rows: list[dict[str, object]]) -> str:
    def mean(arm: str, what: str) -> float:
        return float(np.mean([float(str(row[what])) for row in rows if row["arm"] == arm]))

    arms = ("before", "best", "mean")
    right = " | ".join(f"{mean(arm, 'accuracy'):.1%}" for arm in arms)
    losses = ", ".join(f"{mean(arm, 'loss'):.3f}" for arm in arms)
    chosen = sum(bool(row["mean_of"]) for row in rows if row["arm"] == "mean")
    return f"| {name} | {images} | {right} | {losses} | {chosen} of {len(rows) // len(arms)} |"


if __name__ == "__main__":
    main()
