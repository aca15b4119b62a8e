"""The network of a bundle in PyTorch: how it is put together, written and read."""

import hashlib
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, ValidationError
from safetensors import SafetensorError
from safetensors.numpy import save_file as save_arrays
from safetensors.torch import load, save_file
from torch import nn

from headstart.artifacts.bundle_checks import (
    built,
    check_outputs,
    check_tensors,
    load_tensors,
)
from headstart.artifacts.bundle_spec import (
    GALLERY,
    SPEC,
    WEIGHTS,
    BundleSpec,
    DistributionSpec,
    read_checked,
    read_spec,
)
from headstart.artifacts.files import damaged, explained, replacing, write_model
from headstart.backbones.catalog import build_backbone
from headstart.backbones.cut import prefix, suffix, trace
from headstart.backbones.engine import Normalize
from headstart.backbones.parts import swap_activations
from headstart.backbones.places import FEATURES, INPUT
from headstart.errors import RunError
from headstart.methods.activation import Activation, ActivationUnion, head_activation
from headstart.methods.head import HeadChoice, HeadUnion
from headstart.methods.head_layers import Head
from headstart.text import shortened


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


class _Methods(BaseModel):
    """The methods that a description states as plain data."""

    model_config = ConfigDict(frozen=True)

    head: HeadChoice
    activation: Activation


@dataclass(frozen=True)
class Member:
    """One network of an ensemble."""

    backbone: nn.Module
    head: Head


def assemble(members: Sequence[Member], spec: BundleSpec) -> Classifier:
    """Returns the whole network in eval mode, with the activation functions of the recipe."""
    normalize = Normalize(spec.preprocessing.mean, spec.preprocessing.std)
    activation: ActivationUnion = _Methods(head=spec.head, activation=spec.activation).activation
    networks = []
    for member in members:
        network = trace(member.backbone, spec.preprocessing.resolution)
        if activation.in_suffix:
            swap_activations(network, spec.boundary, activation.build)
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
    """Writes the bundle without `model.onnx`, and returns its spec.

    Args:
        folder: Bundle folder.
        spec: All fields except the range, the hashes of files and the number of members.
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
    weights = folder / WEIGHTS
    with replacing(weights) as draft:
        save_file(tensors, draft)
    digest = hashlib.sha256(weights.read_bytes()).hexdigest()
    if known is not None:
        limits, gallery = known
        path = folder / GALLERY
        with replacing(path) as draft:
            save_arrays({"gallery": np.ascontiguousarray(gallery, np.float16)}, draft)
        found = hashlib.sha256(path.read_bytes()).hexdigest()
        spec = {**spec, "distribution": limits.model_copy(update={"sha256": found})}
    last = {"weights_sha256": digest, "members": len(members)}
    checked = BundleSpec.model_validate({**spec, **last})
    write_model(folder / SPEC, checked)
    return checked


def load_network(folder: Path) -> Classifier:
    """Loads the network of a bundle into PyTorch.

    Raises:
        RunError: If it is not a bundle, is of a newer format, or is damaged.
    """
    weights, whole, spec = folder / WEIGHTS, folder / SPEC, read_spec(folder)
    try:
        tensors = load(read_checked(folder, WEIGHTS, spec.weights_sha256))
    except (SafetensorError, KeyError, ValueError) as error:
        raise RunError(f"{weights} is damaged: {shortened(str(error), 200)}.") from None
    members = [_load_member(spec, tensors, number, folder) for number in range(spec.members)]
    network = built(lambda: assemble(members, spec), whole)
    check_outputs(network, spec.preprocessing.resolution, len(spec.classes), whole)
    assert isinstance(network, Classifier)
    return network


def _load_member(
    spec: BundleSpec, tensors: dict[str, torch.Tensor], number: int, folder: Path
) -> Member:
    whole, weights = folder / SPEC, folder / WEIGHTS
    own = f"member{number}."
    mine = {k.removeprefix(own): v for k, v in tensors.items() if k.startswith(own)}
    of_part: dict[str, dict[str, torch.Tensor]] = {"backbone": {}, "head": {}}
    for name, tensor in {**tensors, **mine}.items():
        part, _, inner = name.partition(".")
        if part in of_part:
            of_part[part][inner] = tensor

    try:
        methods = _Methods(head=spec.head, activation=spec.activation)
    except ValidationError as error:
        raise RunError(damaged(whole, explained(error))) from None

    def head() -> Head:
        method: HeadUnion = methods.head
        return method.build(spec.widths, len(spec.classes), head_activation(methods.activation))

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
