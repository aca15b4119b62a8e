"""What lies beside a data set is read and said; what leads further is refused."""

import json
import os
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from subprocess import CompletedProcess
from typing import TYPE_CHECKING

import pytest

from headstart.api.fit import described
from headstart.data.sources import load_dataset
from headstart.data.surroundings import surroundings
from headstart.errors import DataError
from headstart.recipes.options import SourceOptions

if TYPE_CHECKING:
    from headstart.training.experiment import Experiment

IMAGES = tuple(f"{label}/{number}.jpg" for label in ("ants", "bees") for number in range(2))
ROWS = [(f"{{}}/{name}", name[:4]) for name in IMAGES]


@pytest.fixture
def near(tmp_path: Path) -> Path:
    """A folder that holds `disk` with images; a folder `far` with the same lies around it."""
    for place in ("near/disk", "far"):
        for name in IMAGES:
            file = tmp_path / place / name
            file.parent.mkdir(parents=True, exist_ok=True)
            file.touch()
    return tmp_path / "near"


def table(folder: Path, start: str, name: str = "m.csv") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    rows = [f"{path.format(start)},{label}" for path, label in ROWS]
    (folder / name).write_text("\n".join(["path,label", *rows]))
    return folder / name


def links(folder: Path, targets: dict[str, Path | str]) -> Path:
    for name, target in targets.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).symlink_to(target)
    return folder


def refused(source: Path, option: str, **options: object) -> str:
    with pytest.raises(DataError, match=option) as caught:
        load_dataset(source, SourceOptions.model_validate(options))
    return str(caught.value)


def keys(source: Path) -> list[str]:
    dataset = load_dataset(source)
    assert [item.label for item in dataset.items] == ["ants", "ants", "bees", "bees"]
    return [dataset.key(row) for row in range(4)]


@pytest.mark.parametrize("linked", ["files", "folders", "folders of folders", "through a link"])
def test_links_beside_the_folder_are_read_and_said(linked: str, near: Path) -> None:
    targets: dict[str, Path | str] = {
        "files": {name: near / "disk" / name for name in IMAGES},
        "folders": {"ants": near / "disk" / "ants", "bees": "../disk/bees"},
        "folders of folders": {"train": "../disk"},
        "through a link": {"ants": "../alias/ants", "bees": "../alias/bees"},
    }[linked]  # type: ignore[assignment]
    (near / "alias").symlink_to("disk")
    source = links(near / "set", targets)
    dataset = load_dataset(source)
    assert dataset.notes == ("Images that lie outside the folder: 4, in '../disk'.",)
    assert dataset.root == source.resolve()
    around = "train/" if linked == "folders of folders" else ""
    assert keys(source) == [around + name for name in IMAGES]


def test_the_common_folder_of_the_outside_images_is_named(near: Path) -> None:
    other = near / "other" / "bees"
    other.mkdir(parents=True)
    (other / "1.jpg").touch()
    source = links(near / "set", {"ants": "../disk/ants", "bees": other})
    (note,) = load_dataset(source).notes
    assert note == "Images that lie outside the folder: 3, in '..'."


def test_a_folder_that_is_not_utf_8_is_named_with_escapes(near: Path) -> None:
    odd = near / os.fsdecode(b"d\xffsk")
    (near / "disk").rename(odd)
    (note,) = load_dataset(links(near / "set", {"ants": odd / "ants", "bees": odd / "bees"})).notes
    assert note == r"Images that lie outside the folder: 4, in '../d\\udcffsk'."


@pytest.mark.parametrize("start", ["images", "../disk", "{near}/disk", "../alias", "x/../../disk"])
def test_a_manifest_beside_its_images(start: str, near: Path) -> None:
    (near / "alias").symlink_to("disk")
    source = table(near / "csv", start.format(near=near))
    (near / "csv" / "x").mkdir()
    (near / "csv" / "images").symlink_to("../disk")
    dataset = load_dataset(source)
    assert dataset.notes == ("Images that lie outside the folder: 4, in '../disk'.",)
    named_inside = start == "images"
    assert dataset.root == (near / "csv" if named_inside else near).resolve()
    assert keys(source) == [f"{'images' if named_inside else 'disk'}/{name}" for name in IMAGES]


