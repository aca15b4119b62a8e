"""8-bit integers: static quantization, per channel, calibrated on training images of the run.

Only layers with weights are quantized, with the ReLUs behind them. The arithmetic that computes the
padding of some networks stays as it is: quantized it would pad otherwise, without an error. So do
the last layer, which is small and decides, and the first ones, whose errors pass through all
others.
"""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from headstart.artifacts.bundle_graph import INPUT
from headstart.artifacts.bundle_spec import GRAPH
from headstart.backbones.quiet import off_standard_output
from headstart.errors import InputError
from headstart.export.onnx import graph_of, opened, runtime
from headstart.export.parity import Limits
from headstart.export.run_images import training_images, view_batches
from headstart.export.target import Exporting, Written
from headstart.text import counted

CALIBRATION = 128
"""Most training images for the calibration."""

LIMITS = Limits(most_difference=None, least_agreement=0.9)

OVERFLOW = (
    "On x86 processors without VNNI instructions sums of products may overflow: compare it there "
    "as well before you use it."
)

FIRST = 1 / 7
"""Share of the layers, from the first, that stay in floating point. They hold few weights."""

_WEIGHTED = ("Conv", "Gemm", "MatMul")
_JOINED = ("Relu", "Clip")
"""Activations that become part of the layer before them."""


class _Views:
    """Gives the quantizer one view (1, R, R, 3) at a time."""

    def __init__(self, views: Iterator[NDArray[np.uint8]]) -> None:
        self.views = views

    def get_next(self) -> dict[str, Any] | None:
        """Returns the next input of the network, or None."""
        view = next(self.views, None)
        return None if view is None else {INPUT: view}


def write(exporting: Exporting, folder: Path) -> Written:
    """Writes `model.onnx` with 8-bit weights and activations."""
    import onnxruntime  # noqa: PLC0415 - takes long
    from onnxruntime.quantization import QuantFormat, QuantType, quantize_static  # noqa: PLC0415

    images = training_images(
        exporting.run, exporting.record, CALIBRATION, exporting.data, exporting.cache_dir
    )
    whole, path = folder / "float.onnx", folder / GRAPH
    graph_of(exporting, whole)
    model = onnx.load(whole)
    nodes = quantized_nodes(model)
    with _quietly(), off_standard_output():
        onnxruntime.set_default_logger_severity(4)
        try:
            quantize_static(
                whole,
                path,
                _Views(view_batches(images, exporting.spec, 1)),
                quant_format=QuantFormat.QDQ,
                op_types_to_quantize=[*_WEIGHTED, *_JOINED],
                nodes_to_quantize=nodes,
                per_channel=True,
                weight_type=QuantType.QInt8,
                activation_type=QuantType.QUInt8,
            )
        finally:
            onnxruntime.set_default_logger_severity(2)
    whole.unlink()
    _keep_facts(model, path)
    calibrated = f"It is calibrated on {counted(len(images), 'training image')}."
    return Written(opened(path), runtime(), LIMITS, (calibrated, OVERFLOW))


def quantized_nodes(model: onnx.ModelProto) -> list[str]:
    """Returns the names of the layers to quantize.

    Raises:
        InputError: If there are none.
    """
    weights = {each.name for each in model.graph.initializer}
    maker = {name: node for node in model.graph.node for name in node.output}
    last = _last_layers(maker, weights, "logits")
    layers = [
        node
        for node in model.graph.node
        if node.op_type in _WEIGHTED and node.input[1] in weights and node.name not in last
    ]
    layers = layers[int(FIRST * len(layers)) :]
    if not layers:
        raise InputError("This network has no layers whose weights can be quantized.")
    made = {name for node in layers for name in node.output}
    joined = [
        node for node in model.graph.node if node.op_type in _JOINED and node.input[0] in made
    ]
    return [node.name for node in (*layers, *joined)]


def _last_layers(maker: dict[str, Any], weights: set[str], output: str) -> set[str]:
    """Returns the names of the layers behind which no other leads to an output."""
    found, waiting = set(), [output]
    seen: set[str] = set()
    while waiting:
        name = waiting.pop()
        node = maker.get(name)
        if node is None or name in seen:
            continue
        seen.add(name)
        if node.op_type in _WEIGHTED and node.input[1] in weights:
            found.add(node.name)
        else:
            waiting += node.input
    return found


def _keep_facts(whole: onnx.ModelProto, path: Path) -> None:
    """Copies the metadata of the whole graph, such as the names of the classes."""
    facts = {each.key: each.value for each in whole.metadata_props}
    model = onnx.load(path)
    onnx.helper.set_model_props(model, facts)
    path.write_bytes(model.SerializeToString(deterministic=True))


@contextmanager
def _quietly() -> Iterator[None]:
    """Silences what the quantizer logs: its advice to change the graph first."""
    root, nothing = logging.getLogger(), logging.NullHandler()
    disabled = logging.root.manager.disable
    root.addHandler(nothing)  # else it installs a handler of its own that stays
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(disabled)
        root.removeHandler(nothing)
