"""A data set of 12-bit images from `fit` to `predict`: one range, measured on training images."""

import csv
import io
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from headstart.api.fit import fit
from headstart.artifacts.bundle_spec import read_spec
from headstart.cli.output import print_predictions
from headstart.data.reading import Reading
from headstart.inference.predict import other_depth
from headstart.inference.prediction_rows import header
from headstart.inference.prediction_rows import rows as rows_of
from headstart.inference.run import Run

SMALL = ["backbone.resolution=64", "backbone.name=test_efficientnet", "backbone.weights=random"]


def converted(source: Path, folder: Path, white: int) -> Path:
    """The same pictures in grey, as 16-bit files in which `white` is white; 255 for 8 bits."""
    for path in sorted(source.glob("*/*.png")):
        grey = np.asarray(Image.open(path).convert("L"))
        values = np.rint(grey * (white / 255)).astype(np.uint16)
        target = folder / path.relative_to(source)
        target.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(grey if white == 255 else values).save(target)
    return folder


@pytest.fixture(scope="module")
def runs(pictures: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Run, Run]:
    """A run on 8-bit pictures, and one on the same pictures with 12 bits, white at 900."""
    root = tmp_path_factory.mktemp("depths")

    def run(white: int) -> Run:
        folder = converted(pictures, root / str(white), white)
        return fit(folder, recipe="probe", settings=SMALL, out=root / f"run{white}")

    return run(255), run(900)


def test_the_range_is_shipped_and_said(runs: tuple[Run, Run]) -> None:
    plain, deep = runs
    assert read_spec(plain.folder / "bundle").reading == Reading()
    reading = read_spec(deep.folder / "bundle").reading
    assert reading is not None and reading.range is not None
    low, high = reading.range
    assert low == 0 and 700 <= high <= 1023
    assert any("shown as black to white" in note for note in deep.record.notes)
    assert not any("shown as black to white" in note for note in plain.record.notes)


def test_twelve_bits_are_classified_like_eight(runs: tuple[Run, Run]) -> None:
    plain, deep = runs
    root = Path(plain.record.data_root)
    paths = sorted(root.glob("*/*.png"))
    twins = [Path(deep.record.data_root) / path.relative_to(root) for path in paths]
    expected = [each.label for each in plain.predict(paths)]
    found = [each.label for each in deep.predict(twins)]
    assert sum(a == b for a, b in zip(expected, found, strict=True)) >= 0.95 * len(paths)


def test_a_dark_image_stays_dark(runs: tuple[Run, Run], tmp_path: Path) -> None:
    deep = runs[1]
    bright = sorted(Path(deep.record.data_root).glob("*/*.png"))[0]
    dark = tmp_path / "dark.png"
    Image.fromarray(np.asarray(Image.open(bright)) // 8).save(dark)
    one, other = deep.embed([bright, dark])
    assert np.abs(one - other).max() > 0.1  # not stretched image by image


def test_pages_that_were_chosen_are_chosen_by_predict(tmp_path: Path, pictures: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 9, (72, 72, 3), dtype=np.uint8)
    for path in sorted(pictures.glob("*/*.png")):
        target = (tmp_path / "d" / path.relative_to(pictures)).with_suffix(".tif")
        target.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(noise).save(target, save_all=True, append_images=[Image.open(path)])
    run = fit(tmp_path / "d", recipe="probe", settings=SMALL, page=1, out=tmp_path / "run")
    spec = read_spec(run.folder / "bundle")
    assert spec.reading == Reading(page=1)
    assert run.metrics.accuracy > 0.7
    assert run.record.reading.page == "1"


def test_bundles_of_before_read_as_before(runs: tuple[Run, Run], tmp_path: Path) -> None:
    bundle = tmp_path / "bundle"
    shutil.copytree(runs[0].folder / "bundle", bundle)
    spec = read_spec(bundle).model_dump(mode="json")
    del spec["reading"]
    (bundle / "bundle.json").write_text(json.dumps(spec))
    assert read_spec(bundle).reading is None


DEPTHS = {"uint8": np.uint8, "uint16": np.uint16, "float32": np.float32, "int32": np.int32}


@pytest.mark.parametrize(
    ("which", "depth", "warned"),
    [
        (0, "uint8", False),
        (0, "uint16", True),
        (0, "float32", True),
        (0, "int32", True),
        (1, "uint8", True),
        (1, "uint16", False),
        (1, "float32", True),
    ],
)
def test_a_depth_that_training_did_not_have_is_warned_of(
    which: int, depth: str, warned: bool, runs: tuple[Run, Run], tmp_path: Path
) -> None:
    run = runs[which]
    path = tmp_path / "new.tif"
    values = np.arange(72 * 72).reshape(72, 72) % 200
    Image.fromarray(values.astype(DEPTHS[depth])).save(path)
    (found,) = run.predict([path])
    seen = ("uint8", "uint16")[which]
    said = f"Its values are {depth}, those of the training images {seen}."
    assert (found.depth, found.other_depth, said in found.warning) == (depth, warned, warned)


def test_a_depth_is_warned_of_in_each_form(
    runs: tuple[Run, Run], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "new.png"
    Image.fromarray(np.full((72, 72), 700, np.uint16)).save(path)
    plain = sorted(Path(runs[0].record.data_root).glob("*/*.png"))[0]
    predictions = runs[0].predict([plain, path])
    print_predictions(predictions, False)
    table = capsys.readouterr()
    assert "values are uint16, those of the training images uint8" in table.out.splitlines()[2]
    assert "1 of 2 images has values of a type that no training image had" in table.err
    print_predictions(predictions, True)
    assert [each["other_depth"] for each in json.loads(capsys.readouterr().out)] == [False, True]
    classes = runs[0].bundle.spec.classes
    text = header(classes, "csv") + rows_of(predictions, classes, "csv")
    rows = list(csv.DictReader(io.StringIO(text)))
    assert [row["depth"] for row in rows] == ["uint8", "uint16"]
    assert "values are uint16" in rows[1]["warning"]


def test_bundles_that_did_not_keep_depths_say_nothing(runs: tuple[Run, Run]) -> None:
    spec = read_spec(runs[0].folder / "bundle")
    assert spec.depths == ("uint8",)
    assert other_depth(spec.model_copy(update={"depths": ()}), "uint16") == ""
