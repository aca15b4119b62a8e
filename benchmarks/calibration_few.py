"""What a temperature from few held-out images is worth: none, the likeliest one, and headstart's.

    python benchmarks/calibration_few.py --draws 12 --write docs/calibration.md

draws 54, 100 or 200 images of a data set, in whole groups, and classifies all others by heads on
frozen features. The temperature comes from cross-validation on the drawn images alone: of the same
head (`probe`), of a head that gradient steps trained on smoothed labels (`trained`), or, as in a
search, of the latter after a quarter of its schedule (`stand-in`). The tables show the mean log
loss and calibration error on the other images.
"""

import argparse
import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import product
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn.functional import cross_entropy

from headstart.artifacts.records import machine, versions
from headstart.backbones.boundaries import FEATURES
from headstart.data.sources import load_dataset
from headstart.evaluation.calibration import (
    calibrated_score,
    expected_calibration_error,
    fit_temperature,
    log_losses,
    softmax,
)
from headstart.evaluation.trust import STAND_IN, TWIN, fit_calibration
from headstart.features.extractor import activations, open_prefix
from headstart.features.probe import STRENGTHS, LabelledFeatures, fit_probe, out_of_fold, parted
from headstart.recipes.parsing import load_recipe
from headstart.training.experiment import SplitChoice, prepare
from headstart.training.run_context import Resources
from records import BENCH, DATA

START, END = "<!-- few: begin -->", "<!-- few: end -->"
SETS = {"flowers17": 6, "hymenoptera": 2}
"""Data sets, and how many of their classes are used."""
IMAGES = (54, 100, 200)
SPREADS = (0.1, STAND_IN, 0.5, TWIN, 2.0)
NONE, LIKELIEST = 0.0, math.inf
"""In place of a spread: temperature 1, and the likeliest temperature without a prior."""
OWN = {"probe": TWIN, "trained": TWIN, "stand-in": STAND_IN}
"""Where held-out logits come from, and the spread that headstart takes there."""
EPOCHS, BATCH, RATE, SMOOTHING = 40, 16, 1e-3, 0.1

Floats = NDArray[np.float32]
Labels = NDArray[np.int64]
Choice = tuple[float, bool]
Solve = Callable[[Floats, Labels, Floats], Floats]


@dataclass(frozen=True)
class Result:
    """One draw: what each choice of a temperature gave on the other images.

    Attributes:
        data: Name of the data set.
        images: Number of drawn images.
        source: Where the held-out logits come from.
        temperatures: By spread, or by `NONE` or `LIKELIEST`, and by whether it must prove itself.
        losses: Log losses, alike.
        errors: Calibration errors, alike.
    """

    data: str
    images: int
    source: str
    temperatures: dict[Choice, float]
    losses: dict[Choice, float]
    errors: dict[Choice, float]


def features(folder: Path, classes: int) -> LabelledFeatures:
    """Returns the features of all images of the first classes of a data set."""
    resources = Resources(cache_dir=BENCH / "calibration_few", workers=1)
    found = prepare(load_dataset(folder), load_recipe("default"), SplitChoice(), resources)
    rows, names = found.audited.kept, found.extractor.classes[:classes]
    labels = [found.dataset.items[int(row)].label for row in rows]
    used = np.array([label in names for label in labels])
    numbers = np.array([names.index(label) for label in labels if label in names], np.int64)
    here = replace(found.extractor, rows={"train": rows[used]}, labels={"train": numbers})
    cached = activations(here, open_prefix(here, FEATURES), "train")
    columns = np.asarray(cached, np.float32)
    return LabelledFeatures(columns, numbers, classes, found.audited.groups[used])


