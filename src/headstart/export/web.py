"""Target `web`: a page that runs the classifier in a browser, from any web server and offline."""

from pathlib import Path

from headstart.artifacts.bundle_spec import GRAPH
from headstart.artifacts.run import read_metrics
from headstart.artifacts.set_results import read_set_metrics
from headstart.export import onnx
from headstart.export.target import Exporting, Written
from headstart.webpage.folder import write_folder
from headstart.webpage.runtime import VERSION, runtime_files

NOTE = (
    "The figures are those of model.onnx in ONNX Runtime on this machine. The browser runs this "
    f"file with onnxruntime-web {VERSION} and decodes images itself, in 8 bits a colour; "
    "docs/web.md says how far its answers differ."
)


def write(exporting: Exporting, folder: Path) -> Written:
    """Writes the page, the files of the runtime, and the classifier."""
    options = exporting.options
    files = runtime_files(options.runtime, options.download, exporting.cache_dir)
    name, several = exporting.record.data_name, exporting.spec.multilabel
    metrics = read_set_metrics(exporting.run) if several else read_metrics(exporting.run)
    write_folder(exporting.bundle, name, metrics, files, folder)
    return Written(onnx.opened(folder / GRAPH), onnx.runtime(), notes=(NOTE,))
