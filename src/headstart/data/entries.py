"""Entries of the cache: folders that are written once, verified when they are opened, and locked.

An entry has a file of checksums that `sha256sum -c` reads. It is flushed to the disk before it gets
its name, and read in full the first time that a process opens it.
"""

import hashlib
import os
import shutil
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from headstart.data.locks import Share, share, this_process, try_alone, unsupported
from headstart.inputs.regular_files import open_regular, read_text
from headstart.progress import Progress

SUMS = "SHA256SUMS"
"""Name of the file of checksums, which is also the one that is locked."""

_verified: set[tuple[object, ...]] = set()
"""The entries that this process has read in full, or written."""

_told: set[Path] = set()
"""The folders of entries whose age this process has already mentioned."""


def use(folder: Path, progress: Progress) -> Share | None:
    """Locks an entry against eviction by other processes, and verifies it.

    Says so if the entry is not as it was written; it then has to be made again.

    Args:
        folder: Folder of the entry.
        progress: Progress display.

    Returns:
        The lock; None if there is no such entry, or it is damaged or being deleted.
    """
    held = share(folder / SUMS)
    if held is None:
        if (folder / "index.json").exists() and not (folder / SUMS).exists():
            _say_old(folder, progress)
        return None
    reason = _damage(folder)
    if reason:
        held.close()
        progress.say(f"The cache entry {folder} is damaged and is made again: {reason}.")
        discard(folder)
        return None
    with suppress(OSError):  # a cache that can only be read
        os.utime(folder / SUMS)  # the oldest are evicted first
    return held


def publish(draft: Path, folder: Path, sums: Mapping[str, str]) -> Share | None:
    """Makes a finished draft an entry: adds the checksums, flushes it to the disk and renames it.

    Args:
        draft: Folder with all files of the entry.
        folder: Folder of the entry, on the same disk. What is there is damaged, unless another
            process has just written it.
        sums: Checksums of files whose bytes went by while they were written.

    Returns:
        The lock of the new entry; None if another process was faster, or has deleted the draft.
    """
    names = sorted(file.name for file in draft.iterdir())
    lines = [f"{sums.get(name) or file_sum(draft / name)}  {name}\n" for name in names]
    (draft / SUMS).write_text("".join(lines), encoding="utf-8")
    for name in (*names, SUMS, "."):
        flush(draft / name)
    if folder.exists() and _damage(folder):
        discard(folder)
    held = share(draft / SUMS, folder / SUMS)
    try:
        draft.rename(folder)
        flush(folder.parent)
        _verified.add(_identity(folder))
    except (OSError, ValueError):
        if held is not None:
            held.close()
        if draft.exists() and not folder.exists():
            raise
        return None
    return held


def files_of(folder: Path) -> list[Path]:
    """Returns the files of a sound entry."""
    return [folder / SUMS, *(folder / name for name in _sums(folder))]


def discard(folder: Path) -> bool:
    """Deletes an entry in one step, and returns whether it could; maps of it stay readable."""
    draft = folder.parent / f".draft-{this_process()}-{folder.name}"
    try:
        folder.rename(draft)
    except OSError:  # another process deletes it, or the folder can only be read
        return False
    shutil.rmtree(draft, ignore_errors=True)
    return True


def discard_unused(folder: Path) -> bool:
    """Deletes an entry that no other process uses, and returns whether it did."""
    if not (folder / SUMS).exists():  # of an earlier version, or damaged
        return discard(folder)
    try:
        with try_alone(folder / SUMS) as free:
            return free and discard(folder)
    except OSError:  # another process deletes it, or the folder can only be read
        return False


def file_sum(path: Path) -> str:
    """Returns the SHA-256 of a file."""
    with open_regular(path) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def flush(path: Path) -> None:
    """Writes a file, or the names in a folder, from memory to the disk.

    Raises:
        OSError: If that fails, as on a full disk. Some file systems cannot flush a folder.
    """
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if not unsupported(error):
            raise
    finally:
        os.close(descriptor)


def _damage(folder: Path) -> str:
    """Returns what is wrong with an entry, as a clause; empty if it is as it was written."""
    try:
        identity = _identity(folder)
        if identity in _verified:
            return ""
        for name, expected in _sums(folder).items():
            if file_sum(folder / name) != expected:
                return f"the checksum of {name} differs"
    except OSError as error:
        return f"{Path(error.filename or folder).name} cannot be read ({error.strerror})"
    except ValueError:
        return f"{SUMS} cannot be read"
    _verified.add(identity)
    return ""


def _sums(folder: Path) -> dict[str, str]:
    """Returns the checksums of an entry by file name.

    Raises:
        OSError: If they cannot be read.
        ValueError: If they are damaged.
    """
    found = {}
    for line in read_text(folder / SUMS).splitlines():
        digest, separator, name = line.partition("  ")
        if not separator or len(digest) != 64 or "/" in name or "\0" in name:
            raise ValueError(line)
        found[name] = digest
    if "index.json" not in found:
        raise ValueError(folder)
    return found


def _identity(folder: Path) -> tuple[object, ...]:
    """Returns what changes when a file of an entry is written to, replaced or cut."""
    sums = _sums(folder)
    status = [(folder / name).stat() for name in sums]
    files = [(each.st_dev, each.st_ino, each.st_size, each.st_mtime_ns) for each in status]
    return (str(folder), tuple(sums.items()), tuple(files))


def _say_old(folder: Path, progress: Progress) -> None:
    if folder.parent not in _told:
        _told.add(folder.parent)
        progress.say(
            f"The cache in {folder.parent} has entries without checksums, of an earlier version of "
            "headstart. They are made again when they are needed."
        )
