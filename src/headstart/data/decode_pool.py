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
from headstart.data.memory import decoding_gate
from headstart.data.rasters import THUMBNAIL, THUMBNAIL_BYTES
from headstart.data.reading import Reading
from headstart.data.types import Box
from headstart.errors import HeadstartError

_POOL_FROM = 64
_CHUNK = 16

_MOST_DEATHS = 24
"""Number of processes that may die before the decoding is given up."""


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
        memory: Bytes that decoding it takes at most.
    """

    index: int
    path: str
    box: Box | None
    offset: int
    width: int
    height: int
    memory: int


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
    again. One thread a process waits for it, and for the memory that its next images take. A
    process that dies is replaced, and an image that ends two of them is left out.
    """
    if len(jobs) < _POOL_FROM:
        for job in jobs:
            yield job, decode_job(job, decoding, folder)
        return
    chunks = _in_chunks(jobs, decoding_gate().size // max(1, workers))
    pool = _Pool(decoding, folder, queue.SimpleQueue(), queue.SimpleQueue())
    for chunk in chunks:
        pool.chunks.put(chunk)
    threads = [
        threading.Thread(target=_feed, args=(pool,)) for _ in range(min(workers, len(chunks)))
    ]
    try:
        for thread in threads:
            thread.start()
        left = len(jobs)
        while left:
            result = pool.done.get()
            if isinstance(result, Exception):
                raise result
            left -= len(result)
            yield from result
    finally:
        pool.stop()
        for thread in threads:
            if thread.ident is not None:
                thread.join()


def _in_chunks(jobs: Sequence[DecodeJob], large: int) -> list[list[DecodeJob]]:
    """Returns the jobs in the chunks that a process gets; a large image is one by itself."""
    chunks: list[list[DecodeJob]] = []
    few: list[DecodeJob] = []
    for job in jobs:
        if job.memory > large:
            chunks.append([job])
            continue
        few.append(job)
        if len(few) == _CHUNK:
            chunks.append(few)
            few = []
    return [*chunks, few] if few else chunks


class _Pool:
    """What the threads that feed processes share.

    Attributes:
        decoding: How images are decoded.
        folder: Where the pixels go.
        chunks: Jobs that no process has yet.
        done: Jobs with their answers, and what went wrong.
    """

    def __init__(
        self,
        decoding: Decoding,
        folder: Path,
        chunks: "queue.SimpleQueue[list[DecodeJob]]",
        done: "queue.SimpleQueue[list[tuple[DecodeJob, dict[str, Any]]] | Exception]",
    ) -> None:
        self.decoding = decoding
        self.folder = folder
        self.chunks = chunks
        self.done = done
        self._lock = threading.Lock()
        self._alive: list[subprocess.Popen[str]] = []
        self._stopped = False
        self._deaths = 0

    def start(self) -> "subprocess.Popen[str] | None":
        """Starts a process; returns None after `stop`."""
        with self._lock:
            if self._stopped:
                return None
            self._alive.append(_start_worker(self.decoding, self.folder))
            return self._alive[-1]

    def end(self, process: "subprocess.Popen[str]") -> int:
        """Ends a process and returns its exit code."""
        assert process.stdin is not None and process.stdout is not None
        with process.stdout, suppress(BrokenPipeError), process.stdin:
            process.stdin.close()
        code = process.wait()
        with self._lock:
            self._alive.remove(process)
        return code

    def died(self, code: int) -> bool:
        """Counts the death of a process; returns whether another may replace it."""
        with self._lock:
            self._deaths += 1
            return not self._stopped and code < 0 and self._deaths <= _MOST_DEATHS

    def stop(self) -> None:
        """Kills all processes and lets no more begin."""
        with self._lock:
            self._stopped = True
            for process in self._alive:
                process.kill()


def _feed(pool: _Pool) -> None:
    """Gives one process a chunk after the other, until there are none or something fails."""
    process = None
    try:
        while True:
            todo = [pool.chunks.get_nowait()]
            tries = 0
            while todo:
                process = process or pool.start()
                if process is None:
                    return
                chunk = todo[0]
                answer = _ask(process, chunk, alone=tries > 0)
                if answer is not None:
                    pool.done.put(list(zip(todo.pop(0), answer, strict=True)))
                    tries = 0
                    continue
                code, process = pool.end(process), None
                if not pool.died(code):
                    pool.done.put(_ended_early(code))
                    return
                if len(chunk) > 1:  # One of them does not end the others.
                    todo[:1] = [[job] for job in chunk]
                elif tries:
                    pool.done.put([(chunk[0], _deadly(code))])
                    todo.pop(0)
                    tries = 0
                else:
                    tries += 1
    except queue.Empty:
        pass
    except Exception as error:
        pool.done.put(error)
    finally:
        if process is not None:
            pool.end(process)


def _ask(
    process: "subprocess.Popen[str]", chunk: Sequence[DecodeJob], alone: bool
) -> list[dict[str, Any]] | None:
    """Returns what a process learned about images; None if it died.

    Raises:
        OSError: If the disk failed.
    """
    assert process.stdin is not None and process.stdout is not None
    gate = decoding_gate()
    needed = gate.size if alone else max(job.memory for job in chunk)
    with gate.holding(needed):
        try:
            process.stdin.write(json.dumps([asdict(job) for job in chunk]) + "\n")
            process.stdin.flush()
            answer = json.loads(process.stdout.readline())
        except (BrokenPipeError, ValueError):  # It is gone, perhaps in the middle of an answer.
            return None
    if isinstance(answer, dict):
        raise OSError(answer["errno"], answer["strerror"])
    result: list[dict[str, Any]] = answer
    return result


def _deadly(code: int) -> dict[str, Any]:
    return {
        "status": "no_memory",
        "reason": f"the process that decoded it ended twice (exit code {code}), most often because "
        "memory ran out: close other programs, or make the image smaller",
    }


def _ended_early(code: int) -> HeadstartError:
    return HeadstartError(
        f"A process that decodes images ended early (exit code {code}), most often because memory "
        "ran out. Close other programs and run again."
    )


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
