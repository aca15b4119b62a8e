"""Suspicious images of a data set, found with the features of a frozen network."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from headstart.artifacts.run import read_record, read_split_parts
from headstart.artifacts.unchanged import THE_FOLDER, check_unchanged
from headstart.backbones.cut import trace
from headstart.backbones.places import FEATURES
from headstart.data.audit import audit
from headstart.data.cache_dir import default_cache_dir
from headstart.data.decode import decode_dataset
from headstart.data.division import labels_of, numbered
from headstart.data.pixels import with_range
from headstart.data.sources import load_dataset, say_understood
from headstart.data.types import Dataset
from headstart.diagnose.label_suspects import (
    find_label_suspects,
    judged_labels,
    out_of_fold_labels,
)
from headstart.diagnose.reasons import Suspect, without_sealed
from headstart.diagnose.suspects import find_suspects, out_of_fold_probabilities
from headstart.errors import DataError, RunError
from headstart.features.extractor import FeatureExtractor, activations, backbone_of, open_prefix
from headstart.progress import Progress, Shown, display
from headstart.recipes.keywords import lists_fields, with_keywords
from headstart.recipes.options import SourceOptions
from headstart.recipes.parsing import load_recipe
from headstart.recipes.recipe import Recipe
from headstart.text import counted


@dataclass(frozen=True)
class Suspects:
    """Suspicious images of a data set.

    Attributes:
        images: Number of checked images.
        sealed: Number of test images of a run, which are not checked.
        suspects: Suspicious images, the most suspicious first.
        unjudged: Labels that too few images have, or lack, to say of others whether they should
            have it, where an image may have any number of labels; else None.
    """

    images: int
    sealed: int
    suspects: tuple[Suspect, ...]
    unjudged: tuple[str, ...] | None = None


@dataclass(frozen=True)
class _Judged:
    """A data set, the images to check, and the recipe whose backbone computes the features."""

    dataset: Dataset
    recipe: Recipe
    sealed: frozenset[str]
    wanted: frozenset[str] | None


@lists_fields(SourceOptions)
def suspects(
    source: Any,
    options: SourceOptions | None = None,
    *,
    labels: Sequence[str | tuple[str, ...]] | None = None,
    cache_dir: str | Path | None = None,
    workers: int | None = None,
    progress: Shown = None,
    **keywords: Any,
) -> Suspects:
    """Finds probable label errors, copies with other labels, and outliers.

    A probe on frozen features, fitted without the image and its group, checks every image; see
    `diagnose.suspects`, and `diagnose.label_suspects` where an image may have any number of labels.
    For a run, the features come from its backbone before training, and the
    test set stays sealed: only training and validation images are checked or named.

    Args:
        source: A run folder, or a source as for `fit`.
        options: How the source is read; a run brings its own.
        labels: Class of each image, or a tuple of its labels, for a list of paths.
        cache_dir: Cache folder; by default `$HEADSTART_CACHE` or the user's cache folder.
        workers: Number of processes that decode images.
        progress: Progress display; by default one where there is a terminal or a notebook. False
            shows nothing.
        keywords: Fields of `SourceOptions` instead of `options`, such as `layout="splits"`.

    Raises:
        DataError: If there are too few images to check each with the help of the others.
        RunError: If the images of a run are not found.

    Example:
        >>> import headstart
        >>> found = headstart.suspects("flowers")  # doctest: +SKIP
        >>> [(each.path, each.label, each.suggested) for each in found.suspects]  # doctest: +SKIP
        [('rose/0012.jpg', 'rose', 'tulip')]
    """
    progress = display(progress)
    cache = Path(cache_dir) if cache_dir else default_cache_dir()
    if _is_run(source):
        judged = _of_run(Path(source), cache, progress)
    else:
        options = with_keywords(SourceOptions, options, keywords)
        dataset = load_dataset(source, options, labels=labels, cache_dir=cache, multilabel=True)
        say_understood(dataset, progress)
        judged = _Judged(dataset, Recipe(), frozenset(), None)
    dataset, recipe = judged.dataset, judged.recipe
    network = backbone_of(recipe)
    preprocessing = network.preprocessing
    pixels = decode_dataset(
        dataset.items,
        preprocessing.resize,
        cache,
        workers=workers,
        progress=progress,
        reading=dataset.reading,
    )
    audited = audit(dataset, pixels.facts, preprocessing.resolution)
    chosen = np.array(
        [
            judged.wanted is None or dataset.key(int(row)) in judged.wanted
            for row in audited.kept
        ],
        bool,
    )  # fmt: skip
    rows, groups = audited.kept[chosen], audited.groups[chosen]
    measured = with_range(dataset, pixels.facts, rows)
    if measured != dataset:
        dataset = measured
        pixels = decode_dataset(
            dataset.items,
            preprocessing.resize,
            cache,
            workers=workers,
            progress=progress,
            reading=dataset.reading,
        )
    names = labels_of(dataset, replace(audited, kept=rows))
    classes, numbers = numbered(names, list(audited.audit.classes))
    if len(classes) < 2:
        raise DataError(
            f"{dataset.name} has images of {counted(len(classes), 'class', 'classes')}. "
            "At least two are needed."
        )
    extractor = FeatureExtractor(
        pixels=pixels,
        rows={"train": rows},
        labels={"train": numbers},
        groups=groups,
        classes=classes,
        backbone=network,
        traced=trace(network.model, preprocessing.resolution),
        device=torch.device("cuda" if torch.cuda.is_available() else "cpu"),
        cache_dir=cache,
        progress=progress,
    )
    features: NDArray[np.float32] = np.asarray(
        activations(extractor, open_prefix(extractor, FEATURES), "train"), np.float32
    )
    findings = without_sealed(audited.audit.findings, judged.sealed)
    sealed = len(judged.sealed)
    if dataset.multilabel:
        known = judged_labels(numbers, groups, classes)
        told = out_of_fold_labels(features, numbers, groups, recipe.seed)
        found = find_label_suspects(dataset, rows, classes, told, features, groups, findings)
        unjudged = tuple(name for name in classes if name not in known)
        return Suspects(len(rows), sealed, found, unjudged)
    told = out_of_fold_probabilities(features, numbers, len(classes), groups, recipe.seed)
    found = find_suspects(dataset, rows, classes, told, features, findings)
    return Suspects(len(rows), sealed, found)


def _is_run(source: Any) -> bool:
    return isinstance(source, str | Path) and (Path(source) / "run.json").is_file()


def _of_run(folder: Path, cache: Path, progress: Progress) -> _Judged:
    """Returns the development set of a run and its recipe.

    Raises:
        RunError: If the images are no longer there, or they, their labels or the split changed.
    """
    record = read_record(folder)
    parts = read_split_parts(folder)
    source = record.data_root if record.source is None else record.source
    if not source:
        raise RunError(
            f"The images of {folder} were passed in Python without a path. Pass the images "
            "instead of the run."
        )
    try:
        several = record.task == "multilabel"
        dataset = load_dataset(source, record.reading, cache_dir=cache, multilabel=several)
    except DataError as error:
        raise RunError(f"Cannot find the images of {folder}: {error}") from None
    wanted = frozenset(key for key, part in parts.items() if part != "test")
    here = {dataset.key(row) for row in range(len(dataset.items))}
    absent = sorted(wanted - here)
    if absent:
        raise RunError(
            f"{source} no longer contains {len(absent)} of the {len(wanted)} images that {folder} "
            f"was trained on, for example {absent[0]}. Pass the folder of images instead."
        )
    unknown = check_unchanged(folder, record, dataset, THE_FOLDER, progress)
    if unknown:
        progress.say(f"note: {unknown}")
    # Images outside the split are damaged or copies; only the test images are sealed.
    sealed = frozenset(key for key, part in parts.items() if part == "test")
    recipe = load_recipe(str(folder / "recipe.toml"))
    return _Judged(dataset, recipe, sealed, wanted)
