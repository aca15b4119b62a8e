"""A search is resumed on the data that it began with, and on no other."""

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from headstart import Run, resume
from headstart.api.further_images import check_further
from headstart.artifacts.fingerprint import (
    DIGITS,
    FINGERPRINT,
    Mark,
    combined,
    fingerprint,
    read_fingerprint,
    write_fingerprint,
)
from headstart.artifacts.run import read_record
from headstart.artifacts.unchanged import ANOTHER_RUN, check_unchanged
from headstart.data.decode import hash_file, hash_files
from headstart.data.sources import load_dataset
from headstart.errors import RunError
from headstart.progress import SILENT
from headstart.recipes.options import FitOptions
from headstart.training.run_context import RunContext

STOPPED = Path(__file__).parents[1] / "fixtures" / "run_6dddef2" / "stopped"


@pytest.fixture
def stopped(pictures: Path, tmp_path: Path) -> tuple[Path, Path]:
    """A stopped search with a fingerprint of its own images, and these."""
    images = Path(shutil.copytree(pictures, tmp_path / "images"))
    run = Path(shutil.copytree(STOPPED, tmp_path / "run"))
    record = json.loads((run / "run.json").read_text())
    places = {"source": str(images), "data_root": str(images)}
    (run / "run.json").write_text(json.dumps({**record, **places}))
    dataset = load_dataset(images)
    write_fingerprint(run, fingerprint(dataset, hash_files(dataset.items, SILENT)))
    return run, images


def paint(path: Path) -> None:
    """Other pixels; the size and the time of the file stay the same."""
    before, status = path.read_bytes(), path.stat()
    path.write_bytes(before[:-20] + bytes(byte ^ 1 for byte in before[-20:]))
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


def relabel(images: Path) -> None:
    (images / "rings" / "000.png").rename(images / "stripes" / "x.png")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda images: paint(images / "rings" / "003.png"), "other content .rings/003.png"),
        (lambda images: (images / "rings" / "003.png").unlink(), "missing .rings/003.png"),
        (
            lambda images: Image.new("RGB", (9, 9)).save(images / "rings" / "new.png"),
            "added .rings/new.png",
        ),
        (relabel, "missing .rings/000.png.; 1 image added .stripes/x.png"),
        (
            lambda images: (images / "rings").rename(images / "circles"),
            "16 images missing .rings/000.png, .* and 6 more.; 16 images added .circles",
        ),
    ],
)
def test_other_data_is_refused_by_name(
    stopped: tuple[Path, Path], change: Callable[[Path], object], said: str
) -> None:
    run, images = stopped
    before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
    change(images)
    with pytest.raises(RunError, match=f"changed since the run began: .*{said}.*another --out"):
        resume(run)
    assert {path: path.read_bytes() for path in run.rglob("*") if path.is_file()} == before


def test_labels_put_right_in_a_manifest_are_refused(stopped: tuple[Path, Path]) -> None:
    run, images = stopped
    lines = [f"{path.relative_to(images)},{path.parent.name}" for path in images.rglob("*.png")]
    table = images / "labels.csv"
    table.write_text("\n".join(["path,label", *lines]))
    record = json.loads((run / "run.json").read_text())
    (run / "run.json").write_text(json.dumps({**record, "source": str(table)}))
    table.write_text(table.read_text().replace("rings/001.png,rings", "rings/001.png,stripes"))
    with pytest.raises(RunError, match=r"label .rings/001.png: rings is now stripes."):
        resume(run)


@pytest.mark.parametrize("status", ["interrupted", "failed", "running"])
def test_a_resumed_run_is_running(
    status: str, stopped: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    run, _ = stopped
    record = json.loads((run / "run.json").read_text())
    stopped_at = {"status": status, "stop_reason": "KeyboardInterrupt"}
    (run / "run.json").write_text(json.dumps({**record, **stopped_at}))

    def look(context: RunContext, *_: object) -> None:
        now = read_record(context.folder)
        assert (now.status, now.stop_reason) == ("running", "")
        raise BlockingIOError("seen")

    monkeypatch.setattr("headstart.api.resume.train_and_prove", look)
    with pytest.raises(BlockingIOError, match="seen"):
        resume(run)


def test_a_moved_data_set_is_the_same(stopped: tuple[Path, Path]) -> None:
    run, images = stopped
    moved = images.rename(images.with_name("elsewhere"))
    record = read_record(run)
    assert check_unchanged(run, record, load_dataset(moved), ANOTHER_RUN, SILENT) == ""


def test_a_run_keeps_the_fingerprint_of_its_data(head_run: Run) -> None:
    run = head_run
    marks = read_fingerprint(run.folder)
    assert marks is not None and len(marks) == 48
    assert marks[0].path == "checks/000.png" and marks[0].label == "checks"
    assert run.record.data_sha256 == combined(marks)
    assert (run.folder / FINGERPRINT).stat().st_size < 48 * 60


@pytest.mark.parametrize("option", ["background", "unlabelled"])
@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda others: paint(others / "1.png"), "other content .1.png"),
        (lambda others: (others / "1.png").unlink(), "missing .1.png"),
        (lambda others: Image.new("RGB", (9, 9)).save(others / "new.png"), "added .new.png"),
    ],
)
def test_other_images_beside_the_data_are_refused_by_name(
    stopped: tuple[Path, Path],
    option: str,
    change: Callable[[Path], object],
    said: str,
    tmp_path: Path,
) -> None:
    run, images = stopped
    others = tmp_path / "others"
    others.mkdir()
    for number, file in enumerate(sorted((images / "rings").iterdir())[:6]):
        shutil.copy(file, others / f"{number}.png")
    record = json.loads((run / "run.json").read_text())
    record["request"] = {"options": {"trials": 2, option: str(others)}, "recipe": {}}
    (run / "run.json").write_text(json.dumps(record))
    asked = read_record(run).request
    assert asked is not None
    (unknown,) = check_further(run, asked.options)
    assert f"no {option}.csv" in unknown  # a run of an older version
    files = sorted(others.iterdir())
    marks = [Mark(file.name, "", hash_file(file)[:DIGITS]) for file in files]
    write_fingerprint(run, marks, name=f"{option}.csv")
    assert check_further(run, asked.options) == []
    change(others)
    with pytest.raises(RunError, match=f"images of --{option} changed.*{said}.*another --out"):
        resume(run)


def test_images_that_were_not_drawn_count_by_their_name(tmp_path: Path) -> None:
    """Their content was not read, and may change; a new one may not come."""
    others, run = tmp_path / "others", tmp_path / "run"
    others.mkdir()
    run.mkdir()
    for number in range(3):
        Image.new("RGB", (9, 9), (number, 0, 0)).save(others / f"{number}.png")
    first, *rest = sorted(others.iterdir())
    marks = [Mark(first.name, "", hash_file(first)[:DIGITS]), *(Mark(f.name, "", "") for f in rest)]
    write_fingerprint(run, marks, name="unlabelled.csv")
    options = FitOptions(unlabelled=others)
    paint(rest[0])
    assert check_further(run, options) == []
    rest[0].unlink()
    with pytest.raises(RunError, match=r"1 image missing \(1.png\)"):
        check_further(run, options)
