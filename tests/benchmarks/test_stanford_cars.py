"""The article's experiment on a small devkit; one test starts it by hand, the others call it."""

import importlib
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any

import numpy as np
import pytest
from PIL import Image
from scipy.io import savemat

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "stanford_cars.py"
CLASSES = ["checks", "rings", "stripes"]
FIELDS = ("bbox_x1", "bbox_y1", "bbox_x2", "bbox_y2", "class", "fname")


@pytest.fixture
def stanford_cars(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., CompletedProcess[str]]:
    monkeypatch.syspath_prepend(SCRIPT.parent)
    script = importlib.import_module("stanford_cars")

    def run(*options: object) -> CompletedProcess[str]:
        command = [str(SCRIPT), *map(str, options)]
        monkeypatch.setattr(sys, "argv", command)
        code: Any = 0
        try:
            script.main()
        except SystemExit as end:
            code = end.code
        return CompletedProcess(command, code, *capsys.readouterr())

    return run


def write_half(devkit: Path, half: str, name: str, images: list[tuple[Path, int]]) -> None:
    """Pictures with their annotations, in MATLAB's 1 x N struct array."""
    array = np.empty((1, len(images)), dtype=[(field, object) for field in FIELDS])
    folder = devkit / f"cars_{half}"
    folder.mkdir()
    for place, (source, number) in enumerate(images):
        file = f"{place + 1:05d}.png"
        (folder / file).write_bytes(source.read_bytes())
        with Image.open(source) as picture:
            array[0, place] = (3, 3, picture.width, picture.height, number, file)
    savemat(devkit / name, {"annotations": array})


@pytest.fixture
def devkit(pictures: Path, tmp_path: Path) -> Path:
    """Ten pictures a class to train on and six to test."""
    root = tmp_path / "cars"
    root.mkdir()
    savemat(root / "cars_meta.mat", {"class_names": np.array([CLASSES], dtype=object)})
    every: list[tuple[Path, int]] = [
        (path, number)
        for number, name in enumerate(CLASSES, start=1)
        for path in sorted((pictures / name).glob("*.png"))
    ]
    parts: dict[str, Any] = {
        "train": [pair for pair in every if int(pair[0].stem) < 10],
        "test": [pair for pair in every if int(pair[0].stem) >= 10],
    }
    write_half(root, "train", "cars_train_annos.mat", parts["train"])
    write_half(root, "test", "cars_test_annos_withlabels.mat", parts["test"])
    return root


@pytest.mark.slow
def test_two_runs_become_a_table_and_are_kept(
    devkit: Path, tmp_path: Path, stanford_cars: Callable[..., CompletedProcess[str]]
) -> None:
    results = tmp_path / "results.jsonl"
    options = ["--data", devkit, "--backbone", "test_efficientnet", "--epochs", 1]
    options += ["--trials", 1, "--set", "backbone.resolution=64", "--results", results]
    options += ["--set", "backbone.weights=random", "--work", tmp_path / "work"]
    done = stanford_cars(*options)
    assert done.returncode == 0, done.stderr
    records = {each["arm"]: each for each in map(json.loads, results.read_text().splitlines())}
    assert set(records) == {"naive", "searched"}
    assert [len(records[arm]["right"]) for arm in records] == [18, 18]
    assert records["naive"]["recipe"]["freezing"]["name"] == "full"
    assert records["searched"]["trials"]
    for path in (str(tmp_path), str(devkit)):
        assert path not in results.read_text(), "a record holds no path of the machine"
    page = results.with_suffix(".md").read_text()
    assert "| naive |" in page
    assert "| searched |" in page
    assert "18 official test images" in page

    again = stanford_cars(*options)
    assert again.returncode == 0, again.stderr
    assert "headstart fit --" not in again.stdout.partition("# Stanford Cars")[0]
    assert again.stdout.strip() == page.strip()


def test_missing_data_is_one_sentence(tmp_path: Path) -> None:
    command = [sys.executable, SCRIPT, "--data", tmp_path, "--results", tmp_path / "results.jsonl"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 2
    assert done.stderr == (
        f"Stanford Cars is missing: {tmp_path} holds no cars_train_annos.mat or cars_annos.mat.\n"
    )


def test_missing_test_labels_are_one_sentence(
    devkit: Path, tmp_path: Path, stanford_cars: Callable[..., CompletedProcess[str]]
) -> None:
    (devkit / "cars_test_annos_withlabels.mat").unlink()
    done = stanford_cars("--data", devkit, "--results", tmp_path / "results.jsonl")
    assert done.returncode == 2
    assert done.stderr == (
        "The official test set is missing: cars_test_annos_withlabels.mat is not in the folder.\n"
    )


@pytest.mark.usefixtures("hub_cache")
def test_missing_weights_are_one_sentence(
    devkit: Path, tmp_path: Path, stanford_cars: Callable[..., CompletedProcess[str]]
) -> None:
    results = tmp_path / "results.jsonl"
    options = ["--data", devkit, "--results", results, "--backbone", "tf_efficientnet_b3.in1k"]
    done = stanford_cars(*options)
    assert done.returncode == 2
    assert "tf_efficientnet_b3" in done.stderr
    assert len(done.stderr.splitlines()) == 1
