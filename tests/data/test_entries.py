"""Entries of the cache: verified, flushed, locked, and made again if they are lost or damaged."""

import errno
import fcntl
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from headstart.backbones.engine import Engine
from headstart.data import entries
from headstart.data.decode import ImageSource, decode_dataset, pixels_again
from headstart.data.entries import SUMS
from headstart.data.reading import EACH
from headstart.data.types import Item
from headstart.errors import DiskFullError, InputError, RunError
from headstart.features.cache import cached_activations, evict
from headstart.progress import SilentProgress

VIEWS = np.arange(7 * 40, dtype=np.uint8).reshape(7, 40)

FILES = {
    "activations": ["data", "index.json", SUMS],
    "pixels": ["pixels.u8", "thumbnails.u8", "index.json", SUMS],
}
EVERY_FILE = [(kind, name) for kind, names in FILES.items() for name in names]


class Lines(SilentProgress):
    def __init__(self) -> None:
        self.lines: list[str] = []

    def say(self, message: str) -> None:
        self.lines.append(message)


class Cache:
    """Makes or reads one entry of a kind, and counts how often it is made."""

    def __init__(self, kind: str, folder: Path) -> None:
        self.kind, self.folder = kind, folder
        self.made = 0
        self.said = Lines()
        pictures = folder.with_name("pictures")
        pictures.mkdir(exist_ok=True)
        self.items = [Item(pictures / f"{number}.png", "a") for number in range(3)]
        for number, item in enumerate(self.items):
            Image.fromarray(VIEWS[number].reshape(5, 8)).resize((90, 60)).save(item.path)

    def get(self) -> np.ndarray:
        if self.kind == "pixels":
            before = {file.stat().st_mtime_ns for file in self.folder.glob("pixels/*/index.json")}
            pixels = decode_dataset(self.items, 20, self.folder, 1, self.said)
            made = (self.entry / "index.json").stat().st_mtime_ns
            self.made += made not in before
            thumbnails = b"".join(facts.thumbnail for facts in pixels.facts)
            return np.concatenate([pixels.data, np.frombuffer(thumbnails, np.uint8)])

        def run(batch: np.ndarray) -> np.ndarray:
            self.made += 1
            return batch.astype(np.float32) / 2

        engine = Engine(run, {"engine": "test"}, batch_size=7)
        return cached_activations(
            self.folder, {"seed": 1}, 7, lambda: iter([VIEWS]), engine, "test", self.said
        )

    @property
    def entry(self) -> Path:
        places = (self.folder / self.kind).iterdir()
        (found,) = (place for place in places if place.is_dir())
        return found


@pytest.fixture(params=list(FILES))
def cache(request: pytest.FixtureRequest, tmp_path: Path) -> Cache:
    return Cache(request.param, tmp_path / "cache")


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 4
    path.write_bytes(data)


