"""The bundle: the deployable classifier of a run."""

import hashlib
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from math import isfinite
from pathlib import Path
from typing import Annotated, Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import AliasChoices, BaseModel, ConfigDict, Field, model_validator
from safetensors import SafetensorError
from safetensors.numpy import load as load_arrays
from safetensors.numpy import save_file as save_arrays
from safetensors.torch import load, save_file
from torch import nn

from headstart.artifacts.bundle_checks import (
    built,
    check_outputs,
    check_tensors,
    load_tensors,
)
from headstart.artifacts.files import read_model, replacing, write_model
from headstart.backbones.boundaries import FEATURES, INPUT
from headstart.backbones.catalog import build_backbone
from headstart.backbones.cut import prefix, suffix, trace
from headstart.backbones.engine import Normalize
from headstart.backbones.parts import swap_activations
from headstart.backbones.preprocessing import Preprocessing
from headstart.data.reading import Reading
from headstart.errors import RunError
from headstart.evaluation.retrieval import unit
from headstart.inputs.quantities import Count, Names, Positive, Share
from headstart.inputs.regular_files import read_bytes
from headstart.methods.activation import Activation, head_activation
from headstart.methods.head import Head, HeadChoice
from headstart.text import shortened

FORMAT = 1
MOST_FEATURES, MOST_MEMBERS, MOST_PIXELS = 1_000_000, 100, 4096
"""Largest sizes that a bundle may state; more is damage."""

LONGEST_NAME = 200
"""Most characters in the name of a backbone; the longest of timm has 56."""


class SetSpec(BaseModel):
    """The threshold of prediction sets that contain the true class with a given probability.

    Attributes:
        coverage: Share of the sets that contain the true class.
        threshold: A class is in the set if 1 - p(class) is at most this.
        images: Number of held-out images in the calibration.
    """

    model_config = ConfigDict(frozen=True)

    coverage: Share
    threshold: Share
    images: Count


class DistributionSpec(BaseModel):
    """The distance from which an image is out of distribution.

    Attributes:
        k: The distance is that to the k-th nearest embedding in `range.safetensors`.
        threshold: Cosine distance.
        false_alarm: Share of images like the training images that are flagged, by calibration.
        calibrated_on: Description of the calibration images.
        sha256: SHA-256 of `range.safetensors`.
    """

    model_config = ConfigDict(frozen=True)

    k: Annotated[int, Field(ge=1, le=1000)]
    threshold: Annotated[float, Field(ge=-1e-6, le=2)]  # older bundles have it rounded below 0
    false_alarm: Share
    calibrated_on: str
    sha256: str = ""


class BundleSpec(BaseModel):
    """The description of a classifier: everything except its weights."""

    model_config = ConfigDict(frozen=True)

    format: Count = FORMAT
    backbone: Annotated[str, Field(min_length=1, max_length=LONGEST_NAME)]
    features: Annotated[int, Field(ge=1, le=MOST_FEATURES)]
    boundary: str
    taps: tuple[str, ...]
    head: HeadChoice
    activation: Activation
    test_time_flip: bool
    classes: Annotated[Names, Field(min_length=2)]
    preprocessing: Preprocessing
    reading: Reading | None = None  # None in older bundles
    depths: Names = ()  # types of the values in the training images; empty in older bundles
    temperature: Positive
    recipe: dict[str, Any]
    members: Annotated[int, Field(ge=1, le=MOST_MEMBERS)] = 1
    weights_sha256: str
    pretrained_sha256: str
    licence: str
    data_sha256: str
    versions: dict[str, str]
    sets: tuple[SetSpec, ...] = ()  # older bundles have neither sets nor a range
    distribution: DistributionSpec | None = Field(  # bundles of before call it range
        None, validation_alias=AliasChoices("distribution", "range")
    )

    @model_validator(mode="after")
    def _agree(self) -> Self:
        views, reading = self.preprocessing, self.reading
        limits = (views.mean, views.std)
        if not 1 <= views.resolution <= MOST_PIXELS or not 1 <= views.resize <= 4 * MOST_PIXELS:
            raise ValueError(f"The resolution and resize are not from 1 to {MOST_PIXELS}.")
        if not all(abs(mean) <= 100 and 0 < std <= 100 for mean, std in zip(*limits, strict=True)):
            raise ValueError("The mean and std are not those of channels.")
        if reading is None:
            return self
        ends = reading.range
        if isinstance(ends, tuple) and not (all(map(isfinite, ends)) and ends[0] < ends[1]):
            raise ValueError("The range of values is not from a lower to a higher one.")
        if reading.channels is not None and (
            len(reading.channels) not in (1, 3) or min(reading.channels) < 0
        ):
            raise ValueError("The channels are not one or three numbers from 0.")
        return self


