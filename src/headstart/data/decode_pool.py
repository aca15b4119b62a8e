"""A pool of processes that decode images."""

import hashlib
import json
import os
import queue
import subprocess
import sys
import threading
from collections.abc import Generator, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from PIL import Image

from headstart.data.images import BadImageError, read_image
from headstart.data.pixels import THUMBNAIL, THUMBNAIL_BYTES
from headstart.data.reading import Reading
from headstart.data.types import Box
from headstart.errors import HeadstartError

_POOL_FROM = 64
_CHUNK = 16


@dataclass(frozen=True)
class DecodeJob:
    """One image to decode, and where to store its pixels.

    Attributes:
        index: Index of the image in the data set.
        path: Image file.
        box: Box to crop to first.
        offset: Offset of its first byte in the file of pixels.
        width: Width of the stored image in pixels, according to its header.
        height: Height of the stored image in pixels, according to its header.
    """

    index: int
    path: str
    box: Box | None
    offset: int
    width: int
    height: int


@dataclass(frozen=True)
class Decoding:
    """How all images of a data set are decoded: the shorter side in pixels, and the reading."""

    short_side: int
    reading: Reading


def decode_job(job: DecodeJob, decoding: Decoding, folder: Path) -> dict[str, Any]:
    """Decodes one image into the files in `folder` and returns what the index says of it.

    Only this little passes between the processes; the thumbnail has a file of its own.
    """
    try:
        image, header, learned = read_image(
            Path(job.path), job.box, decoding.short_side, decoding.reading
        )
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
    _write_at(folder / "thumbnails.u8", job.index * THUMBNAIL_BYTES, thumbnail.tobytes())
    digest = hashlib.sha256(b"%d %d " % image.size + data).hexdigest()
    return {
        "status": "ok",
        "mode": header.mode,
        "format": header.format,
        "pixels": digest,
        "patient": header.patient,
        "learned": asdict(learned),
    }


def _write_at(path: Path, offset: int, data: bytes) -> None:
    with path.open("r+b") as file:
        file.seek(offset)
        file.write(data)


def decode_all(
    jobs: Sequence[DecodeJob], decoding: Decoding, folder: Path, workers: int
) -> Generator[tuple[DecodeJob, dict[str, Any]], None, None]:
    """Yields every job with what was learned, in the order in which they are done.

    The processes are programs of their own (`decode_worker`), fed through pipes: unlike a fork they
    are safe beside threads, and unlike `multiprocessing`'s spawn they never run the caller's script
    again. One thread a process waits for it.
    """
    if len(jobs) < _POOL_FROM:
        for job in jobs:
            yield job, decode_job(job, decoding, folder)
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
            processes.append(_start_worker(decoding, folder))
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


def _start_worker(decoding: Decoding, folder: Path) -> subprocess.Popen[str]:
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(path for path in sys.path if path),
        "OPENBLAS_NUM_THREADS": "1",  # Threads that never compute still cost memory.
    }
    program = [sys.executable, "-P", "-m", "headstart.data.decode_worker"]
    return subprocess.Popen(
        [*program, json.dumps(asdict(decoding)), str(folder)],
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
                    f"A process that decodes images ended early (exit code {code}), most often "
                    "because memory ran out. Close other programs and run again."
                )
            )
        except OSError as error:
            done.put(error)
