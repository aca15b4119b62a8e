"""The parts of a cut backbone: blocks, activations and frozen tensors."""

from collections.abc import Callable

import torch
from timm.layers import activations, activations_me
from torch import nn

from headstart.backbones.cut import Traced, ahead, behind
from headstart.backbones.places import FEATURES
from headstart.errors import BackboneError, RecipeError
from headstart.text import counted

# Gates (sigmoids in squeeze-and-excitation) are not included: they must stay between 0 and 1.
_TORCH_ACTIVATIONS: tuple[type[nn.Module], ...] = (
    nn.ReLU, nn.ReLU6, nn.LeakyReLU, nn.ELU, nn.SELU, nn.GELU, nn.SiLU, nn.Mish, nn.Hardswish,
)  # fmt: skip
_TIMM_ACTIVATIONS: tuple[type[nn.Module], ...] = (
    activations.Swish, activations.Mish, activations.HardSwish, activations.GELU,
    activations.GELUTanh, activations.QuickGELU, activations_me.SwishMe, activations_me.MishMe,
    activations_me.HardSwishMe,
)  # fmt: skip

_SAMPLE = torch.linspace(-8, 8, 65)  # inputs on which equal activations agree


def blocks_behind(traced: Traced, boundary: str) -> tuple[tuple[nn.Parameter, ...], ...]:
    """Returns the parameters after a boundary, block by block, nearest the input first.

    A block ends at each boundary; the layers after the last one form a block, too.
    """
    names = [each.name for each in traced.boundaries]
    cuts = [name for name in names[names.index(boundary) :] if name != FEATURES]
    block_of: dict[str, int] = {}
    for number, cut in enumerate(cuts):
        used = behind(traced, cut)
        for name, _ in traced.model.named_parameters():
            if _within(name, used):
                block_of[name] = number
    parameters = dict(traced.model.named_parameters())
    blocks = [
        tuple(parameters[name] for name, block in block_of.items() if block == number)
        for number in range(len(cuts))
    ]
    return tuple(block for block in blocks if block)


def boundary_of_last(traced: Traced, blocks: int) -> str:
    """Returns the boundary before the last `blocks` blocks.

    Raises:
        BackboneError: If the backbone has fewer blocks.
    """
    cuts = [each.name for each in traced.boundaries if each.name != FEATURES]
    if blocks > len(cuts):
        raise BackboneError(
            f"freezing.blocks = {blocks}: this backbone has only {counted(len(cuts), 'block')}; "
            "set fewer."
        )
    return cuts[-blocks]


def frozen_tensors(traced: Traced, suffix: nn.Module) -> dict[str, torch.Tensor]:
    """Returns the backbone's parameters and buffers that are not part of a suffix, by name."""
    moving = {id(tensor) for tensor in (*suffix.parameters(), *suffix.buffers())}
    state = [*traced.model.named_parameters(), *traced.model.named_buffers()]
    return {name: tensor for name, tensor in state if id(tensor) not in moving}


def swap_activations(
    traced: Traced, boundary: str, make: Callable[[], nn.Module]
) -> dict[str, tuple[str, str]]:
    """Replaces the activations after a boundary, in the backbone itself.

    Prefixes made earlier are copies and keep their activations; make suffixes afterwards.

    Args:
        traced: Backbone.
        boundary: Where it is cut.
        make: Returns a new activation.

    Returns:
        The old and the new type of each replaced activation, by path.

    Raises:
        RecipeError: If no activation can be replaced, or one is also used before the boundary.
    """
    for name, module in traced.swapped.items():  # undo a swap at another boundary
        _replace(traced.model, name, module)
    traced.swapped.clear()
    used, used_before = behind(traced, boundary), ahead(traced, boundary)
    new = make()
    found = {
        name: module
        for name, module in traced.model.named_modules(remove_duplicate=False)
        if isinstance(module, _TORCH_ACTIVATIONS + _TIMM_ACTIVATIONS)
    }
    behind_it = {name: module for name, module in found.items() if _within(name, used)}
    before_it = {id(module) for name, module in found.items() if _within(name, used_before)}
    if any(id(module) in before_it for module in behind_it.values()):
        raise RecipeError(
            "activation: this backbone uses the same activation module on both sides of the "
            "boundary, so it cannot be swapped; use activation = keep or another boundary."
        )
    swapped = {
        name: (type(module).__name__, type(new).__name__)
        for name, module in behind_it.items()
        if not torch.allclose(module(_SAMPLE.clone()), new(_SAMPLE.clone()), atol=1e-4)
    }
    for name in swapped:
        traced.swapped[name] = found[name]
        _replace(traced.model, name, make())
    if not swapped:
        why = (
            f"all activations are already {type(new).__name__}"
            if behind_it
            else "no activation after the boundary is a separate module"
        )
        raise RecipeError(f"activation: nothing to swap, because {why}; use activation = keep.")
    return swapped


def _replace(model: nn.Module, name: str, module: nn.Module) -> None:
    parent, _, attribute = name.rpartition(".")
    setattr(model.get_submodule(parent), attribute, module)


def count_drop_path(suffix: nn.Module) -> int:
    """Returns the number of blocks of a suffix that training may skip.

    Raises:
        BackboneError: If there are none.
    """
    found = sum(1 for module in suffix.modules() if float(getattr(module, "drop_prob", 0)) > 0)
    if not found:
        raise BackboneError(
            "backbone.drop_path: none of the trained blocks can be skipped; set it to 0 or choose "
            "an earlier boundary."
        )
    return found


def _within(name: str, used: frozenset[str]) -> bool:
    return name in used or any(parent in used for parent in _parents(name))


def _parents(name: str) -> list[str]:
    parts = name.split(".")
    return [".".join(parts[:depth]) for depth in range(1, len(parts))]