def test_a_manifest_with_images_in_both_places(near: Path) -> None:
    source = table(near / "disk", "..")
    source.write_text("path,label\nants/0.jpg,x\n../other/1.jpg,y\n")
    (near / "other").mkdir()
    (near / "other" / "1.jpg").touch()
    dataset = load_dataset(source)
    assert dataset.notes == ("Images that lie outside the folder: 1, in '../other'.",)
    assert [dataset.key(row) for row in range(2)] == ["disk/ants/0.jpg", "other/1.jpg"]


def test_a_table_in_a_folder_of_links(near: Path) -> None:
    source = links(near / "set", {"images": near / "disk" / "ants"})
    (source / "train.csv").write_text("id,species\n0,ant\n1,bee\n")
    dataset = load_dataset(source)
    assert dataset.classes == ("ant", "bee")
    assert "Images that lie outside the folder: 2, in '../disk/ants'." in dataset.notes
    assert dataset.key(0) == "images/0.jpg"


@pytest.mark.parametrize("depth", ["data", "data/data"])
def test_a_table_deep_in_a_folder_has_the_surroundings_of_that_folder(
    depth: str, near: Path
) -> None:
    # A wrapper of one folder is opened: what lies beside the wrapper counts, not further in.
    source, up = near / "set", "/".join([".."] * (1 + len(depth.split("/"))))
    (source / depth).mkdir(parents=True)
    for name in ("a.jpg", "b.jpg"):
        (source / depth / name).touch()
    rows = f"file,label\na.jpg,ant\nb.jpg,bee\n{up}/disk/ants/0.jpg,ant\n"
    (source / depth / "train.csv").write_text(rows)
    dataset = load_dataset(source)
    assert len(dataset.items) == 3
    assert dataset.root == near.resolve()
    assert f"Images that lie outside the folder: 1, in '{up}/disk/ants'." in dataset.notes
    (source / depth / "train.csv").write_text(f"{rows}{up}/../far/bees/1.jpg,bee\n")
    assert "is outside" in refused(source, "--root FOLDER")


@pytest.mark.parametrize("target", ["../../far/ants", "{far}/ants", "../out/ants", ".."])
def test_links_that_lead_further_are_refused(target: str, near: Path) -> None:
    far = near.parent / "far"
    (near / "out").symlink_to(far)
    source = links(near / "set", {"ants": target.format(far=far), "bees": "../disk/bees"})
    assert "found only 'bees'" in refused(source, "--follow-links to read them: 'ants'")


@pytest.mark.parametrize("start", ["../../far", "{far}", "../out", "images"])
def test_rows_that_lead_further_are_refused(start: str, near: Path) -> None:
    far = near.parent / "far"
    (near / "out").symlink_to(far)
    source = table(near / "csv", start.format(far=far))
    (near / "csv" / "images").symlink_to(far)
    is_link = start in {"../out", "images"}
    message = refused(source, "--follow-links" if is_link else "--root FOLDER")
    assert f"is outside {near.resolve() / 'csv'}" in message
    if is_link:
        dataset = load_dataset(source, SourceOptions(follow_links=True))
        assert dataset.notes == ("Images that lie outside the folder: 4, in '../../far'.",)


def test_with_a_root_the_surroundings_of_the_manifest_still_count(near: Path) -> None:
    source = table(near / "csv", "../disk")
    source.write_text(f"{source.read_text()}\nants/0.jpg,x\n")
    far = (near.parent / "far").resolve()
    dataset = load_dataset(source, SourceOptions(root=far))
    assert (len(dataset.items), dataset.root) == (5, far)
    assert dataset.notes == ("Images that lie outside the folder: 4, in '../near/disk'.",)


