"""The feature extractor: images as arrays, the backbone, and cached activations on demand."""

import hashlib
import time
from collections import OrderedDict
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from headstart.backbones.catalog import load_backbone
from headstart.backbones.cut import Traced, prefix, suffix
from headstart.backbones.engine import Engine, Normalize, identity_engine, make_engine, outputs_of
from headstart.backbones.places import FEATURES, INPUT
from headstart.backbones.tracing import architecture
from headstart.backbones.weights import PretrainedBackbone, hash_weights
from headstart.data.pixels import Pixels
from headstart.data.views import EVALUATION, View, view_batches
from headstart.features.cache import cache_key, cached_activations
from headstart.features.cluster import Cluster, outputs_on, pays
from headstart.inputs.large_arrays import copied, joined
from headstart.progress import Progress
from headstart.recipes.recipe import Recipe

_engines: OrderedDict[Hashable, Engine] = OrderedDict()

_MOST_ENGINES = 6

_VIEW_PACKAGES = ("torch", "torchvision", "timm", "pillow", "numpy")


@dataclass(frozen=True)
class FeatureExtractor:
    """The decoded images, the backbone and the cache that every stage works with.

    Attributes:
        pixels: Decoded images.
        rows: Rows of `pixels` by part: `train` and `val` (never the sealed test).
        labels: Class numbers by part.
        groups: Group numbers of the training images.
        classes: Names of the classes.
        backbone: The pretrained network.
        traced: The traced network, ready to be cut.
        device: Device to run and train on.
        cache_dir: Cache folder.
        progress: Progress display.
        pool: Rows that run through a prefix together, if the parts are subsets that change
            from trial to trial.
        in_turn: Whether each image of the pool is held out in turn, as cross-validation does.
        cluster: Machines that run a prefix on many images; None runs it here.
    """

    pixels: Pixels
    rows: dict[str, NDArray[np.int64]]
    labels: dict[str, NDArray[np.int64]]
    groups: NDArray[np.int64]
    classes: tuple[str, ...]
    backbone: PretrainedBackbone
    traced: Traced
    device: torch.device
    cache_dir: Path
    progress: Progress
    pool: NDArray[np.int64] | None = None
    in_turn: bool = False
    cluster: Cluster | None = None


@dataclass(frozen=True)
class Picked:
    """Selected rows of an array in a given order, read on demand.

    Attributes:
        array: Array (N, ...).
        rows: Numbers of the selected rows (M,).
    """

    array: NDArray[Any]
    rows: NDArray[np.int64]

    @property
    def shape(self) -> tuple[int, ...]:
        """(M, ...)."""
        return (len(self.rows), *self.array.shape[1:])

    @property
    def dtype(self) -> np.dtype[Any]:
        """That of the array."""
        return self.array.dtype

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, key: Any) -> NDArray[Any]:
        picked: NDArray[Any] = self.array[self.rows[key]]
        return picked

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        return np.asarray(self.array[self.rows], dtype)


Activations = NDArray[Any] | Picked


@dataclass(frozen=True)
class PrefixRun:
    """A prefix that is ready to run, and everything its output depends on."""

    boundary: str
    engine: Engine
    depends_on: dict[str, Any]


def backbone_of(recipe: Recipe) -> PretrainedBackbone:
    """Loads the backbone of a recipe."""
    choice = recipe.backbone
    return load_backbone(
        choice.name,
        weights=choice.weights,
        resolution=choice.resolution or None,
        drop_path=choice.drop_path,
        seed=recipe.seed,
    )


def at_resolution(extractor: FeatureExtractor, resolution: int) -> FeatureExtractor:
    """Returns the extractor for views of another size; 0 leaves it as it is.

    Args:
        extractor: Feature extractor.
        resolution: Side of a view in pixels.
    """
    if not resolution:
        return extractor
    backbone = extractor.backbone
    preprocessing = replace(backbone.preprocessing, resolution=resolution)
    return replace(extractor, backbone=replace(backbone, preprocessing=preprocessing))


def open_prefix(extractor: FeatureExtractor, boundary: str, taps: Sequence[str] = ()) -> PrefixRun:
    """Builds the engine for the part of the network before a boundary.

    Args:
        extractor: Feature extractor.
        boundary: Name of the boundary. At `features`, pooled features of `taps` come first.
        taps: Stage ends whose features are returned.
    """
    preprocessing = extractor.backbone.preprocessing
    depends_on = {
        "weights": extractor.backbone.weights_hash,
        "backbone": extractor.backbone.name,
        "boundary": boundary,
        "taps": list(taps),
        "resolution": preprocessing.resolution,
        "resize": preprocessing.resize,
        "interpolation": preprocessing.interpolation,
        "mean": preprocessing.mean,
        "std": preprocessing.std,
        "pixels": extractor.pixels.key,
        "versions": {package: version(package) for package in _VIEW_PACKAGES},
    }
    if boundary == INPUT:
        return PrefixRun(boundary, identity_engine(), depends_on)
    # A prefix is pretrained and never changes: one export serves every trial.
    sent = extractor.cluster is not None
    key = cache_key({**depends_on, "pixels": "", "device": str(extractor.device), "sent": sent})
    if (known := _known(key)) is not None:
        return PrefixRun(boundary, known, depends_on)
    if taps:
        assert boundary == FEATURES
        network = suffix(extractor.traced, INPUT, taps)
    else:
        network = prefix(extractor.traced, boundary)
    normalize = Normalize(preprocessing.mean, preprocessing.std)
    example = np.zeros((2, preprocessing.resolution, preprocessing.resolution, 3), np.uint8)
    whole = nn.Sequential(normalize, network).eval()
    engine = make_engine(whole, example, extractor.device, keep_file=sent)
    return PrefixRun(boundary, _keep(key, engine), depends_on)


