"""Original images are found below the folder that the user names, and nowhere else."""

import hashlib
import os
from pathlib import Path

import pytest

from headstart.artifacts.originals import Originals, originals
from headstart.errors import InputError, RunError


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path / "photos"
    (folder / "ant").mkdir(parents=True)
    (folder / "ant" / "1.png").touch()
    (folder / "inside.png").symlink_to(folder / "ant" / "1.png")
    (tmp_path / "secret.png").touch()
    (folder / "outside.png").symlink_to(tmp_path / "secret.png")
    (folder / "circle.png").symlink_to(folder / "circle.png")
    (tmp_path / "photos-2").mkdir()
    (tmp_path / "photos-2" / "1.png").touch()
    os.mkfifo(folder / "pipe.png")
    return folder


@pytest.mark.parametrize("name", ["ant/1.png", "inside.png", "./ant/1.png"])
def test_images_below_the_folder_are_found(name: str, root: Path) -> None:
    found = Originals(root.resolve(), frozenset({name})).find(name)
    assert found == root.resolve() / "ant" / "1.png"


@pytest.mark.parametrize(
    "name",
    [
        "../secret.png", "ant/../../secret.png", "ant/../ant/1.png", "../photos-2/1.png",
        "outside.png", "circle.png", "pipe.png", "ant", "", "none.png", "nul\0.png", "x" * 5000,
    ],
)  # fmt: skip
def test_nothing_else_is(name: str, root: Path) -> None:
    assert Originals(root.resolve(), frozenset({name})).find(name) is None


def test_no_absolute_path_no_other_name_and_nothing_without_a_folder(root: Path) -> None:
    secret = str(root.parent.resolve() / "secret.png")
    assert Originals(root.resolve(), frozenset({secret})).find(secret) is None
    assert Originals(root.resolve(), frozenset({"ant/2.png"})).find("ant/1.png") is None
    assert Originals(None, frozenset({"ant/1.png"})).find("ant/1.png") is None


@pytest.mark.parametrize(
    ("content", "known", "there"),
    [
        (b"as it was", b"as it was", True),
        (b"painted over", b"as it was", False),
        (b"", b"as it was", False),
        (b"as it was", None, True),
    ],
)
def test_an_image_that_changed_since_the_run_began_is_another_one(
    content: bytes, known: bytes | None, there: bool, root: Path
) -> None:
    (root / "ant" / "1.png").write_bytes(content)
    hashes = {} if known is None else {"ant/1.png": hashlib.sha256(known).hexdigest()[:16]}
    found = Originals(root.resolve(), frozenset({"ant/1.png"}), hashes).find("ant/1.png")
    assert (found is not None) == there


def test_names_come_from_the_split(root: Path, tmp_path: Path) -> None:
    assert originals(tmp_path, None) == Originals()
    with pytest.raises(RunError, match="no split"):
        originals(tmp_path, root)
    (tmp_path / "split.csv").write_text("path,split\nant/1.png,test\n")
    assert originals(tmp_path, root).find("ant/1.png") == root.resolve() / "ant" / "1.png"
    with pytest.raises(InputError, match="is not a folder"):
        originals(tmp_path, root / "ant" / "1.png")
