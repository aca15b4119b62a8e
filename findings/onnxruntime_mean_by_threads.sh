#!/usr/bin/env bash
# onnxruntime 1.32.0 (Linux, CPU wheel): ReduceMean over the middle axis gives other last bits with
# more threads than images in the batch. Expected: the number of threads changes the time alone, as it
# does for the mean over the last axis, or with a full batch. So a last, incomplete batch can have
# other bits on a machine with more cores.
set -eu
work=$(mktemp -d); trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet onnxruntime==1.32.0 onnx==1.19.1 numpy==2.3.5
cat > "$work/mean.py" <<'PYTHON'
import numpy as np
import onnxruntime as ort
from onnx import TensorProto, helper


def differs(images: int, axis: int, threads: int) -> bool:
    shape = (images, 16, 64)
    given = helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)
    mean = helper.make_tensor_value_info("y", TensorProto.FLOAT, None)
    node = helper.make_node("ReduceMean", ["x"], ["y"], axes=[axis])
    graph = helper.make_graph([node], "mean", [given], [mean])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    values = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
    found = []
    for number in (1, threads):
        options = ort.SessionOptions()
        options.intra_op_num_threads = number
        session = ort.InferenceSession(model.SerializeToString(), options)
        found.append(session.run(None, {"x": values})[0])
    return found[0].tobytes() != found[1].tobytes()


for images, axis in ((2, 1), (2, 2), (16, 1)):
    seen = [threads for threads in (2, 3, 4, 8) if differs(images, axis, threads)]
    print(f"{images} images, mean over axis {axis}: other bits with {seen} threads")
    assert bool(seen) == ((images, axis) == (2, 1)), seen
PYTHON
"$work/venv/bin/python" "$work/mean.py"
echo "as described"
# Seen on 2026-11-30, Python 3.11.7:
#   2 images, mean over axis 1: other bits with [3, 4, 8] threads
#   2 images, mean over axis 2: other bits with [] threads
#   16 images, mean over axis 1: other bits with [] threads
