"""Images decoded and resized once, by a pool of processes, into one memory-mapped uint8 file."""

import errno
import fcntl
import hashlib
import json
import os
import queue
import shutil
import subprocess
import sys
import threading
from collections.abc import Generator, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import PIL
from numpy.typing import NDArray
from PIL import Image, features

from headstart.data.images import (
    MAX_PIXELS,
    BadImageError,
    Status,
    load_image,
    read_header,
    read_image,
    readable_formats,
    stored_size,
)
from headstart.data.types import Box, Item
from headstart.errors import DataError, DiskFullError, HeadstartError, InputError
from headstart.progress import SILENT, Progress

__all__ = ["MAX_PIXELS", "Facts", "Pixels", "decode_dataset", "load_image", "stored_size"]

THUMBNAIL = 64
"""Side in pixels of the square grey thumbnails by which the audit finds near duplicates."""
DECODER_VERSION = 1
"""Part of every key: raise it whenever the same file would give other pixels or other facts."""

_THUMBNAIL_BYTES = THUMBNAIL**2
_POOL_FROM = 64
_CHUNK = 16


@dataclass(frozen=True)
class Facts:
    """What was learned about one file while reading it.

    Attributes:
        status: Whether its pixels are there, and if not, why.
        reason: The same for people; empty when ok.
        sha256: Of the file's bytes; empty if it could not be read at all.
        width: In pixels, as shown (after EXIF orientation), before the box crop; 0 if unknown.
        height: As `width`.
        mode: Pillow's name of the file's own colour mode.
        format: Pillow's name of the file's format.
        pixels: SHA-256 of the stored size and pixels: equal for images that are the same to us.
        thumbnail: The stored image squeezed to `THUMBNAIL` x `THUMBNAIL` grey values, if ok.
    """

    status: Status
    reason: str = ""
    sha256: str = ""
    width: int = 0
    height: int = 0
    mode: str = ""
    format: str = ""
    pixels: str = ""
    thumbnail: bytes = b""


@dataclass(frozen=True, eq=False)
class Pixels:
    """The decoded images of a data set, in its order.

    Attributes:
        facts: What was learned about each file.
        sizes: (N, 2) height and width of each stored image; 0, 0 for files that could not be read.
        key: Content hash of the files, their boxes, the size asked for and the decoder.
        offsets: (N,) where each image begins in `data`.
        data: Read-only memory map of all images, one after the other.
    """

    facts: tuple[Facts, ...]
    sizes: NDArray[np.int64]
    key: str
    offsets: NDArray[np.int64]
    data: NDArray[np.uint8]

    def __len__(self) -> int:
        """Returns the number of files, those that could not be read included."""
        return len(self.facts)

    def image(self, index: int) -> NDArray[np.uint8]:
        """Returns image `index` as (height, width, 3), without copying it.

        Raises:
            DataError: The file could not be read.
        """
        facts = self.facts[index]
        if facts.status != "ok":
            raise DataError(f"Image {index} has no pixels: {facts.reason}.")
        height, width = (int(side) for side in self.sizes[index])
        start = int(self.offsets[index])
        return self.data[start : start + height * width * 3].reshape(height, width, 3)


@dataclass(frozen=True)
class DecodeJob:
    """One image for a worker: what to read, and where its pixels go.

    Attributes:
        index: Its place in the data set.
        path: The file.
        box: Where to crop it first.
        offset: Where its first byte goes in the file of pixels.
        width: Of the stored image, as its header promises; the space is reserved.
        height: As `width`.
    """

    index: int
    path: str
    box: Box | None
    offset: int
    width: int
    height: int


