"""What a run says of new images: prediction sets, and images out of distribution."""

import csv
import io
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess

import numpy as np
import pytest
from PIL import Image

from headstart.api.fit import fit
from headstart.errors import InputError, RunError
from headstart.inference.predict import Run, open_bundle, predict_images

Command = Callable[..., CompletedProcess[str]]

DATA = Path(os.environ.get("HEADSTART_DATA", Path(__file__).parents[3] / "shared" / "data"))
SMALL = ["backbone.resolution=64"]


@pytest.fixture(scope="module")
def run(
    shared_cache: Path,
    tmp_path_factory: pytest.TempPathFactory,
    noisy_pictures: Callable[..., Path],
) -> Run:
    """A head on 120 pictures that is not always right: 14 of them are there to calibrate on."""
    folder = tmp_path_factory.mktemp("predict")
    data = noisy_pictures(folder / "data", range(40))
    return fit(
        data, strategy="head", epochs=0, settings=SMALL, out=folder / "run", cache_dir=shared_cache
    )


@pytest.fixture(scope="module")
def fresh(tmp_path_factory: pytest.TempPathFactory, noisy_pictures: Callable[..., Path]) -> Path:
    return noisy_pictures(tmp_path_factory.mktemp("fresh"), range(500, 540))


def test_sets_hold_the_truth_about_as_often_as_promised(run: Run, fresh: Path) -> None:
    images = sorted(fresh.rglob("*.png"))
    truth = [image.parent.name for image in images]
    covered = {}
    for coverage in (0.8, 0.9):
        said = run.predict(images, set_coverage=coverage)
        covered[coverage] = np.mean([t in p.classes for t, p in zip(truth, said, strict=True)])
        for p in said:
            assert p.coverage == coverage
            assert p.label == p.classes[0]
            of_set = [p.probabilities[name] for name in p.classes]
            assert of_set == sorted(of_set, reverse=True)
    # 14 calibration images: the coverage of one calibration is a draw from a wide distribution.
    assert 0.6 <= covered[0.8] <= covered[0.9]
    assert covered[0.9] >= 0.75
    # 99 % cannot be promised by so few: every class is in every set.
    assert all(len(p.classes) == 3 for p in run.predict(images[:5], set_coverage=0.99))


def test_what_was_promised_is_checked_on_the_sealed_test(run: Run) -> None:
    promises = [note for note in run.record.notes if note.startswith("Prediction sets with")]
    assert len(promises) == 2
    assert any("out of distribution" in note for note in run.record.notes)


def test_a_coverage_that_was_not_calibrated_is_refused(run: Run) -> None:
    with pytest.raises(InputError, match=r"calibrated for 0\.8, 0\.9, 0\.95, 0\.99, not for 2"):
        run.predict([], set_coverage=2)


def test_images_like_the_training_images_are_in_range_and_others_are_not(
    run: Run, fresh: Path, tmp_path: Path
) -> None:
    said = run.predict(sorted(fresh.rglob("*.png")))
    assert np.mean([p.out_of_distribution for p in said]) <= 0.2
    assert all((p.warning != "") == p.out_of_distribution for p in said)
    Image.new("RGB", (72, 72), "red").save(tmp_path / "red.png")
    (red,) = run.predict([tmp_path / "red.png"])
    assert red.out_of_distribution
    assert red.distance is not None
    assert red.limit is not None
    assert red.distance > red.limit
    assert red.warning == (
        f"Unlike the training images (distance {red.distance:.2f}, limit {red.limit:.2f})."
    )


def test_an_image_that_cannot_be_read_has_no_set_and_no_distance(run: Run) -> None:
    (broken,) = run.predict([b"no image"], set_coverage=0.9)
    assert broken.error
    assert (broken.classes, broken.distance, broken.out_of_distribution) == ((), None, False)


