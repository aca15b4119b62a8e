"""What is known of each backbone before it is loaded, and whether a search would look at it."""

from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from functools import cache
from pathlib import Path
from typing import Any, Literal

import timm
import torch
from torch.utils.flop_counter import FlopCounterMode

from headstart.backbones.catalog import config_of, package_source, packaged, quietly
from headstart.backbones.hub import (
    cached_file,
    cached_repositories,
    damage,
    unfinished_repositories,
)
from headstart.backbones.known import BY_NAME, KNOWN, MOST_FETCHED, OPEN_LICENCES
from headstart.backbones.weights import PACKAGES
from headstart.errors import BackboneError, did_you_mean

Place = Literal["shipped", "cached", "hub", "none"]
"""Where weights are: in a dependency, in the local Hugging Face cache, on the hub, or nowhere."""

NOT_HERE = "not here; --download may fetch it"
MAY_BE_FETCHED = f"if it is among the best {MOST_FETCHED} for which there is time"
NOT_KNOWN = "give --backbone to use it: it is not in the table of known ones"


@dataclass(frozen=True)
class BackboneInfo:
    """A catalog entry: what is known about a backbone before it is loaded.

    Attributes:
        name: timm name, with a tag if the model has several sets of weights.
        weights: Where its pretrained weights are: `shipped` with a dependency, `cached` in the
            local Hugging Face cache, on the `hub`, or `none`.
        megabytes: Size of its weights file; None if that is not known.
        gmacs: Multiply-adds per image at the resolution, in billions; None if not known.
        resolution: Side in pixels of the images that it sees.
        licence: Licence of its weights.
        accuracy: Published accuracy on ImageNet in percent; None if not known.
        source: Package or repository of its weights.
        screened: Whether a search without `--backbone` would look at it, if there is time.
        why: Why not, or under which condition; empty if there is nothing to add.
    """

    name: str
    weights: Place
    megabytes: float | None
    gmacs: float | None
    resolution: int
    licence: str
    accuracy: float | None
    source: str
    screened: bool = False
    why: str = ""


def known_backbones(
    pattern: str | None = None, all: bool = False, download: bool = False
) -> list[BackboneInfo]:
    """Returns the catalog: first the backbones that work offline, then others.

    Args:
        pattern: Part of a name, or a pattern with `*`. If it matches nothing in the short list,
            all models are searched.
        all: List every timm model, not only known ones and those on this machine.
        download: Whether the search in question may download weights. Nothing is downloaded here.

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
    return [describe(name, download) for name in chosen]


def for_screening(download: bool = False) -> list[BackboneInfo]:
    """Returns the backbones of the short list, for a search to choose among.

    Args:
        download: Whether weights may be downloaded.
    """
    return [describe(name, download) for name in _short_names()]


def describe(name: str, download: bool = False) -> BackboneInfo:
    """Returns what is known of a backbone without loading it.

    Args:
        name: timm name.
        download: Whether the search in question may download weights.
    """
    config, known = config_of(name), BY_NAME.get(name)
    hub_id, file = config.hf_hub_id, packaged(name)
    place: Place = "none"
    source = "random"
    if file is not None:
        place, source = "shipped", package_source(name)
    elif hub_id:
        file = cached_file(hub_id)
        place = "hub" if file is None else "cached"
        source = f"huggingface.co/{hub_id}"
    resolution = (known.resolution if known else 0) or int(config.input_size[-1])
    gmacs = known.gmacs if known else None
    if place == "cached" and gmacs is None:
        gmacs = count_gmacs(name, resolution)
    info = BackboneInfo(
        name=name,
        weights=place,
        megabytes=_megabytes(name, file),
        gmacs=gmacs,
        resolution=resolution,
        licence=str(config.license or "unknown"),
        accuracy=known.accuracy if known else None,
        source=source,
    )
    screened, why = _screening(info, file, download)
    return replace(info, screened=screened, why=why)


def _screening(info: BackboneInfo, file: Path | None, download: bool) -> tuple[bool, str]:
    """Returns whether a search would look at a backbone, and why not or under which condition."""
    never = "" if info.weights == "shipped" else _why_never(info, file)
    if never or info.weights != "hub":
        return not never, never
    condition = MAY_BE_FETCHED if download else NOT_HERE
    if config_of(info.name).hf_hub_id in unfinished_repositories():
        condition = f"only a part of it is in the Hugging Face cache; {condition}"
    return download, condition


def _why_never(info: BackboneInfo, file: Path | None) -> str:
    """Returns why no search looks at a backbone by itself; empty if one may."""
    if info.weights == "none":
        return "it has no pretrained weights"
    if info.licence not in OPEN_LICENCES:
        return f"give --backbone to use it under its licence ({info.licence})"
    if file is None:
        return "" if info.name in BY_NAME else NOT_KNOWN
    if file.suffix != ".safetensors":
        return "give --backbone to use it: its file is not a safetensors file"
    problem = damage(file)
    if problem:
        return f"{problem}; delete {_folder_of(file)}"
    return "its cost cannot be counted" if info.gmacs is None else ""


@cache
def count_gmacs(name: str, resolution: int) -> float | None:
    """Returns the multiply-adds of a backbone for one image, in billions, without any weights.

    Args:
        name: timm name.
        resolution: Side of the image in pixels.

    Returns:
        None if the network cannot be built or run without weights.
    """
    sized: dict[str, Any] = {"img_size": resolution} if config_of(name).fixed_input_size else {}
    try:
        with quietly(), torch.device("meta"), torch.inference_mode():
            model = timm.create_model(name, num_classes=0, **sized).eval()
            counter = FlopCounterMode(display=False)
            with counter:
                model(torch.zeros(1, 3, resolution, resolution))
    except Exception:  # each family raises its own kinds
        return None
    return float(counter.get_total_flops()) / 2e9


def _megabytes(name: str, file: Path | None) -> float | None:
    if file is not None:
        return file.stat().st_size / 1e6
    return BY_NAME[name].megabytes if name in BY_NAME else None


def _folder_of(file: Path) -> Path:
    """Returns the folder of the repository that a file of the Hugging Face cache belongs to."""
    return next((each for each in file.parents if each.name.startswith("models--")), file)


def _every_name() -> list[str]:
    pretrained = timm.list_pretrained()
    with_weights = {name.partition(".")[0] for name in pretrained}
    others = [name for name in timm.list_models() if name not in with_weights]
    return [*PACKAGES, *pretrained, *others]


def _short_names() -> list[str]:
    here = [hub_id.removeprefix("timm/") for hub_id in cached_repositories()]
    parts = [hub_id.removeprefix("timm/") for hub_id in unfinished_repositories()]
    pretrained = set(timm.list_pretrained()) if here or parts else set()
    found = [name for name in here if name in pretrained]
    others = [name for name in parts if name in pretrained]
    return list(dict.fromkeys([*PACKAGES, *found, *(each.name for each in KNOWN), *others]))


def _matches(name: str, pattern: str | None) -> bool:
    if pattern is None:
        return True
    lowered = pattern.lower()
    if not set("*?[") & set(lowered):
        return lowered in name
    return any(fnmatchcase(each, lowered) for each in (name, name.partition(".")[0]))
