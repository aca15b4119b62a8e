"""Graphs of the two parts of a traced network, before and after a boundary.

A cut is possible where exactly one tensor crosses. Integers that cross with it (such as the batch
size in a vision transformer) are recomputed. Runs on batches of two and of three tell which ones
are constant and which are a multiple of the batch size.
"""

import math
from collections.abc import Iterable, Sequence
from operator import getitem, mul
from typing import Any

import torch
from torch import Tensor, fx

from headstart.backbones.pooling import root_covariance
from headstart.backbones.tracing import FEW, MORE, Trace, UncutError, ancestors, descendants


def prefix_graph(traced: Trace, end: fx.Node) -> fx.Graph:
    """Returns the graph from the images to an activation."""
    needed = ancestors(end) | {traced.image}
    graph = fx.Graph()
    copied: dict[fx.Node, fx.Node] = {}
    for node in traced.graph.nodes:
        if node in needed:
            copied[node] = graph.node_copy(node, copied.__getitem__)
    graph.output(copied[end])
    return graph


def suffix_graph(
    traced: Trace,
    start: fx.Node,
    tapped: Sequence[tuple[fx.Node, bool]] = (),
    output_fmt: str = "NCHW",
) -> fx.Graph:
    """Returns the graph from an activation to the pooled taps and the features.

    Args:
        traced: Network.
        start: Node of the activation.
        tapped: Nodes at or after it, whose pooled values are placed before the features, and
            whether the root of their covariance is taken instead of their mean.
        output_fmt: Order of the dimensions if a shape does not tell it.

    Raises:
        UncutError: If more than one tensor crosses the boundary.
    """
    nodes = [node for node, _ in tapped]
    needed, crossing = needed_between(traced, start, [*nodes, traced.features])

    graph = fx.Graph()
    activation = graph.placeholder("activation")
    copied: dict[fx.Node, Any] = {start: activation}
    pooled: dict[tuple[fx.Node, bool], fx.Node] = {}
    for node in traced.graph.nodes:
        if node in crossing:
            few, more = traced.few[node.name], traced.more[node.name]
            copied[node] = _recomputed(few, more, graph, activation)
        elif node in needed:
            copied[node] = graph.node_copy(node, copied.__getitem__)
        for each in tapped:
            if each[0] is node:
                # Pooled right here, because later nodes may change the tensor in place.
                shape = tuple(traced.few[node.name].shape[1:])
                pooled[each] = _pooled(graph, copied[node], shape, output_fmt, covariance=each[1])
    features = copied[traced.features]
    if tapped:
        parts = [*(pooled[each] for each in tapped), features]
        features = graph.call_function(torch.cat, (parts,), {"dim": 1})
    graph.output(features)
    return graph


def _pooled(
    graph: fx.Graph,
    activation: fx.Node,
    shape: tuple[int, ...],
    output_fmt: str,
    *,
    covariance: bool,
) -> fx.Node:
    dims = dims_to_pool(shape, output_fmt)
    if covariance:
        channels = math.prod(side for dim, side in enumerate(shape, 1) if dim not in dims)
        return graph.call_function(root_covariance, (activation, dims, channels))
    return graph.call_function(torch.mean, (activation,), {"dim": dims}) if dims else activation


def needed_between(
    traced: Trace, start: fx.Node, ends: Iterable[fx.Node]
) -> tuple[set[fx.Node], set[fx.Node]]:
    """Returns the nodes between `start` and `ends`, and the integers that cross the boundary.

    Raises:
        UncutError: If another tensor crosses as well.
    """
    after = descendants(traced.graph, start)
    needed: set[fx.Node] = set()
    crossing: set[fx.Node] = set()
    stack = list(ends)
    while stack:
        node = stack.pop()
        if node is start or node in needed:
            continue
        if node is traced.image:
            raise UncutError("more than one tensor passes between its blocks")
        before = node in traced.from_input and node not in after
        if before and not _holds_tensor(traced.few[node.name]):
            crossing.add(node)
        else:
            needed.add(node)
            stack.extend(node.all_input_nodes)
    return needed, crossing


def targets(nodes: Iterable[fx.Node]) -> list[str]:
    """Returns the paths of the modules, parameters and buffers that nodes use."""
    return [str(node.target) for node in nodes if node.op in {"call_module", "get_attr"}]


def _holds_tensor(value: Any) -> bool:
    if isinstance(value, tuple | list):
        return any(map(_holds_tensor, value))
    return isinstance(value, Tensor)


def _recomputed(few: Any, more: Any, graph: fx.Graph, activation: fx.Node) -> Any:
    """Returns a value that crosses a boundary, recomputed from the activation there.

    Args:
        few: The value on a batch of two.
        more: The value on a batch of three.
        graph: Graph to add the computation to.
        activation: The tensor (N, ...) that crosses.

    Raises:
        UncutError: If it is neither a constant nor a multiple of the batch size.
    """
    if isinstance(few, tuple | list):
        pairs = zip(few, more, strict=True)
        return tuple(_recomputed(one, other, graph, activation) for one, other in pairs)
    if isinstance(few, torch.device):
        return graph.call_function(getattr, (activation, "device"))
    if few == more:
        return few
    if isinstance(few, int) and few * MORE == more * FEW:
        shape = graph.call_function(getattr, (activation, "shape"))
        batch = graph.call_function(getitem, (shape, 0))
        return graph.call_function(mul, (batch, few // FEW))
    raise UncutError("a number that depends on the batch passes between its blocks")


def dims_to_pool(shape: tuple[int, ...], output_fmt: str) -> tuple[int, ...]:
    """Returns the dimensions of (N, *shape) that are space or tokens, not channels.

    Args:
        shape: Shape of an activation without the batch dimension.
        output_fmt: `NCHW` or `NHWC`: the order if the shape does not tell it.

    Example:
        >>> dims_to_pool((320, 7, 7), "NCHW"), dims_to_pool((197, 384), "NCHW")
        ((2, 3), (1,))
    """
    if len(shape) < 2:
        return ()
    if len(shape) == 2:
        return (1,)
    if shape[0] == shape[1] != shape[2]:
        output_fmt = "NHWC"
    elif shape[0] != shape[1] == shape[2]:
        output_fmt = "NCHW"
    return (1, 2) if output_fmt == "NHWC" else (2, 3)
