"""A graph that takes images of any size: what makes evaluation views, before the network.

The resize of Pillow is rebuilt from operators. `Resize` with a cubic coefficient of -0.5 and
without what lies outside has Pillow's weights, but Pillow rounds to bytes after the rows and again
after the columns, half up. So each direction is an operator of its own, in floating point, with the
rounding behind it.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper, version_converter

from headstart.artifacts.bundle_graph import INPUT
from headstart.backbones.preprocessing import Preprocessing
from headstart.data.images import MAX_ASPECT
from headstart.errors import InputError

IMAGE = "image"
"""Name of the input: (1, height, width, 3) of bytes, as shown."""

_OPSET = 18
"""The first in which `Resize` smooths what it shrinks."""

_HOW: dict[str, dict[str, Any]] = {
    "bicubic": {"mode": "cubic", "cubic_coeff_a": -0.5, "exclude_outside": 1},
    "bilinear": {"mode": "linear"},
}


class _Nodes:
    """A list of operators that is written like a program."""

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []

    def add(self, kind: str, *inputs: str, **attributes: Any) -> str:
        """Adds an operator with one output, and returns its name."""
        name = f"view_{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, inputs, [name], name=name, **attributes))
        return name

    def of(self, value: float | Sequence[float], kind: type) -> str:
        """Adds a constant, and returns its name."""
        name = f"view_constant_{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(np.array(value, kind), name))
        return name

    def int(self, value: int) -> str:
        """Adds a list of one integer."""
        return self.of([value], np.int64)

    def half(self, length: str) -> str:
        """Half of a length, rounded down."""
        return self.add("Div", length, self.int(2))


def with_preprocessing(model: onnx.ModelProto, how: Preprocessing) -> onnx.ModelProto:
    """Returns a network of evaluation views as one that takes images of any size.

    Args:
        model: Takes views (N, R, R, 3) of bytes.
        how: How headstart makes the views.

    Raises:
        InputError: If views are larger than the resized image, which then has a border.
    """
    if how.resize < how.resolution:
        raise InputError("This network pads its images, which the graph cannot do.")
    (version,) = [each.version for each in model.opset_import if not each.domain]
    converted = model
    if version < _OPSET:
        converted = version_converter.convert_version(model, _OPSET)
    nodes = _Nodes()
    view = _view(nodes, how)
    nodes.nodes.append(helper.make_node("Cast", [view], [INPUT], name="view", to=TensorProto.UINT8))
    graph = converted.graph
    for node in reversed(nodes.nodes):
        graph.node.insert(0, node)
    graph.initializer.extend(nodes.constants)
    del graph.input[:]
    shape: list[str | int | None] = [1, "height", "width", 3]
    graph.input.append(helper.make_tensor_value_info(IMAGE, TensorProto.UINT8, shape))
    onnx.checker.check_model(converted)
    return converted


def _view(nodes: _Nodes, how: Preprocessing) -> str:
    """Adds what makes the view (1, R, R, 3) of an image; its values are whole numbers."""
    image = _cut(nodes, nodes.add("Cast", IMAGE, to=TensorProto.FLOAT))
    lengths = [nodes.add("Shape", image, start=axis, end=axis + 1) for axis in (1, 2)]
    short = nodes.add("Min", *lengths)
    larger = nodes.add("Greater", short, nodes.int(how.resize))
    shrunk = [
        nodes.add("Where", larger, _scaled(nodes, each, short, how.resize, "Round"), each)
        for each in lengths
    ]
    enlarged = [
        nodes.add("Where", larger, small, _scaled(nodes, each, short, how.resize, "Floor"))
        for small, each in zip(shrunk, lengths, strict=True)
    ]
    image = nodes.add("Transpose", image, perm=[0, 3, 1, 2])
    image = _resized(nodes, image, shrunk, "bicubic")
    image = _resized(nodes, image, enlarged, how.interpolation)
    image = nodes.add("Transpose", image, perm=[0, 2, 3, 1])
    starts = [_centre(nodes, each, how.resolution) for each in enlarged]
    ends = [nodes.add("Add", each, nodes.int(how.resolution)) for each in starts]
    return _slice(nodes, image, starts, ends)


def _cut(nodes: _Nodes, image: str) -> str:
    """Adds what cuts an image, at both ends, to `MAX_ASPECT` times its shorter side."""
    lengths = [nodes.add("Shape", image, start=axis, end=axis + 1) for axis in (1, 2)]
    limit = nodes.add("Mul", nodes.add("Min", *lengths), nodes.int(MAX_ASPECT))
    starts = [
        nodes.half(nodes.add("Max", nodes.add("Sub", each, limit), nodes.int(0)))
        for each in lengths
    ]
    ends = [nodes.add("Add", each, limit) for each in starts]
    return _slice(nodes, image, starts, ends)


def _slice(nodes: _Nodes, image: str, starts: Sequence[str], ends: Sequence[str]) -> str:
    first, last = (nodes.add("Concat", *each, axis=0) for each in (starts, ends))
    return nodes.add("Slice", image, first, last, nodes.of([1, 2], np.int64))


def _scaled(nodes: _Nodes, length: str, short: str, side: int, rounding: str) -> str:
    """Adds `length * side / short`, rounded, as headstart computes it with 64 bits."""
    product = nodes.add("Mul", length, nodes.int(side))
    wide, divisor = (nodes.add("Cast", each, to=TensorProto.DOUBLE) for each in (product, short))
    rounded = nodes.add(rounding, nodes.add("Div", wide, divisor))
    return nodes.add("Cast", rounded, to=TensorProto.INT64)


def _centre(nodes: _Nodes, length: str, side: int) -> str:
    """Adds where a centred window begins; half a pixel goes to the even neighbour."""
    spare = nodes.add("Sub", length, nodes.int(side))
    halved = nodes.add(
        "Div", nodes.add("Cast", spare, to=TensorProto.DOUBLE), nodes.of([2.0], np.float64)
    )
    return nodes.add("Cast", nodes.add("Round", halved), to=TensorProto.INT64)


def _resized(nodes: _Nodes, image: str, lengths: Sequence[str], interpolation: str) -> str:
    """Adds a resize of (1, 3, H, W): first the width and then the height, each rounded to bytes."""
    for axis in (1, 0):
        now = nodes.add("Shape", image, start=2, end=4)
        own = nodes.add("Gather", now, nodes.int(1 - axis))
        pair = [own, own]
        pair[axis] = lengths[axis]
        sizes = nodes.add("Concat", nodes.of([1, 3], np.int64), *pair, axis=0)
        wide = nodes.add("Resize", image, "", "", sizes, antialias=1, **_HOW[interpolation])
        raised = nodes.add("Floor", nodes.add("Add", wide, nodes.of(0.5, np.float32)))
        image = nodes.add("Clip", raised, nodes.of(0.0, np.float32), nodes.of(255.0, np.float32))
    return image
