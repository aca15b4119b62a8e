"""`model.onnx`: the whole classifier of a bundle as one graph. Nothing here imports torch.

Its input are evaluation views (N, R, R, 3) of bytes, and its outputs the logits (N, C), the
embeddings (N, E) and the calibrated probabilities (N, C). Normalization, temperature and test-time
flips are inside.
"""

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from headstart.artifacts.bundle_spec import (
    GRAPH,
    MOST_FEATURES,
    SPEC,
    BundleSpec,
    description_hash,
    read_checked,
)
from headstart.backbones.sessions import open_session, thread_count
from headstart.errors import RunError
from headstart.text import shortened

RunBatch = Callable[[NDArray[np.uint8]], tuple[NDArray[np.float32], NDArray[np.float32]]]
"""Maps evaluation views (N, R, R, 3) to logits (N, C) and embeddings (N, E)."""

INPUT = "input"
OUTPUTS = ("logits", "embeddings", "probabilities")
DESCRIPTION = "bundle_sha256"
"""Key of the metadata for the hash of the description that the file was made with."""


@dataclass(frozen=True)
class Graph:
    """A classifier in ONNX Runtime.

    Attributes:
        path: Its file.
        session: The opened file.
        embedding: Length E of the embeddings.
    """

    path: Path
    session: Any
    embedding: int

    def run(self, views: NDArray[np.uint8]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Returns the logits (N, C) and embeddings (N, E) of evaluation views (N, R, R, 3).

        Raises:
            RunError: If they are not finite numbers.
        """
        given = {INPUT: np.ascontiguousarray(views)}
        logits, embeddings = self.session.run(list(OUTPUTS[:2]), given)
        if not (np.isfinite(logits).all() and np.isfinite(embeddings).all()):
            raise _misfit(self.path, "it gives values that are not finite")
        return logits, embeddings


def open_graph(folder: Path, spec: BundleSpec, threads: int | None = None) -> Graph:
    """Opens `model.onnx` of a bundle that has one.

    Args:
        folder: Bundle folder.
        spec: Its description.
        threads: Threads for one batch; by default all that there are.

    Raises:
        RunError: If the file is damaged, or does not belong to the description.
    """
    path, content = folder / GRAPH, read_checked(folder, GRAPH, spec.onnx_sha256)
    try:
        session = open_session(content, threads or thread_count())
    except Exception as error:  # ONNX Runtime has many error types without a common base
        raise _misfit(path, shortened(" ".join(str(error).split()), 200)) from None
    if session.get_modelmeta().custom_metadata_map.get(DESCRIPTION) != description_hash(folder):
        raise RunError(
            f"{folder / SPEC} is not the description that {GRAPH} was made with. Restore the "
            "bundle from a copy."
        )
    side = spec.preprocessing.resolution
    wanted = {INPUT: ("tensor(uint8)", [side, side, 3])}
    wanted |= dict.fromkeys(("logits", "probabilities"), ("tensor(float)", [len(spec.classes)]))
    found = {
        each.name: (each.type, each.shape[1:])
        for each in (*session.get_inputs(), *session.get_outputs())
    }
    kind, shape = found.pop("embeddings", ("", []))
    if found != wanted or kind != "tensor(float)" or not _is_width(shape):
        raise _misfit(path, "it has other inputs or outputs")
    return Graph(path, session, shape[0])


def facts(folder: Path, spec: BundleSpec) -> dict[str, str]:
    """Returns the metadata of `model.onnx`: what is needed to use it without `bundle.json`."""
    return {
        DESCRIPTION: description_hash(folder),
        "format": str(spec.format),
        "backbone": spec.backbone,
        "licence": spec.licence,
        "classes": json.dumps(spec.classes, ensure_ascii=False),
        "temperature": repr(spec.temperature),
        "preprocessing": json.dumps(asdict(spec.preprocessing)),
        **({"thresholds": json.dumps([r.threshold for r in spec.labels])} if spec.labels else {}),
    }


def _is_width(shape: list[Any]) -> bool:
    return len(shape) == 1 and isinstance(shape[0], int) and 1 <= shape[0] <= MOST_FEATURES


def _misfit(path: Path, what: str) -> RunError:
    return RunError(f"{path} cannot be used: {what}. Restore the bundle from a copy.")
