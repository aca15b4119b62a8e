"""ONNX: the whole classifier as one graph, as it is in the bundle."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from headstart.artifacts.bundle_spec import GRAPH, read_checked
from headstart.backbones.sessions import open_session, thread_count
from headstart.export.target import Classify, Exporting, Written

ANY_SIZE = (
    "Its input `image` is one image (1, height, width, 3) of bytes, turned as its EXIF data say. "
    "JPEGs of at least four times the network's size are best decoded at a half or a quarter of "
    "it, as headstart does."
)


def write(exporting: Exporting, folder: Path) -> Written:
    """Writes `model.onnx`."""
    path = folder / GRAPH
    graph_of(exporting, path)
    if not exporting.options.any_size:
        return Written(opened(path), runtime())
    import onnx  # noqa: PLC0415 - takes long

    from headstart.export.any_size import with_preprocessing  # noqa: PLC0415

    onnx.save(with_preprocessing(onnx.load(path), exporting.spec.preprocessing), path)
    return Written(opened(path), runtime(), notes=(ANY_SIZE,), any_size=True)


def graph_of(exporting: Exporting, path: Path) -> None:
    """Writes the graph of a run to a file: that of its bundle, or a new one for older bundles.

    Raises:
        RunError: If the bundle is damaged.
        OnnxExportError: If an older bundle's network cannot be exported.
    """
    spec = exporting.spec
    if spec.onnx_sha256:
        path.write_bytes(read_checked(exporting.bundle, GRAPH, spec.onnx_sha256))
        return
    from headstart.artifacts.bundle import load_network  # noqa: PLC0415 - imports torch
    from headstart.artifacts.bundle_export import write_graph  # noqa: PLC0415

    write_graph(path, load_network(exporting.bundle), exporting.bundle)


def opened(path: Path) -> Classify:
    """Returns a function that runs an ONNX file of a classifier in ONNX Runtime."""
    session = open_session(path.read_bytes(), thread_count())
    (taken,) = session.get_inputs()

    def classify(views: NDArray[np.uint8]) -> NDArray[np.floating]:
        (probabilities,) = session.run(["probabilities"], {taken.name: np.ascontiguousarray(views)})
        return np.asarray(probabilities, np.float64)

    return classify


def runtime() -> str:
    """Returns the name and version of the runtime."""
    import onnxruntime  # noqa: PLC0415 - takes long

    return f"onnxruntime {onnxruntime.__version__}"
