"""The prefix cache: activations of views, computed once, content-addressed and memory-mapped."""

import errno
import hashlib
import json
import math
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import closing, suppress
from pathlib import Path
from queue import Queue
from threading import Thread
from typing import Any, BinaryIO, TypeVar

import numpy as np
import psutil
from numpy.typing import NDArray

from headstart.backbones.engine import Engine, outputs_of
from headstart.data.array_files import open_array, reserve
from headstart.data.entries import discard, discard_unused, publish, use
from headstart.data.locks import Share, this_process
from headstart.errors import DiskFullError, HeadstartError, InputError
from headstart.inputs.regular_files import read_text
from headstart.progress import SILENT, Progress
from headstart.text import data_size

T = TypeVar("T")

Activations = NDArray[Any]

DEFAULT_LIMIT_BYTES = 20 * 10**9

_ATTEMPTS = 5
"""How often an entry is made that other processes delete at once."""

UNPACKED_SECONDS = 7 * 24 * 3600
"""Time for which unpacked archives stay: runs read them long after they were opened."""

DRAFT_LIFE_S = 24 * 3600.0
"""Seconds after which a draft of another machine that nothing writes to is deleted."""

_TYPES = frozenset(map(np.dtype, (np.uint8, np.float16, np.float32)))

LARGEST_FLOAT16 = float(np.finfo(np.float16).max)


def cache_limit() -> int:
    """Returns the size limit of the cache in bytes: `$HEADSTART_CACHE_LIMIT_GB`, or 20 GB.

    Raises:
        InputError: If the variable is not a number of gigabytes.
    """
    chosen = os.environ.get("HEADSTART_CACHE_LIMIT_GB")
    if not chosen:
        return DEFAULT_LIMIT_BYTES
    try:
        limit = int(float(chosen) * 1e9)
    except (ValueError, OverflowError):
        limit = -1
    if limit < 0:
        raise InputError(
            f"HEADSTART_CACHE_LIMIT_GB is {chosen!r}. Set it to a number of gigabytes, 0 or more."
        )
    return limit


def cache_key(depends_on: Mapping[str, Any]) -> str:
    """Returns a key that identifies everything that activations depend on.

    Example:
        >>> cache_key({"a": 1, "b": 2}) == cache_key({"b": 2, "a": 1})
        True
    """
    return hashlib.sha256(json.dumps(depends_on, sort_keys=True).encode()).hexdigest()[:32]


