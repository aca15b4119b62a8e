"""The cut of a backbone into a frozen prefix, which runs once, and a suffix, which is trained.

The suffix holds the graphs of both modes, and `train()` and `eval()` switch between them. The
prefix holds the graph of eval mode only.
"""

import copy
import re
from collections.abc import Hashable, Sequence
from contextlib import redirect_stderr
from dataclasses import dataclass, field
from io import StringIO

import torch
from torch import Tensor, fx, nn
from torchvision.models.feature_extraction import DualGraphModule

from headstart.backbones.boundaries import Boundary, find_boundaries
from headstart.backbones.graphs import (
    dims_to_pool,
    needed_between,
    prefix_graph,
    suffix_graph,
    targets,
)
from headstart.backbones.places import FEATURES, INPUT
from headstart.backbones.pooling import boundary_of_tap
from headstart.backbones.tracing import Trace, ancestors, architecture, check_same, trace_mode
from headstart.errors import BackboneError, did_you_mean


@dataclass(frozen=True)
class _Known:
    """The result of a trace; it does not depend on the weights."""

    boundaries: tuple[Boundary, ...]
    reason: str = ""
    train: Trace | None = None
    eval: Trace | None = None


# A search reloads the same network for each trial, and tracing takes longer than loading.
_KNOWN: dict[Hashable, _Known] = {}
_KEPT = 8

_TAKES: dict[Hashable, bool] = {}
"""Whether an architecture takes a resolution behind a boundary: every trial asks the same."""


@dataclass(frozen=True)
class Traced:
    """A backbone that is ready to be cut.

    Attributes:
        model: The backbone; suffixes share its modules and parameters.
        boundaries: Where it can be cut, from `input` to `features`.
        reason: Why it can only be cut at both ends; empty if it can be cut in between.
        swapped: Original activations that were replaced, by path.
    """

    model: nn.Module
    boundaries: tuple[Boundary, ...]
    reason: str = ""
    _train: Trace | None = field(default=None, repr=False)
    _eval: Trace | None = field(default=None, repr=False)
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
            f"This backbone has no boundary {name!r}{did_you_mean(name, names) or '.'} "
            f"Choose one of {', '.join(names)}."
        )


