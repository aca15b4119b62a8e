"""Writing `model.onnx` into a bundle, checked against PyTorch."""

import hashlib
from pathlib import Path

import torch
from torch import nn

from headstart.artifacts.bundle import Classifier
from headstart.artifacts.bundle_graph import OUTPUTS, facts
from headstart.artifacts.bundle_spec import GRAPH, SPEC, plain_spec, read_spec
from headstart.artifacts.files import replacing, write_json
from headstart.backbones.engine import check_room
from headstart.backbones.onnx import OnnxExportError, annotate, to_onnx, verify


class _Outputs(nn.Module):
    """Splits what a classifier returns, and adds the calibrated probabilities."""

    def __init__(self, network: Classifier, classes: int, temperature: float) -> None:
        super().__init__()
        self.network, self.classes, self.temperature = network, classes, temperature

    def forward(self, views: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        outputs = self.network(views)
        logits, embeddings = outputs[:, : self.classes], outputs[:, self.classes :]
        return logits, embeddings, torch.softmax(logits / self.temperature, 1)


def export_graph(folder: Path, network: Classifier) -> str:
    """Writes `model.onnx` into a bundle, and its hash into the description.

    The file is refused if ONNX Runtime gives other outputs than PyTorch.

    Args:
        folder: Bundle folder.
        network: Its network, which is exported.

    Returns:
        Why there is no such file, as a clause; empty if there is.

    Raises:
        DiskFullError: If there is no space left for it.
    """
    spec = read_spec(folder)
    side = spec.preprocessing.resolution
    example = torch.zeros(2, side, side, 3, dtype=torch.uint8)
    whole = _Outputs(network, len(spec.classes), spec.temperature).eval()
    try:
        with replacing(folder / GRAPH) as draft:
            to_onnx(whole, example, draft, OUTPUTS)
            annotate(draft, facts(folder, spec))
            verify(whole, example, draft)
            digest = hashlib.sha256(draft.read_bytes()).hexdigest()
    except OnnxExportError as error:
        check_room(network, folder)
        return str(error)
    # The other values stay as they are: the file holds their hash.
    write_json(folder / SPEC, {**plain_spec(folder), "onnx_sha256": digest})
    return ""