def decode_dataset(
    items: Sequence[Item],
    short_side: int,
    cache_dir: Path,
    workers: int | None = None,
    progress: Progress = SILENT,
) -> Pixels:
    """Returns all images of a data set, decoded now or by an earlier run.

    They are kept in `cache_dir/pixels/KEY/`; every use renews the index's modification time.
    Processes that want the same images at the same time wait for the first one.

    Args:
        items: The images.
        short_side: Pixels of the shorter side; see `load_image`.
        cache_dir: Folder of all caches.
        workers: Processes; by default one a core.
        progress: Where to show how far it has come.

    Raises:
        InputError: There would be no worker.
        DiskFullError: There is no space for the pixels.
        HeadstartError: A worker was killed.
    """
    if workers is not None and workers < 1:
        raise InputError(f"{workers} workers cannot decode images: give 1 or more.")
    hashes = _hash_files(items, progress)
    key = _key(items, hashes, short_side)
    folder = cache_dir / "pixels" / key
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with _locked(folder.with_suffix(".lock"), progress):
            _remove_leftovers(folder.parent)
            if _is_complete(folder):
                os.utime(folder / "index.json")  # the oldest are evicted first
            else:
                plan = _plan(items, hashes, short_side)
                _write(folder, plan, short_side, workers or _cores(), progress)
            return _read(folder, key)
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise DiskFullError(
            f"There is no space left in {cache_dir} for the decoded images: {error.strerror}. "
            "Make room there, or choose another cache folder."
        ) from error


def open_pixels(cache_dir: Path, key: str) -> Pixels:
    """Returns images that were decoded before.

    Args:
        cache_dir: Folder of all caches.
        key: Of the pixels.

    Raises:
        HeadstartError: If they are no longer there.
    """
    folder = cache_dir / "pixels" / key
    if not _is_complete(folder):
        raise HeadstartError(f"the decoded images in {folder} were removed meanwhile.")
    return _read(folder, key)


def decode_job(job: DecodeJob, short_side: int, folder: Path) -> dict[str, Any]:
    """Decodes one image into the files in `folder` and returns what the index says of it.

    Only this little passes between the processes; the thumbnail has a file of its own.
    """
    try:
        image, header = read_image(Path(job.path), job.box, short_side)
    except BadImageError as bad:
        return {"status": bad.status, "reason": bad.reason}
    if image.size != (job.width, job.height):
        return {
            "status": "unreadable",
            "reason": "its header gives another size than its pixels have",
        }
    data = image.tobytes()
    thumbnail = image.convert("L").resize((THUMBNAIL, THUMBNAIL), Image.Resampling.BICUBIC)
    _write_at(folder / "pixels.u8", job.offset, data)
    _write_at(folder / "thumbnails.u8", job.index * _THUMBNAIL_BYTES, thumbnail.tobytes())
    digest = hashlib.sha256(b"%d %d " % image.size + data).hexdigest()
    return {"status": "ok", "mode": header.mode, "format": header.format, "pixels": digest}


def _hash_files(items: Sequence[Item], progress: Progress) -> list[str]:
    """Returns the SHA-256 of each file, or an empty string where it cannot be read."""
    with ThreadPoolExecutor(_cores() * 2) as pool:
        hashes = pool.map(_hash_file, [item.path for item in items])
        return list(progress.track(hashes, "Reading files", len(items)))


def _hash_file(path: Path) -> str:
    try:
        # A named pipe would wait for ever.
        if not path.is_file():
            return ""
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError:
        return ""


def _key(items: Sequence[Item], hashes: Sequence[str], short_side: int) -> str:
    decoder = [DECODER_VERSION, PIL.__version__, features.version("jpg"), THUMBNAIL, short_side]
    decoder += readable_formats()  # what is no image now may be one with a plugin more
    images = [[digest, item.box] for item, digest in zip(items, hashes, strict=True)]
    return hashlib.sha256(json.dumps([decoder, images]).encode()).hexdigest()[:32]


