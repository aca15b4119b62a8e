"""Speed measurements on this machine: decoding, features, views and training."""

import shutil
import time
from collections import deque
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import nn

from headstart.backbones.boundaries import Boundary
from headstart.backbones.cut import suffix
from headstart.backbones.engine import outputs_of
from headstart.backbones.folding import folded
from headstart.backbones.places import FEATURES
from headstart.data.eval_view import eval_view
from headstart.data.images import load_image
from headstart.data.reading import EACH
from headstart.data.views import augmented_view
from headstart.features.cache import cache_limit
from headstart.features.extractor import FeatureExtractor, open_prefix, seconds_of
from headstart.features.layout import layout_behind
from headstart.recipes.recipe import Recipe
from headstart.training.budget import Speed, share_of_disk

_SAMPLE = 8

_BATCH = 16
"""Images in the steps that are timed: with half of the default batch, they are as fast an image."""


def measure_decoding(paths: list[Any], short_side: int) -> float:
    """Returns the seconds to decode an image in one process, from a small sample."""
    sample = paths[:: max(1, len(paths) // _SAMPLE)][:_SAMPLE]
    start = time.monotonic()
    for path in sample:
        try:
            load_image(path, None, short_side, EACH)
        except ValueError:  # the audit reports it
            continue
    return (time.monotonic() - start) / len(sample)


def measure_features(extractor: FeatureExtractor) -> float:
    """Returns the seconds per image of the whole frozen backbone.

    The features of all its stages are measured, because a head looks at those first: the engine
    that is built for it here is kept.
    """
    layout = layout_behind(extractor.traced, FEATURES, extractor.backbone.features)
    run = open_prefix(extractor, FEATURES, layout.taps)
    resolution = extractor.backbone.preprocessing.resolution
    engine = run.engine
    batch = np.zeros((engine.batch_size, resolution, resolution, 3), np.uint8)
    batches = [batch] * (engine.at_once * max(1, _BATCH // engine.batch_size))
    seconds = seconds_of(lambda: deque(outputs_of(engine, batches), maxlen=0), 2)
    return seconds / (len(batches) * engine.batch_size)


def measure_speeds(
    extractor: FeatureExtractor,
    recipe: Recipe,
    boundaries: Sequence[Boundary],
    features_s: float,
    until: float | None = None,
) -> dict[str, Speed]:
    """Measures, for each boundary, the cost of an image before and after it.

    The last boundary is the cheapest to measure, and comes first.

    Args:
        extractor: Feature extractor.
        recipe: Recipe with augmentation and training methods.
        boundaries: Names of the boundaries, nearest the input first.
        features_s: Seconds per image of the whole frozen backbone.
        until: Time on the clock of `time.monotonic` at which measuring should end. A further
            boundary is left out if it would take longer, judged by the one before it.
    """
    view_s = _view_seconds(extractor, recipe)
    found: dict[str, Speed] = {}
    took = 0.0
    for boundary in reversed(boundaries):
        began = time.monotonic()
        if found and until is not None and began + took > until:
            break
        found[boundary.name] = Speed(
            prefix_s=features_s * boundary.position + view_s,
            train_s=_training_seconds(extractor, recipe, boundary),
            bytes_per_view=2 * int(np.prod(boundary.shape)),
        )
        took = time.monotonic() - began
    if recipe.train_resolution:
        share = (recipe.train_resolution / extractor.backbone.preprocessing.resolution) ** 2
        found = {name: speed.at(share) for name, speed in found.items()}
    return dict(reversed(found.items()))


def _training_seconds(extractor: FeatureExtractor, recipe: Recipe, boundary: Boundary) -> float:
    """Returns the seconds per image to train the suffix."""
    shape = boundary.shape
    # The cost of any head is negligible beside the suffix.
    head = nn.Linear(extractor.backbone.features, len(extractor.classes))
    model = nn.Sequential(folded(suffix(extractor.traced, boundary.name)), head)
    model.to(extractor.device)
    model.to(memory_format=torch.channels_last)
    size = min(recipe.batch_size, _BATCH)
    batch = torch.rand(size, *shape, device=extractor.device)
    if batch.ndim == 4:
        batch = batch.contiguous(memory_format=torch.channels_last)

    def step() -> None:
        # In eval mode no statistic changes, and gradients cost the same.
        model.eval()(batch).logsumexp(1).sum().backward()
        model.zero_grad()
        if extractor.device.type == "cuda":
            torch.cuda.synchronize()

    passes = 1.0
    # A metric term also processes the unmixed images of a mixed batch.
    if not recipe.metric_loss.absent:
        passes += recipe.batch_mixing.mixed_share
    # Optimizer, averaging and data loading are extra.
    return passes * 1.15 * seconds_of(step, 2) / size


def disk_for_views(extractor: FeatureExtractor) -> float:
    """Returns the number of bytes that cached views may take."""
    extractor.cache_dir.mkdir(parents=True, exist_ok=True)
    return share_of_disk(shutil.disk_usage(extractor.cache_dir).free, cache_limit())


def _view_seconds(extractor: FeatureExtractor, recipe: Recipe) -> float:
    preprocessing = extractor.backbone.preprocessing
    augment = recipe.augmentation.build(
        preprocessing.resolution, preprocessing.interpolation, preprocessing.fill
    )
    rows = extractor.rows["train"][:_SAMPLE]
    start = time.monotonic()
    for row in rows:
        image = Image.fromarray(extractor.pixels.image(int(row)))
        if augment is None:
            eval_view(image, preprocessing)
        else:
            augmented_view(image, augment, recipe.seed, int(row), 0)
    # A separate thread makes views while the prefix runs; both share the processors.
    return (time.monotonic() - start) / len(rows) / 2
