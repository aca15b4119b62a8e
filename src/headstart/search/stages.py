"""The stages of training one recipe: where to cut, the head from the probe, then the suffix."""

import shutil
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import nn

from headstart.backbones.cut import FEATURES, INPUT, Boundary, suffix
from headstart.backbones.engine import Normalize
from headstart.cache import cache_limit
from headstart.data.images import load_image
from headstart.data.views import augmented_view, eval_view
from headstart.methods.freezing import Full, HeadOnly
from headstart.probe import Probe, Validated, cross_validate, fit_probe
from headstart.recipe import Recipe
from headstart.search.material import (
    Material,
    PrefixRun,
    activations,
    features_of,
    open_prefix,
    seconds_of,
)
from headstart.search.plan import (
    Speed,
    share_of_disk,
    views_for,
)
from headstart.train import TrainData, predict, score

_SAMPLE = 8
_GAP_IMAGES = 192
STAGES_MUST_GAIN = 0.02
"""Share of the log loss that features of several stages must save to be worth their size."""


@dataclass(frozen=True)
class Start:
    """Where fine-tuning begins.

    Attributes:
        prefix: The frozen part.
        cached: Activations of the evaluation views by part.
        taps: Stages whose pooled features the head sees besides the last ones.
        head: Features (N, F) to logits (N, C).
        probe: What the head was taken from, or None where it is random.
    """

    prefix: PrefixRun
    cached: dict[str, NDArray[Any]]
    taps: tuple[str, ...]
    head: nn.Module
    probe: Probe | None


def fixed_boundary(material: Material, recipe: Recipe) -> str | None:
    """Returns the boundary that the recipe names, or None where it is to be chosen by the clock.

    Raises:
        BackboneError: If the backbone has no such boundary.
    """
    if isinstance(recipe.freezing, HeadOnly):
        return FEATURES
    if isinstance(recipe.freezing, Full):
        return INPUT
    if recipe.freezing.boundary == "auto":
        return None
    return material.traced.boundary(recipe.freezing.boundary).name


