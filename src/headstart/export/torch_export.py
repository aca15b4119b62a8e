"""PyTorch's own format: the whole classifier as a program of `torch.export`."""

import warnings
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from headstart.artifacts.bundle import load_network
from headstart.artifacts.bundle_export import WholeClassifier
from headstart.backbones.quiet import off_standard_output
from headstart.errors import InputError, first_line
from headstart.export.target import Classify, Exporting, Written

NAME = "model.pt2"


def write(exporting: Exporting, folder: Path) -> Written:
    """Writes `model.pt2`, for batches of any size."""
    spec = exporting.spec
    side = spec.preprocessing.resolution
    whole = WholeClassifier(load_network(exporting.bundle), spec).eval()
    example = torch.zeros(2, side, side, 3, dtype=torch.uint8)
    batch = torch.export.Dim("batch", min=1)
    with off_standard_output(), warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        try:
            program = torch.export.export(whole, (example,), dynamic_shapes=({0: batch},))
        except Exception as error:  # it raises errors of any kind
            raise InputError(
                f"This network is not taken by torch.export: {first_line(error)[:200].rstrip('.')}."
            ) from error
        torch.export.save(program, folder / NAME)
    return Written(opened(folder / NAME), f"torch {torch.__version__}")


def opened(path: Path) -> Classify:
    """Returns a function that runs a saved program."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        program = torch.export.load(path).module()

    def classify(views: NDArray[np.uint8]) -> NDArray[np.floating]:
        with torch.inference_mode():
            _, _, probabilities = program(torch.from_numpy(np.ascontiguousarray(views)))
        found: NDArray[np.floating] = probabilities.double().numpy()
        return found

    return classify