@pytest.mark.parametrize("place", ["home", "above home", "temporary", "mounted"])
def test_where_the_parent_holds_everything_nothing_beside_is_read(
    place: str, near: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folders = links(near / "set", {"ants": "../disk/ants", "bees": "../disk/bees"})
    manifest = table(near / "csv", "../disk")
    assert len(load_dataset(folders).items) == len(load_dataset(manifest).items) == 4
    match place:
        case "home":
            monkeypatch.setenv("HOME", str(near))
        case "above home":
            monkeypatch.setenv("HOME", str(near / "people" / "ann"))
        case "temporary":
            monkeypatch.setenv("TMPDIR", str(near))
        case _:
            mounted = near.resolve()
            monkeypatch.setattr(os.path, "ismount", lambda path: Path(path) == mounted)
    refused(folders, "--follow-links to read them: 'ants', 'bees'")
    refused(manifest, "--root FOLDER")


@pytest.mark.parametrize(
    ("folder", "around"),
    [
        ("/", None),
        ("/data", None),
        ("/data/pets", None),
        ("/data/pets/photographs", "/data/pets"),
        ("/tmp/pets", None),
        ("/var/tmp/pets", None),
        ("/home/ann/pets", None),
        ("/home/ann/pets/photographs", "/home/ann/pets"),
    ],
)
def test_surroundings(folder: str, around: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/ann")
    assert surroundings(Path(folder)) == (None if around is None else Path(around))


def test_circles_through_what_lies_beside_end(near: Path) -> None:
    source = links(near / "set", {"ants": "../disk/ants", "bees": "../disk/bees"})
    links(near / "disk" / "ants", {"back": source, "self": near / "disk" / "ants"})
    links(near / "disk" / "bees", {"up": near, "far": near.parent / "far"})
    dataset = load_dataset(source)
    assert len(dataset.items) == 4
    assert {each.reason: each.names for each in dataset.passed_over} == {
        "repeated_link": ("ants/back", "ants/self"),
        "link_outside": ("bees/far", "bees/up"),
    }


def archive(path: Path, tables: dict[str, str]) -> Path:
    with zipfile.ZipFile(path, "w") as packed:
        for name in ("a/own.jpg", "b/own.jpg"):
            packed.writestr(f"pets/{name}", b"")
        for name, content in tables.items():
            packed.writestr(f"pets/{name}", content)
    return path


@pytest.mark.parametrize("up", ["..", "../..", "../../../..", "{near}/disk"])
def test_an_archive_stays_within_itself(up: str, near: Path, tmp_path: Path) -> None:
    cache, start = near / "cache", up.format(near=near)
    rows = f"file_name,label\na/own.jpg,x\n{start}/secret.jpg,y\n"
    source = archive(tmp_path / "pets.zip", {"metadata.csv": rows})
    with pytest.raises(DataError):
        load_dataset(source, cache_dir=cache)
    (content,) = (cache / "unpacked").glob("*/content/pets")
    (content / start / "secret.jpg").touch()
    with pytest.raises(DataError, match="is outside"):
        load_dataset(source, cache_dir=cache)
    # The same as a folder of one's own has surroundings.
    own = content.rename(near / "own")
    if start == "..":
        (near / "secret.jpg").touch()
        assert len(load_dataset(own).items) == 2


def test_check_and_the_record_of_a_run_say_it(
    headstart: Callable[..., CompletedProcess[str]],
    experiment: "Experiment",
    pictures: Path,
    tmp_path: Path,
) -> None:
    source = links(tmp_path, {folder.name: folder for folder in sorted(pictures.iterdir())})
    note = f"Images that lie outside the folder: 48, in '../{pictures.name}'."
    done = headstart("check", source)
    assert f"note: {note}" in done.stdout.splitlines()
    told = headstart("check", source, "--json").stdout
    assert json.loads(told)["understood"]["notes"] == [note]
    record = described(replace(experiment, dataset=load_dataset(source)))
    assert note in record["notes"]
