"""`check` stays light: it opens images and compares them, and no network is needed for that."""

import subprocess
import sys
from pathlib import Path

import numpy as np
from PIL import Image

from headstart.api.check import SHORT_SIDE
from headstart.data.decode import decode_dataset
from headstart.data.rasters import THUMBNAIL_BYTES
from headstart.data.types import Item


def test_check_loads_no_deep_learning(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for label in ("ants", "bees"):
        (tmp_path / "d" / label).mkdir(parents=True)
        for number in range(3):
            values = rng.integers(0, 256, (40, 40, 3)).astype(np.uint8)
            Image.fromarray(values).save(tmp_path / "d" / label / f"{number}.png")
    code = (
        "import sys, headstart\n"
        f"audit = headstart.check({str(tmp_path / 'd')!r}, cache_dir={str(tmp_path / 'c')!r})\n"
        "heavy = {'torch', 'torchvision', 'timm', 'onnxruntime', 'pandas', 'sklearn'}\n"
        "print(audit.n_usable, *sorted(heavy & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stdout.split() == ["6"]


def test_thumbnails_stay_on_the_disk(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    Image.fromarray(np.arange(64 * 64, dtype=np.uint8).reshape(64, 64)).save(path)
    (facts,) = decode_dataset([Item(path, "a")], SHORT_SIDE, tmp_path / "cache").facts
    assert isinstance(facts.thumbnail, memoryview)  # of a mapped file
    assert len(facts.thumbnail) == THUMBNAIL_BYTES
    assert bytes(facts.thumbnail) == np.arange(64 * 64, dtype=np.uint8).tobytes()
