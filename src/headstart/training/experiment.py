"""The experiment: images, audit, split, backbone and their cost, before any training."""

import warnings
from dataclasses import dataclass, replace
from math import ceil
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from headstart.backbones.cut import trace
from headstart.data.audit import AuditResult, audit
from headstart.data.audit_classes import MIN_PER_CLASS
from headstart.data.decode import ImageSource, decode_dataset
from headstart.data.division import divide, labels_of, numbered
from headstart.data.pixels import Pixels, with_range
from headstart.data.splits import Split, read_split
from headstart.data.types import Dataset, SplitName
from headstart.data.unlabelled import Unlabelled
from headstart.errors import BudgetError
from headstart.features.cache import cache_limit
from headstart.features.extractor import FeatureExtractor, backbone_of
from headstart.progress import SILENT, format_duration
from headstart.recipes.recipe import Recipe
from headstart.text import counted
from headstart.training.boundary import fixed_boundary
from headstart.training.budget import Clock
from headstart.training.earlier_run import EarlierRun, parts_after
from headstart.training.run_context import Resources
from headstart.training.speed import measure_decoding, measure_features

CLOSING_S = 10.0
"""Seconds reserved for comparing views, writing and reloading the bundle, storing pictures and
drawing the report, with a processor to itself."""


@dataclass(frozen=True)
class SplitChoice:
    """The source of the split.

    Attributes:
        file: A split file, such as the split.csv of another run; None draws a split.
        seed: Seed for a split that is drawn.
        earlier: A run that is continued: its images keep their part.
    """

    file: Path | None = None
    seed: int = 0
    earlier: EarlierRun | None = None


@dataclass(frozen=True)
class Experiment:
    """The data, split and backbone of a run, before any training.

    `background` has files of images of no class, which help to reject others of no class;
    `unlabelled` has images of unknown classes, which may help to train a head.
    """

    dataset: Dataset
    pixels: Pixels
    audited: AuditResult
    split: Split
    extractor: FeatureExtractor
    decode_s: float
    features_s: float
    background: tuple[Path, ...] = ()
    unlabelled: Unlabelled | None = None

    @property
    def source(self) -> ImageSource:
        """What the pixels are decoded from, to decode them once more."""
        short_side = self.extractor.backbone.preprocessing.resize
        return ImageSource(tuple(self.dataset.items), short_side, self.dataset.reading)

    @property
    def multilabel(self) -> bool:
        """Whether an image may have any number of labels."""
        return self.dataset.multilabel

    @property
    def score_name(self) -> str:
        """What the second value of a score is called."""
        return "mAP" if self.multilabel else "accuracy"

    @property
    def left_out(self) -> str:
        """The classes that cannot be learned, as a sentence; empty if all can."""
        known = set(self.extractor.classes)
        absent = [repr(name) for name in self.dataset.classes if name not in known]
        if not absent:
            return ""
        shown = ", ".join(absent[:10]) + (", …" if len(absent) > 10 else "")
        if self.multilabel:
            return (
                f"Left out and never predicted: {counted(len(absent), 'label')} that fewer than "
                f"{MIN_PER_CLASS} usable images have, or lack ({shown})."
            )
        return (
            f"Left out and never predicted: {counted(len(absent), 'class', 'classes')} with fewer "
            f"than {MIN_PER_CLASS} usable images ({shown}). Add images to learn them."
        )


