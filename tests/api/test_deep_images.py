"""A data set of 12-bit images from `fit` to `predict`: one range, measured on training images."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from headstart.api.fit import fit
from headstart.artifacts.bundle import read_spec
from headstart.data.reading import Reading
from headstart.inference.predict import Run

SMALL = ["backbone.resolution=64"]


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
