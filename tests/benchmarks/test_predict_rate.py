"""The measurement of `predict` beside its parts: its images and its figures."""

import importlib
import json
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

import numpy as np
import pytest
from PIL import Image

from headstart.data.images import load_image

if TYPE_CHECKING:
    from headstart.inference.run import Run

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


def test_it_measures_a_few_images(
    script: ModuleType, head_run: "Run", pictures: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    program = ["predict_rate.py", "--run", str(head_run.folder), "--images", str(pictures)]
    monkeypatch.setattr("sys.argv", [*program, "--count", "24", "--rounds", "2"])
    script.main()
    *rounds, whole = map(json.loads, capsys.readouterr().out.splitlines())
    assert [each["round"] for each in rounds] == [0, 1]
    assert whole["from"] <= whole["share of the slower part"] <= whole["to"]
