"""A run that is continued: its network goes on, its test stays sealed, and both are compared."""

import csv
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from headstart.api.fit import fit
from headstart.artifacts.run import read_record, read_split_parts
from headstart.backbones.catalog import load_backbone
from headstart.data.sources import load_dataset
from headstart.errors import InputError, RunError
from headstart.inference.run import Run
from headstart.report.page import write_report
from headstart.training.earlier_run import notes_on, open_earlier

Command = Callable[..., CompletedProcess[str]]


@pytest.fixture(scope="module")
def more(pictures: Path, head_run: Run, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The earlier pictures, more of each class, a new class, and copies of a test image."""
    folder = shutil.copytree(pictures, tmp_path_factory.mktemp("more") / "data")
    rng = np.random.default_rng(0)
    (folder / "noise").mkdir()
    for number in range(12):
        noise = Image.fromarray(rng.integers(0, 256, (72, 72, 3), dtype=np.uint8))
        noise.save(folder / "noise" / f"{number}.png")
    for kind in ("checks", "rings"):
        for source in sorted((folder / kind).glob("00?.png")):
            turned = Image.open(source).transpose(Image.Transpose.ROTATE_90)
            pixels = np.asarray(turned, np.int16) + rng.normal(0, 60, (72, 72, 3))
            new = Image.fromarray(pixels.clip(0, 255).astype(np.uint8))
            new.save(folder / kind / f"new-{source.stem}.png")
    tested = sorted(name for name, part in parts_of(head_run).items() if part == "test")
    for name in ("copy.bmp", "nearly.jpg"):
        Image.open(folder / tested[0]).save(folder / Path(tested[0]).parent / name, quality=85)
    # A corrected label.
    shutil.move(folder / tested[-1], folder / "checks" / "corrected.png")
    assert not tested[-1].startswith("checks")
    return folder


@pytest.fixture(scope="module")
def continued(
    head_run: Run, more: Path, shared_cache: Path, tmp_path_factory: pytest.TempPathFactory
) -> Run:
    out = tmp_path_factory.mktemp("continued") / "run"
    return fit(more, from_run=head_run.folder, epochs=0, out=out, cache_dir=shared_cache)


def parts_of(run: Run) -> dict[str, str]:
    return read_split_parts(run.folder)


def marks(run: Run) -> dict[str, tuple[str, str]]:
    """The hash of each file with its name and its part."""
    with (run.folder / "data.csv").open() as file:
        return {row["sha256"]: (row["path"], row["part"]) for row in csv.DictReader(file)}


def test_what_was_sealed_stays_sealed_and_what_was_trained_on_is_not_tested(
    head_run: Run, continued: Run
) -> None:
    before, now = marks(head_run), marks(continued)
    for sha256, (name, part) in before.items():
        assert now[sha256][1] == part, name
    copies = {Path(name).name: part for name, part in now.values() if name.endswith(("bmp", "jpg"))}
    assert copies == {"copy.bmp": "test", "nearly.jpg": "test"}
    of_new = {part for sha256, (_, part) in now.items() if sha256 not in before}
    assert {"train", "test"} <= of_new
    assert sum(part == "test" for part in parts_of(continued).values()) == continued.metrics.n


def test_what_is_gained_and_forgotten_is_counted_by_hand(
    head_run: Run, continued: Run, more: Path
) -> None:
    found = read_record(continued.folder).continued
    assert found is not None and found.gained is not None and found.forgotten is not None
    sealed = [sha256 for sha256, (_, part) in marks(head_run).items() if part == "test"]
    assert (found.run, found.sealed, found.found) == ("run", len(sealed), len(sealed))
    assert found.relabelled == 1
    with (continued.folder / "predictions.csv").open() as file:
        rows = list(csv.DictReader(file))
    said = head_run.predict([more / row["path"] for row in rows])
    before = np.array([p.label == row["label"] for p, row in zip(said, rows, strict=True)])
    now = np.array([row["prediction"] == row["label"] for row in rows])
    gained = found.gained
    assert (gained.images, gained.right_before, gained.right_now) == (
        len(rows), before.sum(), now.sum(),
    )  # fmt: skip
    assert gained.only_now == (now & ~before).sum() > 0, "the new class is gained"
    assert gained.difference == pytest.approx(now.mean() - before.mean())
    names = {name for name, _ in marks(head_run).values()} | {"checks/corrected.png"}
    old = np.array([row["path"] in names for row in rows], bool)
    assert old.sum() == len(sealed)
    assert (found.forgotten.right_before, found.forgotten.right_now) == (
        before[old].sum(), now[old].sum(),
    )  # fmt: skip


def test_the_report_tells_it(continued: Run) -> None:
    write_report(continued.folder)
    page = (continued.folder / "report.html").read_text(encoding="utf-8")
    record = read_record(continued.folder)
    assert record.continued is not None
    for term, text in record.continued.lines:
        assert term in page
        assert text.split(" (")[0] in page
    assert record.backbone_source == "tf_efficientnet_lite0 as trained by the run run"
    assert continued.bundle.spec.licence == "apache-2.0"


def test_the_network_goes_on_from_the_trained_weights(
    pictures: Path, shared_cache: Path, tmp_path: Path, headstart: Command
) -> None:
    """One epoch moves the suffix; the run that continues starts from there."""
    tiny = ("backbone.name=test_efficientnet", "backbone.weights=random", "backbone.resolution=64")
    settings = (*tiny, "freezing=last_blocks", "freezing.boundary=blocks.0", "optimizer.lr=0.003")
    first = fit(
        pictures, recipe="naive", epochs=1, settings=settings, out=tmp_path / "a",
        cache_dir=shared_cache,
    )  # fmt: skip
    weights = first.folder / "bundle" / "model.safetensors"
    started = load_backbone("test_efficientnet", weights="random", resolution=64).model.state_dict()
    trained = load_backbone("test_efficientnet", weights=weights, resolution=64).model.state_dict()
    shipped = load_file(weights)
    assert all(torch.equal(shipped[f"backbone.{name}"], each) for name, each in trained.items())
    assert any(not torch.equal(started[name], each) for name, each in trained.items())
    command = ("fit", pictures, "--from", first.folder, "--out", tmp_path / "b")
    done = headstart(*command, "--epochs", 1, "--set", "optimizer.lr=1e-9")
    assert done.returncode == 0, done.stderr
    after = load_file(tmp_path / "b" / "bundle" / "model.safetensors")
    for name, each in trained.items():
        assert torch.allclose(after[f"backbone.{name}"].float(), each.float(), atol=1e-6), name
    assert "continues: a; 12 of its 12 sealed test images are here" in done.stdout
    assert "on its old test: " in done.stdout
    assert 'from = "' in (tmp_path / "b" / "request.toml").read_text()


def test_what_is_not_there_is_said(
    head_run: Run, pictures: Path, shared_cache: Path, tmp_path: Path, headstart: Command
) -> None:
    """A class and some of the sealed images are missing: both are said, and in JSON, too."""
    fewer = shutil.copytree(pictures, tmp_path / "fewer")
    shutil.rmtree(fewer / "stripes")
    tested = [name for name, part in parts_of(head_run).items() if part == "test"]
    left = [name for name in tested if not name.startswith("stripes")]
    (fewer / left[0]).unlink()
    command = ("fit", fewer, "--from", head_run.folder, "--out", tmp_path / "run", "--json")
    done = headstart(*command, "--epochs", 0)
    assert done.returncode == 0, done.stderr
    record = json.loads(done.stdout)["record"]
    assert f"{len(tested) - len(left) + 1} of {len(tested)} sealed test images" in done.stderr
    assert "1 class of run without images here (stripes)" in done.stderr
    assert sum("sealed test images of run" in note for note in record["notes"]) == 1
    assert record["continued"]["found"] == len(left) - 1
    assert record["continued"]["forgotten"]["images"] == len(left) - 1


def test_a_network_that_saw_the_validation_images_is_said(
    head_run: Run, pictures: Path, tmp_path: Path
) -> None:
    searched = shutil.copytree(head_run.folder, tmp_path / "searched")
    record = json.loads((searched / "run.json").read_text())
    record["plan"].append({"stage": "search", "planned": "3 trials"})
    for chosen, said in (("fine-tuned", True), ("probe", False)):
        (searched / "run.json").write_text(json.dumps({**record, "chosen": chosen}))
        notes = notes_on(open_earlier(searched), load_dataset(pictures), [])
        assert any("trained on its validation images" in note for note in notes) == said


def test_what_makes_no_sense_is_refused(
    head_run: Run, pictures: Path, tmp_path: Path, shared_cache: Path
) -> None:
    def refused(
        words: str, data: Path = pictures, run: Path = head_run.folder, **more: object
    ) -> None:
        with pytest.raises(InputError, match=words):
            fit(data, from_run=run, out=tmp_path / "run", cache_dir=shared_cache, **more)
        assert not (tmp_path / "run").exists()

    refused("Leave --recipe out", recipe="default")
    refused("Leave --backbone, --weights out", backbone="resnet18", weights="random")
    refused("Leave --trials out", trials=2)
    refused("backbone.resolution cannot be changed", settings=["backbone.resolution=96"])
    refused("not a finished run", run=tmp_path)
    other = shutil.copytree(pictures, tmp_path / "other")
    for number, folder in enumerate(sorted(other.iterdir())):
        folder.rename(other / f"thing{number}")
    refused("has none of the classes of", data=other)
    old = shutil.copytree(head_run.folder, tmp_path / "old")
    lines = (old / "data.csv").read_text().splitlines()
    (old / "data.csv").write_text("".join(line.rpartition(",")[0] + "\n" for line in lines))
    with pytest.raises(RunError, match="kept no fingerprint"):
        fit(pictures, from_run=old, cache_dir=shared_cache)
    (old / "data.csv").unlink()
    refused("Fit it again with this version", run=old)
    metrics = json.loads((head_run.folder / "metrics.json").read_text())
    assert metrics["n"] == head_run.metrics.n
