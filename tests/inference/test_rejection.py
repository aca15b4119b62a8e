"""`--reject`: what is unlike the training images is `unknown`, everywhere, or it is refused."""

import csv
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess
from typing import TYPE_CHECKING

import numpy as np
import pytest
from PIL import Image

import headstart as package
from headstart.errors import InputError, RunError

if TYPE_CHECKING:
    from headstart.inference.run import Run

Command = Callable[..., CompletedProcess[str]]


@pytest.fixture(scope="module")
def images(pictures: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A training image, and noise in colours, which no class has."""
    folder = tmp_path_factory.mktemp("reject")
    shutil.copy(pictures / "rings" / "002.png", folder / "a.png")
    noise = np.random.default_rng(0).integers(0, 256, (72, 72, 3)).astype(np.uint8)
    Image.fromarray(noise).save(folder / "b.png")
    return folder


def test_it_is_unknown_in_every_form(
    headstart: Command, head_run: "Run", images: Path, tmp_path: Path
) -> None:
    plain = headstart("predict", head_run.folder, images, "--json", "--set-coverage", 0.9)
    inside, outside = json.loads(plain.stdout)
    assert not inside["out_of_distribution"] and outside["out_of_distribution"]
    flags = ("--json", "--reject", "--set-coverage", 0.9)
    done = headstart("predict", head_run.folder, images, *flags)
    of_none = {"label": "unknown", "probability": 0.0, "classes": [], "coverage": None}
    assert json.loads(done.stdout) == [inside, {**outside, **of_none}]
    shown = headstart("predict", head_run.folder, images, "--reject")
    assert "1 of 2 images is unknown" in shown.stderr and "Do not rely" not in shown.stderr
    table = shown.stdout.splitlines()
    assert [line.split("\t")[1] for line in table] == ["class", inside["label"], "unknown"]
    assert table[2].split("\t")[2] == "–"
    for flag in ("--csv", "--jsonl"):
        done = headstart("predict", head_run.folder, images, flag, "--reject")
        assert "1 of 2 images is unknown" in done.stderr
        rows = (
            list(csv.DictReader(done.stdout.splitlines()))
            if flag == "--csv"
            else list(map(json.loads, done.stdout.splitlines()))
        )
        assert [row["label"] for row in rows] == [inside["label"], "unknown"]
    found = package.predict(head_run.folder, images, out=tmp_path / "a.csv", reject=True)
    assert found.out_of_distribution == 1
    with (tmp_path / "a.csv").open() as file:
        assert [row["label"] for row in csv.DictReader(file)] == [inside["label"], "unknown"]


def test_a_file_is_continued_as_it_began(head_run: "Run", images: Path, tmp_path: Path) -> None:
    for first in (True, False):
        out = tmp_path / f"{first}.csv"
        package.predict(head_run.folder, images, out=out, reject=first)
        with pytest.raises(RunError, match=f"was made with{'' if first else 'out'} --reject"):
            package.predict(head_run.folder, images, out=out, resume=True, reject=not first)
        package.predict(head_run.folder, images, out=out, resume=True, reject=first)


@pytest.mark.parametrize("what", ["no distance", "no limit", "a class of this name"])
def test_a_classifier_that_cannot_reject_says_so(
    head_run: "Run", images: Path, tmp_path: Path, what: str
) -> None:
    run = shutil.copytree(head_run.folder, tmp_path / "run")
    path = run / "bundle" / "bundle.json"
    spec = json.loads(path.read_text())
    if what == "no distance":
        spec["distribution"] = None
    elif what == "no limit":
        spec["distribution"]["threshold"] = 2.0
    else:
        spec["classes"][0] = "unknown"
    spec["onnx_sha256"] = ""  # the graph belongs to another description
    path.write_text(json.dumps(spec))
    said = "is a class of this classifier" if "class" in what else "cannot reject"
    with pytest.raises(InputError, match=said):
        package.predict(run, images, out=tmp_path / "a.csv", reject=True)
