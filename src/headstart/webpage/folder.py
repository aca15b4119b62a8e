"""A classifier as a folder of files for any web server, which works without a network."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import load as load_arrays

from headstart import __version__
from headstart.artifacts.bundle_spec import GALLERY, GRAPH, read_checked, read_spec
from headstart.errors import RunError
from headstart.evaluation.label_metrics import SetMetrics
from headstart.evaluation.metrics import Metrics
from headstart.webpage.pages import browser_page, text_of


def write_folder(
    bundle: Path, name: str, metrics: Metrics | SetMetrics, runtime: Mapping[str, bytes], out: Path
) -> None:
    """Writes the page, the runtime and the classifier into an empty folder.

    Args:
        bundle: Bundle folder.
        name: Name to show.
        metrics: Result of the sealed test.
        runtime: Files of onnxruntime-web.
        out: The folder.

    Raises:
        RunError: If the bundle has no `model.onnx`, or is damaged.
    """
    spec = read_spec(bundle)
    if not spec.onnx_sha256:
        raise RunError(f"{bundle} has no {GRAPH}, which a browser could run. Fit the run again.")
    facts: dict[str, Any] = {
        "name": name,
        "classes": spec.classes,
        "backbone": spec.backbone,
        "licence": spec.licence,
        "version": __version__,
        "temperature": spec.temperature,
        "preprocessing": asdict(spec.preprocessing),
        "test": _test_of(metrics),
        "distribution": None,
    }
    if spec.multilabel:
        rules = zip(spec.classes, spec.labels, strict=True)
        facts["thresholds"] = {name: rule.threshold for name, rule in rules}
        facts["scales"] = [rule.scale for rule in spec.labels]
    files = {GRAPH: read_checked(bundle, GRAPH, spec.onnx_sha256), **runtime}
    if spec.distribution is not None:
        gallery = load_arrays(read_checked(bundle, GALLERY, spec.distribution.sha256))["gallery"]
        files["range.bin"] = np.ascontiguousarray(gallery, "<f2").tobytes()
        facts["distribution"] = {
            "k": spec.distribution.k,
            "threshold": spec.distribution.threshold,
            "width": int(gallery.shape[1]),
        }
    files["model.json"] = json.dumps(facts, ensure_ascii=False).encode()
    files["index.html"] = browser_page()
    version = hashlib.sha256(b"".join(hashlib.sha256(each).digest() for each in files.values()))
    names = json.dumps(sorted(set(files) - {"index.html"}))[1:-1]
    offline = text_of("offline.js").replace("VERSION", version.hexdigest()[:16])
    files["offline.js"] = offline.replace("...NAMES", names).encode()
    for file, content in files.items():
        (out / file).write_bytes(content)


def _test_of(metrics: Metrics | SetMetrics) -> dict[str, Any]:
    """Returns what the page says of the sealed test."""
    names = (
        ("accuracy",) if isinstance(metrics, Metrics) else ("mean_average_precision", "micro_f1")
    )
    shown = {each: getattr(metrics, each) for name in names for each in (name, f"{name}_interval")}
    return {**shown, "images": metrics.n}
