"""OpenVINO: the whole classifier as a model in its own format."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from headstart.backbones.quiet import off_standard_output
from headstart.backbones.sessions import thread_count
from headstart.export.onnx import graph_of
from headstart.export.target import Classify, Exporting, Written, needs

NAME = "model.xml"

PRECISION = (
    "Open it with INFERENCE_PRECISION_HINT f32: on processors with bfloat16, OpenVINO computes in "
    "that by default, and probabilities differ."
)


def write(exporting: Exporting, folder: Path) -> Written:
    """Writes `model.xml` and `model.bin`, with weights in float32."""
    try:
        import openvino  # noqa: PLC0415 - an extra
    except ImportError:
        raise needs("headstart[openvino]", "OpenVINO") from None
    whole = folder / "model.onnx"
    graph_of(exporting, whole)
    with off_standard_output():
        # Not its converter, which comes with telemetry.
        model = openvino.Core().read_model(whole)
        openvino.save_model(model, folder / NAME, compress_to_fp16=False)
    whole.unlink()
    version = openvino.__version__.partition("-")[0]
    return Written(opened(folder / NAME), f"openvino {version}", notes=(PRECISION,))


def opened(path: Path) -> Classify:
    """Returns a function that runs a model in OpenVINO on the CPU, in float32."""
    import openvino  # noqa: PLC0415 - an extra

    settings = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": thread_count()}
    compiled = openvino.Core().compile_model(path, "CPU", settings)
    output = compiled.output("probabilities")

    def classify(views: NDArray[np.uint8]) -> NDArray[np.floating]:
        return np.array(compiled([views])[output], np.float64)

    return classify
