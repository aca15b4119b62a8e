"""The generic cut: a backbone in two, a frozen prefix that runs once and a suffix that trains.

The network is traced with `torch.fx` (Reed et al. 2022) twice, in eval and in train mode, because
a trace in eval mode leaves dropout and drop-path out for ever and a trace in train mode keeps them
in. The suffix holds both graphs and `train()` / `eval()` switch between them; the prefix holds the
first one only.

A cut is possible where one tensor crosses. Integers that cross with it (the batch size in a vision
transformer, for one) are recomputed: the network is run on the meta device with batches of two and
of three, and what differs is a multiple of the batch size.
"""

import copy
import inspect
import math
import re
from collections import Counter, defaultdict
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass, field
from operator import getitem, mul
from typing import Any

import torch
from timm.models import get_notrace_functions, get_notrace_modules
from torch import Tensor, fx, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.flop_counter import FlopCounterMode
from torchvision.models.feature_extraction import DualGraphModule

from headstart.backbones.architecture import architecture
from headstart.errors import BackboneError, did_you_mean

INPUT = "input"
FEATURES = "features"

_FEW, _MORE = 2, 3  # batch sizes whose comparison tells batch-dependent integers from constants
_GROUPS = (nn.Sequential, nn.ModuleList, nn.ModuleDict)


@dataclass(frozen=True)
class Boundary:
    """A place where a backbone can be cut.

    Attributes:
        name: Path of the module that ends there, such as `blocks.3`; `input` freezes nothing and
            `features` freezes the whole backbone.
        shape: Shape of one view's activation there, without the batch.
        position: Share of the backbone's multiply-adds that lie before it, 0 to 1.
        stage: Whether a stage ends there: what follows has another size.
    """

    name: str
    shape: tuple[int, ...]
    position: float
    stage: bool = False


@dataclass(frozen=True)
class _Trace:
    """One trace, its modules' output nodes, and the value of each node on two batches."""

    graph: fx.Graph
    image: fx.Node
    features: fx.Node
    returned: dict[str, fx.Node]
    few: dict[str, Any]
    more: dict[str, Any]
    flops: dict[str, int]
    from_input: frozenset[fx.Node]


@dataclass(frozen=True)
class _Known:
    """What a trace found, of whatever weights."""

    boundaries: tuple[Boundary, ...]
    reason: str = ""
    train: _Trace | None = None
    eval: _Trace | None = None


# A search loads the same network anew for each trial, and tracing takes longer than that.
_KNOWN: dict[Hashable, _Known] = {}
_KEPT = 8


@dataclass(frozen=True)
class Traced:
    """A backbone that is ready to be cut.

    Attributes:
        model: The backbone; suffixes share its modules and parameters.
        boundaries: Where it can be cut, from `input` to `features`.
        reason: Why it can be cut nowhere in between, where that is so.
        swapped: Activations that were replaced, by path, as they were.
    """

    model: nn.Module
    boundaries: tuple[Boundary, ...]
    reason: str = ""
    _train: _Trace | None = field(default=None, repr=False)
    _eval: _Trace | None = field(default=None, repr=False)
    swapped: dict[str, nn.Module] = field(default_factory=dict, repr=False)

    def boundary(self, name: str) -> Boundary:
        """Returns the boundary called `name`.

        Raises:
            BackboneError: If the backbone cannot be cut there.
        """
        for boundary in self.boundaries:
            if boundary.name == name:
                return boundary
        names = [boundary.name for boundary in self.boundaries]
        raise BackboneError(
            f"this backbone has no boundary {name!r}{did_you_mean(name, names)}; "
            f"it can be cut at {', '.join(names)}."
        )


