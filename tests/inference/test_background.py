"""`--background`: images of no class move the limit, and the promise for the others stays."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess

import numpy as np
import pytest
from PIL import Image

from headstart.api.fit import fit
from headstart.artifacts.bundle_spec import read_spec
from headstart.artifacts.run import read_record
from headstart.data.decode import hash_file
from headstart.data.pixels import Facts
from headstart.errors import DataError, InputError, RunError
from headstart.evaluation.retrieval import unit
from headstart.inference.background import background_images
from headstart.inference.bundle import load_bundle
from headstart.inference.predict import training_distribution
from headstart.inference.run import Run

HEAD = {"strategy": "head", "epochs": 0, "settings": ("backbone.resolution=64",)}


def write_others(folder: Path, seeds: range) -> Path:
    """Blocks of colours, which are no pattern of a class."""
    folder.mkdir(parents=True, exist_ok=True)
    for seed in seeds:
        blocks = np.random.default_rng(seed).integers(0, 256, (6, 6, 3)).astype(np.uint8)
        image = Image.fromarray(blocks).resize((72, 72), Image.Resampling.NEAREST)
        image.save(folder / f"{seed}.png")
    return folder


@pytest.fixture(scope="module")
def others(pictures: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Images of no class, a copy of a labelled one among them, and what is no image."""
    folder = write_others(tmp_path_factory.mktemp("background") / "others", range(20))
    shutil.copy(pictures / "rings" / "000.png", folder / "copy.png")
    (folder / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    return folder


@pytest.fixture(scope="module")
def run(
    pictures: Path, others: Path, shared_cache: Path, tmp_path_factory: pytest.TempPathFactory
) -> Run:
    out = tmp_path_factory.mktemp("with") / "run"
    return fit(pictures, background=others, out=out, cache_dir=shared_cache, **HEAD)


def test_the_classifier_is_the_same_and_the_limit_another(run: Run, head_run: Run) -> None:
    now, before = read_spec(run.folder / "bundle"), read_spec(head_run.folder / "bundle")
    assert (now.weights_sha256, now.temperature) == (before.weights_sha256, before.temperature)
    assert now.distribution == before.distribution
    assert before.background is None and now.background is not None
    assert now.background.images == 20 and now.onnx_sha256
    assert run.metrics == head_run.metrics


def test_the_distance_is_that_to_the_others_less(run: Run, head_run: Run, others: Path) -> None:
    """Computed anew from the two galleries."""
    image = others / "3.png"
    known = training_distribution(load_bundle(run.folder / "bundle"))
    assert known is not None and known.background is not None
    vector = unit(run.embed(image))
    galleries = known.gallery, known.background
    away = [np.sort(1 - (vector @ each.T)[0])[known.k - 1] for each in galleries]
    (found,) = run.predict(image)
    assert found.distance == pytest.approx(away[0] - away[1], abs=1e-4)
    assert found.limit == pytest.approx(known.threshold)
    assert found.out_of_distribution
    (plain,) = head_run.predict(image)
    assert plain.distance == pytest.approx(away[0], abs=1e-4)


def test_others_like_them_are_rejected_and_the_classes_are_not(
    run: Run, pictures: Path, tmp_path: Path
) -> None:
    new = write_others(tmp_path / "new", range(100, 120))
    assert np.mean([each.out_of_distribution for each in run.predict(new)]) >= 0.9
    inside = run.predict(pictures)
    assert np.mean([each.out_of_distribution for each in inside]) <= 0.15


def test_what_it_did_and_passed_over_is_in_the_record(run: Run) -> None:
    notes = " ".join(read_record(run.folder).notes)
    assert "1 of 22 images in others are labelled images" in notes
    assert "1 background image cannot be read" in notes
    assert "of 20 background images" in notes and "left out of the background" in notes
    assert "flagged as out of distribution (expected: 5%)" in notes
    page = (run.folder / "report.html").read_text(encoding="utf-8")
    assert "left out of the background" in page


def test_a_damaged_background_is_found(run: Run, tmp_path: Path) -> None:
    bundle = shutil.copytree(run.folder / "bundle", tmp_path / "bundle")
    (bundle / "background.safetensors").write_bytes(b"0" * 100)
    with pytest.raises(RunError, match="its hash differs"):
        load_bundle(bundle)
    spec = json.loads((bundle / "bundle.json").read_text())
    assert spec["background"]["threshold"] < spec["distribution"]["threshold"]


def test_a_background_is_images_and_enough_of_them(
    headstart: Callable[..., CompletedProcess[str]], pictures: Path, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match="is not a folder"):
        background_images(tmp_path / "none", [])
    few = write_others(tmp_path / "few", range(3))
    with pytest.raises(DataError, match="3 background images, and at least 4"):
        background_images(few, [])
    out = ("--strategy", "head", "--out", tmp_path / "r")
    done = headstart("fit", pictures, "--background", few, *out)
    assert done.returncode == 2 and not (tmp_path / "r").exists()
    enough = write_others(tmp_path / "enough", range(4))
    files, notes = background_images(enough, [Facts("ok")])
    assert len(files) == 4 and notes == ()
    shutil.copy(enough / "0.png", enough / "9.png")
    again, notes = background_images(enough, [Facts("ok")])
    assert again == files and notes == (
        "Copies within enough count once: 1 of 5 images are left out.",
    )


def test_a_folder_of_labelled_or_of_broken_images_is_refused_before_the_training(
    tmp_path: Path,
) -> None:
    folder = write_others(tmp_path / "others", range(5))
    facts = [Facts("ok", sha256=hash_file(file)) for file in folder.iterdir()]
    with pytest.raises(DataError, match=r"has 0 background.*5 of 5 images.*are labelled images"):
        background_images(folder, facts)
    for number in range(6):
        (folder / f"broken{number}.png").write_bytes(b"\x89PNG\r\n\x1a\n" + bytes([number]))
    with pytest.raises(DataError, match=r"has 3 background images.*Others cannot be read"):
        background_images(folder, facts[:2])
