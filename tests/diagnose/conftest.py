"""Features of the shared data sets, where they are there."""

import os
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import torch

DATA = Path(os.environ.get("HEADSTART_DATA", Path(__file__).parents[3] / "shared" / "data"))


class Whole(NamedTuple):
    """All usable images of a data set."""

    features: np.ndarray
    labels: np.ndarray
    groups: np.ndarray
    classes: tuple[str, ...]


@pytest.fixture(scope="session")
def data() -> Callable[[str], Path]:
    """Gives the folder of a shared data set; skips where it is not there."""

    def find(name: str) -> Path:
        if not (DATA / name).is_dir():
            pytest.skip("the shared data are not here")
        return DATA / name

    return find


@pytest.fixture(scope="session")
def real_features(data: Callable[[str], Path], shared_cache: Path) -> Callable[[str], Whole]:
    """Gives the pretrained backbone's features of a shared data set, at 128 pixels."""
    from headstart.backbones.boundaries import FEATURES
    from headstart.backbones.catalog import load_backbone
    from headstart.backbones.cut import trace
    from headstart.data.audit import audit
    from headstart.data.decode import decode_dataset
    from headstart.data.sources import load_dataset
    from headstart.progress import SILENT
    from headstart.search.material import Material, activations, open_prefix

    @cache
    def load(name: str) -> Whole:
        backbone = load_backbone(resolution=128)
        dataset = load_dataset(data(name))
        pixels = decode_dataset(dataset.items, backbone.preprocessing.resize, shared_cache, 1)
        audited = audit(dataset, pixels.facts, 128)
        names = [dataset.items[int(row)].label for row in audited.kept]
        classes = tuple(sorted(set(names)))
        labels = np.array([classes.index(name) for name in names], np.int64)
        material = Material(
            pixels, {"train": audited.kept}, {"train": labels}, audited.groups, classes, backbone,
            trace(backbone.model, 128), torch.device("cpu"), shared_cache, SILENT,
        )  # fmt: skip
        features = activations(material, open_prefix(material, FEATURES), "train")
        return Whole(np.asarray(features, np.float32), labels, audited.groups, classes)

    return load