@dataclass(frozen=True)
class Bundle:
    """A classifier that is ready for use.

    Attributes:
        spec: Description of the classifier.
        network: Maps uint8 views (N, R, R, 3) to logits and embeddings (N, C + E); in eval mode.
        gallery: Training embeddings (G, E) of length 1 for the out-of-distribution check; None if
            the bundle has no range.
    """

    spec: BundleSpec
    network: "Classifier"
    gallery: NDArray[np.float32] | None = None


class Classifier(nn.Module):
    """The whole network: uint8 views (N, R, R, 3) to logits and embeddings (N, C + E).

    Members of an ensemble share the trunk, which runs only once.
    """

    def __init__(
        self, trunk: nn.Module, branches: Sequence[nn.Module], heads: Sequence[Head], flip: bool
    ) -> None:
        super().__init__()
        self.trunk, self.flip = trunk, flip
        self.branches, self.heads = nn.ModuleList(branches), nn.ModuleList(heads)

    def forward(self, views: torch.Tensor) -> torch.Tensor:
        """Returns the mean logits of all members, followed by the embeddings of the first member.

        With test-time flips, the mean includes the logits of the mirror images.
        """
        logits, embeddings = self._look(views)
        if self.flip:
            logits = (logits + self._look(views.flip(2))[0]) / 2
        return torch.cat([logits, embeddings], 1)

    def _look(self, views: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        shared = self.trunk(views)
        each = [head.embed(branch(shared)) for branch, head in self._members()]
        logits = [head.out(seen) for (_, head), seen in zip(self._members(), each, strict=True)]
        return torch.stack(logits).mean(0) if len(logits) > 1 else logits[0], each[0]

    def _members(self) -> list[tuple[nn.Module, Any]]:
        return list(zip(self.branches, self.heads, strict=True))


@dataclass(frozen=True)
class Member:
    """One network of an ensemble."""

    backbone: nn.Module
    head: Head


def assemble(members: Sequence[Member], spec: BundleSpec) -> Classifier:
    """Returns the whole network in eval mode, with the activation functions of the recipe."""
    normalize = Normalize(spec.preprocessing.mean, spec.preprocessing.std)
    networks = []
    for member in members:
        network = trace(member.backbone, spec.preprocessing.resolution)
        if spec.activation.in_suffix:
            swap_activations(network, spec.boundary, spec.activation.build)
        networks.append(network)
    heads = [member.head for member in members]
    branches: list[nn.Module] = [nn.Identity() for _ in members]
    if len(members) == 1:
        whole = suffix(networks[0], INPUT, spec.taps) if spec.taps else members[0].backbone
        trunk = nn.Sequential(normalize, whole)
    elif spec.boundary == FEATURES:
        trunk = nn.Sequential(normalize, suffix(networks[0], INPUT, spec.taps))
    else:
        start = nn.Identity() if spec.boundary == INPUT else prefix(networks[0], spec.boundary)
        trunk = nn.Sequential(normalize, start)
        branches = [suffix(network, spec.boundary, spec.taps) for network in networks]
    return Classifier(trunk, branches, heads, spec.test_time_flip).eval()


def save_bundle(
    folder: Path,
    spec: dict[str, Any],
    members: Sequence[Member],
    known: tuple[DistributionSpec, NDArray[np.float16]] | None = None,
) -> BundleSpec:
    """Writes the bundle and returns its spec.

    Args:
        folder: Bundle folder.
        spec: All fields except the range, the hash of the weights and the number of members.
        members: One network, or several that differ only after the boundary.
        known: The range and its gallery (G, E).
    """
    folder.mkdir(parents=True, exist_ok=True)
    tensors = _tensors(members[0])
    for number, member in enumerate(members[1:], start=1):
        # Tensors that it shares with the first member are stored once.
        tensors |= {
            f"member{number}.{name}": tensor
            for name, tensor in _tensors(member).items()
            if not torch.equal(tensor, tensors[name])
        }
    weights = folder / "model.safetensors"
    with replacing(weights) as draft:
        save_file(tensors, draft)
    digest = hashlib.sha256(weights.read_bytes()).hexdigest()
    if known is not None:
        limits, gallery = known
        path = folder / "range.safetensors"
        with replacing(path) as draft:
            save_arrays({"gallery": np.ascontiguousarray(gallery, np.float16)}, draft)
        found = hashlib.sha256(path.read_bytes()).hexdigest()
        spec = {**spec, "distribution": limits.model_copy(update={"sha256": found})}
    last = {"weights_sha256": digest, "members": len(members)}
    checked = BundleSpec.model_validate({**spec, **last})
    write_model(folder / "bundle.json", checked)
    return checked


def read_spec(folder: Path) -> BundleSpec:
    """Reads the description of a bundle, without its weights.

    Raises:
        RunError: If it is not a bundle or cannot be read.
    """
    found = read_model(folder / "bundle.json", BundleSpec)
    if found is None:
        raise RunError(f"{folder} is not a bundle: it has no bundle.json.")
    return found


def bundle_files(folder: Path) -> list[str]:
    """Returns the names of the files by which a bundle predicts.

    Raises:
        RunError: If it is not a bundle or cannot be read.
    """
    known = read_spec(folder).distribution
    names = ["bundle.json", "model.safetensors"]
    return names if known is None else [*names, "range.safetensors"]


def load_bundle(folder: Path) -> Bundle:
    """Loads the classifier from a bundle folder.

    Raises:
        RunError: If it is not a bundle, is of a newer format, or is damaged.
    """
    weights, spec = folder / "model.safetensors", read_spec(folder)
    try:
        content = read_bytes(weights)  # not mapped: not every file system can map files
        digest = hashlib.sha256(content).hexdigest()
        if spec.format != FORMAT:
            raise RunError(
                f"{folder} has format {spec.format}, but this version of headstart reads {FORMAT}."
            )
        if digest != spec.weights_sha256:
            raise RunError(f"{weights} is damaged: its hash differs from the one in bundle.json.")
        tensors = load(content)
    except FileNotFoundError as error:
        raise RunError(
            f"{folder} is not a bundle: it has no {Path(error.filename).name}."
        ) from None
    except OSError as error:
        raise RunError(f"Cannot read {error.filename}: {error.strerror}.") from None
    except (SafetensorError, KeyError, ValueError) as error:
        raise RunError(f"{weights} is damaged: {shortened(str(error), 200)}.") from None
    whole = folder / "bundle.json"
    members = [_load_member(spec, tensors, number, folder) for number in range(spec.members)]
    network = built(lambda: assemble(members, spec), whole)
    width = check_outputs(network, spec.preprocessing.resolution, len(spec.classes), whole)
    gallery = _gallery(folder, spec.distribution, width) if spec.distribution else None
    assert isinstance(network, Classifier)
    return Bundle(spec, network, gallery)


def _load_member(
    spec: BundleSpec, tensors: dict[str, torch.Tensor], number: int, folder: Path
) -> Member:
    whole, weights = folder / "bundle.json", folder / "model.safetensors"
    own = f"member{number}."
    mine = {k.removeprefix(own): v for k, v in tensors.items() if k.startswith(own)}
    of_part: dict[str, dict[str, torch.Tensor]] = {"backbone": {}, "head": {}}
    for name, tensor in {**tensors, **mine}.items():
        part, _, inner = name.partition(".")
        if part in of_part:
            of_part[part][inner] = tensor

    def head() -> Head:
        activation = head_activation(spec.activation)
        made: Head = spec.head.build(spec.features, len(spec.classes), activation)
        return made

    def network() -> nn.Module:
        return build_backbone(spec.backbone, resolution=spec.preprocessing.resolution)

    sketch: nn.Module | None = None
    with torch.device("meta"):  # no memory for a part that is larger than its weights
        check_tensors(built(head, whole), of_part["head"], weights)
        with suppress(RunError):  # before timm 1.0.22, some families cannot do without memory
            sketch = built(network, whole)
    if sketch is not None:
        check_tensors(sketch, of_part["backbone"], weights)
    backbone, top = built(network, whole), built(head, whole)
    load_tensors(backbone, of_part["backbone"], weights)
    load_tensors(top, of_part["head"], weights)
    assert isinstance(top, Head)
    return Member(backbone, top)


def _tensors(member: Member) -> dict[str, torch.Tensor]:
    return {
        f"{part}.{name}": tensor.detach().cpu().contiguous().clone()
        for part, module in (("backbone", member.backbone), ("head", member.head))
        for name, tensor in module.state_dict().items()
    }


def _gallery(folder: Path, known: DistributionSpec, width: int) -> NDArray[np.float32]:
    """Reads the gallery of a range: embeddings (G, E) of a width E.

    Raises:
        RunError: If it is damaged.
    """
    path = folder / "range.safetensors"
    try:
        content = read_bytes(path)
    except OSError as error:
        raise RunError(f"Cannot read {path}: {error.strerror}.") from None
    if hashlib.sha256(content).hexdigest() != known.sha256:
        raise RunError(f"{path} is damaged: its hash differs from the one in bundle.json.")
    try:
        gallery = load_arrays(content)["gallery"]
    except (SafetensorError, KeyError, ValueError) as error:
        raise RunError(f"{path} is damaged: {shortened(str(error), 200)}.") from None
    if gallery.ndim != 2 or gallery.shape[1] != width or len(gallery) < known.k:
        raise RunError(f"{path} is damaged: its gallery has the shape {gallery.shape}.")
    if gallery.dtype.kind != "f" or not np.isfinite(gallery).all():
        raise RunError(f"{path} is damaged: its gallery has values that are not finite numbers.")
    return unit(gallery)
