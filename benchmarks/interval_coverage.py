"""How often the 95% intervals that headstart prints contain the truth, by simulation.

A cell is a population: classes, prevalences and a confusion matrix, which stay the same for all its
draws. A draw is a test set from it, whose intervals come from headstart's own functions. The truths
are the values of the population: accuracy is the recall weighted by prevalence, balanced accuracy
the mean recall, macro F1 the mean of 2 · P(true and predicted) / (P(true) + P(predicted)), the
recall of a class its own, and the difference of two classifiers that of their accuracies.

    python benchmarks/interval_coverage.py --write docs/intervals.md
"""

import argparse
import itertools
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from headstart.artifacts.records import machine, versions
from headstart.evaluation.class_means import balanced_accuracy, macro_f1
from headstart.evaluation.intervals import share_interval
from headstart.evaluation.paired import Cell, paired_difference

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]

START, END = "<!-- coverage: begin -->", "<!-- coverage: end -->"
NAMES = ("accuracy", "balanced accuracy", "macro F1", "class recall", "difference")

LEAST, MOST = 0.93, 0.97
"""Range in which the coverage of a 95% interval is as it should be."""

GAIN = 0.4
"""Share of the first classifier's mistakes that the second one gets right."""

LOSS = 0.03
"""Share of the first classifier's right answers that the second one gets wrong."""


@dataclass(frozen=True)
class Setting:
    """One cell of the table.

    Attributes:
        classes: Number of classes.
        images: Number of test images.
        accuracy: Mean recall of the classes, which have recalls of their own around it.
        skew: Exponent of Zipf's law for the prevalences; 0 for equal ones.
        stratified: Whether each class gets its share of the images; by chance otherwise.
        group: Number of images in a group, all of one class.
        alike: Probability with which an image shares the outcome of its group.
        giant: Share of the images that are in a single group; the others are alone.
    """

    classes: int
    images: int
    accuracy: float
    skew: float = 0.0
    stratified: bool = True
    group: int = 1
    alike: float = 0.0
    giant: float = 0.0


def independent() -> Iterator[Setting]:
    """Yields the cells with independent images."""
    sizes = (
        (2, 50, 0.9, 0.0), (2, 200, 0.97, 0.0), (5, 100, 0.8, 0.0), (5, 200, 0.9, 1.0),
        (17, 85, 0.8, 0.0), (17, 340, 0.97, 0.0), (17, 340, 0.85, 1.0), (50, 150, 0.8, 0.0),
        (50, 1000, 0.7, 1.0), (100, 500, 0.8, 0.0), (100, 500, 0.95, 0.0), (196, 980, 0.75, 0.5),
        (196, 2000, 0.75, 0.0),
    )  # fmt: skip
    for (classes, images, accuracy, skew), stratified in itertools.product(sizes, (True, False)):
        yield Setting(classes, images, accuracy, skew, stratified)


def grouped() -> Iterator[Setting]:
    """Yields the cells with groups."""
    worlds = ((2, 0.9), (2, 0.97), (10, 0.7), (10, 0.9))
    for (images, group), (classes, accuracy) in itertools.product(((200, 5), (300, 10)), worlds):
        for alike in (0.0, 0.5, 1.0):
            yield Setting(classes, images, accuracy, group=group, alike=alike)
    for alike in (0.0, 0.5, 1.0):
        yield Setting(2, 200, 0.9, group=25, alike=alike)
    for alike in (0.0, 0.5, 1.0):
        yield Setting(2, 200, 0.9, alike=alike, giant=0.2)
    for alike in (0.0, 0.5, 1.0):
        yield Setting(2, 200, 0.9, alike=alike, giant=0.5)


