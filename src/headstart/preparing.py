"""What is known before anything is trained: images, audit, split, backbone, and what they cost."""

from dataclasses import dataclass, replace
from math import ceil
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from headstart.backbones.cut import trace
from headstart.cache import cache_limit
from headstart.data.audit import AuditResult, audit
from headstart.data.decode import Pixels, decode_dataset
from headstart.data.splits import Split, make_split, read_split
from headstart.data.types import Dataset
from headstart.errors import BudgetError, DataError
from headstart.progress import format_duration
from headstart.recipe import Recipe
from headstart.run_context import Resources
from headstart.search.clock import Clock
from headstart.search.material import Material, backbone_of
from headstart.search.measuring import measure_decoding, measure_features
from headstart.search.stages import fixed_boundary

CLOSING_S = 10.0
"""Seconds kept for comparing views, writing and reloading the bundle, keeping pictures, and drawing
the report."""


@dataclass(frozen=True)
class SplitChoice:
    """Where the split comes from.

    Attributes:
        file: A split file, such as the split.csv of another run; None draws a split.
        seed: Seed for a split that is drawn.
    """

    file: Path | None = None
    seed: int = 0


@dataclass(frozen=True)
class Prepared:
    """What is known before anything is trained."""

    dataset: Dataset
    pixels: Pixels
    audited: AuditResult
    split: Split
    material: Material
    decode_s: float
    features_s: float


def prepare(dataset: Dataset, recipe: Recipe, split: SplitChoice, resources: Resources) -> Prepared:
    """Loads the backbone, decodes, audits and splits; refuses a budget that is too small.

    Args:
        dataset: The images.
        recipe: Names the backbone.
        split: Where the split comes from.
        resources: Time, cache, decode workers and progress display.

    Raises:
        BudgetError: If the budget is below the cheapest path.
        DataError: If too few images are left to validate on.
    """
    clock, cache, progress = resources.clock, resources.cache_dir, resources.progress
    cache_limit()  # a value that cannot be read is refused before any work
    network = backbone_of(recipe)
    preprocessing = network.preprocessing
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    traced = trace(network.model, preprocessing.resolution)
    empty = np.empty(0, np.int64)
    none: dict[str, NDArray[np.int64]] = {}
    pixels = Pixels((), empty.reshape(0, 2), "", empty, np.empty(0, np.uint8))
    material = Material(
        pixels, none, none, empty, dataset.classes, network, traced, device, cache, progress
    )
    fixed_boundary(material, recipe)  # a wrong name is refused before any work
    decode_s = features_s = 0.0
    if clock.budget_s is not None:
        paths = [item.path for item in dataset.items]
        decode_s = measure_decoding(paths, preprocessing.resize) / (torch.get_num_threads())
        features_s = measure_features(material)
        _refuse_too_little(clock, len(dataset.items), decode_s, features_s)
    pixels = decode_dataset(
        dataset.items, preprocessing.resize, cache, workers=resources.workers, progress=progress
    )
    audited = audit(dataset, pixels.facts, preprocessing.resolution)
    kept = audited.kept
    keys = [dataset.key(int(index)) for index in kept]
    names = [dataset.items[int(index)].label for index in kept]
    given = [dataset.items[int(index)].split for index in kept]
    if split.file is not None:
        given = read_split(split.file, keys)
    divided = make_split(names, audited.groups, given=given, seed=split.seed, keys=keys)
    if not len(divided.val):
        raise DataError(
            f"{dataset.name} has too few images to validate on: at least one class needs 4 that "
            "are no copies of each other."
        )
    classes = tuple(sorted(set(names)))
    numbers = np.array([classes.index(name) for name in names], np.int64)
    material = Material(
        pixels=pixels,
        rows={"train": kept[divided.train], "val": kept[divided.val]},
        labels={"train": numbers[divided.train], "val": numbers[divided.val]},
        groups=audited.groups[divided.train],
        classes=classes,
        backbone=network,
        traced=traced,
        device=device,
        cache_dir=cache,
        progress=progress,
    )
    return Prepared(dataset, pixels, audited, divided, material, decode_s, features_s)


@dataclass(frozen=True)
class Unsealed:
    """What is not sealed, in one array each: rows of the pixels, class and group numbers (N,)."""

    rows: NDArray[np.int64]
    labels: NDArray[np.int64]
    groups: NDArray[np.int64]


def unsealed(ready: Prepared) -> Unsealed:
    """Returns the training images, then the validation images."""
    material, split, groups = ready.material, ready.split, ready.audited.groups
    return Unsealed(
        np.concatenate([material.rows["train"], material.rows["val"]]),
        np.concatenate([material.labels["train"], material.labels["val"]]),
        np.concatenate([groups[split.train], groups[split.val]]),
    )


def prepare_again(
    dataset: Dataset, first: Recipe, recipe: Recipe, split: SplitChoice, resources: Resources
) -> Prepared:
    """Prepares as `prepare` did at first, then for the backbone that was chosen since.

    Copies are found in images of the size that a backbone takes, so that another backbone might
    group and split them differently.

    Args:
        dataset: The images.
        first: The recipe that the data was first prepared for.
        recipe: The recipe that it is needed for now.
        split: Where the split comes from.
        resources: Time, cache, decode workers and progress display.
    """
    ready = prepare(dataset, first, split, resources)
    if recipe.backbone == first.backbone:
        return ready
    return change_backbone(ready, recipe, resources)


def change_backbone(ready: Prepared, recipe: Recipe, resources: Resources) -> Prepared:
    """Returns the same data for another backbone: decoded for it, with the same split."""
    network = backbone_of(recipe)
    preprocessing = network.preprocessing
    old = ready.material
    pixels = decode_dataset(
        ready.dataset.items,
        preprocessing.resize,
        old.cache_dir,
        workers=resources.workers,
        progress=old.progress,
    )
    traced = trace(network.model, preprocessing.resolution)
    material = replace(old, pixels=pixels, backbone=network, traced=traced)
    timed = resources.clock.budget_s is not None
    features_s = measure_features(material) if timed else 0.0
    return replace(ready, pixels=pixels, material=material, features_s=features_s)


def _refuse_too_little(clock: Clock, images: int, decode_s: float, features_s: float) -> None:
    """Refuses a budget in which not even a head on frozen features can be trained and tested.

    Raises:
        BudgetError: With the least that would do.
    """
    assert clock.budget_s is not None
    least = clock.elapsed() + CLOSING_S + images * (1.3 * decode_s + features_s + 0.002)
    if least > clock.budget_s:
        shown = 5 * ceil(least * 1.1 / 5)
        raise BudgetError(
            f"a budget of {format_duration(clock.budget_s)} is too short for {images} images on "
            f"this machine: the cheapest path takes about {shown} s. Give --budget {shown}s."
        )
