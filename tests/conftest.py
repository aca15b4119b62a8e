"""A small picture folder and a private cache for every test."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

CLASSES = ("checks", "rings", "stripes")


def picture(kind: str, seed: int, side: int = 72) -> Image.Image:
    """A noisy pattern whose class is easy to see."""
    rng = np.random.default_rng([CLASSES.index(kind), seed])
    y, x = np.mgrid[:side, :side].astype(float)
    period, phase = rng.uniform(6, 11), rng.uniform(0, 6)
    waves = {
        "checks": np.sin(x / period * 6 + phase) * np.sin(y / period * 6 + phase),
        "rings": np.sin(np.hypot(x - rng.uniform(20, 50), y - rng.uniform(20, 50)) / period * 6),
        "stripes": np.sin(y / period * 6 + phase),
    }[kind]
    colour = rng.uniform(60, 120, 3)
    pixels = 120 + waves[:, :, None] * colour + rng.normal(0, 12, (side, side, 3))
    return Image.fromarray(pixels.clip(0, 255).astype(np.uint8))


def write_pictures(folder: Path, each: int, classes: tuple[str, ...] = CLASSES) -> Path:
    for kind in classes:
        (folder / kind).mkdir(parents=True, exist_ok=True)
        for number in range(each):
            picture(kind, number).save(folder / kind / f"{number:03d}.png")
    return folder


@pytest.fixture(scope="session")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three classes of 16 pictures, in class folders."""
    return write_pictures(tmp_path_factory.mktemp("pictures"), 16)


@pytest.fixture
def two_classes(tmp_path: Path) -> Path:
    """Two classes of 8 pictures that a test may spoil."""
    return write_pictures(tmp_path / "data", 8, ("rings", "stripes"))


@pytest.fixture(scope="session")
def shared_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(autouse=True)
def _private_cache(shared_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HEADSTART_CACHE", str(shared_cache))