def population(setting: Setting, rng: np.random.Generator) -> tuple[Floats, Floats]:
    """Returns the prevalences (C,) and the confusion matrix (C, C) of a cell; its rows sum to 1."""
    c = setting.classes
    prevalence = np.arange(1.0, c + 1) ** -setting.skew
    prevalence /= prevalence.sum()
    if setting.stratified:
        prevalence = of_classes(setting, prevalence) / (setting.images // setting.group)
    wrong = rng.beta(3.0, 6.0, c)
    wrong = np.minimum(wrong * (1 - setting.accuracy) / wrong.mean(), 0.95)
    confusion = rng.dirichlet(np.full(c, 0.3), c) + 1e-6
    np.fill_diagonal(confusion, 0)
    confusion *= wrong[:, None] / confusion.sum(1, keepdims=True)
    np.fill_diagonal(confusion, 1 - wrong)
    return prevalence, confusion


def of_classes(setting: Setting, prevalence: Floats) -> Ints:
    """Returns the number of groups (C,) that each class gets in a stratified split, at least 1."""
    groups = setting.images // setting.group
    wanted = prevalence * groups
    found = np.maximum(np.floor(wanted), 1).astype(np.int64)
    while found.sum() != groups:
        step = 1 if found.sum() < groups else -1
        found[np.where(found + step > 0, step * (wanted - found), -np.inf).argmax()] += step
    return found


def draw(
    setting: Setting, prevalence: Floats, confusion: Floats, rng: np.random.Generator
) -> tuple[Ints, Ints, NDArray[np.bool_], Ints | None]:
    """Returns labels, predictions, whether a second classifier is right, and groups, each (n,)."""
    n, units = setting.images, setting.images // setting.group
    if setting.stratified:
        classes = np.repeat(np.arange(setting.classes), of_classes(setting, prevalence))
    else:
        classes = rng.choice(setting.classes, units, p=prevalence)
    groups = np.repeat(np.arange(units), setting.group)
    if setting.giant:
        giant = rng.permutation(n)[: round(setting.giant * n)]
        groups[giant] = groups[giant[0]]
    labels = np.repeat(classes, setting.group)
    alike = rng.random(n) < setting.alike

    def chances() -> Floats:
        return np.where(alike, rng.random(n)[groups], rng.random(n))

    predicted = (chances()[:, None] > confusion.cumsum(1)[labels]).sum(1)
    predicted = np.minimum(predicted, setting.classes - 1)
    right = predicted == labels
    second = np.where(right, chances() >= LOSS, chances() < GAIN)
    alone = setting.group == 1 and not setting.giant
    return labels, predicted, second, None if alone else groups


def coverage(setting: Setting, draws: int) -> Floats:
    """Returns how often each interval contains the truth, in the order of `NAMES`.

    For the recalls of classes it is the mean over three classes: the first, a middle and the last.
    """
    world = population(setting, np.random.default_rng(0))
    prevalence, confusion = world
    recall, c = np.diag(confusion), setting.classes
    f1 = 2 * prevalence * recall / (prevalence + prevalence @ confusion)
    accuracy = float(prevalence @ recall)
    gain = (1 - accuracy) * GAIN - accuracy * LOSS
    held = np.zeros((draws, len(NAMES)))
    for number in range(draws):
        labels, predicted, second, groups = draw(
            setting, *world, np.random.default_rng([number, draws])
        )
        right = labels == predicted
        found = [
            (share_interval(right, groups), accuracy),
            (balanced_accuracy(labels, predicted, c, groups)[1], float(recall.mean())),
            (macro_f1(labels, predicted, c, groups)[1], float(f1.mean())),
            (paired_difference([Cell("test", right, second, groups)])[1], gain),
        ]
        accuracy_held, balanced_held, f1_held, gain_held = (
            low - 1e-12 <= truth <= high + 1e-12 for (low, high), truth in found
        )
        recalls = []
        present = np.unique(labels)
        for label in {*present[[0, len(present) // 2, -1]].tolist()}:
            of = labels == label
            low, high = share_interval(right[of], None if groups is None else groups[of])
            recalls.append(low <= recall[label] <= high)
        held[number] = accuracy_held, balanced_held, f1_held, np.mean(recalls), gain_held
    return np.asarray(held.mean(0))


def row(setting: Setting, held: Floats) -> str:
    """Returns a row of the table; coverage below the range is bold, above it italic."""
    shown = [
        f"**{share:.3f}**"
        if share < LEAST
        else f"*{share:.3f}*"
        if share > MOST
        else f"{share:.3f}"
        for share in held
    ]
    groups = "–"
    if setting.giant:
        groups = f"one of {setting.giant * setting.images:.0f}, the others alone"
    elif setting.group > 1:
        groups = f"{setting.images // setting.group} × {setting.group}"
    how = {0.0: "no", 0.5: "half", 1.0: "all"}[setting.alike] if groups != "–" else "–"
    cells = (
        setting.classes, setting.images, f"{setting.accuracy:.0%}", f"{setting.skew:g}",
        "by share" if setting.stratified else "by chance", groups, how, *shown,
    )  # fmt: skip
    return "| " + " | ".join(map(str, cells)) + " |"


def table(cells: list[tuple[Setting, Floats]], draws: int, seconds: float) -> str:
    """Returns the measured coverage as Markdown."""
    columns = (
        "classes", "images", "accuracy", "skew", "classes drawn", "groups", "alike", *NAMES
    )  # fmt: skip
    head = ["| " + " | ".join(columns) + " |", "|-" * len(columns) + "|"]
    values = np.array([held for _, held in cells])
    inside = ((values >= LEAST) & (values <= MOST)).mean()
    found = versions()
    used = ", ".join(f"{name} {found[name]}" for name in ("python", "numpy", "scipy"))
    return "\n".join(
        [
            f"{draws:,} draws of each row ({1.96 * (0.95 * 0.05 / draws) ** 0.5:.3f} to either "
            f"side is chance). {values.size:,} figures: {(values < LEAST).sum()} below {LEAST}, "
            f"lowest "
            f"{values.min():.3f}; {inside:.0%} from {LEAST} to {MOST}; {(values > MOST).sum()} "
            f"above. `python benchmarks/interval_coverage.py --draws {draws}`: "
            f"{seconds / 60:.0f} minutes on one core of {machine()}; {used}.",
            "",
            *head,
            *(row(*cell) for cell in cells),
        ]
    )


def main() -> None:
    """Simulates all cells, prints their rows, and puts the table into a page."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--draws", type=int, default=2000)
    parser.add_argument("--write", type=Path, help="page whose table is replaced")
    options = parser.parse_args()
    started, cells = time.process_time(), []
    for setting in (*independent(), *grouped()):
        cells.append((setting, coverage(setting, options.draws)))
        print(row(*cells[-1]), flush=True)
    made = table(cells, options.draws, time.process_time() - started)
    print(made.splitlines()[0])
    if options.write:
        page = options.write.read_text(encoding="utf-8")
        before, after = page.split(START)[0], page.split(END)[1]
        options.write.write_text(f"{before}{START}\n{made}\n{END}{after}", encoding="utf-8")


if __name__ == "__main__":
    main()
