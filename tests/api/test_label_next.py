"""The images to label next: what is passed over, where the choice goes, and the way back to fit."""

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

import headstart
from headstart.artifacts.embeddings import write_embeddings
from headstart.artifacts.label_file import LabelFile
from headstart.errors import DataError, InputError, RunError

if TYPE_CHECKING:
    from headstart.inference.run import Run

Command = Callable[..., CompletedProcess[str]]


@pytest.fixture(scope="module")
def new(
    noisy_pictures: Callable[..., Path], pictures: Path, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """Unlabelled images, with a copy of a training image, of each other, and what is no image."""
    folder = tmp_path_factory.mktemp("unlabelled") / "new"
    noisy_pictures(folder, range(100, 108))
    shutil.copy(pictures / "rings" / "003.png", folder / "known.png")
    shutil.copy(folder / "rings" / "100.png", folder / "z.png")
    (folder / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    return folder


def test_images_are_chosen_and_what_is_passed_over_is_said(head_run: "Run", new: Path) -> None:
    found = headstart.label_next(head_run.folder, new, count=6)
    assert [each.rank for each in found.images] == [1, 2, 3, 4, 5, 6]
    assert (found.candidates, found.labelled) == (24, 1)
    why = {Path(each.image).name: each.why for each in found.left_out}
    assert "copy of" in why["z.png"].lower() and "100.png" in why["z.png"]
    assert "broken.png" in why["broken.png"]
    for each, said in zip(
        found.images, head_run.predict([e.image for e in found.images]), strict=True
    ):
        top = sorted(said.probabilities.values())
        assert (each.prediction, each.probability) == (said.label, pytest.approx(said.probability))
        assert each.margin == pytest.approx(top[-1] - top[-2], abs=1e-6)
    assert headstart.label_next(head_run.folder, new, count=6) == found


def test_near_duplicates_are_left_out_of_each_other_and_of_the_run(
    head_run: "Run", pictures: Path, tmp_path: Path
) -> None:
    """Photographs, recompressed: noise would not be the same photograph after that."""
    scene = Image.open(pictures / "rings" / "005.png")
    rng = np.random.default_rng(0)
    for number in range(3):
        blocks = rng.integers(0, 256, (9, 9, 3)).astype(np.uint8)
        image = Image.fromarray(blocks).resize((72, 72), Image.Resampling.BICUBIC)
        image.save(tmp_path / f"{number}.png")
        image.save(tmp_path / f"{number}-again.jpg", quality=80)
    scene.save(tmp_path / "trained.jpg", quality=80)
    found = headstart.label_next(head_run.folder, tmp_path, data=pictures)
    names = [Path(each.image).name for each in found.images]
    assert sorted(name[0] for name in names) == ["0", "1", "2"]
    why = {Path(each.image).name: each.why for each in found.left_out}
    assert why["trained.jpg"] == "The same photograph as rings/005.png."
    assert len(why) == 4


def test_the_choice_is_written_as_a_table_and_as_links(
    headstart: Command, head_run: "Run", new: Path, tmp_path: Path
) -> None:
    out, links = tmp_path / "next.csv", tmp_path / "links"
    command = ("label-next", head_run.folder, new, "--count", 12, "--out", out, "--links", links)
    done = headstart(*command, "--json")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    with out.open() as file:
        rows = list(csv.DictReader(file))
    assert [row["image"] for row in rows] == [each["image"] for each in found["images"]]
    targets = [each.resolve() for each in sorted(links.iterdir())]
    assert targets == [Path(row["image"]).resolve() for row in rows]
    assert "12 of 24 unlabelled images chosen; 1 have a label already" in done.stderr
    done = headstart(*command)
    assert done.returncode == 2 and "is there already" in done.stderr


def test_what_has_a_label_is_not_chosen_again(head_run: "Run", new: Path) -> None:
    labels = new.parent / "labels.csv"
    first = headstart.label_next(head_run.folder, new, count=5, labels=labels)
    LabelFile(labels).set({Path(each.image): each.prediction for each in first.images})
    second = headstart.label_next(head_run.folder, new, count=5, labels=labels)
    assert not {each.image for each in first.images} & {each.image for each in second.images}
    assert second.labelled == first.labelled + 5
    labels.unlink()


def test_misuse_is_refused_in_words(
    headstart: Command, head_run: "Run", pictures: Path, new: Path, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match="is not a file"):
        headstart_label(head_run, np.zeros((8, 8, 3), np.uint8))
    with pytest.raises(DataError, match="no image to label"):
        headstart_label(head_run, pictures)
    done = headstart("label-next", head_run.folder, new, "--labels", tmp_path / "labels.txt")
    assert done.returncode == 2 and "end in .csv" in done.stderr
    done = headstart("label-next", head_run.folder / "bundle", new)
    assert done.returncode == 2 and "Traceback" not in done.stderr
    done = headstart("label-next", head_run.folder, new, "--count", 0)
    assert done.returncode == 2


def headstart_label(run: "Run", images: object) -> object:
    return headstart.label_next(run.folder, images)


def test_a_run_that_lacks_something_is_told(
    head_run: "Run", new: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(RunError, match=r"bundle is not a finished run: it has no bundle\. Give"):
        headstart.label_next(head_run.folder / "bundle", new)
    run = shutil.copytree(head_run.folder, tmp_path / "run")
    (run / "data.csv").unlink()
    found = headstart.label_next(run, new, count=2, progress=True)
    assert found.labelled == 0
    assert "its own images count as unlabelled" in "".join(capsys.readouterr())
    write_embeddings(run / "embeddings.safetensors", ["a.png"], ["rings"], np.ones((1, 3)))
    with pytest.raises(RunError, match=r"embeddings.safetensors is damaged.*3 numbers an image"):
        headstart.label_next(run, new)
    (run / "embeddings.safetensors").unlink()
    with pytest.raises(RunError, match="Fit its images again"):
        headstart.label_next(run, new)
