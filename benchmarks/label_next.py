"""How many labels `headstart label-next` saves beside labelling at random.

    python benchmarks/label_next.py --write docs/label-next.md

A third of the groups of a data set is the test. Of the others, one image each is unlabelled, but
for two images of each class, or 20 in all, with which a run begins. In ten rounds a strategy
chooses 20 images, whose labels are then known, and headstart's head with a closed form is solved
anew on frozen features (penalty by cross-validation, temperature of the held-out scores). Seeds
share test, first labels and images. A strategy's labels are those at which its mean accuracy
reaches what labels at random reach with 200. Intervals are percentiles of 2,000 resamplings of the
seeds.
"""

import argparse
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from headstart.artifacts.records import machine, versions
from headstart.data.audit import audit
from headstart.data.decode import decode_dataset
from headstart.data.sources import load_dataset
from headstart.diagnose.acquisition import margins, rank_to_label
from headstart.evaluation.calibration import calibrated_score, fit_temperature, softmax
from headstart.evaluation.retrieval import unit
from headstart.features.probe import LabelledFeatures, Probe, fit_probe, out_of_fold
from headstart.progress import SILENT
from records import BENCH, DATA, DOCS

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

SETS = ("flowers17", "clothing10", "sign_digits", "hymenoptera")
"""For which there was a goal, before anything was measured."""
FURTHER = ("neu_steel", "rice_leaf")
"""Others with enough images, by which no rule was chosen."""
BATCH, ROUNDS, FIRST = 20, 10, 20
AT = 200
"""Labels at random whose accuracy the others are to reach."""
GOAL = 0.7
PENALTIES = (1e-2, 1e-3, 1e-4)
"""Those of headstart's head that are chosen with so few labels."""
START, END = "<!-- curves: begin -->", "<!-- curves: end -->"
PICTURE = DOCS / "pictures" / "label_next.svg"


@dataclass(frozen=True)
class Pool:
    """What a strategy knows when it chooses.

    Attributes:
        features: Features (N, F) of the unlabelled images.
        probabilities: Their class probabilities (N, C).
        labelled: Features (M, F) of the labelled images.
        dice: Its own random numbers.
    """

    features: NDArray[np.float32]
    probabilities: Floats
    labelled: NDArray[np.float32]
    dice: np.random.Generator


def at_random(pool: Pool, count: int) -> Ints:
    """Any images."""
    return pool.dice.permutation(len(pool.features))[:count]


def by_margin(pool: Pool, count: int) -> Ints:
    """Those that the head is least sure of."""
    return np.argsort(margins(pool.probabilities), kind="stable")[:count]


def by_centre(pool: Pool, count: int) -> Ints:
    """Each the furthest from all labelled and chosen ones (k-centre, Sener and Savarese 2018)."""
    points = unit(pool.features)
    away = 1 - (points @ unit(pool.labelled).T).max(1)
    chosen = list[int]()
    for _ in range(count):
        chosen.append(int(away.argmax()))
        away = np.minimum(away, 1 - points @ points[chosen[-1]])
    return np.array(chosen)


def by_headstart(pool: Pool, count: int) -> Ints:
    """What `headstart label-next` does."""
    return rank_to_label(pool.features, pool.probabilities, pool.labelled, count)


STRATEGIES: dict[str, Callable[[Pool, int], Ints]] = {
    "random": at_random,
    "margin": by_margin,
    "k-centre": by_centre,
    "label-next": by_headstart,
}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, default=DATA, help="folder with the data sets")
    parser.add_argument("--only", nargs="+", default=(*SETS, *FURTHER), help="data sets")
    parser.add_argument("--seeds", type=int, nargs=2, default=(100, 110), help="first, and end")
    parser.add_argument("--resolution", type=int, default=128)
    parser.add_argument("--write", type=Path, help="page that gets table and picture")
    args = parser.parse_args()
    found, seconds = {}, 0.0
    for name in args.only:
        kept = (
            BENCH / "label_next" / f"{name}-{args.resolution}-{'-'.join(map(str, args.seeds))}.json"
        )
        if not kept.exists():
            data, began = features(args.data / name, args.resolution), time.process_time()
            curves = {
                strategy: [simulated(data, strategy, seed) for seed in range(*args.seeds)]
                for strategy in STRATEGIES
            }
            kept.write_text(json.dumps([curves, time.process_time() - began]))
        curves, took = json.loads(kept.read_text())
        found[name], seconds = curves, seconds + took
        print("\n".join(rows(name, found[name])), flush=True)
    if args.write:
        page = args.write.read_text(encoding="utf-8")
        before, after = page.split(START)[0], page.split(END)[1]
        made = table(found, args.resolution, args.seeds, seconds)
        args.write.write_text(f"{before}{START}\n{made}\n{END}{after}", encoding="utf-8")
        draw(found, PICTURE)