def measure_decoding(paths: list[Any], short_side: int) -> float:
    """Returns the seconds to decode an image in one process, from a small sample."""
    sample = paths[:: max(1, len(paths) // _SAMPLE)][:_SAMPLE]
    start = time.monotonic()
    for path in sample:
        try:
            load_image(path, None, short_side)
        except ValueError:  # the audit will name it
            continue
    return (time.monotonic() - start) / len(sample)


def measure_features(material: Material) -> float:
    """Returns the seconds that the whole frozen backbone takes for an image."""
    run = open_prefix(material, FEATURES)
    resolution = material.backbone.preprocessing.resolution
    size = run.engine.batch_size
    batch = np.zeros((size, resolution, resolution, 3), np.uint8)
    return seconds_of(lambda: run.engine.run(batch), 2) / size


def measure_speeds(
    material: Material, recipe: Recipe, boundaries: Sequence[Boundary], features_s: float
) -> dict[str, Speed]:
    """Measures, for each boundary, what an image costs before and after it.

    Args:
        material: What to work with.
        recipe: Says what a view and a training step are.
        boundaries: Where to cut.
        features_s: Seconds that the whole frozen backbone takes for an image.
    """
    view_s = _view_seconds(material, recipe)
    return {
        boundary.name: Speed(
            prefix_s=features_s * boundary.position + view_s,
            train_s=_training_seconds(material, recipe, boundary),
            bytes_per_view=2 * int(np.prod(boundary.shape)),
        )
        for boundary in boundaries
    }


def _training_seconds(material: Material, recipe: Recipe, boundary: Boundary) -> float:
    """Returns the seconds that training the suffix takes for an image."""
    shape = boundary.shape
    head = recipe.head.build(material.backbone.features, len(material.classes))
    model = nn.Sequential(suffix(material.traced, boundary.name), head)
    model.to(material.device)
    model.to(memory_format=torch.channels_last)
    size = min(recipe.batch_size, 32)
    batch = torch.rand(size, *shape, device=material.device)
    if batch.ndim == 4:
        batch = batch.contiguous(memory_format=torch.channels_last)

    def step() -> None:
        # In eval mode no statistic moves, and the gradients cost the same.
        model.eval()(batch).logsumexp(1).sum().backward()
        model.zero_grad()
        if material.device.type == "cuda":
            torch.cuda.synchronize()

    # Optimizer, averaging and fetching the batch come on top.
    return 1.15 * seconds_of(step, 2) / size


def start_from(material: Material, recipe: Recipe, boundary: str) -> Start:
    """Caches the evaluation views at a boundary and makes the head."""
    wanted = recipe.head.features
    stages = tuple(b.name for b in material.traced.boundaries if b.stage and b.name != FEATURES)
    if boundary == FEATURES:
        taps = () if wanted == "last" else stages
        prefix = open_prefix(material, boundary, taps)
    else:
        names = [b.name for b in material.traced.boundaries]
        behind = tuple(s for s in stages if names.index(s) >= names.index(boundary))
        taps = () if wanted == "last" or boundary == INPUT else behind
        prefix = open_prefix(material, boundary)
    cached = {part: activations(material, prefix, part) for part in ("train", "val")}
    if recipe.head.init == "random":
        torch.manual_seed(recipe.seed)
        taps = taps if wanted == "stages" else ()
        if boundary == FEATURES and wanted != "stages":
            cached = {
                part: array[:, -material.backbone.features :] for part, array in cached.items()
            }
        features = material.backbone.features + _tap_width(material, taps)
        head = recipe.head.build(features, len(material.classes))
        return Start(prefix, cached, taps, head, None)
    features_by_part = features_of(material, prefix, cached, taps)
    probe, taps = _choose_probe(material, recipe, features_by_part["train"], taps)
    width = probe.weight.shape[1]
    if boundary == FEATURES:
        cached = {part: array[:, -width:] for part, array in cached.items()}
    head = recipe.head.build(width, len(material.classes))
    recipe.head.load_probe(head, torch.from_numpy(probe.weight), torch.from_numpy(probe.bias))
    return Start(prefix, cached, taps, head, probe)


def suffix_of(material: Material, start: Start) -> nn.Module:
    """Returns what is trained besides the head: activations to features."""
    if start.prefix.boundary == FEATURES:
        return nn.Identity()
    network = suffix(material.traced, start.prefix.boundary, start.taps)
    if start.prefix.boundary == INPUT:
        preprocessing = material.backbone.preprocessing
        return nn.Sequential(Normalize(preprocessing.mean, preprocessing.std), network)
    return network


def training_data(
    material: Material, recipe: Recipe, start: Start, epochs: int, until: float | None = None
) -> TrainData:
    """Caches the augmented views and returns what to train on.

    Args:
        material: What to work with.
        recipe: Says what the views are and, if it likes, how many.
        start: The prefix.
        epochs: Length of training.
        until: On `time.monotonic`: no further view is begun after it.
    """
    views: list[NDArray[Any]] = [start.cached["train"]]
    if recipe.augmentation.name != "none":
        views = []
        for number in range(recipe.views or views_for(epochs)):
            if views and until is not None and time.monotonic() > until:
                break
            views.append(augmented(material, recipe, start, number))
    return TrainData(views, material.labels["train"], start.cached["val"], material.labels["val"])


def view_gap(
    material: Material, recipe: Recipe, start: Start, model: nn.Module, data: TrainData
) -> tuple[float, float] | None:
    """Returns the accuracy on a cached view and on one that training has not seen.

    With few views the suffix can learn them by heart; the gap shows it. None without augmentation.
    """
    if recipe.augmentation.name == "none":
        return None
    some = np.arange(min(_GAP_IMAGES, len(data.labels)))
    rows = {"train": material.rows["train"][some]}
    fresh = augmented(replace(material, rows=rows), recipe, start, len(data.views))
    scores = [
        score(predict(model, view, device=material.device), data.labels[some])[1]
        for view in (data.views[-1][some], fresh)
    ]
    return scores[0], scores[1]


def disk_for_views(material: Material) -> float:
    """Returns how many bytes cached views may take."""
    material.cache_dir.mkdir(parents=True, exist_ok=True)
    return share_of_disk(shutil.disk_usage(material.cache_dir).free, cache_limit())


def augmented(material: Material, recipe: Recipe, start: Start, number: int) -> NDArray[Any]:
    """Returns the activations (N, ...) of augmented view `number` of the training images."""
    array = activations(material, start.prefix, "train", recipe.augmentation, recipe.seed, number)
    width = start.cached["train"].shape[1]
    return array[:, -width:] if start.prefix.boundary == FEATURES else array


def _choose_probe(
    material: Material, recipe: Recipe, features: NDArray[np.float32], taps: tuple[str, ...]
) -> tuple[Probe, tuple[str, ...]]:
    """Fits the probe on the last features, on those of all stages, or on what is better."""
    labels, classes = material.labels["train"], len(material.classes)

    def validate(columns: NDArray[np.float32]) -> Validated:
        return cross_validate(
            columns,
            labels,
            classes,
            material.groups,
            seed=recipe.seed,
            progress=material.progress,
        )

    validated = validate(features)
    if taps and recipe.head.features == "auto":
        last = features[:, -material.backbone.features :]
        validated_last = validate(last)
        if validated.log_loss >= (1 - STAGES_MUST_GAIN) * validated_last.log_loss:
            features, validated, taps = last, validated_last, ()
    return fit_probe(features, labels, classes, validated), taps


def _tap_width(material: Material, taps: tuple[str, ...]) -> int:
    channels_first = getattr(material.traced.model, "output_fmt", "NCHW") == "NCHW"
    shapes = [material.traced.boundary(tap).shape for tap in taps]
    return sum(s[0] if len(s) == 3 and channels_first else s[-1] for s in shapes)


def _view_seconds(material: Material, recipe: Recipe) -> float:
    preprocessing = material.backbone.preprocessing
    augment = recipe.augmentation.build(preprocessing.resolution, preprocessing.interpolation)
    rows = material.rows["train"][:_SAMPLE]
    start = time.monotonic()
    for row in rows:
        image = Image.fromarray(material.pixels.image(int(row)))
        if augment is None:
            eval_view(image, preprocessing)
        else:
            augmented_view(image, augment, recipe.seed, int(row), 0)
    # A thread of its own makes views while the prefix runs, on processors that both share.
    return (time.monotonic() - start) / len(rows) / 2
