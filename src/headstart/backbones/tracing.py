"""A network's graph, traced with `torch.fx` (Reed et al. 2022), and the value of each of its nodes.

A trace in eval mode contains no dropout or drop-path and a trace in train mode always does, so a
backbone is traced twice.
"""

import copy
import inspect
from collections import defaultdict
from collections.abc import Hashable, Iterable
from dataclasses import dataclass
from typing import Any

import torch
from timm.models import get_notrace_functions, get_notrace_modules
from torch import fx, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.flop_counter import FlopCounterMode

FEW, MORE = 2, 3
"""Two batch sizes: integers that differ between them depend on the batch."""


class UncutError(Exception):
    """A network cannot be traced, or cannot be cut at a boundary."""


@dataclass(frozen=True)
class Trace:
    """A network's graph in one mode.

    Attributes:
        graph: Graph without weights; modules are looked up by path.
        image: Node of the images (N, 3, R, R).
        features: Node of the features (N, F).
        returned: Output node of each module that is called once, by path.
        few: Value of each node on a batch of `FEW`, by name.
        more: Value of each node on a batch of `MORE`, by name.
        flops: Floating point operations of each node on a batch of `FEW`, by name.
        from_input: Nodes that depend on the images.
    """

    graph: fx.Graph
    image: fx.Node
    features: fx.Node
    returned: dict[str, fx.Node]
    few: dict[str, Any]
    more: dict[str, Any]
    flops: dict[str, int]
    from_input: frozenset[fx.Node]


class _Tracer(fx.Tracer):
    """Records the output node of each module, and does not trace into leaf modules."""

    proxy_buffer_attributes = True

    def __init__(self) -> None:
        super().__init__(autowrap_functions=tuple(get_notrace_functions()))  # type: ignore[no-untyped-call]
        self.returned: defaultdict[str, list[fx.Node | None]] = defaultdict(list)
        self._leaves: tuple[type, ...] = (_BatchNorm, *get_notrace_modules())  # type: ignore[no-untyped-call]

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        """Whether a module stays whole: it has no children, is on timm's list, or is a BatchNorm.

        A BatchNorm that is traced into loses its train() and eval() modes.
        """
        return (
            super().is_leaf_module(m, module_qualified_name)
            or isinstance(m, self._leaves)
            or next(m.children(), None) is None
        )

    def call_module(
        self, m: nn.Module, forward: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        """Calls a module as fx does and records what it returns."""
        output = super().call_module(m, forward, args, kwargs)
        node = output.node if isinstance(output, fx.Proxy) else None
        self.returned[self.path_of_module(m)].append(node)
        return output


class _Measure(fx.Interpreter):
    """Runs a graph node by node, keeps every value and counts the multiply-adds of each node."""

    def __init__(self, module: fx.GraphModule, counter: FlopCounterMode) -> None:
        super().__init__(module, garbage_collect_values=False)
        self.flops: dict[str, int] = {}
        self.values: dict[str, Any] = {}
        self._counter = counter

    def run_node(self, n: fx.Node) -> Any:
        """Runs one node."""
        before = self._counter.get_total_flops()
        value = super().run_node(n)
        self.flops[n.name] = self._counter.get_total_flops() - before
        self.values[n.name] = value
        return value


def trace_mode(model: nn.Module, resolution: int) -> Trace:
    """Traces a network in its current mode.

    Args:
        model: Maps images (N, 3, R, R) to features (N, F).
        resolution: Side R of the images in pixels.

    Raises:
        UncutError: If the network changes a tensor in place, which a trace cannot follow.
        Exception: Whatever torch.fx raises if it cannot trace the network.
    """
    tracer = _Tracer()
    _, *options = inspect.signature(model.forward).parameters.values()
    defaults = {option.name: option.default for option in options}
    graph = tracer.trace(model, concrete_args=defaults)
    image, *fixed = (node for node in graph.nodes if node.op == "placeholder")
    _remove(graph, fixed)
    for node in graph.nodes:
        if node.op == "call_method" and not node.users and str(node.target).endswith("_"):
            raise UncutError(f"it changes a tensor in place ({node.name})")
    # The meta device computes shapes only, and changes no BatchNorm statistics.
    shadow = copy.deepcopy(fx.GraphModule(model, graph, "Shadow")).to("meta")
    graph.owning_module = None  # a kept trace must not keep the weights alive
    with FlopCounterMode(display=False) as counter:
        few = _Measure(shadow, counter)
        few.run(torch.empty(FEW, 3, resolution, resolution, device="meta"))
    more = _Measure(shadow, counter)
    more.run(torch.empty(MORE, 3, resolution, resolution, device="meta"))
    returned = {
        name: nodes[0]
        for name, nodes in tracer.returned.items()
        if len(nodes) == 1 and nodes[0] is not None
    }
    (features,) = graph.output_node().all_input_nodes
    from_input = frozenset(descendants(graph, image))
    return Trace(graph, image, features, returned, few.values, more.values, few.flops, from_input)


def _remove(graph: fx.Graph, fixed: Iterable[fx.Node]) -> None:
    """Removes arguments that keep their default values, and the nodes that check this."""
    for node in fixed:
        checks = descendants(graph, node)
        for check in reversed(graph.nodes):
            if check in checks:
                graph.erase_node(check)


def check_same(model: nn.Module, traced: Trace, resolution: int) -> None:
    """Compares a network with its graph on a random image.

    Raises:
        UncutError: If their outputs differ.
    """
    reference = next(model.parameters())
    images = torch.rand(1, 3, resolution, resolution).to(reference.device, reference.dtype)
    whole = fx.Interpreter(model, graph=traced.graph)
    if not torch.allclose(whole.run(images), model(images), rtol=1e-4, atol=1e-5):
        raise UncutError("its traced graph and the network compute different features")


def ancestors(node: fx.Node) -> set[fx.Node]:
    """Returns the node and all nodes that it is computed from."""
    found: set[fx.Node] = set()
    stack = [node]
    while stack:
        each = stack.pop()
        if each not in found:
            found.add(each)
            stack.extend(each.all_input_nodes)
    return found


def descendants(graph: fx.Graph, start: fx.Node) -> set[fx.Node]:
    """Returns the node and all nodes that are computed from it."""
    found = {start}
    for node in graph.nodes:
        if not found.isdisjoint(node.all_input_nodes):
            found.add(node)
    return found


def architecture(model: nn.Module) -> Hashable:
    """Returns a key that is equal for two networks that differ only in their weights.

    It holds the path, type and plain attributes (sizes, probabilities, switches) of every module,
    and the shape of every tensor of the state. It ignores the training mode and replaced methods,
    so callers must check that two networks with the same key compute the same.

    Example:
        >>> architecture(nn.Linear(2, 3)) == architecture(nn.Linear(2, 3))
        True
        >>> architecture(nn.Linear(2, 3)) == architecture(nn.Linear(2, 4))
        False
    """
    modules = tuple(
        (name, type(each), _plain_attributes(vars(each))) for name, each in model.named_modules()
    )
    state = tuple((name, tuple(each.shape)) for name, each in model.state_dict().items())
    return modules, state


def _plain_attributes(attributes: dict[str, Any]) -> tuple[tuple[str, str], ...]:
    return tuple(
        (name, repr(value))
        for name, value in sorted(attributes.items())
        if name != "training" and _is_plain(value)
    )


def _is_plain(value: Any) -> bool:
    if isinstance(value, tuple | list):
        return all(map(_is_plain, value))
    return value is None or isinstance(value, bool | int | float | str)
