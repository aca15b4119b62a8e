"""Small data sets of real images: some training images of each class, and others as the test.

A folder holds copies of the images and a manifest. Images that belong together, such as turned or
cropped copies, are on one side; what is not needed is left out.
"""

import csv
import shutil
from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from headstart.data.sources import load_dataset
from headstart.recipes.parsing import load_recipe
from headstart.training.experiment import Experiment, SplitChoice, prepare
from headstart.training.run_context import Resources

MOST_TESTED = 300


def few(source: Path, each: int, classes: int, seed: int, work: Path) -> Path:
    """Returns a manifest with `each` training images of each class and up to 300 others as test.

    Args:
        source: Folder of a data set.
        each: Training images of each class; of small classes at most half.
        classes: Number of classes, the first by name; 0 for all.
        seed: Seed of the draw.
        work: Folder for the manifest and for decoded images.
    """
    folder = work / "few" / f"{source.name}-{each}-{classes}-{seed}"
    file = folder / "images.csv"
    if file.exists():
        return file
    found = _experiment(source, work)
    items = [found.dataset.items[int(row)] for row in found.audited.kept]
    names = sorted({item.label for item in items})[: classes or None]
    labels = np.array([names.index(item.label) if item.label in names else -1 for item in items])
    train, test = drawn(labels, found.audited.groups, each, MOST_TESTED, seed)
    folder.mkdir(parents=True, exist_ok=True)
    draft = folder / "images.part"
    with draft.open("w", encoding="utf-8", newline="") as out:
        rows = csv.writer(out)
        rows.writerow(("path", "label", "split", "group"))
        for part, numbers in (("train", train), ("test", test)):
            for number in numbers:
                item, group = items[number], found.audited.groups[number]
                name = f"{number:05d}{item.path.suffix}"
                shutil.copy(item.path, folder / name)
                rows.writerow((name, item.label, part, f"group {group}"))
    draft.rename(file)
    return file


def drawn(
    labels: NDArray[np.int64], groups: NDArray[np.int64], each: int, tested: int, seed: int
) -> tuple[list[int], list[int]]:
    """Returns the numbers of training and of test images; no group is in both.

    Args:
        labels: Class numbers (N,); -1 for images of no wanted class.
        groups: Group numbers (N,).
        each: Training images of each class; of small classes at most half.
        tested: Most test images.
        seed: Seed of the draw.

    Example:
        >>> train, test = drawn(np.array([0, 0, 0, 1, 1, 1, -1]), np.arange(7), 1, 3, seed=0)
        >>> len(train), len(test), 6 in train + test
        (2, 3, False)
    """
    dice = np.random.default_rng(seed)
    taken = np.zeros(len(labels), bool)
    for label in range(labels.max() + 1):
        of_class = labels == label
        most = min(each, int(of_class.sum()) // 2)
        for group in dice.permutation(np.unique(groups[of_class])):
            members = of_class & (groups == group)
            if (taken & of_class).sum() + members.sum() <= most:
                taken |= members
    others = (labels >= 0) & ~np.isin(groups, groups[taken])
    test = dice.permutation(np.flatnonzero(others))[:tested]
    return np.flatnonzero(taken).tolist(), sorted(test.tolist())


@lru_cache(maxsize=1)
def _experiment(source: Path, work: Path) -> Experiment:
    resources = Resources(cache_dir=work / "few", workers=1)
    return prepare(load_dataset(source), load_recipe("default"), SplitChoice(), resources)
