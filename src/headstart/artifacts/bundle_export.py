"""Writing `model.onnx` into a bundle, checked against PyTorch."""

import hashlib
from pathlib import Path

import torch
from torch import nn

from headstart.artifacts.bundle import Classifier
from headstart.artifacts.bundle_graph import OUTPUTS, facts
from headstart.artifacts.bundle_spec import GRAPH, SPEC, BundleSpec, plain_spec, read_spec
from headstart.artifacts.files import replacing, write_json
from headstart.backbones.engine import check_room
from headstart.backbones.onnx import OnnxExportError, annotate, to_onnx, verify


class WholeClassifier(nn.Module):
    """A classifier with three outputs: logits, embeddings and the calibrated probabilities."""

    def __init__(self, network: Classifier, spec: BundleSpec) -> None:
        super().__init__()
        self.network, self.classes = network, len(spec.classes)
        self.temperature = spec.temperature
        self.multilabel = spec.multilabel
        self.scale = torch.tensor([rule.scale for rule in spec.labels])
        self.shift = torch.tensor([rule.shift for rule in spec.labels])

    def forward(self, views: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Returns logits (N, C), embeddings (N, E) and probabilities (N, C) of views."""
        outputs = self.network(views)
        logits, embeddings = outputs[:, : self.classes], outputs[:, self.classes :]
        if self.multilabel:
            return logits, embeddings, torch.sigmoid(logits * self.scale + self.shift)
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
    try:
        with replacing(folder / GRAPH) as draft:
            write_graph(draft, network, folder)
            digest = hashlib.sha256(draft.read_bytes()).hexdigest()
    except OnnxExportError as error:
        check_room(network, folder)
        return str(error)
    # The other values stay as they are: the file holds their hash.
    write_json(folder / SPEC, {**plain_spec(folder), "onnx_sha256": digest})
    return ""


def write_graph(path: Path, network: Classifier, folder: Path) -> None:
    """Writes the graph of a bundle to a file and compares it with PyTorch.

    Args:
        path: File to write.
        network: Network of the bundle.
        folder: Bundle folder.

    Raises:
        OnnxExportError: If it cannot be exported, or ONNX Runtime gives other outputs.
    """
    spec = read_spec(folder)
    side = spec.preprocessing.resolution
    example = torch.zeros(2, side, side, 3, dtype=torch.uint8)
    whole = WholeClassifier(network, spec).eval()
    to_onnx(whole, example, path, OUTPUTS)
    annotate(path, facts(folder, spec))
    verify(whole, example, path)