def trained(columns: Floats, labels: Labels, other: Floats, classes: int, epochs: int) -> Floats:
    """Returns the logits of other images by a linear head that was trained by gradient."""
    torch.manual_seed(0)
    mean, scale = columns.mean(0), columns.std(0) + 1e-3
    x, z = (torch.from_numpy((each - mean) / scale) for each in (columns, other))
    y, head = torch.from_numpy(labels), torch.nn.Linear(x.shape[1], classes)
    steps = epochs * -(-len(y) // BATCH)
    optimizer = torch.optim.AdamW(head.parameters(), RATE, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    for _ in range(epochs):
        for batch in torch.randperm(len(y)).split(BATCH):
            optimizer.zero_grad()
            cross_entropy(head(x[batch]), y[batch], label_smoothing=SMOOTHING).backward()
            optimizer.step()
            schedule.step()
    with torch.inference_mode():
        logits: Floats = head(z).numpy()
    return logits


def held_out(data: LabelledFeatures, solve: Solve) -> Floats:
    """Returns the logits (N, C) of all images, each by a head that was solved without its fold."""
    fold_of = parted(data.labels, data.groups, 5, 0)
    logits = np.empty((len(data.labels), data.classes), np.float32)
    for fold in np.unique(fold_of):
        held = fold_of == fold
        logits[held] = solve(data.features[~held], data.labels[~held], data.features[held])
    return logits


def probed(data: LabelledFeatures, other: Floats) -> tuple[Floats, Floats]:
    """Returns the held-out logits of the best probe, and its logits of other images."""
    paths = out_of_fold(data, STRENGTHS)
    best = int(np.argmin([calibrated_score(each, data.labels)[0] for each in paths]))
    probe = fit_probe(data.features, data.labels, data.classes, STRENGTHS[best])
    return paths[best], probe.logits(other)


def drawn(
    data: LabelledFeatures, images: int, seed: int
) -> tuple[LabelledFeatures, NDArray[np.bool_]]:
    """Returns about that many images in whole groups, and which images (N,) are the others."""
    dice, taken = np.random.default_rng(seed), np.zeros(len(data.labels), bool)
    for group in dice.permutation(np.unique(data.groups)):
        if taken.sum() >= images:
            break
        taken |= data.groups == group
    part = replace(
        data, features=data.features[taken], labels=data.labels[taken], groups=data.groups[taken]
    )
    return part, ~taken


def results(name: str, data: LabelledFeatures, images: int, seed: int) -> Iterator[Result]:
    """Yields what each source and each choice gave for one draw."""
    part, rest = drawn(data, images, seed)
    other, labels = data.features[rest], data.labels[rest]
    short, whole = (
        partial(trained, classes=data.classes, epochs=epochs) for epochs in (EPOCHS // 4, EPOCHS)
    )
    shipped = whole(part.features, part.labels, other)
    for source, (held, logits) in {
        "probe": probed(part, other),
        "trained": (held_out(part, whole), shipped),
        "stand-in": (held_out(part, short), shipped),
    }.items():
        fitted = partial(fit_calibration, held, part.labels, source, groups=part.groups)
        independent = len(np.unique(part.groups))
        temperatures = {(NONE, proven): 1.0 for proven in (False, True)}
        for spread in (*SPREADS, LIKELIEST):
            alone = fit_temperature(held, part.labels, spread, independent)
            temperatures |= {
                (spread, False): alone, (spread, True): fitted(spread=spread).temperature
            }  # fmt: skip
        yield Result(
            name, images, source, temperatures,
            {key: float(log_losses(logits, labels, t).mean()) for key, t in temperatures.items()},
            {
                key: expected_calibration_error(softmax(logits, t), labels)
                for key, t in temperatures.items()
            },
        )  # fmt: skip


def tables(found: Sequence[Result], draws: int, seconds: float) -> str:
    """Returns the results as Markdown."""
    used = versions()
    shown = ", ".join(f"{name} {used[name]}" for name in ("python", "torch", "numpy", "scipy"))
    lines = [
        f"{draws} draws of each row. `python benchmarks/calibration_few.py --draws {draws}`: "
        f"{seconds / 60:.0f} minutes on one core of {machine()}; {shown}.",
        "",
        "| data | images | held-out logits | log loss: none | likeliest | headstart "
        "| of the worst draw: none | likeliest | headstart "
        "| calibration error: none | likeliest | headstart | applied |",
        "|-" * 13 + "|",
    ]
    cells = dict.fromkeys((each.data, each.images, each.source) for each in found)
    for cell in cells:
        rows = [each for each in found if (each.data, each.images, each.source) == cell]
        choices = ((NONE, False), (LIKELIEST, False), (OWN[cell[2]], True))
        losses = np.array([[row.losses[key] for key in choices] for row in rows])
        errors = np.array([[row.errors[key] for key in choices] for row in rows])
        applied = np.mean([row.temperatures[choices[2]] != 1 for row in rows])
        figures = [f"{loss:.3f}" for loss in (*losses.mean(0), *losses.max(0))]
        figures += [f"{error:.1%}" for error in errors.mean(0)]
        lines.append("| " + " | ".join([*map(str, cell), *figures, f"{applied:.0%}"]) + " |")
    columns = (NONE, *SPREADS, LIKELIEST)
    names = ["no temperature", *(f"{spread:g}" for spread in SPREADS), "no prior"]
    lines += [
        "",
        "Mean log loss over all of these draws, by the spread of the prior:",
        "",
        "| held-out logits | must prove itself | " + " | ".join(names) + " |",
        "|-" * (len(names) + 2) + "|",
    ]
    for source, proven in product(OWN, (False, True)):
        rows = [each for each in found if each.source == source]
        losses = [np.mean([row.losses[key, proven] for row in rows]) for key in columns]
        shown = " | ".join(f"{loss:.3f}" for loss in losses)
        lines.append(f"| {source} | {'yes' if proven else 'no'} | {shown} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, default=DATA, help="folder with the data sets")
    parser.add_argument("--draws", type=int, default=12, help="how many for each number of images")
    parser.add_argument("--write", type=Path, help="page whose tables are replaced")
    args = parser.parse_args()
    began, found = time.process_time(), []
    torch.set_num_threads(1)
    for name, classes in SETS.items():
        data = features(args.data / name, classes)
        for images in IMAGES:
            for seed in range(args.draws):
                found += results(name, data, images, seed)
    made = tables(found, args.draws, time.process_time() - began)
    print(made)
    if args.write:
        page = args.write.read_text(encoding="utf-8")
        before, after = page.split(START)[0], page.split(END)[1]
        args.write.write_text(f"{before}{START}\n{made}\n{END}{after}", encoding="utf-8")


if __name__ == "__main__":
    main()
