"""Bundles without `model.onnx`, such as those of older versions: PyTorch runs their network."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from headstart.artifacts.bundle import Classifier, load_network
from headstart.artifacts.bundle_graph import RunBatch
from headstart.artifacts.bundle_spec import BundleSpec
from headstart.backbones.engine import make_engine, outputs_of
from headstart.inputs.large_arrays import joined
from headstart.methods.head_layers import Head

ENGINE_PAYS_FROM = 96
"""Number of images from which exporting the network saves time."""


@dataclass(frozen=True)
class TorchNetwork:
    """The network of a bundle in PyTorch.

    Attributes:
        spec: Description of the bundle.
        network: Maps uint8 views (N, R, R, 3) to logits and embeddings (N, C + E); in eval mode.
        embedding: Length E of the embeddings.
    """

    spec: BundleSpec
    network: Classifier
    embedding: int

    def runner(self, images: int) -> RunBatch:
        """Returns what runs batches of a number of images: many pay for an export."""
        if images < ENGINE_PAYS_FROM:
            return self._eager
        side = self.spec.preprocessing.resolution
        example = np.zeros((2, side, side, 3), np.uint8)
        engine = make_engine(self.network, example, torch.device("cpu"))
        size = engine.batch_size

        def run(views: NDArray[np.uint8]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
            batches = (views[start : start + size] for start in range(0, len(views), size))
            return self._parts(joined(outputs_of(engine, batches), len(views)))

        return run

    def _eager(self, views: NDArray[np.uint8]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        with torch.inference_mode():
            output: torch.Tensor = self.network(torch.from_numpy(views))
            return self._parts(output.float().numpy())

    def _parts(
        self, outputs: NDArray[np.float32]
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        classes = len(self.spec.classes)
        return outputs[:, :classes], outputs[:, classes:]


def open_network(folder: Path, spec: BundleSpec) -> TorchNetwork:
    """Opens the network of a bundle in PyTorch.

    Raises:
        RunError: If it is damaged.
    """
    network = load_network(folder)
    head = network.heads[0]
    assert isinstance(head, Head)
    with torch.inference_mode():
        embedding = int(head.embed(torch.zeros(1, spec.features)).shape[1])
    return TorchNetwork(spec, network, embedding)