@contextmanager
def _locked(path: Path, progress: Progress) -> Iterator[None]:
    """Holds a lock that the system lets go of when this process dies."""
    with path.open("wb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            progress.say("Another process is decoding these images; waiting for it.")
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _remove_leftovers(pixels_dir: Path) -> None:
    """Removes what processes left that died while decoding other images."""
    for temporary in pixels_dir.glob("*.tmp"):
        with temporary.with_suffix(".lock").open("wb") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:  # Alive; or our own, which `_write` removes.
                continue
            shutil.rmtree(temporary, ignore_errors=True)


def _is_complete(folder: Path) -> bool:
    try:
        index = json.loads((folder / "index.json").read_text())
        pixels, thumbnails = (folder / name for name in ("pixels.u8", "thumbnails.u8"))
        expected = (index["bytes"], len(index["facts"]) * _THUMBNAIL_BYTES)
        return (pixels.stat().st_size, thumbnails.stat().st_size) == expected
    except (OSError, ValueError, KeyError, TypeError):
        return False


def _read(folder: Path, key: str) -> Pixels:
    index = json.loads((folder / "index.json").read_text())
    thumbnails = (folder / "thumbnails.u8").read_bytes()
    facts = []
    for number, known in enumerate(index["facts"]):
        start = number * _THUMBNAIL_BYTES if known["status"] == "ok" else len(thumbnails)
        facts.append(Facts(**known, thumbnail=thumbnails[start : start + _THUMBNAIL_BYTES]))
    return Pixels(
        facts=tuple(facts),
        sizes=np.array(index["sizes"], dtype=np.int64).reshape(-1, 2),
        key=key,
        offsets=np.array(index["offsets"], dtype=np.int64),
        data=np.memmap(folder / "pixels.u8", dtype=np.uint8, mode="r"),
    )


def _write(folder: Path, plan: "_Plan", short_side: int, workers: int, progress: Progress) -> None:
    """Decodes into a temporary folder and renames it when it is complete."""
    facts, sizes, offsets = list(plan.facts), [(0, 0)] * len(plan.facts), [0] * len(plan.facts)
    temporary = folder.with_suffix(".tmp")
    shutil.rmtree(temporary, ignore_errors=True)
    shutil.rmtree(folder, ignore_errors=True)
    temporary.mkdir()
    try:
        _reserve(temporary / "pixels.u8", plan.total)
        _reserve(temporary / "thumbnails.u8", len(facts) * _THUMBNAIL_BYTES)
        with closing(_decode(plan.jobs, short_side, temporary, workers)) as done:
            for job, learned in progress.track(done, "Decoding images", len(plan.jobs)):
                facts[job.index] = replace(facts[job.index], **learned)
                offsets[job.index] = job.offset
                if learned["status"] == "ok":
                    sizes[job.index] = (job.height, job.width)
        known = [asdict(one) for one in facts]
        for one in known:
            del one["thumbnail"]
        index = {"bytes": plan.total, "sizes": sizes, "offsets": offsets, "facts": known}
        (temporary / "index.json").write_text(json.dumps(index))
        temporary.rename(folder)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


@dataclass(frozen=True)
class _Plan:
    """What the headers say, a job for each image worth decoding, and the bytes to reserve."""

    facts: tuple[Facts, ...]
    jobs: tuple[DecodeJob, ...]
    total: int


def _plan(items: Sequence[Item], hashes: Sequence[str], short_side: int) -> _Plan:
    """Plans from headers alone; an image found broken only later leaves its space unused."""
    facts: list[Facts] = []
    jobs: list[DecodeJob] = []
    total = 0
    for index, (item, digest) in enumerate(zip(items, hashes, strict=True)):
        try:
            header = read_header(item.path)
            width, height = stored_size(header.width, header.height, item.box, short_side)
        except BadImageError as bad:
            facts.append(Facts(bad.status, bad.reason, digest))
            continue
        facts.append(Facts("ok", "", digest, header.width, header.height))
        jobs.append(DecodeJob(index, str(item.path), item.box, total, width, height))
        total += width * height * 3
    return _Plan(tuple(facts), tuple(jobs), max(1, total))  # An empty file cannot be mapped.


def _reserve(path: Path, size: int) -> None:
    """Makes a file of `size` bytes that the disk truly has: a full disk kills who writes to a map.

    Raises:
        DiskFullError: It does not have them.
    """
    with path.open("wb") as file:
        try:
            os.posix_fallocate(file.fileno(), 0, size)
        except OSError as error:
            if error.errno not in (errno.ENOSPC, errno.EDQUOT):
                raise
            raise DiskFullError(
                f"The decoded images need {size / 1e9:.2f} GB in {path.parent.parent}, which has "
                f"{shutil.disk_usage(path.parent).free / 1e9:.2f} GB left. Make room there, or "
                "choose another cache folder."
            ) from error


def _write_at(path: Path, offset: int, data: bytes) -> None:
    with path.open("r+b") as file:
        file.seek(offset)
        file.write(data)


def _decode(
    jobs: Sequence[DecodeJob], short_side: int, folder: Path, workers: int
) -> Generator[tuple[DecodeJob, dict[str, Any]], None, None]:
    """Yields every job with what was learned, in the order in which they are done.

    The processes are programs of their own (`decode_worker`), fed through pipes: unlike a fork they
    are safe beside threads, and unlike `multiprocessing`'s spawn they never run the caller's script
    again. One thread a process waits for it.
    """
    if len(jobs) < _POOL_FROM:
        for job in jobs:
            yield job, decode_job(job, short_side, folder)
        return
    chunks: queue.SimpleQueue[Sequence[DecodeJob]] = queue.SimpleQueue()
    done: queue.SimpleQueue[list[tuple[DecodeJob, dict[str, Any]]] | Exception] = (
        queue.SimpleQueue()
    )
    for start in range(0, len(jobs), _CHUNK):
        chunks.put(jobs[start : start + _CHUNK])
    processes: list[subprocess.Popen[str]] = []
    threads: list[threading.Thread] = []
    try:
        for _ in range(min(workers, chunks.qsize())):
            processes.append(_start_worker(short_side, folder))
            threads.append(threading.Thread(target=_feed, args=(processes[-1], chunks, done)))
            threads[-1].start()
        left = len(jobs)
        while left:
            result = done.get()
            if isinstance(result, Exception):
                raise result
            left -= len(result)
            yield from result
    finally:
        for process in processes:
            process.kill()
        for thread in threads:
            thread.join()
        for process in processes:
            process.wait()


def _start_worker(short_side: int, folder: Path) -> subprocess.Popen[str]:
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(path for path in sys.path if path),
        "OPENBLAS_NUM_THREADS": "1",  # Threads that never compute still cost memory.
    }
    return subprocess.Popen(
        [sys.executable, "-P", "-m", "headstart.data.decode_worker", str(short_side), str(folder)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=environment,
        process_group=0,  # Ctrl-C goes to us alone; we end them.
    )


def _feed(
    process: subprocess.Popen[str],
    chunks: "queue.SimpleQueue[Sequence[DecodeJob]]",
    done: "queue.SimpleQueue[list[tuple[DecodeJob, dict[str, Any]]] | Exception]",
) -> None:
    """Gives one process a chunk after the other, until there are none or it fails."""
    assert process.stdin is not None and process.stdout is not None
    with process.stdout, suppress(BrokenPipeError), process.stdin:
        try:
            while True:
                chunk = chunks.get_nowait()
                process.stdin.write(json.dumps([asdict(job) for job in chunk]) + "\n")
                process.stdin.flush()
                answer = json.loads(process.stdout.readline())
                if isinstance(answer, dict):
                    raise OSError(answer["errno"], answer["strerror"])
                done.put(list(zip(chunk, answer, strict=True)))
        except queue.Empty:
            pass
        except (BrokenPipeError, ValueError):  # It is gone, perhaps in the middle of an answer.
            code = process.wait()
            done.put(
                HeadstartError(
                    f"A process that decodes images ended early (exit code {code}): most often the "
                    "machine ran out of memory. Close other programs and start again."
                )
            )
        except OSError as error:
            done.put(error)


def _cores() -> int:
    return len(os.sched_getaffinity(0))