def cached_activations(
    cache_dir: Path,
    depends_on: Mapping[str, Any],
    rows: int,
    batches: Callable[[], Iterator[NDArray[Any]]],
    engine: Engine,
    description: str,
    progress: Progress = SILENT,
) -> Activations:
    """Returns the output of the prefix for every view, from the cache if possible.

    Activations are stored as float16, or as float32 if a value exceeds the range of float16. With
    an empty prefix the output is the view itself, which is stored as uint8.

    Args:
        cache_dir: Cache folder.
        depends_on: Everything that the activations depend on; its hash is the key.
        rows: Number of views N.
        batches: Returns an iterator over batches of views, uint8 or float arrays (B, ...).
        engine: Engine that runs the prefix on a batch.
        description: Text of the progress bar.
        progress: Progress display.

    Returns:
        A read-only memory-mapped array (N, ...).

    Raises:
        DiskFullError: If there is no space left for them.
        InputError: If they are not in the cache, and it cannot be written to.
    """
    folder = cache_dir / "activations" / cache_key({**depends_on, "engine": engine.identity})
    for _ in range(_ATTEMPTS):
        held = use(folder, progress)
        if held is None:
            for dtype in (np.float16, np.float32):
                tracked = progress.track(batches(), description, -(-rows // engine.batch_size))
                outputs = outputs_of(engine, prefetched(tracked, 2 * engine.at_once + 2))
                fits, held = _write(folder, rows, outputs, dtype, depends_on)
                if fits:
                    break
        if held is not None and (stored := _open(folder, rows, held, progress)) is not None:
            return stored
    raise HeadstartError(f"Other processes delete {folder} as soon as it is written. Try again.")


def _open(folder: Path, rows: int, held: Share, progress: Progress) -> Activations | None:
    """Returns an entry that is locked; None if another version wrote it."""
    with closing(held):
        try:
            meta = json.loads(read_text(folder / "index.json"))
            dtype, shape = np.dtype(meta["dtype"]), tuple(meta["shape"])
            size = (folder / "data").stat().st_size
            whole = rows == shape[0] and dtype in _TYPES
            if not whole or size != math.prod(shape) * dtype.itemsize:
                raise ValueError(folder)
            array = open_array(folder / "data", dtype, shape)
        except (OSError, ValueError, LookupError, TypeError, RecursionError, OverflowError):
            progress.say(f"{folder} is an entry of another version of headstart; made again.")
            discard(folder)
            return None
        if isinstance(array, np.memmap):
            held.keep_for(array.base)  # the map, which its slices share
        return array


def _write(
    folder: Path,
    rows: int,
    outputs: Iterable[NDArray[Any]],
    dtype: type[np.floating[Any]],
    depends_on: Mapping[str, Any],
) -> tuple[bool, Share | None]:
    """Writes all outputs.

    Returns:
        Whether all values fit into `dtype`; and the lock of the entry, or None if another process
        was faster.
    """
    draft = None
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        draft = Path(tempfile.mkdtemp(prefix=f".draft-{this_process()}-", dir=folder.parent))
        stored: np.dtype[Any] | None = None
        shape: tuple[int, ...] = ()
        written = 0
        digest = hashlib.sha256()
        with (draft / "data").open("wb") as file:
            for output in outputs:
                if stored is None:
                    stored = output.dtype if output.dtype == np.uint8 else np.dtype(dtype)
                    shape = (rows, *output.shape[1:])
                    _reserve(file, draft, int(np.prod(shape)) * stored.itemsize)
                if stored == np.float16 and np.abs(output).max() > LARGEST_FLOAT16:
                    return False, None
                block = np.ascontiguousarray(output, stored).data
                file.write(block)
                digest.update(block)
                written += len(output)
        assert stored is not None
        if written != rows:
            raise HeadstartError(f"The prefix returned {written} activations for {rows} views.")
        index = {"dtype": str(stored), "shape": shape, "depends_on": dict(depends_on)}
        (draft / "index.json").write_text(json.dumps(index, indent=1), encoding="utf-8")
        return True, publish(draft, folder, {"data": digest.hexdigest()})
    except OSError as error:
        raise _explained(error, folder.parent) from error
    finally:
        if draft is not None:
            shutil.rmtree(draft, ignore_errors=True)


def _explained(error: OSError, place: Path) -> Exception:
    """Returns the error for people if the cache cannot be written to, else the error."""
    if error.errno in {errno.ENOSPC, errno.EDQUOT}:
        return DiskFullError(
            f"There is no space left in {place} for activations. "
            "Free some space, or point HEADSTART_CACHE at a larger disk."
        )
    if error.errno in {errno.EROFS, errno.EACCES, errno.EPERM}:
        return InputError(
            f"Cannot write activations to {place}: {error.strerror}. "
            "Set HEADSTART_CACHE to a folder that you can write to."
        )
    return error


def _reserve(file: BinaryIO, folder: Path, size: int) -> None:
    """Allocates the blocks of a file in a folder, so a full disk raises an error at once."""
    try:
        reserve(file, size)
    except OSError as error:
        if error.errno not in {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}:
            raise
        raise DiskFullError(
            f"No space for {data_size(size)} of activations in {folder.parent}. "
            "Free some space, or point HEADSTART_CACHE at a larger disk."
        ) from None


def evict(cache_dir: Path, limit_bytes: int | None = None) -> int:
    """Deletes the least recently used entries until the cache is within its limit.

    Entries that other processes use are kept. Arrays of this process that are still mapped stay
    readable, because the system keeps mapped files.

    Args:
        cache_dir: Cache folder.
        limit_bytes: Size limit in bytes; by default `cache_limit()`.

    Returns:
        Number of bytes freed.
    """
    if limit_bytes is None:
        limit_bytes = cache_limit()
    for draft in cache_dir.glob("*/.draft-*"):
        if _is_left(draft):
            shutil.rmtree(draft, ignore_errors=True)
    entries = []
    for folder in [*cache_dir.glob("activations/*"), *cache_dir.glob("pixels/*")]:
        if folder.name.startswith(".") or folder.suffix:  # drafts, and locks
            continue
        files = _sizes(folder)
        if files:
            entries.append((max(at for at, _ in files), sum(size for _, size in files), folder))
    for index in cache_dir.glob("unpacked/*/index.json"):
        with suppress(OSError):  # another process deletes it
            used = index.stat().st_mtime
            if time.time() - used > UNPACKED_SECONDS:
                sizes = [size for _, size in _sizes(index.parent, "**/*")]
                entries.append((used, sum(sizes), index.parent))
    total = sum(size for _, size, _ in entries)
    freed = 0
    for _, size, folder in sorted(entries):
        if total - freed <= limit_bytes:
            break
        freed += size if discard_unused(folder) else 0
    return freed


def _is_left(draft: Path) -> bool:
    """Returns whether a killed process left a draft.

    Processes of other machines cannot be seen: what they have not written to for a day is left.
    """
    _, machine, process, *_ = [*draft.name.removeprefix(".").split("-"), "", ""]
    known = process.isdecimal() and len(process) < 10  # else it is not one of ours
    if machine == this_process().partition("-")[0] and known:
        return not psutil.pid_exists(int(process))
    try:
        times = [each.stat().st_mtime for each in (draft, *draft.glob("*"))]
    except OSError:  # another process deletes it
        return False
    return time.time() - max(times) > DRAFT_LIFE_S


def _sizes(folder: Path, pattern: str = "*") -> list[tuple[float, int]]:
    """Returns the time of last use and the size on disk of each file of an entry."""
    found = []
    for file in folder.glob(pattern):
        with suppress(OSError):  # another process deletes it
            status = file.stat()
            found.append((status.st_mtime, status.st_blocks * 512))
    return found


def prefetched(items: Iterator[T], depth: int) -> Iterator[T]:
    """Yields `items`, which a thread produces ahead of time.

    Example:
        >>> list(prefetched(iter([1, 2, 3]), depth=2))
        [1, 2, 3]
    """
    queue: Queue[tuple[bool, Any]] = Queue(maxsize=depth)
    stopped = False

    def produce() -> None:
        try:
            for item in items:
                queue.put((True, item))
                if stopped:
                    return
            queue.put((False, None))
        except BaseException as error:
            queue.put((False, error))

    thread = Thread(target=produce, daemon=True)
    thread.start()
    try:
        while True:
            more, value = queue.get()
            if not more:
                if value is not None:
                    raise value
                return
            yield value
    finally:
        stopped = True
        while thread.is_alive():
            while not queue.empty():
                queue.get_nowait()
            thread.join(timeout=0.05)
