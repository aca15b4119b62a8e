import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from headstart.api.show import show
from headstart.errors import DataError, InputError

SMALL = ["backbone.resolution=64", "backbone.name=test_efficientnet", "backbone.weights=random"]


def size(path: Path) -> tuple[int, int]:
    with Image.open(path) as image:
        image.load()
        return image.size


@pytest.fixture(scope="module")
def shown(pictures: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    return show(pictures, out=tmp_path_factory.mktemp("shown") / "out", settings=SMALL)


def test_draws_all_four_pictures(shown: list[Path]) -> None:
    files = shown
    assert [file.stem for file in files] == ["augmentations", "mixing", "schedules", "activations"]
    for file in files:
        width, height = size(file)
        assert width > 300
        assert height > 200
        with Image.open(file) as image:
            assert np.asarray(image.convert("L")).std() > 5, "it is not blank"


def test_the_recipes_own_augmentation_gets_a_row(
    shown: list[Path], pictures: Path, tmp_path: Path
) -> None:
    own = show(pictures, out=tmp_path / "own", settings=[*SMALL, "augmentation.cutout=0.5"])
    assert size(own[0])[1] > size(shown[0])[1]


def test_repeats_and_the_seed_matters(shown: list[Path], pictures: Path, tmp_path: Path) -> None:
    def pixels(file: Path) -> bytes:
        with Image.open(file) as image:
            return image.tobytes()

    again = show(pictures, out=tmp_path / "again", settings=SMALL)
    other = show(pictures, out=tmp_path / "other", settings=SMALL, seed=1)
    assert pixels(again[0]) == pixels(shown[0])
    assert pixels(other[0]) != pixels(shown[0])


def test_bad_input(pictures: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError):
        show(pictures, out=tmp_path / "x", image=tmp_path / "nothing.png", settings=SMALL)
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(InputError, match="Cannot create the folder"):
        show(pictures, out=tmp_path / "file", settings=SMALL)


def test_an_archive_is_unpacked_into_the_given_cache(
    pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HEADSTART_CACHE", str(tmp_path / "other"))
    archive = shutil.make_archive(str(tmp_path / "pictures"), "zip", pictures)
    show(archive, out=tmp_path / "out", settings=SMALL, cache_dir=tmp_path / "cache")
    assert list((tmp_path / "cache" / "unpacked").iterdir())
    assert not (tmp_path / "other").exists()