def test_a_bundle_works_alone(run: Run, fresh: Path, tmp_path: Path) -> None:
    shutil.copytree(run.folder / "bundle", tmp_path / "alone")
    images = sorted(fresh.rglob("*.png"))[:3]
    assert predict_images(open_bundle(tmp_path / "alone"), images) == run.predict(images)
    path = tmp_path / "alone" / "range.safetensors"
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    with pytest.raises(RunError, match=r"range\.safetensors is damaged"):
        open_bundle(tmp_path / "alone")
    for content in (b'{"format"', b"{}", b"\xff\xfe"):
        (tmp_path / "alone" / "bundle.json").write_bytes(content)
        with pytest.raises(RunError, match=r"bundle\.json is damaged, or was written by"):
            open_bundle(tmp_path / "alone")


def test_bundles_from_before_there_were_sets_still_load(
    run: Run, fresh: Path, tmp_path: Path
) -> None:
    old = shutil.copytree(run.folder / "bundle", tmp_path / "old")
    (old / "range.safetensors").unlink()
    spec = json.loads((old / "bundle.json").read_text())
    del spec["sets"], spec["distribution"]
    (old / "bundle.json").write_text(json.dumps(spec))
    bundle = open_bundle(old)
    images = sorted(fresh.rglob("*.png"))[:2]
    said = predict_images(bundle, images)
    assert [p.label for p in said] == [p.label for p in run.predict(images)]
    assert said[0].distance is None
    with pytest.raises(InputError, match="no calibrated prediction sets"):
        predict_images(bundle, images, set_coverage=0.9)


def test_the_command_says_sets_and_warnings(
    run: Run, fresh: Path, tmp_path: Path, headstart: Command
) -> None:
    Image.new("RGB", (72, 72), "red").save(tmp_path / "red.png")
    images = [next(fresh.rglob("*.png")), tmp_path / "red.png"]

    def command(*options: str) -> CompletedProcess[str]:
        return headstart("predict", run.folder, *images, *options)

    table = command("--set-coverage", "0.9")
    assert table.returncode == 0, table.stderr
    assert "prediction set (90% coverage)" in table.stdout.splitlines()[0]
    assert "Unlike the training images (distance" in table.stdout
    assert "1 of 2 images is out of distribution" in table.stderr
    found = json.loads(command("--json").stdout)
    assert [each["out_of_distribution"] for each in found] == [False, True]
    rows = list(csv.DictReader(io.StringIO(command("--csv", "--set-coverage", "0.9").stdout)))
    assert [row["out_of_distribution"] for row in rows] == ["false", "true"]
    assert rows[0]["label"] == json.loads(rows[0]["classes"])[0]
    assert float(rows[1]["distance"]) > float(rows[1]["limit"])
    refused = command("--set-coverage", "0.5")
    assert refused.returncode == 2
    assert len(refused.stderr.strip().splitlines()) == 1


@pytest.mark.slow
def test_insects_are_unlike_flowers(tmp_path: Path) -> None:
    if not (DATA / "flowers17").is_dir() or not (DATA / "hymenoptera").is_dir():
        pytest.skip("the shared data are not here")
    settings = ["backbone.resolution=128"]
    run = fit(
        DATA / "flowers17", strategy="head", epochs=0, settings=settings, out=tmp_path / "run"
    )
    insects = sorted((DATA / "hymenoptera").rglob("*.jpg"))[:100]
    assert np.mean([p.out_of_distribution for p in run.predict(insects)]) >= 0.6
    (said,) = (note for note in run.record.notes if "flagged as out of distribution" in note)
    assert int(said.split()[0]) <= 0.12 * run.metrics.n
    (held,) = (note for note in run.record.notes if note.startswith("Prediction sets with 90%"))
    assert float(held.split("class of ")[1].split("%")[0]) >= 84


def test_a_bundle_of_before_keeps_its_warnings(run: Run, tmp_path: Path) -> None:
    old = tmp_path / "bundle"
    shutil.copytree(run.folder / "bundle", old)
    spec = json.loads((old / "bundle.json").read_text())
    spec["range"] = spec.pop("distribution")
    (old / "bundle.json").write_text(json.dumps(spec))
    assert open_bundle(old).spec.distribution == open_bundle(run.folder).spec.distribution
