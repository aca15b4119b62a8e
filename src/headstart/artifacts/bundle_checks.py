"""Checks of a bundle that is loaded: its tensors fit its networks, and the whole gives numbers."""

from collections.abc import Callable, Mapping
from pathlib import Path

import torch
from torch import nn

from headstart.errors import HeadstartError, RunError
from headstart.text import shortened

Tensors = Mapping[str, torch.Tensor]


def load_tensors(module: nn.Module, tensors: Tensors, path: Path) -> None:
    """Loads all tensors of a part of a bundle into its module.

    Args:
        module: The part, as the description builds it.
        tensors: Its tensors by name.
        path: Their file, for messages.

    Raises:
        RunError: If they do not fit, or a value is not finite.
    """
    check_tensors(module, tensors, path)
    own = module.state_dict()
    for name, tensor in tensors.items():
        # Masks of a network may be infinite by themselves.
        if torch.isfinite(own[name]).all() and not torch.isfinite(tensor).all():
            raise _misfit(path, f"the tensor {name!r} has values that are not finite")
    module.load_state_dict(dict(tensors))


def check_tensors(module: nn.Module, tensors: Tensors, path: Path) -> None:
    """Checks names, shapes and types of tensors; the module may be without values ("meta").

    Raises:
        RunError: If they do not fit.
    """
    own = module.state_dict()
    if own.keys() != tensors.keys():
        name = shortened(min(own.keys() ^ tensors.keys()))
        where = "lacks" if name in own else "has"
        raise _misfit(path, f"it {where} the tensor {name!r}")
    remembered = set()
    for name, tensor in tensors.items():
        asked, found = [own[name].shape, own[name].dtype], [tensor.shape, tensor.dtype]
        if 0 in own[name].shape[:1] and tensor.ndim:  # a memory of images, as many as were stored
            remembered.add(len(tensor))
            asked[0], found[0] = own[name].shape[1:], tensor.shape[1:]
        if asked != found:
            raise _misfit(
                path,
                f"the tensor {name!r} is {tuple(tensor.shape)} of {tensor.dtype} instead of "
                f"{tuple(own[name].shape)} of {own[name].dtype}",
            )
    if len(remembered) > 1 or 0 in remembered:
        raise _misfit(path, "its head remembers images without labels")


def built(build: Callable[[], nn.Module], path: Path) -> nn.Module:
    """Returns what the description of a bundle builds.

    Raises:
        RunError: If it cannot be built.
    """
    try:
        return build()
    except HeadstartError as error:
        raise RunError(f"{path} describes a network that cannot be built: {error}") from None
    except Exception as error:  # networks of other libraries refuse odd numbers in their own ways
        reason = shortened(str(error), 200)
        raise RunError(
            f"{path} describes a network that cannot be built ({reason}). Restore the bundle from "
            "a copy."
        ) from error


def check_outputs(network: nn.Module, resolution: int, classes: int, path: Path) -> int:
    """Runs a network on a black image and returns the length of its embeddings.

    Args:
        network: Maps uint8 views (N, R, R, 3) to logits and embeddings (N, C + E).
        resolution: Side R of a view.
        classes: Number of classes C.
        path: Description of the network, for messages.

    Raises:
        RunError: If its parts do not fit together, or an output is not finite.
    """
    try:
        with torch.inference_mode():
            outputs = network(torch.zeros(1, resolution, resolution, 3, dtype=torch.uint8))
    except (RuntimeError, ValueError, TypeError, IndexError, AttributeError) as error:
        raise _misfit(path, shortened(str(error), 200)) from error
    if not torch.isfinite(outputs).all():
        raise _misfit(path, "the network gives values that are not finite")
    return int(outputs.shape[1]) - classes


def _misfit(path: Path, what: str) -> RunError:
    return RunError(
        f"{path} does not fit the rest of its bundle: {what}. Restore the bundle from a copy."
    )
