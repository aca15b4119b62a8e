"""What a run says of new images: prediction sets, and images out of distribution."""

import csv
import io
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess

import numpy as np
import pytest
from PIL import Image

from headstart.api.fit import fit
from headstart.errors import InputError, RunError
from headstart.inference.bundle import IN_PYTORCH, open_bundle
from headstart.inference.image_inputs import ImageInput
from headstart.inference.predict import embed_images, predict_batches, predict_images
from headstart.inference.pytorch import ENGINE_PAYS_FROM
from headstart.inference.run import Run
from headstart.inference.run_bundle import run_bundle
from headstart.progress import PlainProgress

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
    del spec["sets"], spec["distribution"], spec["onnx_sha256"]
    (old / "model.onnx").unlink()
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
    settings = ["backbone.resolution=96"]
    (tmp_path / "flowers").mkdir()
    for kind in sorted(each for each in (DATA / "flowers17").iterdir() if each.is_dir())[:6]:
        shutil.copytree(kind, tmp_path / "flowers" / kind.name)
    run = fit(
        tmp_path / "flowers", strategy="head", epochs=0, settings=settings, out=tmp_path / "run"
    )
    insects = sorted((DATA / "hymenoptera").rglob("*.jpg"))[:60]
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
    del spec["onnx_sha256"]
    (old / "bundle.json").write_text(json.dumps(spec))
    assert open_bundle(old).spec.distribution == open_bundle(run.folder).spec.distribution


def commands(run: Run, image: Path, out: Path) -> dict[str, str]:
    """Programs that use a run, each with what it prints."""
    calls = {
        "predict": ["predict", run.folder, image, "--set-coverage", 0.9, "--json"],
        "table": ["predict", run.folder, image],
        "embed": ["embed", run.folder, image, "--out", out / "vectors.npz"],
        "similar": ["similar", run.folder, image, "--out", out / "similar.png", "--data", out],
    }
    lines = {name: f"main({[str(each) for each in call]})" for name, call in calls.items()}
    lines["python"] = (
        f"run = headstart.Run.open({str(run.folder)!r})\n"
        f"print(run.predict({str(image)!r})[0].label, run.embed({str(image)!r}).shape)\n"
        f"print(run.similar({str(image)!r})[0].image, run.metrics.accuracy)\n"
        f"print(headstart.embed(run.folder, {str(image)!r}).shape)\n"
        f"print(headstart.similar(run.folder, {str(image)!r}, 1)[0].label)"
    )
    return lines


WITHOUT_TORCH = """
import sys
import headstart
def main(arguments):
    from headstart.cli.main import main as run
    sys.argv = ["headstart", *arguments]
    try:
        run()
    except SystemExit as end:
        assert not end.code, end.code
{line}
found = {{"torch", "torchvision", "timm", "huggingface_hub", "scipy"}} & set(sys.modules)
assert not found, found
"""


@pytest.mark.parametrize("name", ["predict", "table", "embed", "similar", "python"])
def test_what_is_deployed_never_imports_pytorch(
    name: str, run: Run, fresh: Path, tmp_path: Path
) -> None:
    line = commands(run, next(fresh.rglob("*.png")), tmp_path)[name]
    code = WITHOUT_TORCH.format(line=line)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout


def test_a_bundle_without_a_graph_says_that_pytorch_runs_it(
    run: Run, fresh: Path, tmp_path: Path
) -> None:
    """Few images run as they are, and many through an export of their own: all agree."""
    old = shutil.copytree(run.folder / "bundle", tmp_path / "old")
    spec = json.loads((old / "bundle.json").read_text())
    (old / "bundle.json").write_text(json.dumps({**spec, "onnx_sha256": ""}))
    images = sorted(fresh.rglob("*.png"))
    assert len(images) >= ENGINE_PAYS_FROM
    said = io.StringIO()
    progress = PlainProgress(said)
    bundle, deployed = open_bundle(old), run_bundle(run.bundle, images)
    few, many = run_bundle(bundle, images[:3]), run_bundle(bundle, images)
    for outputs in (few, many):
        count = len(outputs.logits)
        assert np.allclose(outputs.logits, deployed.logits[:count], rtol=1e-3, atol=1e-3)
        assert np.allclose(outputs.embeddings, deployed.embeddings[:count], rtol=1e-3, atol=1e-3)
    predict_images(bundle, images[:1], progress)
    embed_images(bundle, images[:1], progress)
    assert said.getvalue().splitlines() == [IN_PYTORCH] * 2
    predict_images(run.bundle, images[:1], progress)
    assert said.getvalue().splitlines() == [IN_PYTORCH] * 2


def test_bytes_and_paths_agree(run: Run, fresh: Path) -> None:
    path = next(fresh.rglob("*.png"))
    by_path, by_bytes = run_bundle(run.bundle, [path]), run_bundle(run.bundle, [path.read_bytes()])
    assert np.array_equal(by_path.logits, by_bytes.logits)
    assert np.array_equal(by_path.embeddings, by_bytes.embeddings)


def test_an_unreadable_image_does_not_stop_the_others(run: Run, fresh: Path) -> None:
    outputs = run_bundle(run.bundle, [b"no image", next(fresh.rglob("*.png"))])
    assert set(outputs.failed) == {0}
    assert np.isnan(outputs.logits[0]).all()
    assert np.isfinite(outputs.logits[1]).all()
    assert np.isfinite(outputs.embeddings[1]).all()


def test_the_lines_in_the_documentation_run_the_bundle(
    run: Run, fresh: Path, tmp_path: Path
) -> None:
    page = (Path(__file__).parents[2] / "docs" / "bundle.md").read_text()
    code = page.split("```python\n")[1].split("```")[0]
    ours = "import sys; assert 'headstart' not in sys.modules and 'torch' not in sys.modules"
    for number, size in enumerate([(80, 74), (74, 200), (170, 90)]):
        image = Image.open(sorted(fresh.rglob("*.png"))[number]).resize(size)
        image.save(tmp_path / "image.png")
        graph = run.folder / "bundle" / "model.onnx"
        done = subprocess.run(
            [sys.executable, "-c", f"{code}\n{ours}", graph, tmp_path / "image.png"],
            capture_output=True, text=True, check=True,
        )  # fmt: skip
        (expected,) = run.predict(tmp_path / "image.png")
        assert json.loads(done.stdout) == pytest.approx(expected.probabilities, abs=1e-5)


def test_many_batches_at_once_give_the_same_rows_in_the_same_order(
    run: Run, fresh: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    images = [ImageInput(str(path), path) for path in sorted(fresh.rglob("*.png"))[:30]]
    images.insert(7, ImageInput("broken", b"no image"))
    many = open_bundle(run.folder, many=True)
    assert many.at_once == 3
    found = [each for batch in predict_batches(many, images) for each in batch]
    one_by_one = predict_images(open_bundle(run.folder), images)
    assert [each.image for each in found] == [each.image for each in one_by_one]
    assert [each.label for each in found] == [each.label for each in one_by_one]
    assert found[7].error == one_by_one[7].error != ""
    for a, b in zip(found, one_by_one, strict=True):
        assert a.probability == pytest.approx(b.probability, abs=1e-5)
