#!/usr/bin/env bash
# onnxruntime 1.32.0: quantize_static with op_types_to_quantize=["Conv"] gives the output of a Conv 8
# bits over its whole range, also where a Clip to 0..6 (ReLU6) follows that throws most of it away.
# With "Clip" in the list as well, the Clip becomes part of the Conv, and the 8 bits are those of
# 0..6. Without it, few of the 256 values are left for what passes; nothing is said.
# Expected: "which operators to quantize" chooses operators, and a Conv is quantized alike either way.
# headstart lists Clip and Relu beside the layers with weights (int8 exports).
set -eu
work=$(mktemp -d); trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet onnxruntime==1.32.0 onnx==1.23.2 numpy==2.4.6
export ORT_DISABLE_TELEMETRY=1
cd "$work"
"$work/venv/bin/python" - <<'PYTHON'
import logging

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper
from onnxruntime.quantization import QuantType, quantize_static

logging.disable(logging.WARNING)
shape = [1, 3, 16, 16]
draw = np.random.default_rng(0)
constants = {
    "w": draw.normal(size=(8, 3, 3, 3)).astype(np.float32) * 8,
    "low": np.float32(0), "high": np.float32(6),
}
graph = helper.make_graph(
    [
        helper.make_node("Conv", ["x", "w"], ["wide"], name="conv", pads=[1, 1, 1, 1]),
        helper.make_node("Clip", ["wide", "low", "high"], ["y"], name="relu6"),
    ],
    "g",
    [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
    [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 8, 16, 16])],
    [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()],
)
onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=10), "f.onnx")
inputs = [{"x": draw.normal(size=shape).astype(np.float32)} for _ in range(8)]


class Reader:
    def __init__(self):
        self.left = list(inputs)

    def get_next(self):
        return self.left.pop() if self.left else None


def run(path):
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    return np.stack([session.run(None, given)[0] for given in inputs])


values = {}
for kinds in (["Conv"], ["Conv", "Clip"]):
    quantize_static("f.onnx", "q.onnx", Reader(), op_types_to_quantize=kinds, per_channel=True,
                    weight_type=QuantType.QInt8, activation_type=QuantType.QUInt8)
    model = onnx.load("q.onnx")
    scales = {each.name: float(numpy_helper.to_array(each)) for each in model.graph.initializer
              if each.name in ("wide_scale", "y_scale")}
    values[len(kinds)] = len(np.unique(run("q.onnx")))
    steps = ", ".join(f"{value:.3f} ({name})" for name, value in sorted(scales.items()))
    print(f"{'+'.join(kinds)}: one step is {steps}; the outputs have {values[len(kinds)]} values")
    assert ("wide_scale" in scales) == (kinds == ["Conv"]), scales
assert values[1] < 10 and values[2] > 200, values
print("as described")
PYTHON
# Seen on 2026-11-30, Python 3.11.7:
#   Conv: one step is 1.274 (wide_scale); the outputs have 6 values
#   Conv+Clip: one step is 0.024 (y_scale); the outputs have 256 values
