"""The helpers of `benchmarks/multilabel.py`."""

import csv
import importlib
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from PIL import Image

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(BENCHMARKS)
    return importlib.import_module("multilabel")


def test_no_picture_is_in_two_parts(script: ModuleType, tmp_path: Path) -> None:
    # Each picture has a grey value of its own, which its quarter shows.
    pictures = {}
    for kind in range(5):
        files = [tmp_path / f"{kind}-{n}.png" for n in range(10)]
        for n, file in enumerate(files):
            Image.new("RGB", (8, 8), (4 * (10 * kind + n),) * 3).save(file)
        pictures[str(kind)] = files
    table = script.make_mosaics(pictures, tmp_path / "mosaics", 40, side=8)
    with table.open() as file:
        rows = list(csv.DictReader(file))
    assert [row["split"] for row in rows].count("train") == 24
    seen: dict[str, set[int]] = {}
    for row in rows:
        mosaic = np.asarray(Image.open(table.parent / row["path"]).convert("L"))
        found = {round(int(mosaic[y, x]) / 4) for y in (4, 12) for x in (4, 12)}
        assert {str(value // 10) for value in found} == set(row["label"].split(";"))
        seen.setdefault(row["split"], set()).update(found)
    assert not seen["train"] & seen["test"] | seen["train"] & seen["val"]
    assert not seen["val"] & seen["test"]


def test_one_vs_rest_ranks_by_the_features(script: ModuleType) -> None:
    random = np.random.default_rng(1)
    features = random.standard_normal((60, 4)).astype(np.float32)
    marks = (features[:, :2] > 0).astype(np.int64)
    scores = script.one_vs_rest(features, marks, features)
    assert np.corrcoef(scores[:, 0], features[:, 0])[0, 1] > 0.9