@dataclass(frozen=True)
class Features:
    """Features (N, F) of all usable images, their labels (N,) and groups (N,)."""

    values: NDArray[np.float32]
    labels: Ints
    groups: Ints


def features(folder: Path, resolution: int) -> Features:
    """Returns the features of a data set by the default backbone, computed once."""
    file = BENCH / "label_next" / f"{folder.name}-{resolution}.npz"
    if not file.exists():
        file.parent.mkdir(parents=True, exist_ok=True)
        values, labels, groups = _computed(folder, resolution)
        np.savez(file, values=values, labels=labels, groups=groups)
    with np.load(file) as arrays:
        return Features(**arrays)


def _computed(folder: Path, resolution: int) -> tuple[NDArray[np.float32], Ints, Ints]:
    import torch  # what simulates needs none of it

    from headstart.backbones.catalog import load_backbone
    from headstart.backbones.cut import trace
    from headstart.backbones.places import FEATURES
    from headstart.features.extractor import FeatureExtractor, activations, open_prefix

    backbone = load_backbone(resolution=resolution)
    dataset, cache = load_dataset(folder), BENCH / "label_next" / "cache"
    pixels = decode_dataset(dataset.items, backbone.preprocessing.resize, cache, 1)
    audited = audit(dataset, pixels.facts, resolution)
    names = [dataset.items[int(row)].label for row in audited.kept]
    classes = tuple(sorted(set(names)))
    labels = np.array([classes.index(name) for name in names], np.int64)
    extractor = FeatureExtractor(
        pixels, {"train": audited.kept}, {"train": labels}, audited.groups, classes, backbone,
        trace(backbone.model, resolution), torch.device("cpu"), cache, SILENT,
    )  # fmt: skip
    values = activations(extractor, open_prefix(extractor, FEATURES), "train")
    return np.asarray(values, np.float32), labels, audited.groups