class Frozen(nn.Module):
    """A copy of the first part of a backbone that always stays in eval mode."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        # A copy, because training flags live in modules: model.train() must not reach them.
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
        model: Maps images (N, 3, R, R) to features (N, F). It is not changed.
        resolution: Side R of the images in pixels.

    Returns:
        The traced backbone. If it cannot be traced, it can only be cut at its input and its
        features, and `reason` says why.
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


def _trace_anew(model: nn.Module, resolution: int) -> _Known:
    try:
        train_trace = trace_mode(model.train(), resolution)
        eval_trace = trace_mode(model.eval(), resolution)
        check_same(model, eval_trace, resolution)
    except Exception as error:  # fx raises what the network's code raises
        sentence = re.split(r"\. |\n", str(error).strip())[0] or type(error).__name__
        return _uncut(model, resolution, f"it cannot be traced: {sentence}")
    boundaries = find_boundaries(model, resolution, train_trace, eval_trace)
    reason = "" if len(boundaries) > 2 else "more than one tensor passes between its blocks"
    return _Known(boundaries, reason, train_trace, eval_trace)


def _computes_the_same(model: nn.Module, known: _Known, resolution: int) -> bool:
    if known.eval is None:
        return False
    try:
        check_same(model.eval(), known.eval, resolution)
    except Exception:  # after any error the network is traced again
        return False
    return True


def _uncut(model: nn.Module, resolution: int, reason: str) -> _Known:
    reference = next(model.parameters())
    images = torch.zeros(1, 3, resolution, resolution, device=reference.device)
    features = model.eval()(images.to(reference.dtype))
    ends = (
        Boundary(INPUT, (3, resolution, resolution), 0.0),
        Boundary(FEATURES, tuple(features.shape[1:]), 1.0),
    )
    return _Known(ends, reason)


def prefix(traced: Traced, boundary: str) -> nn.Module:
    """Returns the frozen part before a boundary: images (N, 3, R, R) to activations (N, *shape).

    It is a copy of the backbone's current state, always in eval mode and without gradients.

    Raises:
        BackboneError: If there is no such boundary.
    """
    traced.boundary(boundary)
    if boundary == INPUT:
        return Frozen(nn.Identity())
    if boundary == FEATURES:
        return Frozen(traced.model)
    assert traced._eval is not None
    graph = prefix_graph(traced._eval, traced._eval.returned[boundary])
    return Frozen(fx.GraphModule(traced.model, graph, "Prefix"))


def suffix(traced: Traced, boundary: str, taps: Sequence[str] = ()) -> nn.Module:
    """Returns the part after a boundary: activations (N, *shape) to features (N, F').

    It shares modules and parameters with the backbone, under the same names: training it trains
    the backbone. It starts in eval mode.

    Args:
        traced: Backbone.
        boundary: Where to cut.
        taps: Boundaries at or after the cut. Their activations, averaged over space or tokens, or
            the root of their covariance (`backbones/pooling`), are placed before the backbone's
            own features, in this order.

    Raises:
        BackboneError: If there is no such boundary or a tap lies before it.
    """
    names = [each.name for each in traced.boundaries]
    places = [boundary_of_tap(tap) for tap in taps]
    for name in (boundary, *places):
        traced.boundary(name)
    for tap in places:
        if tap == FEATURES or names.index(tap) < names.index(boundary):
            raise BackboneError(
                f"Features cannot be taken at {tap!r}: choose a place between the boundary "
                f"{boundary!r} and the end of the backbone."
            )
    if boundary == FEATURES:
        return nn.Identity()
    if boundary == INPUT and not taps:
        return traced.model.eval()
    if traced._train is None or traced._eval is None:
        raise BackboneError(
            f"Features cannot be taken inside this backbone: {traced.reason}. Use "
            "head.features = last."
        )
    output_fmt = str(getattr(traced.model, "output_fmt", "NCHW"))
    graphs = [
        suffix_graph(each, _node(each, boundary), _tapped(each, taps), output_fmt)
        for each in (traced._train, traced._eval)
    ]
    dual: nn.Module = DualGraphModule(traced.model, *graphs, class_name="Suffix")
    # Constants that the trace added are not part of the backbone's state.
    dual._non_persistent_buffers_set.update(set(dual._buffers) - set(traced.model._buffers))
    return dual.eval()


def takes_resolution(traced: Traced, boundary: str, resolution: int) -> bool:
    """Returns whether both parts of a backbone take images of another size than it was traced with.

    Those of a convolutional network do; those that add an embedding to each place do not.

    Args:
        traced: Backbone.
        boundary: Where it is cut.
        resolution: Side R of the images in pixels.

    Raises:
        BackboneError: If there is no such boundary.
    """
    key = (architecture(traced.model), boundary, resolution)
    if key in _TAKES:
        return _TAKES[key]
    first, rest = prefix(traced, boundary), suffix(traced, boundary)
    parameter = next(traced.model.parameters())
    images = torch.zeros(1, 3, resolution, resolution, device=parameter.device)
    try:
        # A traced module prints the error that it raises.
        with torch.no_grad(), redirect_stderr(StringIO()):
            features = rest(first(images.to(parameter.dtype)))
        taken = tuple(features.shape[1:]) == traced.boundary(FEATURES).shape
    except Exception:  # whatever the network's code raises
        taken = False
    _TAKES[key] = taken
    return taken


def _tapped(traced: Trace, taps: Sequence[str]) -> list[tuple[fx.Node, bool]]:
    return [(_node(traced, boundary_of_tap(tap)), tap != boundary_of_tap(tap)) for tap in taps]


def _node(traced: Trace, boundary: str) -> fx.Node:
    return traced.image if boundary == INPUT else traced.returned[boundary]


def behind(traced: Traced, boundary: str) -> frozenset[str]:
    """Returns the paths of the modules, parameters and buffers used after a boundary.

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
        for target in targets(needed_between(each, each.returned[boundary], [each.features])[0])
    )


def ahead(traced: Traced, boundary: str) -> frozenset[str]:
    """Returns the paths of the modules, parameters and buffers used before a boundary."""
    if boundary == INPUT:
        return frozenset()
    if boundary == FEATURES or traced._eval is None:
        return behind(traced, INPUT)
    return frozenset(targets(ancestors(traced._eval.returned[boundary])))


def space_dims(traced: Traced, boundary: str) -> tuple[int, ...]:
    """Returns the height and width dimensions of activations (N, *shape), if they have any."""
    if boundary == INPUT:
        return (1, 2)  # views are (N, R, R, 3)
    shape = traced.boundary(boundary).shape
    output_fmt = str(getattr(traced.model, "output_fmt", "NCHW"))
    return dims_to_pool(shape, output_fmt) if len(shape) == 3 else ()
