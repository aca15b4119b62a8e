"""The boundaries where a traced network can be cut: after its blocks, not inside them."""

import math
from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass

from torch import Tensor, fx, nn
from torch.nn.modules.batchnorm import _BatchNorm

from headstart.backbones.graphs import suffix_graph
from headstart.backbones.places import FEATURES, INPUT
from headstart.backbones.tracing import FEW, MORE, Trace, UncutError, ancestors

_GROUPS = (nn.Sequential, nn.ModuleList, nn.ModuleDict)


@dataclass(frozen=True)
class Boundary:
    """A place where a backbone can be cut.

    Attributes:
        name: Path of the module that ends there, such as `blocks.3`; `input` freezes nothing and
            `features` freezes the whole backbone.
        shape: Shape of the activation there, without the batch dimension.
        position: Share of the backbone's multiply-adds before it, 0 to 1.
        stage: Whether a stage ends there: the next activation has another size.
    """

    name: str
    shape: tuple[int, ...]
    position: float
    stage: bool = False


def find_boundaries(
    model: nn.Module, resolution: int, train: Trace, evaluated: Trace
) -> tuple[Boundary, ...]:
    """Returns the boundaries of a network, from `input` to `features`.

    Args:
        model: Network.
        resolution: Side of its images in pixels.
        train: Its trace in train mode.
        evaluated: Its trace in eval mode.
    """
    total = max(1, sum(evaluated.flops.values()))
    offered: dict[fx.Node, list[str]] = defaultdict(list)
    for name in _block_ends(model, train, evaluated):
        offered[evaluated.returned[name]].append(name)
    order = {node: index for index, node in enumerate(evaluated.graph.nodes)}
    cuts = []
    for node in sorted(offered, key=order.__getitem__):
        before = sum(evaluated.flops[each.name] for each in ancestors(node))
        shape = tuple(evaluated.few[node.name].shape[1:])
        cuts.append((_stage_name(offered[node]), shape, before / total))
    features = tuple(evaluated.few[evaluated.features.name].shape[1:])
    following = [*(shape for _, shape, _ in cuts), features][1:]
    return (
        Boundary(INPUT, (3, resolution, resolution), 0.0),
        *(
            Boundary(name, shape, position, stage=math.prod(shape) != math.prod(after))
            for (name, shape, position), after in zip(cuts, following, strict=True)
        ),
        Boundary(FEATURES, features, 1.0),
    )


def _stage_name(names: Iterable[str]) -> str:
    """Returns the clearest name of a node: the shortest that ends in a digit, if there is one.

    If `blocks.6`, `blocks.6.0` and `blocks` end at the same place, it is `blocks.6`.
    """
    return min(names, key=lambda name: (not name[-1].isdigit(), name.count("."), name))


def _block_ends(model: nn.Module, train: Trace, evaluated: Trace) -> list[str]:
    """Returns the paths of blocks and stages after which the network can be cut.

    Blocks without a shortcut could also be cut between their layers, but that is of no use.
    Therefore all parents of a module must be groups of blocks. A type of group counts as a block
    if one of its instances cannot be cut inside.
    """
    modules = dict(model.named_modules())
    groups = {name for name, module in modules.items() if not name or _is_group(module)}
    named = [
        name
        for name in evaluated.returned
        if not _is_layer(modules[name])
        and name not in (INPUT, FEATURES)
        and all(parent in groups for parent in _parents(name))
    ]
    valid = {name for name in named if _can_cut(model, train, evaluated, name)}
    solid = set()
    for group in groups - {""}:
        inner = [name for name in named if name.startswith(f"{group}.")]
        if inner and not isinstance(modules[group], _GROUPS) and valid.isdisjoint(inner):
            solid.add(type(modules[group]))
    return [
        name
        for name in named
        if name in valid and not any(type(modules[parent]) in solid for parent in _parents(name))
    ]


def _is_layer(module: nn.Module) -> bool:
    return next(module.children(), None) is None or isinstance(module, _BatchNorm)


def _is_group(module: nn.Module) -> bool:
    """Whether a module is a group of blocks rather than a block of layers."""
    blocks = [child for child in module.children() if not _is_layer(child)]
    if isinstance(module, _GROUPS):
        return bool(blocks)
    nested = any(isinstance(block, _GROUPS) and _is_group(block) for block in blocks)
    return nested or max(Counter(map(type, blocks)).values(), default=0) > 1


def _parents(name: str) -> list[str]:
    parts = name.split(".")
    return [".".join(parts[:depth]) for depth in range(len(parts))]


def _can_cut(model: nn.Module, train: Trace, evaluated: Trace, name: str) -> bool:
    for traced in (train, evaluated):
        node = traced.returned.get(name)
        if node is None:
            return False
        few, more = traced.few[node.name], traced.more[node.name]
        if not (isinstance(few, Tensor) and few.is_floating_point() and few.ndim >= 2):
            return False
        if (few.shape[0], more.shape[0]) != (FEW, MORE) or few.shape[1:] != more.shape[1:]:
            return False
        try:
            graph = suffix_graph(traced, node)
        except UncutError:
            return False
        # Without any parameters after it, this is the same as `features`.
        if not any(_holds_parameters(model, each) for each in graph.nodes):
            return False
    return True


def _holds_parameters(model: nn.Module, node: fx.Node) -> bool:
    if node.op == "call_module":
        return next(model.get_submodule(str(node.target)).parameters(), None) is not None
    return node.op == "get_attr"
