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


def test_draws_all_four_pictures(pictures: Path, tmp_path: Path) -> None:
    files = show(pictures, out=tmp_path / "out", settings=SMALL)
    assert [file.stem for file in files] == ["augmentations", "mixing", "schedules", "activations"]
    for file in files:
        width, height = size(file)
        assert width > 300
        assert height > 200
        with Image.open(file) as image:
            assert np.asarray(image.convert("L")).std() > 5, "it is not blank"


def test_the_recipes_own_augmentation_gets_a_row(pictures: Path, tmp_path: Path) -> None:
    plain, own = tmp_path / "plain", tmp_path / "own"
    show(pictures, out=plain, settings=SMALL)
    show(pictures, out=own, settings=[*SMALL, "augmentation.cutout=0.5"])
    assert size(own / "augmentations.png")[1] > size(plain / "augmentations.png")[1]


def test_repeats_and_the_seed_matters(pictures: Path, tmp_path: Path) -> None:
    def pixels(name: str, seed: int) -> bytes:
        show(pictures, out=tmp_path / name, settings=SMALL, seed=seed)
        with Image.open(tmp_path / name / "augmentations.png") as image:
            return image.tobytes()

    assert pixels("a", 0) == pixels("b", 0)
    assert pixels("c", 1) != pixels("a", 0)


def test_bad_input(pictures: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError):
        show(pictures, out=tmp_path / "x", image=tmp_path / "nothing.png", settings=SMALL)
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(InputError, match="Cannot create the folder"):
        show(pictures, out=tmp_path / "file", settings=SMALL)


@pytest.mark.parametrize("ending", ["zip", "tar", "gztar"])
def test_an_archive_is_unpacked_into_the_given_cache(
    pictures: Path, ending: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HEADSTART_CACHE", str(tmp_path / "other"))
    archive = shutil.make_archive(str(tmp_path / "pictures"), ending, pictures)
    show(archive, out=tmp_path / "out", settings=SMALL, cache_dir=tmp_path / "cache")
    assert list((tmp_path / "cache" / "unpacked").iterdir())
    assert not (tmp_path / "other").exists()
