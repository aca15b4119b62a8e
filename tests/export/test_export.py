"""Exports answer as their run did, or are refused and removed."""

import json
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import onnxruntime
import pytest
from PIL import Image

from headstart import export
from headstart.errors import DataError, InputError
from headstart.inference.run import Run

Command = Callable[..., subprocess.CompletedProcess[str]]


def as_older(run: Path) -> dict[str, object]:
    """Takes model.onnx from a bundle, as in older versions, and returns its description."""
    (run / "bundle" / "model.onnx").unlink()
    spec: dict[str, object] = json.loads((run / "bundle" / "bundle.json").read_text())
    spec["onnx_sha256"] = ""
    (run / "bundle" / "bundle.json").write_text(json.dumps(spec))
    return spec


@pytest.fixture
def copied(head_run: Run, tmp_path: Path) -> Path:
    return shutil.copytree(head_run.folder, tmp_path / "run")


def test_onnx_answers_as_the_run(copied: Path, headstart: Command) -> None:
    done = headstart("export", copied, "--to", "onnx")
    assert done.returncode == 0, done.stderr
    assert "100% get the class that the run gave them" in done.stdout
    folder = copied / "export" / "onnx"
    kept = json.loads((folder / "export.json").read_text())
    assert kept["parity"]["agreement"] == 1
    assert kept["parity"]["largest_difference"] < 1e-6
    assert kept["files"] == {"model.onnx": (folder / "model.onnx").stat().st_size}
    assert sorted(path.name for path in folder.parent.iterdir()) == ["onnx"]
    session = onnxruntime.InferenceSession(folder / "model.onnx")
    assert json.loads(session.get_modelmeta().custom_metadata_map["classes"])
    again = headstart("export", copied, "--to", "onnx")
    assert again.returncode == 2
    assert "is in use. Choose another folder with --out." in again.stderr
    elsewhere = headstart("export", copied, "--out", copied.parent / "onnx", "--json")
    assert json.loads(elsewhere.stdout)["folder"] == str(copied.parent / "onnx")


def test_an_older_bundle_gets_a_graph(copied: Path) -> None:
    as_older(copied)
    done = export(copied, to="onnx", progress=False)
    assert done.parity.agreement == 1
    assert done.parity.largest_difference < 1e-4
    assert not (copied / "bundle" / "model.onnx").exists()


def test_a_tampered_normalization_is_refused_and_nothing_is_left(
    copied: Path, headstart: Command
) -> None:
    spec = as_older(copied)
    spec["preprocessing"] |= {"mean": [0, 1.5, 0], "std": [9, 9, 9]}  # type: ignore[operator]
    (copied / "bundle" / "bundle.json").write_text(json.dumps(spec))
    done = headstart("export", copied, "--to", "onnx", "--json")
    assert done.returncode == 2
    assert "was not kept, because it does not answer as the run did" in done.stderr
    assert "a probability differs by" in done.stderr
    assert done.stdout == ""
    assert list((copied / "export").iterdir()) == []


def test_images_that_changed_moved_or_are_gone(
    copied: Path, pictures: Path, tmp_path: Path
) -> None:
    moved = shutil.copytree(pictures, tmp_path / "moved")
    record = json.loads((copied / "run.json").read_text())
    record["source"] = str(tmp_path / "nowhere")
    (copied / "run.json").write_text(json.dumps(record))
    with pytest.raises(DataError, match="nowhere"):
        export(copied, progress=False)
    done = export(copied, data=str(moved), out=tmp_path / "out", progress=False)
    assert done.parity.agreement == 1
    named = next(line for line in (copied / "predictions.csv").read_text().splitlines()[1:])
    image = moved / named.split(",")[0]
    Image.new("RGB", (72, 72)).save(image)
    with pytest.raises(DataError, match=r"1 image of .* have changed since the run"):
        export(copied, data=str(moved), progress=False)
    image.unlink()
    with pytest.raises(DataError, match="are missing"):
        export(copied, data=str(moved), progress=False)


def test_what_is_not_a_run_is_refused(copied: Path, headstart: Command) -> None:
    alone = headstart("export", copied / "bundle")
    assert alone.returncode == 2
    assert "a bundle alone is not enough" in alone.stderr
    (copied / "predictions.csv").unlink()
    assert headstart("export", copied).returncode == 2
    assert headstart("export", copied, "--to", "tflite").returncode == 2
    with pytest.raises(InputError, match="to"):
        export(copied, to="tflite")
    with pytest.raises(InputError, match=r"max.loss"):
        export(copied, max_loss=2)


def test_a_run_of_images_from_python_needs_their_folder(copied: Path, pictures: Path) -> None:
    record = json.loads((copied / "run.json").read_text())
    record["source"] = ""
    (copied / "run.json").write_text(json.dumps(record))
    with pytest.raises(InputError, match="were passed in Python"):
        export(copied, progress=False)
    assert export(copied, data=str(pictures), progress=False).parity.agreement == 1
