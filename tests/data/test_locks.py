"""Locks of the system, and the lock files of file systems that have none."""

import errno
import fcntl
import os
from pathlib import Path

import numpy as np
import psutil
import pytest

from headstart.data import locks
from headstart.data.array_files import open_array, reserve
from headstart.data.locks import lock_file, this_process, try_lock


@pytest.fixture(params=[None, errno.ENOSYS, errno.EOPNOTSUPP, errno.EBADF, errno.ENOLCK])
def system(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> int | None:
    """A system with locks, and systems that refuse them in various ways."""
    code: int | None = request.param
    if code is not None:

        def refuse(*_: object) -> None:
            raise OSError(code, os.strerror(code))

        monkeypatch.setattr(fcntl, "flock", refuse)
    return code


@pytest.mark.parametrize("is_folder", [True, False])
def test_one_at_a_time(system: int | None, is_folder: bool, tmp_path: Path) -> None:
    place = tmp_path if is_folder else tmp_path / "abc.lock"
    with try_lock(place) as first:
        with try_lock(place) as second, try_lock(place) as third:
            assert (first, second, third) == (True, False, False)
        assert lock_file(place).exists() == (system is not None)
    assert not lock_file(place).exists()
    with try_lock(place) as again:
        assert again


def test_a_failure_releases_the_lock(system: int | None, tmp_path: Path) -> None:
    with pytest.raises(RuntimeError), try_lock(tmp_path):
        raise RuntimeError
    with try_lock(tmp_path) as free:
        assert free


@pytest.mark.parametrize("system", [errno.ENOSYS], indirect=True)
@pytest.mark.parametrize(
    ("owner", "is_free"),
    [
        (f"{this_process().partition('-')[0]}-4194399-1700000000", True),  # no such process
        (f"{this_process()}-1700000000", True),  # its number went to another process
        (f"{this_process()}-{int(psutil.Process().create_time())}", False),
        ("0123abcd-1-1700000000", False),  # another machine's, of which nothing is known
        ("", False),  # being written
    ],
    ids=["ended", "number reused", "running", "another machine", "being written"],
)
def test_a_lock_file_of_an_ended_process_does_not_count(
    system: int, owner: str, is_free: bool, tmp_path: Path
) -> None:
    lock_file(tmp_path).write_text(owner)
    with try_lock(tmp_path) as free:
        assert free == is_free
    assert lock_file(tmp_path).exists() != is_free


@pytest.mark.parametrize("refused", [(), ("r",), ("r", "c")])
def test_an_array_is_read_where_maps_are_refused(
    refused: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    values = np.arange(24, dtype=np.float16).reshape(2, 3, 4)
    values.tofile(tmp_path / "data")
    real = np.memmap

    def memmap(path: Path, dtype: type, mode: str, shape: tuple[int, ...]) -> object:
        if mode in refused:
            raise OSError(errno.ENODEV, "No such device")
        return real(path, dtype, mode, shape=shape)

    monkeypatch.setattr(np, "memmap", memmap)
    found = open_array(tmp_path / "data", np.float16, (2, 3, 4))
    assert np.array_equal(found, values)
    with pytest.raises(ValueError, match="read-only"):
        found[0] = 1


@pytest.mark.parametrize("code", [errno.EOPNOTSUPP, errno.EINVAL, errno.ENOSYS])
def test_a_file_is_made_where_nothing_can_be_reserved(
    code: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: int) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(os, "posix_fallocate", refuse)
    with (tmp_path / "data").open("wb") as file:
        reserve(file, 1000)
    assert (tmp_path / "data").stat().st_size == 1000


def test_space_is_taken_by_zeros_where_the_system_cannot_reserve(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On macOS. A file that were only made longer would take no space, and a full disk kill."""
    monkeypatch.delattr(os, "posix_fallocate")
    with (tmp_path / "data").open("wb") as file:
        reserve(file, 3_000_001)
        file.write(b"first")
    status = (tmp_path / "data").stat()
    assert status.st_size == 3_000_001
    assert status.st_blocks * 512 >= 3_000_001
    assert (tmp_path / "data").read_bytes()[:6] == b"first\0"


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no device that is full")
def test_a_full_disk_is_an_error_at_once_where_the_system_cannot_reserve(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delattr(os, "posix_fallocate")
    with pytest.raises(OSError, match="No space"), Path("/dev/full").open("wb") as file:
        reserve(file, 3_000_001)


@pytest.mark.parametrize("replaced", [False, True])
def test_a_use_that_ends_while_another_begins_keeps_the_lock(
    system: int | None, replaced: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A finalizer may end the last use at any moment, even within the call that begins another."""
    file = tmp_path / "sums"
    file.touch()
    first = locks.share(file)
    assert first is not None
    if replaced:
        (tmp_path / "new").touch()
        (tmp_path / "new").rename(file)
    compare = locks._same_file

    def ending(one: int, other: int) -> bool:
        first.close()
        return compare(one, other)

    monkeypatch.setattr(locks, "_same_file", ending)
    second = locks.share(file)
    assert second is not None
    assert (second is first) != replaced
    assert os.path.samestat(os.fstat(second.descriptor), file.stat())
    second.close()
    assert not any(tmp_path in each.parents for each in locks._shares)