class Frozen(nn.Module):
    """A copy of the first part of a backbone that stays in eval mode whatever happens to it."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        # A copy, because training flags live in modules: model.train() must not reach this one.
        self.network = copy.deepcopy(network).eval().requires_grad_(False)
        super().train(False)

    def train(self, mode: bool = True) -> "Frozen":
        """Does nothing: a frozen network has no training mode."""
        return self

    def forward(self, images: Tensor) -> Tensor:
        """Returns the activations (N, *shape) of images (N, 3, R, R)."""
        activations: Tensor = self.network(images)
        return activations


def trace(model: nn.Module, resolution: int) -> Traced:
    """Traces a backbone and finds where it can be cut.

    Args:
        model: Maps images (N, 3, R, R) to features (N, F). It is left as it was.
        resolution: Side R of the images in pixels.

    Returns:
        The trace. Where the network cannot be traced, it can be cut at its input and its features
        only, and `reason` says why.
    """
    key = (architecture(model), resolution)
    modes = [(module, module.training) for module in model.modules()]
    try:
        with torch.random.fork_rng(devices=[]), torch.no_grad():
            known = _KNOWN.get(key)
            if known is None or not _computes_the_same(model, known, resolution):
                known = _KNOWN[key] = _trace_anew(model, resolution)
    finally:
        for module, mode in modes:
            module.training = mode
    while len(_KNOWN) > _KEPT:
        del _KNOWN[next(iter(_KNOWN))]
    return Traced(model, known.boundaries, known.reason, known.train, known.eval)


def prefix(traced: Traced, boundary: str) -> nn.Module:
    """Returns the frozen part before a boundary: images (N, 3, R, R) to activations (N, *shape).

    It is a copy of the backbone as it is now, always in eval mode, and has no gradients.

    Raises:
        BackboneError: If there is no such boundary.
    """
    traced.boundary(boundary)
    if boundary == INPUT:
        return Frozen(nn.Identity())
    if boundary == FEATURES:
        return Frozen(traced.model)
    assert traced._eval is not None
    graph = _prefix_graph(traced._eval, boundary)
    return Frozen(fx.GraphModule(traced.model, graph, "Prefix"))


def suffix(traced: Traced, boundary: str, taps: Sequence[str] = ()) -> nn.Module:
    """Returns the part after a boundary: activations (N, *shape) to features (N, F').

    It shares modules and parameters with the backbone, under the same names: training it trains
    the backbone. It starts in eval mode.

    Args:
        traced: The backbone.
        boundary: Where to cut.
        taps: Boundaries at or after the cut whose activations, averaged over space or tokens, come
            before the backbone's own features, in this order.

    Raises:
        BackboneError: If there is no such boundary or a tap lies before it.
    """
    names = [each.name for each in traced.boundaries]
    for name in (boundary, *taps):
        traced.boundary(name)
    for tap in taps:
        if tap == FEATURES or names.index(tap) < names.index(boundary):
            raise BackboneError(
                f"features cannot be taken at {tap!r}: choose a place between the boundary "
                f"{boundary!r} and the end of the backbone."
            )
    if boundary == FEATURES:
        return nn.Identity()
    if boundary == INPUT and not taps:
        return traced.model.eval()
    if traced._train is None or traced._eval is None:
        raise BackboneError(f"features cannot be taken inside this backbone: {traced.reason}.")
    output_fmt = str(getattr(traced.model, "output_fmt", "NCHW"))
    graphs = [
        _suffix_graph(each, boundary, taps, output_fmt) for each in (traced._train, traced._eval)
    ]
    dual: nn.Module = DualGraphModule(traced.model, *graphs, class_name="Suffix")
    # What the trace found constant is no part of the backbone's state.
    dual._non_persistent_buffers_set.update(set(dual._buffers) - set(traced.model._buffers))
    return dual.eval()


def behind(traced: Traced, boundary: str) -> frozenset[str]:
    """Returns the paths of the modules, parameters and buffers that the part after a boundary uses.

    Raises:
        BackboneError: If there is no such boundary.
    """
    traced.boundary(boundary)
    if boundary == FEATURES:
        return frozenset()
    graphs = [each for each in (traced._train, traced._eval) if each is not None]
    if boundary == INPUT or not graphs:
        state = [*traced.model.named_parameters(), *traced.model.named_buffers()]
        modules = (name for name, _ in traced.model.named_modules() if name)
        return frozenset([*modules, *(name for name, _ in state)])
    return frozenset(
        target
        for each in graphs
        for target in _targets(_needed(each, each.returned[boundary], [each.features])[0])
    )


def ahead(traced: Traced, boundary: str) -> frozenset[str]:
    """Returns the paths of what the part before a boundary uses, as `behind` does."""
    if boundary == INPUT:
        return frozenset()
    if boundary == FEATURES or traced._eval is None:
        return behind(traced, INPUT)
    return frozenset(_targets(_ancestors(traced._eval.returned[boundary])))


def _targets(nodes: Iterable[fx.Node]) -> list[str]:
    return [str(node.target) for node in nodes if node.op in {"call_module", "get_attr"}]


def space_dims(traced: Traced, boundary: str) -> tuple[int, ...]:
    """Returns the dimensions of activations (N, *shape) that are height and width, if any are."""
    if boundary == INPUT:
        return (1, 2)  # views are (N, R, R, 3)
    shape = traced.boundary(boundary).shape
    output_fmt = str(getattr(traced.model, "output_fmt", "NCHW"))
    return _dims_to_pool(shape, output_fmt) if len(shape) == 3 else ()


class _UncutError(Exception):
    """More than one tensor crosses here."""


class _Tracer(fx.Tracer):
    """Records which node each module returns, and does not look into what it need not."""

    proxy_buffer_attributes = True

    def __init__(self) -> None:
        super().__init__(autowrap_functions=tuple(get_notrace_functions()))  # type: ignore[no-untyped-call]
        self.returned: defaultdict[str, list[fx.Node | None]] = defaultdict(list)
        self._leaves: tuple[type, ...] = (_BatchNorm, *get_notrace_modules())  # type: ignore[no-untyped-call]

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        """Keeps whole: modules without children, timm's list, and all kinds of BatchNorm.

        A BatchNorm that is traced through loses its own train() and eval().
        """
        return (
            super().is_leaf_module(m, module_qualified_name)
            or isinstance(m, self._leaves)
            or next(m.children(), None) is None
        )

    def call_module(
        self, m: nn.Module, forward: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        """Calls a module as fx does and notes what it returned."""
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


def _trace_anew(model: nn.Module, resolution: int) -> _Known:
    try:
        train_trace = _trace_mode(model.train(), resolution)
        eval_trace = _trace_mode(model.eval(), resolution)
        _check_same(model, eval_trace, resolution)
    except Exception as error:  # fx raises what the network's code raises
        sentence = re.split(r"\. |\n", str(error).strip())[0] or type(error).__name__
        return _uncut(model, resolution, f"it cannot be traced: {sentence}")
    boundaries = _find_boundaries(model, resolution, train_trace, eval_trace)
    reason = "" if len(boundaries) > 2 else "between its blocks more than one tensor crosses"
    return _Known(boundaries, reason, train_trace, eval_trace)


def _computes_the_same(model: nn.Module, known: _Known, resolution: int) -> bool:
    if known.eval is None:
        return False
    try:
        _check_same(model.eval(), known.eval, resolution)
    except Exception:  # whatever it is, the network is traced anew
        return False
    return True


def _trace_mode(model: nn.Module, resolution: int) -> _Trace:
    tracer = _Tracer()
    _, *options = inspect.signature(model.forward).parameters.values()
    defaults = {option.name: option.default for option in options}
    graph = tracer.trace(model, concrete_args=defaults)
    image, *fixed = (node for node in graph.nodes if node.op == "placeholder")
    _remove(graph, fixed)
    for node in graph.nodes:
        if node.op == "call_method" and not node.users and str(node.target).endswith("_"):
            raise _UncutError(f"it changes a tensor in place ({node.name})")
    # On the meta device nothing is computed: only shapes, and no BatchNorm statistic changes.
    shadow = copy.deepcopy(fx.GraphModule(model, graph, "Shadow")).to("meta")
    graph.owning_module = None  # what is kept of a trace keeps no weights
    with FlopCounterMode(display=False) as counter:
        few = _Measure(shadow, counter)
        few.run(torch.empty(_FEW, 3, resolution, resolution, device="meta"))
    more = _Measure(shadow, counter)
    more.run(torch.empty(_MORE, 3, resolution, resolution, device="meta"))
    returned = {
        name: nodes[0]
        for name, nodes in tracer.returned.items()
        if len(nodes) == 1 and nodes[0] is not None
    }
    (features,) = graph.output_node().all_input_nodes
    from_input = frozenset(_descendants(graph, image))
    return _Trace(graph, image, features, returned, few.values, more.values, few.flops, from_input)


def _remove(graph: fx.Graph, fixed: Iterable[fx.Node]) -> None:
    """Removes arguments that keep their defaults, and the checks that they do."""
    for node in fixed:
        checks = _descendants(graph, node)
        for check in reversed(graph.nodes):
            if check in checks:
                graph.erase_node(check)


def _check_same(model: nn.Module, traced: _Trace, resolution: int) -> None:
    reference = next(model.parameters())
    images = torch.rand(1, 3, resolution, resolution).to(reference.device, reference.dtype)
    whole = fx.Interpreter(model, graph=traced.graph)
    if not torch.allclose(whole.run(images), model(images), rtol=1e-4, atol=1e-5):
        raise _UncutError("its traced graph does not compute what the network computes")


def _uncut(model: nn.Module, resolution: int, reason: str) -> _Known:
    reference = next(model.parameters())
    images = torch.zeros(1, 3, resolution, resolution, device=reference.device)
    features = model.eval()(images.to(reference.dtype))
    ends = (
        Boundary(INPUT, (3, resolution, resolution), 0.0),
        Boundary(FEATURES, tuple(features.shape[1:]), 1.0),
    )
    return _Known(ends, reason)


def _find_boundaries(
    model: nn.Module, resolution: int, train: _Trace, evaluated: _Trace
) -> tuple[Boundary, ...]:
    total = max(1, sum(evaluated.flops.values()))
    offered: dict[fx.Node, list[str]] = defaultdict(list)
    for name in _block_ends(model, train, evaluated):
        offered[evaluated.returned[name]].append(name)
    order = {node: index for index, node in enumerate(evaluated.graph.nodes)}
    cuts = []
    for node in sorted(offered, key=order.__getitem__):
        before = sum(evaluated.flops[each.name] for each in _ancestors(node))
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
    """Returns the shortest of one node's names, with a number where one has it.

    `blocks.6`, `blocks.6.0` and `blocks` end at the same place: `blocks.6` says it best.
    """
    return min(names, key=lambda name: (not name[-1].isdigit(), name.count("."), name))


def _block_ends(model: nn.Module, train: _Trace, evaluated: _Trace) -> list[str]:
    """Returns the paths of blocks and stages after which the network can be cut.

    Blocks without a shortcut can be cut inside, too, between their layers. That is of no use, so
    only modules are taken that lie in nothing but groups of blocks; and a kind of group of which
    one instance cannot be cut inside is a block.
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


def _can_cut(model: nn.Module, train: _Trace, evaluated: _Trace, name: str) -> bool:
    for traced in (train, evaluated):
        node = traced.returned.get(name)
        if node is None:
            return False
        few, more = traced.few[node.name], traced.more[node.name]
        if not (isinstance(few, Tensor) and few.is_floating_point() and few.ndim >= 2):
            return False
        if (few.shape[0], more.shape[0]) != (_FEW, _MORE) or few.shape[1:] != more.shape[1:]:
            return False
        try:
            graph = _suffix_graph(traced, name)
        except _UncutError:
            return False
        # Without a parameter behind it, it is the features under another name.
        if not any(_holds_parameters(model, each) for each in graph.nodes):
            return False
    return True


def _holds_parameters(model: nn.Module, node: fx.Node) -> bool:
    if node.op == "call_module":
        return next(model.get_submodule(str(node.target)).parameters(), None) is not None
    return node.op == "get_attr"


def _prefix_graph(traced: _Trace, boundary: str) -> fx.Graph:
    end = traced.returned[boundary]
    needed = _ancestors(end) | {traced.image}
    graph = fx.Graph()
    copied: dict[fx.Node, fx.Node] = {}
    for node in traced.graph.nodes:
        if node in needed:
            copied[node] = graph.node_copy(node, copied.__getitem__)
    graph.output(copied[end])
    return graph


def _suffix_graph(
    traced: _Trace, boundary: str, taps: Sequence[str] = (), output_fmt: str = "NCHW"
) -> fx.Graph:
    """Returns the graph from an activation to the pooled taps and the features.

    Raises:
        _UncutError: If more than one tensor crosses the boundary.
    """
    ends = {INPUT: traced.image, **traced.returned}
    start = ends[boundary]
    tapped = [ends[tap] for tap in taps]
    needed, crossing = _needed(traced, start, [*tapped, traced.features])

    graph = fx.Graph()
    activation = graph.placeholder("activation")
    copied: dict[fx.Node, Any] = {start: activation}
    pooled: dict[fx.Node, fx.Node] = {}
    for node in traced.graph.nodes:
        if node in crossing:
            few, more = traced.few[node.name], traced.more[node.name]
            copied[node] = _recomputed(few, more, graph, activation)
        elif node in needed:
            copied[node] = graph.node_copy(node, copied.__getitem__)
        if node in tapped:
            # Right here, because what follows may change the tensor in place.
            dims = _dims_to_pool(tuple(traced.few[node.name].shape[1:]), output_fmt)
            pooled[node] = (
                graph.call_function(torch.mean, (copied[node],), {"dim": dims})
                if dims
                else copied[node]
            )
    features = copied[traced.features]
    if tapped:
        parts = [*(pooled[node] for node in tapped), features]
        features = graph.call_function(torch.cat, (parts,), {"dim": 1})
    graph.output(features)
    return graph


def _needed(
    traced: _Trace, start: fx.Node, ends: Iterable[fx.Node]
) -> tuple[set[fx.Node], set[fx.Node]]:
    """Returns what lies between `start` and `ends`, and the integers that cross the boundary.

    Raises:
        _UncutError: If another tensor crosses, too.
    """
    after = _descendants(traced.graph, start)
    needed: set[fx.Node] = set()
    crossing: set[fx.Node] = set()
    stack = list(ends)
    while stack:
        node = stack.pop()
        if node is start or node in needed:
            continue
        if node is traced.image:
            raise _UncutError("more than one tensor crosses")
        before = node in traced.from_input and node not in after
        if before and not _holds_tensor(traced.few[node.name]):
            crossing.add(node)
        else:
            needed.add(node)
            stack.extend(node.all_input_nodes)
    return needed, crossing


def _holds_tensor(value: Any) -> bool:
    if isinstance(value, tuple | list):
        return any(map(_holds_tensor, value))
    return isinstance(value, Tensor)


def _recomputed(few: Any, more: Any, graph: fx.Graph, activation: fx.Node) -> Any:
    """Returns a value that crosses a boundary, made from the activation that crosses with it.

    Args:
        few: The value on a batch of two.
        more: The value on a batch of three.
        graph: Where to add what computes it.
        activation: The tensor (N, ...) that crosses.

    Raises:
        _UncutError: If it is neither a constant nor a multiple of the batch size.
    """
    if isinstance(few, tuple | list):
        pairs = zip(few, more, strict=True)
        return tuple(_recomputed(one, other, graph, activation) for one, other in pairs)
    if isinstance(few, torch.device):
        return graph.call_function(getattr, (activation, "device"))
    if few == more:
        return few
    if isinstance(few, int) and few * _MORE == more * _FEW:
        shape = graph.call_function(getattr, (activation, "shape"))
        batch = graph.call_function(getitem, (shape, 0))
        return graph.call_function(mul, (batch, few // _FEW))
    raise _UncutError("a number crosses that depends on the batch")


def _dims_to_pool(shape: tuple[int, ...], output_fmt: str) -> tuple[int, ...]:
    """Returns the dimensions of (N, *shape) that are space or tokens, not channels."""
    if len(shape) < 2:
        return ()
    if len(shape) == 2:
        return (1,)
    if shape[0] == shape[1] != shape[2]:
        output_fmt = "NHWC"
    elif shape[0] != shape[1] == shape[2]:
        output_fmt = "NCHW"
    return (1, 2) if output_fmt == "NHWC" else (2, 3)


def _ancestors(node: fx.Node) -> set[fx.Node]:
    """Returns all that a node is computed from, and itself."""
    found: set[fx.Node] = set()
    stack = [node]
    while stack:
        each = stack.pop()
        if each not in found:
            found.add(each)
            stack.extend(each.all_input_nodes)
    return found


def _descendants(graph: fx.Graph, start: fx.Node) -> set[fx.Node]:
    """Returns all that is computed from a node, and itself."""
    found = {start}
    for node in graph.nodes:
        if not found.isdisjoint(node.all_input_nodes):
            found.add(node)
    return found