def _known(key: Hashable) -> Engine | None:
    if key in _engines:
        _engines.move_to_end(key)
    return _engines.get(key)


def _keep(key: Hashable, engine: Engine) -> Engine:
    """Remembers an engine, and forgets the one whose last use is the longest ago."""
    _engines[key] = engine
    if len(_engines) > _MOST_ENGINES:
        _engines.popitem(last=False)
    return engine


def activations(
    extractor: FeatureExtractor,
    run: PrefixRun,
    part: str,
    view: View = EVALUATION,
) -> Activations:
    """Returns activations (N, ...) of one view of every image of a part, cached or computed.

    Args:
        extractor: Feature extractor.
        run: Prefix to run.
        part: Part of the data, `train` or `val`.
        view: View of each image; the evaluation view by default.
    """
    wanted = extractor.rows[part]
    rows = wanted if extractor.pool is None else extractor.pool
    preprocessing = extractor.backbone.preprocessing
    augmented = view.transform(preprocessing) is not None
    digest = hashlib.sha256(rows.tobytes()).hexdigest()
    hashed: dict[str, Any] = {"policy": view.augmentation.model_dump(), "rows": digest}
    if augmented:
        hashed |= {"seed": view.seed, "number": view.number}
    if view.mirror:
        hashed |= {"mirror": True}
    engine, cluster = run.engine, extractor.cluster
    what = _description(run.boundary, part, view.number, augmented)
    images = (extractor.pixels, rows, preprocessing, view)
    batches = partial(view_batches, *images, engine.batch_size)
    if cluster is not None and pays(cluster, engine, len(rows)):
        batches = partial(outputs_on, cluster, engine, extractor.cache_dir, *images)
        engine, what = replace(engine, run=np.asarray, at_once=1), f"{what}, on the cluster"
    stored = cached_activations(
        extractor.cache_dir,
        {**run.depends_on, "view": hashed},
        len(rows),
        batches,
        engine,
        what,
        extractor.progress,
    )
    if extractor.pool is None:
        return stored
    order = np.argsort(rows)
    picked = Picked(stored, order[np.searchsorted(rows, wanted, sorter=order)])
    return copied(picked, dtype=picked.dtype) if run.boundary == FEATURES else picked


def features_of(
    extractor: FeatureExtractor, run: PrefixRun, cached: Activations, taps: Sequence[str]
) -> NDArray[np.float32]:
    """Returns features (N, F) of the current network from cached activations (N, ...)."""
    if run.boundary == FEATURES:
        return np.asarray(cached if cached.dtype == np.float32 else copied(cached))
    network = suffix(extractor.traced, run.boundary, taps)
    if run.boundary == INPUT:
        preprocessing = extractor.backbone.preprocessing
        network = nn.Sequential(Normalize(preprocessing.mean, preprocessing.std), network).eval()
    some = _as_input(cached[:2])
    example = np.concatenate([some, some])[:2]
    # Folds, heads and the proof ask for the features of one network again and again.
    key = (
        hash_weights(network), architecture(extractor.backbone.model), run.boundary, tuple(taps),
        example.shape, example.dtype.str, str(extractor.device),
    )  # fmt: skip
    engine = _known(key) or _keep(key, make_engine(network, example, extractor.device))
    size = engine.batch_size
    batches = (_as_input(cached[start : start + size]) for start in range(0, len(cached), size))
    return joined(outputs_of(engine, batches), len(cached))


def _as_input(batch: NDArray[Any]) -> NDArray[Any]:
    return np.asarray(batch) if batch.dtype == np.uint8 else np.asarray(batch, np.float32)


def seconds_of(work: Callable[[], Any], repeats: int) -> float:
    """Returns the mean of several wall times, after one warm-up call.

    If that call took more than a second, one is timed.
    """
    start = time.monotonic()
    work()
    began = time.monotonic()
    repeats = 1 if began - start > 1 else repeats
    for _ in range(repeats):
        work()
    return (time.monotonic() - began) / repeats


def _description(boundary: str, part: str, number: int, augmented: bool) -> str:
    what = f"augmented view {number + 1}" if augmented else f"{part} images"
    return f"frozen prefix up to {boundary}, {what}"
