"""Archives as sources: what is unpacked, and what never leaves its folder."""

import bz2
import errno
import gzip
import io
import lzma
import os
import random
import stat
import tarfile
import time
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from headstart.data import archives
from headstart.data.sources import load_dataset
from headstart.errors import DataError, DiskFullError
from headstart.features.cache import UNPACKED_SECONDS, evict
from headstart.recipes.options import SourceOptions

PETS = tuple(f"{label}/{n}.jpg" for label in ("cats", "dogs") for n in range(3))


def packed(path: Path, names: tuple[str, ...] = PETS, data: bytes = b"") -> Path:
    """Writes an archive of files with the kind that its name says."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix in {".zip", ".tm"}:
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            for name in names:
                archive.writestr(name, data)
        return path
    mode = {".gz": "w:gz", ".tgz": "w:gz", ".bz2": "w:bz2", ".xz": "w:xz", ".tar": "w"}
    with tarfile.open(path, mode[path.suffix]) as tar:  # type: ignore[call-overload]
        for name in names:
            member = tarfile.TarInfo(name)
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    return path


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "cache"


@pytest.mark.parametrize("ending", ["zip", "tar", "tar.gz", "tgz", "tar.bz2", "tar.xz"])
@pytest.mark.parametrize("around", ["", "pets/", "./"])
def test_an_archive_is_read_as_its_folder(
    ending: str, around: str, tmp_path: Path, cache: Path
) -> None:
    source = packed(tmp_path / f"pets.v2.{ending}", tuple(around + name for name in PETS))
    dataset = load_dataset(source, cache_dir=cache)
    assert dataset.understanding.classes == {"cats": {"unassigned": 3}, "dogs": {"unassigned": 3}}
    assert dataset.name == "pets.v2"
    assert f"unpacked from {source.name} to {cache / 'unpacked'}" in dataset.layout
    assert dataset.key(0).endswith("cats/0.jpg")
    assert all(item.path.is_relative_to(cache) for item in dataset.items)


def test_an_archive_is_unpacked_once(tmp_path: Path, cache: Path) -> None:
    source = packed(tmp_path / "a.zip")
    first = load_dataset(source, cache_dir=cache)
    first.items[0].path.write_bytes(b"changed")
    assert load_dataset(source, cache_dir=cache).items[0].path.read_bytes() == b"changed"
    assert len(list((cache / "unpacked").iterdir())) == 1
    other = load_dataset(packed(tmp_path / "a.zip", (*PETS, "dogs/9.jpg")), cache_dir=cache)
    assert len(other.items) == 7
    moved = (tmp_path / "a.zip").rename(tmp_path / "b.zip")
    assert load_dataset(moved, cache_dir=cache).root == other.root


def test_what_was_deleted_from_the_cache_is_unpacked_again(tmp_path: Path, cache: Path) -> None:
    source = packed(tmp_path / "a.zip")
    load_dataset(source, cache_dir=cache).items[0].path.unlink()
    assert len(load_dataset(source, cache_dir=cache).items) == 6
    (index,) = (cache / "unpacked").glob("*/index.json")
    for damaged in ("", "{}", "[]"):
        index.write_text(damaged)
        assert len(load_dataset(source, cache_dir=cache).items) == 6


def test_options_reach_what_is_in_an_archive(tmp_path: Path, cache: Path) -> None:
    names = tuple(f"{place}/{label}/1.jpg" for place in ("leeds", "york") for label in "ab")
    source = packed(tmp_path / "a.zip", names)
    with pytest.raises(DataError, match=r"in .*a\.zip hold the same subfolders.*--layout groups"):
        load_dataset(source, cache_dir=cache)
    dataset = load_dataset(source, SourceOptions(layout="groups"), cache_dir=cache)
    assert {item.group for item in dataset.items} == {"leeds", "york"}


@pytest.mark.parametrize("ending", ["zip", "tar", "tar.gz"])
@pytest.mark.parametrize("name", ["../out.jpg", "/tmp/out.jpg", "a/../../out.jpg", "C:/out.jpg"])
def test_no_member_lies_outside(ending: str, name: str, tmp_path: Path, cache: Path) -> None:
    source = packed(tmp_path / f"a.{ending}", (*PETS, name))
    with pytest.raises(DataError, match="would lie outside its folder"):
        load_dataset(source, cache_dir=cache)
    assert not list(tmp_path.rglob("out.jpg"))
    assert not list(cache.rglob("*.jpg"))


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE])
def test_links_and_devices_of_a_tar_are_left_out(kind: bytes, tmp_path: Path, cache: Path) -> None:
    source = packed(tmp_path / "a.tar")
    with tarfile.open(source, "a") as tar:
        member = tarfile.TarInfo("cats/link.jpg")
        member.type, member.linkname = kind, "/etc/passwd"
        tar.addfile(member)
    dataset = load_dataset(source, cache_dir=cache)
    assert len(dataset.items) == 6
    assert dataset.passed_over[-1].sentence == "Links and devices in the archive: 'cats/link.jpg'."
    assert load_dataset(source, cache_dir=cache).passed_over == dataset.passed_over


def test_links_of_a_zip_are_left_out(tmp_path: Path, cache: Path) -> None:
    source = packed(tmp_path / "a.zip")
    with zipfile.ZipFile(source, "a") as archive:
        info = zipfile.ZipInfo("dogs/link.jpg")
        info.external_attr = (stat.S_IFLNK | 0o777) << 16
        archive.writestr(info, "/etc/passwd")
    assert load_dataset(source, cache_dir=cache).passed_over[-1].names == ("dogs/link.jpg",)
    assert not [path for path in cache.rglob("*") if path.is_symlink()]


@pytest.mark.parametrize("ending", ["zip", "tar", "tar.gz", "tar.xz"])
@pytest.mark.parametrize("keep", [0.0, 0.3, 0.9])
def test_a_cut_archive_is_one_line(ending: str, keep: float, tmp_path: Path, cache: Path) -> None:
    source = packed(tmp_path / f"a.{ending}", data=os.urandom(3000))
    whole = source.read_bytes()
    end = whole.rstrip(b"\0") if ending == "tar" else whole
    source.write_bytes(end[: int(keep * len(end))])
    with pytest.raises(DataError, match=r"damaged|empty") as caught:
        load_dataset(source, cache_dir=cache)
    assert "\n" not in str(caught.value)
    assert str(source) in str(caught.value)
    assert not list(cache.rglob("*.jpg"))


@pytest.mark.parametrize(
    ("ending", "behind"),
    [
        *(("tar.gz", 100), ("tar.gz", -6), ("tgz", -6), ("tar.bz2", 100), ("tar.bz2", -12)),
        *(("tar.xz", 100), ("zip", 100)),
    ],
)
def test_a_flipped_byte_is_damage(ending: str, behind: int, tmp_path: Path, cache: Path) -> None:
    """Random bytes are stored as they are, so that only a checksum tells the damage."""
    source = packed(tmp_path / f"a.{ending}", data=random.Random(0).randbytes(20_000))
    content = bytearray(source.read_bytes())
    content[behind] ^= 1
    source.write_bytes(content)
    with pytest.raises(DataError, match=r"is damaged"):
        load_dataset(source, cache_dir=cache)
    assert list((cache / "unpacked").iterdir()) == []


def test_a_decompressor_that_fails_is_no_fault_of_the_cache(tmp_path: Path, cache: Path) -> None:
    source = tmp_path / "a.zip"
    with zipfile.ZipFile(source, "w", zipfile.ZIP_BZIP2) as archive:
        archive.writestr("cats/1.jpg", random.Random(0).randbytes(20_000))
    content = bytearray(source.read_bytes())
    content[5_000] ^= 1
    source.write_bytes(content)
    with pytest.raises(DataError, match=r"damaged or cut off.*Copy or download"):
        load_dataset(source, cache_dir=cache)


def test_what_another_process_has_unpacked_meanwhile_stays(
    tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = packed(tmp_path / "a.zip")
    write = archives._extract

    def slower(path: Path, folder: Path) -> list[str]:
        monkeypatch.setattr(archives, "_extract", write)
        first.append(archives.unpack([path], cache).folder)  # the other process
        first.append(first[0].stat().st_ino)
        return write(path, folder)

    first: list[Any] = []
    monkeypatch.setattr(archives, "_extract", slower)
    found = archives.unpack([source], cache).folder
    assert [found, found.stat().st_ino] == first
    assert [each.name for each in (cache / "unpacked").iterdir()] == [found.parent.name]


def test_a_tar_that_ends_between_two_members_is_cut(tmp_path: Path, cache: Path) -> None:
    source = packed(tmp_path / "a.tar")
    source.write_bytes(source.read_bytes()[: 4 * 512])
    with pytest.raises(DataError, match="Its end is missing"):
        load_dataset(source, cache_dir=cache)


@pytest.mark.parametrize("name", ["a.zip", "a.tar", "a.tgz"])
def test_what_only_calls_itself_an_archive(name: str, tmp_path: Path, cache: Path) -> None:
    (tmp_path / name).write_bytes(b"<html>Not found</html>" * 100)
    with pytest.raises(DataError, match="neither a ZIP nor a tar file"):
        load_dataset(tmp_path / name, cache_dir=cache)


@pytest.mark.parametrize("name", ["a.7z", "a.rar", "a.tar.zst", "a.csv.gz"])
def test_other_archives_are_refused_by_name(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(b"x")
    with pytest.raises(DataError, match=r"does not open\. Unpack it"):
        load_dataset(tmp_path / name)


@pytest.mark.parametrize("ending", ["zip", "tar.gz", "tar.xz"])
def test_a_bomb_is_refused(
    ending: str, tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(archives, "RATIO_COUNTS_FROM", 2**20)
    source = packed(tmp_path / f"a.{ending}", data=bytes(2**20))
    with pytest.raises(DataError, match=r"200 times its size.*unpack it and give the folder"):
        load_dataset(source, cache_dir=cache)
    assert not list((cache / "unpacked").iterdir())


@pytest.mark.parametrize("pack", [gzip.compress, bz2.compress, lzma.compress])
def test_a_bomb_behind_the_members_is_refused(
    pack: Callable[[bytes], bytes], tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(archives, "RATIO_COUNTS_FROM", 2**20)
    content = packed(tmp_path / "a.tar").read_bytes()
    source = tmp_path / "a.tgz"
    source.write_bytes(pack(content + bytes(2**19)))  # padding is allowed
    assert len(load_dataset(source, cache_dir=cache).items) == len(PETS)
    source.write_bytes(pack(content + bytes(3 * 2**20)))
    with pytest.raises(DataError, match=r"what follows its members passes the limit"):
        load_dataset(source, cache_dir=cache)


@pytest.mark.parametrize("limit", ["MAX_MEMBERS", "MAX_BYTES"])
def test_limits(limit: str, tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archives, limit, 5)
    with pytest.raises(DataError, match="more than"):
        load_dataset(packed(tmp_path / "a.zip", data=b"xxxxxx"), cache_dir=cache)


@pytest.mark.parametrize("ending", ["zip", "tar"])
@pytest.mark.parametrize("names", [("a/1.jpg", "a/1.jpg"), ("a", "a/1.jpg")])
@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_two_members_in_one_place(
    ending: str, names: tuple[str, ...], tmp_path: Path, cache: Path
) -> None:
    with pytest.raises(DataError, match="twice"):
        load_dataset(packed(tmp_path / f"a.{ending}", names), cache_dir=cache)


@pytest.mark.parametrize("label", ["café", "猫", "Ärger"])
def test_names_of_windows_and_mac(label: str, tmp_path: Path, cache: Path) -> None:
    stand_in = "x" * len(label.encode())
    names = (f"pets\\{stand_in}\\1.jpg", "pets\\dogs\\1.jpg", "__MACOSX/pets/._1.jpg")
    source = packed(tmp_path / "a.zip", names)
    # As UTF-8 without the mark that says so.
    source.write_bytes(source.read_bytes().replace(stand_in.encode(), label.encode()))
    assert not any(info.flag_bits & 0x800 for info in zipfile.ZipFile(source).infolist())
    dataset = load_dataset(source, cache_dir=cache)
    assert set(dataset.classes) == {label, "dogs"}


def test_a_password_is_named(tmp_path: Path, cache: Path) -> None:
    source = packed(tmp_path / "a.zip")
    data = bytearray(source.read_bytes())
    for start in (b"PK\x03\x04", b"PK\x01\x02"):
        place = data.find(start)
        data[place + (6 if start[2] == 3 else 8)] |= 1
    source.write_bytes(data)
    with pytest.raises(DataError, match="protected by a password"):
        load_dataset(source, cache_dir=cache)


def test_a_compression_that_python_lacks_is_named(tmp_path: Path, cache: Path) -> None:
    source = packed(tmp_path / "a.zip")
    data = bytearray(source.read_bytes())
    for start, place in ((b"PK\x03\x04", 8), (b"PK\x01\x02", 10)):
        data[data.find(start) + place] = 9  # Deflate64, as Windows writes large archives
    source.write_bytes(data)
    with pytest.raises(DataError, match=r"in a way that Python does not read.*Unpack it"):
        load_dataset(source, cache_dir=cache)


@pytest.mark.parametrize("outer", ["folder", "zip", "tar"])
def test_one_archive_for_each_class(outer: str, tmp_path: Path, cache: Path) -> None:
    folder = tmp_path / "pets"
    for label in ("cats", "dogs"):
        packed(folder / f"{label}-samples.zip", tuple(f"{label}-!-{n}.jpg" for n in range(3)))
    source = folder
    if outer == "zip":
        source = tmp_path / "all.zip"
        with zipfile.ZipFile(source, "w") as archive:
            for path in sorted(folder.iterdir()):
                archive.write(path, f"pets/{path.name}")
    elif outer == "tar":
        source = tmp_path / "all.tar"
        with tarfile.open(source, "w") as tar:
            tar.add(folder, "pets")
    dataset = load_dataset(source, cache_dir=cache)
    assert dataset.understanding.classes == {"cats": {"unassigned": 3}, "dogs": {"unassigned": 3}}
    assert dataset.name == ("pets" if outer == "folder" else "all")


@pytest.mark.parametrize("table", ["train.csv.zip", "train.csv.tar.gz", "labels.csv.zip"])
def test_a_packed_table_beside_packed_images(table: str, tmp_path: Path, cache: Path) -> None:
    """As competitions offer each file of theirs for download."""
    folder = tmp_path / "pets"
    packed(folder / "train.zip", tuple(f"train/{n}.jpg" for n in range(4)))
    name = table.partition(".csv")[0] + ".csv"
    rows = b"id,label\n0,cat\n1,cat\n2,dog\n3,dog\n"
    packed(folder / table, (name,), rows)
    dataset = load_dataset(folder, cache_dir=cache)
    assert dataset.understanding.classes == {"cat": {"unassigned": 2}, "dog": {"unassigned": 2}}


def test_a_damaged_archive_in_an_archive_is_named_by_the_outer_one(
    tmp_path: Path, cache: Path
) -> None:
    source = packed(tmp_path / "a.zip", ("inner.zip",), b"not a zip")
    with pytest.raises(DataError, match=r"a\.zip/inner\.zip is damaged"):
        load_dataset(source, cache_dir=cache)


@pytest.mark.parametrize(
    "names", [("cats.zip", "cats.tar"), ("a/x.zip", "b/x.zip"), ("x-samples.zip", "x.tar.gz")]
)
def test_archives_of_one_name(names: tuple[str, str], tmp_path: Path, cache: Path) -> None:
    for name in names:
        packed(tmp_path / "in" / name)
    with pytest.raises(DataError, match=r"Several archives or files are called '(cats|x)'"):
        load_dataset(tmp_path / "in", cache_dir=cache)


def test_a_full_disk_is_named(tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(archives, "_write", full)
    with pytest.raises(DiskFullError, match=r"No space to unpack a\.zip .*HEADSTART_CACHE"):
        load_dataset(packed(tmp_path / "a.zip"), cache_dir=cache)
    assert not list((cache / "unpacked").iterdir())


def test_an_archive_beside_images_is_another_file(tmp_path: Path, cache: Path) -> None:
    for name in PETS:
        (tmp_path / "in" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "in" / name).touch()
    packed(tmp_path / "in" / "backup.zip", ("birds/1.jpg",))
    dataset = load_dataset(tmp_path / "in", cache_dir=cache)
    assert dataset.classes == ("cats", "dogs")
    assert dataset.ignored == ("backup.zip",)


def test_a_cache_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "cache").touch()
    with pytest.raises(DataError, match=r"cannot be unpacked in .*Set HEADSTART_CACHE"):
        load_dataset(packed(tmp_path / "a.zip"), cache_dir=tmp_path / "cache")


def test_what_was_unpacked_stays_for_a_week(tmp_path: Path, cache: Path) -> None:
    dataset = load_dataset(packed(tmp_path / "a.zip", data=b"x" * 5000), cache_dir=cache)
    index = dataset.root.parent / "index.json"
    assert evict(cache, 0) == 0
    old = time.time() - UNPACKED_SECONDS - 60
    os.utime(index, (old, old))
    assert evict(cache, 0) > 5000
    assert not dataset.root.exists()
    assert load_dataset(tmp_path / "a.zip", cache_dir=cache).root.exists()