DAMAGES: dict[str, Callable[[Path], Any]] = {
    "flipped": flip,
    "cut": lambda path: os.truncate(path, path.stat().st_size // 2),
    "empty": lambda path: os.truncate(path, 0),
    "zeroed": lambda path: path.write_bytes(bytes(path.stat().st_size)),
    "longer": lambda path: path.write_bytes(path.read_bytes() + b"\n\0"),
    "gone": Path.unlink,
    "a folder": lambda path: (path.unlink(), path.mkdir()),
}


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize(("kind", "name"), EVERY_FILE)
def test_damage_of_any_file_is_found_said_and_made_again(
    kind: str, name: str, damage: str, tmp_path: Path
) -> None:
    cache = Cache(kind, tmp_path / "cache")
    expected = np.array(cache.get())
    DAMAGES[damage](cache.entry / name)
    assert np.array_equal(cache.get(), expected)
    assert cache.made == 2
    (line,) = cache.said.lines or ["damaged"]
    assert "damaged" in line or "another version" in line or (name, damage) == (SUMS, "gone")
    assert np.array_equal(cache.get(), expected)
    assert cache.made == 2, "and then it is there"


def test_a_whole_entry_may_vanish(cache: Cache) -> None:
    expected = np.array(cache.get())
    for file in cache.entry.iterdir():
        file.unlink()
    assert np.array_equal(cache.get(), expected)
    assert cache.made == 2


def test_standard_tools_verify_an_entry(cache: Cache) -> None:
    cache.get()
    names = {file.name for file in cache.entry.iterdir()} - {SUMS}
    checked = subprocess.run(
        ["sha256sum", "--strict", "-c", SUMS],
        cwd=cache.entry, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert set(checked.stdout.split("\n")) - {""} == {f"{name}: OK" for name in names}


def test_it_is_read_in_full_once_a_process(cache: Cache, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[Path] = []
    real = entries.file_sum
    monkeypatch.setattr(entries, "file_sum", lambda path: read.append(path) or real(path))
    monkeypatch.setattr(entries, "_verified", set())
    cache.get()
    read.clear()
    cache.get()
    assert not read, "this process has written it"
    entries._verified.clear()
    cache.get()
    assert len(read) == len(list(cache.entry.iterdir())) - 1
    read.clear()
    cache.get()
    assert not read


def test_an_index_of_another_version_is_made_again(cache: Cache) -> None:
    expected = np.array(cache.get())
    index = cache.entry / "index.json"
    for other in ({"version": 9}, ["facts"], {"facts": [{"status": "ok", "new": 1}], "dtype": 3}):
        index.write_text(json.dumps(other))
        names = sorted(file.name for file in cache.entry.iterdir() if file.name != SUMS)
        lines = [f"{entries.file_sum(cache.entry / name)}  {name}\n" for name in names]
        (cache.entry / SUMS).write_text("".join(lines))
        cache.said.lines.clear()
        made = cache.made
        assert np.array_equal(cache.get(), expected)
        assert cache.made == made + 1
        assert "of another version of headstart" in cache.said.lines[0]


def test_entries_of_before_have_no_checksums_and_are_made_again(
    cache: Cache, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = np.array(cache.get())
    monkeypatch.setattr(entries, "_told", set())
    for _ in range(2):
        (cache.entry / SUMS).unlink()
        assert np.array_equal(cache.get(), expected)
    assert cache.made == 3
    (line,) = cache.said.lines
    assert "entries without checksums" in line


def test_everything_is_on_the_disk_before_an_entry_has_its_name(
    cache: Cache, monkeypatch: pytest.MonkeyPatch
) -> None:
    done: list[str] = []
    sync, rename = os.fsync, Path.rename

    def fsync(descriptor: int) -> None:
        done.append(str(Path(f"/proc/self/fd/{descriptor}").readlink()))
        sync(descriptor)

    def renamed(self: Path, target: Path) -> Path:
        done.append("rename")
        return rename(self, target)

    monkeypatch.setattr(os, "fsync", fsync)
    monkeypatch.setattr(Path, "rename", renamed)
    cache.get()
    at = done.index("rename")
    flushed = [Path(each) for each in done[:at]]
    files = {file.name for file in cache.entry.iterdir()}
    assert {each.name for each in flushed[:-1]} == files
    assert flushed[-1] == flushed[0].parent, "the names in the folder"
    assert Path(done[at + 1]) == cache.entry.parent


def test_a_disk_that_is_full_only_when_flushed_leaves_nothing(
    cache: Cache, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(DiskFullError):
        cache.get()
    left = [place for place in (cache.folder / cache.kind).iterdir() if place.is_dir()]
    assert not left


NEIGHBOUR = """
import fcntl, os, sys
from pathlib import Path
from headstart.data.entries import discard_unused
def refuse(*_):
    raise OSError(int(sys.argv[2]), "no locks")
if int(sys.argv[2]):
    fcntl.flock = refuse
entries = [file.parent for file in Path(sys.argv[1]).glob("*/*/index.json")]
print(sum(map(discard_unused, entries)))
"""


def neighbour_evicts(folder: Path, code: int) -> int:
    """Another process deletes the entries that it may; returns how many."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    ended = subprocess.run(
        [sys.executable, "-c", NEIGHBOUR, str(folder), str(code)],
        env=environment, capture_output=True, text=True, check=True,
    )  # fmt: skip
    return int(ended.stdout)


@pytest.mark.parametrize("code", [0, errno.ENOLCK])
def test_what_is_in_use_is_not_evicted_by_a_neighbour(
    code: int, cache: Cache, monkeypatch: pytest.MonkeyPatch
) -> None:
    if code:

        def refuse(*_: object) -> None:
            raise OSError(code, os.strerror(code))

        monkeypatch.setattr(fcntl, "flock", refuse)
    if cache.kind == "pixels":  # `get` returns a copy
        pixels = decode_dataset(cache.items, 20, cache.folder, 1)
        array = pixels.image(1)
        del pixels
    else:
        array = cache.get()[2:5]
    expected = array.copy()
    assert neighbour_evicts(cache.folder, code) == 0
    cache.get()
    assert neighbour_evicts(cache.folder, code) == 0
    assert np.array_equal(array, expected)
    entry = cache.entry
    del array
    assert neighbour_evicts(cache.folder, code) > 0
    assert not entry.exists()


def test_this_process_may_evict_what_it_uses_and_hold_what_is_made_again(cache: Cache) -> None:
    if cache.kind == "pixels":
        kept: Any = decode_dataset(cache.items, 20, cache.folder, 1)
    else:
        kept = cache.get()
    assert evict(cache.folder, 0) > 0
    again = decode_dataset(cache.items, 20, cache.folder, 1) if cache.kind == "pixels" else None
    again = cache.get() if again is None else again
    del kept  # its lock is not that of the new entry
    assert neighbour_evicts(cache.folder, 0) == 0
    del again
    assert neighbour_evicts(cache.folder, 0) > 0


def test_a_neighbour_that_evicts_at_once_does_not_stop_the_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The entry is deleted twice between its renaming and its opening."""
    cache = Cache("activations", tmp_path / "cache")
    expected = np.array(cache.get())
    evict(cache.folder, 0)
    rename, times = Path.rename, iter([True, True])

    def renamed(self: Path, target: Path) -> Path:
        found = rename(self, target)
        if not target.name.startswith(".") and next(times, False):
            shutil.rmtree(target)
        return found

    monkeypatch.setattr(Path, "rename", renamed)
    assert np.array_equal(cache.get(), expected)
    assert cache.made == 4


@pytest.fixture
def unprivileged() -> Iterator[Path]:
    """A folder that a user who is not root can read, while the tests are that user."""
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o777)
        yield Path(name)
        if os.geteuid() != os.getuid():
            os.seteuid(os.getuid())
        for place in [Path(name), *Path(name).rglob("*")]:
            if place.is_dir():
                place.chmod(0o777)


def only_read(folder: Path) -> None:
    """Takes away the right to write below a folder, from this process, too."""
    for place in [folder, *folder.rglob("*")]:
        place.chmod(0o555 if place.is_dir() else 0o444)
    if os.getuid() == 0:
        os.seteuid(65534)


@pytest.mark.parametrize("kind", FILES)
def test_a_warm_cache_that_can_only_be_read_works(kind: str, unprivileged: Path) -> None:
    cache = Cache(kind, unprivileged / "cache")
    expected = np.array(cache.get())
    only_read(cache.folder)
    before = sorted(cache.folder.rglob("*"))
    assert np.array_equal(cache.get(), expected)
    assert cache.made == 1
    assert evict(cache.folder, 0) == 0
    assert sorted(cache.folder.rglob("*")) == before


@pytest.mark.parametrize("kind", FILES)
def test_a_cold_cache_that_can_only_be_read_names_the_way_out(
    kind: str, unprivileged: Path
) -> None:
    cache = Cache(kind, unprivileged / "cache")
    (cache.folder / kind).mkdir(parents=True)
    only_read(cache.folder)
    with pytest.raises(InputError, match=r"Cannot write .*cache.* Set HEADSTART_CACHE"):
        cache.get()


def test_pixels_that_are_lost_are_decoded_again_if_the_files_are_the_same(tmp_path: Path) -> None:
    cache = Cache("pixels", tmp_path / "cache")
    first = decode_dataset(cache.items, 20, cache.folder, 1)
    source = ImageSource(tuple(cache.items), 20, EACH)
    evict(cache.folder, 0)
    again = pixels_again(first.key, source, cache.folder)
    assert np.array_equal(again.data, first.data)
    del again
    evict(cache.folder, 0)
    Image.new("RGB", (90, 60), "red").save(cache.items[1].path)
    with pytest.raises(RunError, match="changed since the run began"):
        pixels_again(first.key, source, cache.folder)