def prepare(
    dataset: Dataset,
    recipe: Recipe,
    split: SplitChoice,
    resources: Resources,
    passes: float = 0.0,
) -> Experiment:
    """Loads the backbone, then decodes, audits and splits the images.

    Args:
        dataset: Dataset of images.
        recipe: Recipe that names the backbone.
        split: Source of the split.
        resources: Time, cache, decode workers and progress display.
        passes: How often an image goes through the network, at least, in what is to come; that of
            all images for their features does not count.

    Raises:
        BudgetError: If the budget is below the cheapest path; nothing is decoded in that case.
        DataError: If too few images are left to validate on.
    """
    clock, cache, progress = resources.clock, resources.cache_dir, resources.progress
    cache_limit()  # fail early on an unreadable value
    network = backbone_of(recipe)
    preprocessing = network.preprocessing
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    traced = trace(network.model, preprocessing.resolution)
    empty = np.empty(0, np.int64)
    none: dict[str, NDArray[np.int64]] = {}
    pixels = Pixels((), empty.reshape(0, 2), "", empty, np.empty(0, np.uint8))
    extractor = FeatureExtractor(
        pixels, none, none, empty, dataset.classes, network, traced, device, cache, progress
    )
    fixed_boundary(extractor, recipe)  # fail early on a wrong name
    decode_s = features_s = 0.0
    if clock.budget_s is not None:
        paths = [item.path for item in dataset.items]
        decode_s = measure_decoding(paths, preprocessing.resize) / (torch.get_num_threads())
        features_s = measure_features(extractor)
        clock.pace.measure()
        _refuse_too_little(clock, len(dataset.items), decode_s, features_s, passes)
    pixels = decode_dataset(
        dataset.items,
        preprocessing.resize,
        cache,
        workers=resources.workers,
        progress=progress,
        reading=dataset.reading,
    )
    audited = audit(dataset, pixels.facts, preprocessing.resolution)
    kept = audited.kept
    names = labels_of(dataset, audited)
    given: list[SplitName | None] | None = None
    if split.file is not None:
        given = read_split(split.file, [dataset.key(int(index)) for index in kept])
    elif split.earlier is not None:
        known = split.earlier.known(pixels.facts)
        before = [known.get(pixels.facts[int(index)].pixels) for index in kept]
        given = parts_after(names, audited.groups, before, split.seed)
    divided = divide(dataset, audited, split.seed, given)
    measured = with_range(dataset, pixels.facts, kept[divided.train])
    if measured != dataset:
        dataset = measured
        pixels = decode_dataset(
            dataset.items,
            preprocessing.resize,
            cache,
            workers=resources.workers,
            progress=progress,
            reading=dataset.reading,
        )
    classes, numbers = numbered(names, list(audited.audit.classes))
    extractor = FeatureExtractor(
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
    experiment = Experiment(dataset, pixels, audited, divided, extractor, decode_s, features_s)
    if experiment.left_out and progress is SILENT:  # a display shows the audit instead
        warnings.warn(experiment.left_out, stacklevel=3)
    return experiment


@dataclass(frozen=True)
class DevelopmentSet:
    """The development set: rows of the pixels, class numbers and group numbers, each (N,).

    Sets of labels are (N, C).
    """

    rows: NDArray[np.int64]
    labels: NDArray[np.int64]
    groups: NDArray[np.int64]


def development_set(experiment: Experiment) -> DevelopmentSet:
    """Returns the training images, then the validation images."""
    extractor, split, groups = experiment.extractor, experiment.split, experiment.audited.groups
    return DevelopmentSet(
        np.concatenate([extractor.rows["train"], extractor.rows["val"]]),
        np.concatenate([extractor.labels["train"], extractor.labels["val"]]),
        np.concatenate([groups[split.train], groups[split.val]]),
    )


def prepare_again(
    dataset: Dataset,
    first: Recipe,
    recipe: Recipe,
    split: SplitChoice,
    resources: Resources,
    passes: float = 0.0,
) -> Experiment:
    """Prepares the first backbone's experiment, then switches it to the chosen backbone.

    Copies are detected at the input size of the first backbone. Another backbone might group and
    split the images differently.

    Args:
        dataset: Dataset of images.
        first: Recipe for which the data was first prepared.
        recipe: Recipe that names the chosen backbone.
        split: Source of the split.
        resources: Time, cache, decode workers and progress display.
        passes: As for `prepare`.
    """
    experiment = prepare(dataset, first, split, resources, passes)
    if recipe.backbone == first.backbone:
        return experiment
    return change_backbone(experiment, recipe, resources)


def change_backbone(experiment: Experiment, recipe: Recipe, resources: Resources) -> Experiment:
    """Returns the experiment for another backbone: images decoded for it, with the same split."""
    network = backbone_of(recipe)
    preprocessing = network.preprocessing
    old = experiment.extractor
    pixels = decode_dataset(
        experiment.dataset.items,
        preprocessing.resize,
        old.cache_dir,
        workers=resources.workers,
        progress=old.progress,
        reading=experiment.dataset.reading,
    )
    traced = trace(network.model, preprocessing.resolution)
    extractor = replace(old, pixels=pixels, backbone=network, traced=traced)
    timed = resources.clock.budget_s is not None
    features_s = 0.0
    if timed:
        pace = resources.clock.pace
        pace.measure()
        features_s = measure_features(extractor) / pace.now  # at the first pace, like decode_s
    return replace(experiment, pixels=pixels, extractor=extractor, features_s=features_s)


def _refuse_too_little(
    clock: Clock, images: int, decode_s: float, features_s: float, passes: float
) -> None:
    """Checks that the budget suffices to train and test a head on frozen features.

    Raises:
        BudgetError: If it does not; the message names the smallest sufficient budget.
    """
    assert clock.budget_s is not None
    closing_s = CLOSING_S * clock.pace.contention
    least = clock.elapsed() + closing_s + images * (1.3 * decode_s + features_s + 0.002)
    least += passes * features_s
    if least > clock.budget_s:
        shown = 5 * ceil(least * 1.1 / 5)
        raise BudgetError(
            f"A budget of {format_duration(clock.budget_s)} is too short for {images} images on "
            f"this machine: the cheapest path takes about {shown} s. Give --budget {shown}s."
        )
