"""timm: a state dict and the arguments with which `timm.create_model` loads it."""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import timm
import torch
from numpy.typing import NDArray
from torch import nn

from headstart.artifacts.bundle import load_network
from headstart.artifacts.bundle_spec import WEIGHTS, BundleSpec
from headstart.artifacts.files import write_json
from headstart.backbones.catalog import config_of, quietly
from headstart.errors import InputError
from headstart.export.parity import Limits
from headstart.export.target import Classify, Exporting, Written
from headstart.methods.head import Linear

ARGUMENTS = "model.json"

LIMITS = Limits(most_difference=1e-4)


@dataclass(frozen=True)
class TimmModel:
    """A classifier as a network of timm alone.

    Attributes:
        model: Maps normalized images (N, 3, R, R) to logits (N, C), with the calibration in its
            classifier.
        name: Its name in timm.
        arguments: Arguments of `timm.create_model` besides the name and the number of classes.
    """

    model: nn.Module
    name: str
    arguments: dict[str, Any]


def write(exporting: Exporting, folder: Path) -> Written:
    """Writes `model.safetensors` and `model.json`, the arguments of `timm.create_model`."""
    found = as_timm(exporting)
    if isinstance(found, str):
        raise InputError(
            f"This classifier cannot be held by timm: {found}. Export it with --to onnx or hub."
        )
    from safetensors.torch import save_file  # noqa: PLC0415

    spec = exporting.spec
    state = {name: each.contiguous() for name, each in found.model.state_dict().items()}
    save_file(state, folder / WEIGHTS)
    asked: dict[str, Any] = {
        "model_name": found.name,
        "num_classes": len(spec.classes),
        **found.arguments,
    }
    facts = {"create_model": asked, "classes": spec.classes, "data": data_config(spec)}
    write_json(folder / ARGUMENTS, facts | thresholds(spec))
    with quietly():
        model = timm.create_model(**asked, checkpoint_path=folder / WEIGHTS)
    return Written(classified(model, spec), f"timm {timm.__version__}", LIMITS)


def as_timm(exporting: Exporting) -> TimmModel | str:
    """Returns a classifier as a network of timm, or why it is not one, as a clause.

    The calibration is folded into the classifier: weight and bias are divided by the temperature,
    or those of each label are scaled and shifted by its own.
    """
    spec = exporting.spec
    if why := _more_than_timm(spec):
        return why
    network = load_network(exporting.bundle)
    backbone, (head,) = network.trunk[1], network.heads  # type: ignore[index]
    options: dict[str, Any] = {}
    if config_of(spec.backbone).fixed_input_size:
        options["img_size"] = spec.preprocessing.resolution
    with quietly():
        model = timm.create_model(spec.backbone, num_classes=len(spec.classes), **options)
    last: Any = model.get_classifier()  # type: ignore[operator]
    if not isinstance(last, nn.Linear) or last.in_features != spec.features:
        return f"the classifier of {spec.backbone} is not a linear layer on its features"
    trained: Any = head.out[1]  # type: ignore[index]
    layer = next(name for name, module in model.named_modules() if module is last)
    state = dict(backbone.state_dict())
    weight, bias = trained.weight.detach(), trained.bias.detach()
    if spec.multilabel:
        scale = torch.tensor([rule.scale for rule in spec.labels])
        shift = torch.tensor([rule.shift for rule in spec.labels])
        weight, bias = weight * scale[:, None], bias * scale + shift
    state[f"{layer}.weight"] = weight / spec.temperature
    state[f"{layer}.bias"] = bias / spec.temperature
    lacking = model.state_dict().keys() ^ state.keys()
    if lacking:
        return f"the network of {spec.backbone} has other layers with a classifier"
    model.load_state_dict(state)
    return TimmModel(model.eval(), spec.backbone, options)


def _more_than_timm(spec: BundleSpec) -> str:
    """Returns what of a classifier a network of timm lacks, as a clause; else an empty string."""
    head = str(spec.head.get("name"))
    linear = head == "linear"
    reasons = {
        f"it is an ensemble of {spec.members} networks": spec.members > 1,
        "it also looks at the mirror image": spec.test_time_flip,
        "its head is more than linear on the pooled features: it looks inside the network": bool(
            spec.taps
        ),
        "the activations of its network were replaced": spec.activation.get("name") != "keep",
        f"its head is more than linear: {head}": not linear,
        "its head is more than linear: it scales the features of each image": linear
        and Linear.model_validate(spec.head).has_unit_parts,
    }
    return next((reason for reason, holds in reasons.items() if holds), "")


def thresholds(spec: BundleSpec) -> dict[str, object]:
    """Returns the probability from which an image gets each label, as a field of a description."""
    return {"thresholds": [rule.threshold for rule in spec.labels]} if spec.multilabel else {}


def probabilities_of(logits: torch.Tensor, spec: BundleSpec) -> torch.Tensor:
    """Returns the probabilities (N, C) of calibrated logits (N, C)."""
    precise = logits.double()
    return torch.sigmoid(precise) if spec.multilabel else torch.softmax(precise, 1)


def data_config(spec: BundleSpec) -> dict[str, object]:
    """Returns the preprocessing as timm states it.

    Images larger than the network's are resized by headstart with bicubic interpolation.
    """
    how = spec.preprocessing
    crop = how.resolution / how.resize
    while math.floor(how.resolution / crop) < how.resize:  # timm rounds the quotient down
        crop = math.nextafter(crop, 0)
    return {
        "input_size": (3, how.resolution, how.resolution),
        "interpolation": "bicubic",
        "crop_pct": crop,
        "crop_mode": "center",
        "mean": how.mean,
        "std": how.std,
    }


def classified(model: nn.Module, spec: BundleSpec) -> Classify:
    """Returns a function that runs a network of timm on evaluation views."""
    mean, std = (torch.tensor(each).view(1, 3, 1, 1) for each in _mean_and_std(spec))
    model.eval()

    def classify(views: NDArray[np.uint8]) -> NDArray[np.floating]:
        with torch.inference_mode():
            images = torch.from_numpy(np.ascontiguousarray(views)).permute(0, 3, 1, 2) / 255
            found: NDArray[np.floating] = probabilities_of(
                model((images - mean) / std), spec
            ).numpy()
            return found

    return classify


def _mean_and_std(spec: BundleSpec) -> tuple[tuple[float, ...], tuple[float, ...]]:
    return spec.preprocessing.mean, spec.preprocessing.std
