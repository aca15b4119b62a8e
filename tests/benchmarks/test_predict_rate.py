"""The measurement of `predict` beside its parts: its images and its figures."""

import importlib
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from PIL import Image

from headstart.data.images import load_image

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(BENCHMARKS)
    return importlib.import_module("predict_rate")


def test_no_two_images_are_the_same(script: ModuleType, tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (40, 60, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    made = script.make_images([tmp_path / "a.png"], 12, tmp_path / "made")
    assert len({path.read_bytes() for path in made}) == len(made) == 12
    assert all(min(load_image(path).size) >= 30 for path in made)


def test_the_share_is_that_of_the_slower_part(script: ModuleType) -> None:
    rounds = [
        {"predict": 10.0, "decode": 8.0, "network": 2.0},
        {"predict": 10.0, "decode": 1.0, "network": 9.0},
    ]
    assert script.shares(rounds) == [0.8, 0.9]
    assert [len(part) for part in script.parts_of([Path("a")] * 7, 3)] == [2, 2, 3]
