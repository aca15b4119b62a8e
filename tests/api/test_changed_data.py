"""What continues from a run sees the data that it began with, or names what changed."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from headstart import compare, fit, resume, suspects
from headstart.artifacts.run import read_split_parts
from headstart.errors import RunError

SMALL = ["backbone.resolution=64", "backbone.name=test_efficientnet", "backbone.weights=random"]


@pytest.fixture(scope="module")
def finished(pictures: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A finished run and its images."""
    place = tmp_path_factory.mktemp("finished")
    images = Path(shutil.copytree(pictures, place / "images"))
    fit(images, recipe="probe", settings=SMALL, out=place / "run")
    return place / "run", images


@pytest.fixture
def run(finished: tuple[Path, Path], tmp_path: Path) -> tuple[Path, Path]:
    """A copy of the run and of its images."""
    images = Path(shutil.copytree(finished[1], tmp_path / "images"))
    folder = Path(shutil.copytree(finished[0], tmp_path / "run"))
    record = json.loads((folder / "run.json").read_text())
    places = {"source": str(images), "data_root": str(images)}
    (folder / "run.json").write_text(json.dumps({**record, **places}))
    return folder, images


def resumed(folder: Path) -> object:
    """Resumes the run as if it had been a search that was stopped."""
    record = json.loads((folder / "run.json").read_text())
    search = {"options": {"trials": 2, "settings": SMALL}, "recipe": {}}
    (folder / "run.json").write_text(
        json.dumps({**record, "status": "interrupted", "request": search})
    )
    return resume(folder)


def compared(folder: Path) -> object:
    return compare(run=folder, epochs=1)


def altered(folder: Path, images: Path) -> str:
    """One training image has other pixels."""
    parts = read_split_parts(folder)
    name = next(name for name, part in parts.items() if part == "train")
    other = next(each for each, part in parts.items() if part == "train" and each != name)
    shutil.copy(images / other, images / name)
    return rf"1 image with other content \({name}\)"


def swapped(folder: Path, images: Path) -> str:
    """Two classes have each other's pixels."""
    for file in sorted((images / "rings").iterdir()):
        other = images / "stripes" / file.name
        first, second = file.read_bytes(), other.read_bytes()
        file.write_bytes(second)
        other.write_bytes(first)
    return r"32 images with other content \(rings/000.png, .* and 22 more\)"


def test_swapped(folder: Path, images: Path) -> str:
    """The test images have each other's pixels."""
    names = sorted(name for name, part in read_split_parts(folder).items() if part == "test")
    contents = [(images / name).read_bytes() for name in names]
    for name, content in zip(names, [*contents[1:], contents[0]], strict=True):
        (images / name).write_bytes(content)
    return rf"{len(names)} images with other content \({names[0]}"


test_swapped.__test__ = False  # type: ignore[attr-defined]


def edited(folder: Path, images: Path) -> str:
    """A test image is moved into the training part of split.csv."""
    path = folder / "split.csv"
    name = next(name for name, part in read_split_parts(folder).items() if part == "test")
    path.write_text(path.read_text().replace(f"{name},test", f"{name},train"))
    return rf"1 image in another part of split.csv \({name}: test is now train\)"


def deleted(folder: Path, images: Path) -> str:
    (folder / "split.csv").unlink()
    return "no split.csv"


def without_fingerprint(folder: Path, images: Path) -> str:
    (folder / "data.csv").unlink()
    return "has no data.csv"


def tampered(folder: Path, images: Path) -> str:
    path = folder / "data.csv"
    path.write_text(path.read_text().replace("rings/000.png,rings", "rings/000.png,stripes"))
    return "not the one that run.json describes"


@pytest.mark.parametrize("task", [resumed, compared, suspects])
@pytest.mark.parametrize(
    "change", [altered, swapped, test_swapped, edited, deleted, without_fingerprint, tampered]
)
def test_a_change_is_named_before_anything_is_computed(
    change: Callable[[Path, Path], str],
    task: Callable[[Path], object],
    run: tuple[Path, Path],
) -> None:
    said = change(*run)
    with pytest.raises(RunError, match=said):
        task(run[0])
    assert not (run[0] / "ledger.jsonl").exists()


def test_unchanged_data_are_taken(run: tuple[Path, Path]) -> None:
    assert suspects(run[0]).images > 30