def simulated(data: Features, strategy: str, seed: int) -> list[tuple[int, float]]:
    """Returns the number of labels and the accuracy after each round."""
    dice, classes = np.random.default_rng(seed), int(data.labels.max()) + 1
    test, pool = test_and_pool(data, dice)
    each = max(2, -(-FIRST // classes))
    labelled = np.concatenate(
        [pool[data.labels[pool] == number][:each] for number in range(classes)]
    )
    curve = []
    for number in range(ROUNDS + 1):
        probe, temperature = _head(data.values[labelled], data.labels[labelled], classes)
        right = probe.logits(data.values[test]).argmax(1) == data.labels[test]
        curve.append((len(labelled), float(right.mean())))
        rest = np.random.default_rng([seed, number]).permutation(np.setdiff1d(pool, labelled))
        seen = data.values[rest]
        probabilities = softmax(probe.logits(seen), temperature)
        asked = Pool(seen, probabilities, data.values[labelled], dice)
        labelled = np.concatenate([labelled, rest[STRATEGIES[strategy](asked, BATCH)]])
    return curve


def test_and_pool(data: Features, dice: np.random.Generator) -> tuple[NDArray[np.bool_], Ints]:
    """Returns which images (N,) are the test, a third of the groups, and one image of each other.

    The others are in a random order.
    """
    groups = dice.permutation(np.unique(data.groups))
    test = np.isin(data.groups, groups[: len(groups) // 3])
    pool = dice.permutation(np.flatnonzero(~test))
    _, first = np.unique(data.groups[pool], return_index=True)
    return test, pool[np.sort(first)]


def _head(seen: NDArray[np.float32], labels: Ints, classes: int) -> tuple[Probe, float]:
    """Returns a head with the best penalty, and its temperature."""
    data = LabelledFeatures(seen, labels, classes, np.arange(len(labels)))
    logits = out_of_fold(data, PENALTIES)
    held = np.isfinite(logits[0, :, 0])
    losses = [calibrated_score(each[held], labels[held])[0] for each in logits]
    best = int(np.argmin(losses))
    temperature = fit_temperature(logits[best][held], labels[held])
    return fit_probe(seen, labels, classes, PENALTIES[best]), temperature


def needed(curve: Floats, counts: Floats, target: float) -> float:
    """Returns the number of labels at which a curve first reaches an accuracy; else infinity.

    Between two rounds it runs straight.
    """
    above = np.flatnonzero(curve >= target)
    if not len(above):
        return float("inf")
    after = int(above[0])
    if after == 0:
        return float(counts[0])
    low, high = curve[after - 1], curve[after]
    share = (target - low) / (high - low)
    return float(counts[after - 1] + share * (counts[after] - counts[after - 1]))


Curves = dict[str, list[list[tuple[int, float]]]]


def shares(curves: Curves, strategy: str, resamplings: int = 2000) -> tuple[float, float, float]:
    """Returns what share of random's labels a strategy needs, with the ends of its interval."""
    counts, of_random, mine = _arrays(curves, strategy)
    dice, seeds = np.random.default_rng(0), len(mine)
    draws = [np.arange(seeds), *(dice.integers(0, seeds, seeds) for _ in range(resamplings))]
    found = []
    for rows_ in draws:
        target = float(np.interp(AT, counts, of_random[rows_].mean(0)))
        found.append(needed(mine[rows_].mean(0), counts, target) / AT)
    low, high = np.quantile(found[1:], (0.025, 0.975), method="nearest")
    return found[0], float(low), float(high)


def _arrays(curves: Curves, strategy: str) -> tuple[Floats, Floats, Floats]:
    counts = np.array([count for count, _ in curves["random"][0]], float)
    values = [
        np.array([[accuracy for _, accuracy in curve] for curve in curves[name]])
        for name in ("random", strategy)
    ]
    return counts, values[0], values[1]


def rows(name: str, curves: Curves) -> list[str]:
    """Returns the rows of the table for one data set."""
    made = []
    for strategy in STRATEGIES:
        counts, _, mine = _arrays(curves, strategy)
        accuracy = [float(np.interp(at, counts, mine.mean(0))) for at in (60, 120, AT)]
        share = "1"
        if strategy != "random":
            share = "{} ({} to {})".format(
                *(shown_share(each) for each in shares(curves, strategy))
            )
        cells = (name, strategy, *(f"{each:.1%}" for each in accuracy), share)
        made.append(f"| {' | '.join(cells)} |")
    return made


def shown_share(share: float) -> str:
    """Returns a share of random's labels as tables show it."""
    return f"{share:.2f}" if np.isfinite(share) else "more than 1.1"


def table(found: dict[str, Curves], resolution: int, seeds: Sequence[int], seconds: float) -> str:
    """Returns the table of all data sets as Markdown."""
    used = versions()
    lines = [
        f"| data | strategy | accuracy with 60 | with 120 | with {AT} labels | "
        f"share of random's {AT} labels (95% interval) |",
        "|-|-|-|-|-|-|",
        *(row for name, curves in found.items() for row in rows(name, curves)),
        "",
        _verdict(found),
        "",
        f"{seeds[1] - seeds[0]} seeds ({seeds[0]} to {seeds[1] - 1}), features of "
        f"`tf_efficientnet_lite0` at {resolution} pixels, {seconds / 60:.0f} minutes on one "
        f"core of {machine()}; "
        + ", ".join(f"{name} {used[name]}" for name in ("python", "numpy", "scipy", "timm"))
        + ".",
    ]
    return "\n".join(lines)


def _verdict(found: dict[str, Curves]) -> str:
    reached, further = (
        [name for name in names if name in found and shares(found[name], "label-next")[0] <= GOAL]
        for names in (SETS, FURTHER)
    )
    return (
        f"The goal was at most {GOAL} of random's labels on three of the four data sets "
        f"{', '.join(SETS)}. It is reached on {_listed(reached)}; of the further ones, on "
        f"{_listed(further)}."
    )


def _listed(names: Sequence[str]) -> str:
    return f"{len(names)} ({', '.join(names)})" if names else "none"


def draw(found: dict[str, Curves], file: Path) -> None:
    """Draws the learning curves with the standard error over seeds."""
    import matplotlib as mpl
    from matplotlib.figure import Figure

    mpl.rcParams["svg.hashsalt"] = "headstart"
    names = list(found)
    figure = Figure(figsize=(9.6, 3.1 * -(-len(names) // 2)), layout="constrained")
    colours = {"random": "#64748b", "margin": "#b45309", "k-centre": "#7c3aed"}
    for axes, name in zip(
        figure.subplots(-(-len(names) // 2), 2, squeeze=False).flat, names, strict=False
    ):
        for strategy in STRATEGIES:
            counts, of_random, mine = _arrays(found[name], strategy)
            colour, mean = colours.get(strategy, "#0f766e"), 100 * mine.mean(0)
            error = 100 * mine.std(0, ddof=1) / len(mine) ** 0.5
            axes.plot(counts, mean, "o-", color=colour, lw=2, ms=3, label=strategy)
            axes.fill_between(counts, mean - error, mean + error, color=colour, alpha=0.15, lw=0)
        axes.axhline(100 * np.interp(AT, counts, of_random.mean(0)), color="#64748b", lw=1, ls=":")
        axes.set_title(name, loc="left", fontsize=10)
        axes.set(xlabel="labels", ylabel="accuracy, %")
        axes.spines[["top", "right"]].set_visible(False)
    figure.axes[0].legend(frameon=False, fontsize=9)
    figure.savefig(file, metadata={"Date": None})


if __name__ == "__main__":
    main()
