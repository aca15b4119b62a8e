"""Decoded and resized images, kept in the cache."""

import errno
import hashlib
import json
import shutil
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from tempfile import TemporaryFile

import PIL
from PIL import features

from headstart.data.array_files import reserve
from headstart.data.decode_pool import DecodeJob, Decoding, decode_all
from headstart.data.entries import discard, publish
from headstart.data.formats import readable_formats
from headstart.data.images import (
    BadImageError,
    read_header,
    stored_size,
)
from headstart.data.locks import Share, try_lock
from headstart.data.memory import decoding_gate, most_for_an_image
from headstart.data.pixels import (
    Facts,
    Pixels,
    learned_from,
    open_pixels,
    read_pixels,
)
from headstart.data.rasters import THUMBNAIL, THUMBNAIL_BYTES
from headstart.data.readers.kinds import EXTRA_KINDS, has_extra
from headstart.data.reading import EACH, Reading
from headstart.data.types import Item
from headstart.errors import DiskFullError, HeadstartError, InputError, RunError
from headstart.inputs.machine import available_cores
from headstart.inputs.regular_files import open_regular
from headstart.progress import SILENT, Progress
from headstart.text import data_size

DECODER_VERSION = 3
"""Part of every key: raise it whenever the same file would give other pixels or other facts."""

_LOOK_S = 0.2


def decode_dataset(
    items: Sequence[Item],
    short_side: int,
    cache_dir: Path,
    workers: int | None = None,
    progress: Progress = SILENT,
    reading: Reading = EACH,
) -> Pixels:
    """Returns all images of a data set, decoded now or by an earlier run.

    They are kept in `cache_dir/pixels/KEY/`, an entry of the cache (`entries`).
    Processes that want the same images at the same time wait for the first one.

    Args:
        items: Images to decode.
        short_side: Length of the shorter side in pixels; see `load_image`.
        cache_dir: Folder of all caches.
        workers: Number of processes; by default one per core.
        progress: Progress display.
        reading: Page, channels and range; by default each deep image is stretched by itself.

    Raises:
        InputError: If there would be no worker, the cache folder is not writable, or the limit of
            memory is not a number.
        DiskFullError: If there is no space for the pixels.
        HeadstartError: If a worker was killed.
    """
    if workers is not None and workers < 1:
        raise InputError(f"{workers} workers cannot decode images: give 1 or more.")
    decoding_gate()  # it checks the limit
    hashes = hash_files(items, progress)
    key = _key(items, hashes, short_side, reading)
    folder = cache_dir / "pixels" / key
    found = open_pixels(cache_dir, key, progress)  # before any lock: a cache may be read-only
    if found is not None and not _lacked_memory(found):
        return found
    _check_cache(cache_dir)
    try:
        with _locked(folder.with_suffix(".lock"), progress):
            _remove_leftovers(folder.parent)
            found = open_pixels(cache_dir, key, progress)
            if found is not None:
                if not _lacked_memory(found):
                    return found
                discard(folder)
            decoding = Decoding(short_side, reading)
            plan = _plan(items, hashes, short_side, reading)
            held = _write(folder, plan, decoding, workers or available_cores(), progress)
            if held is not None and (found := read_pixels(folder, key, held)) is not None:
                return found
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise DiskFullError(
            f"There is no space left in {cache_dir} for the decoded images: {error.strerror}. "
            "Make room there, or choose another cache folder."
        ) from error
    raise HeadstartError(f"Another process deleted {folder} while it was written. Run again.")


@dataclass(frozen=True)
class ImageSource:
    """What images are decoded from, to decode them once more.

    Attributes:
        items: Images.
        short_side: Length of the shorter side in pixels.
        reading: Page, channels and range.
    """

    items: tuple[Item, ...]
    short_side: int
    reading: Reading


def pixels_again(key: str, source: ImageSource, cache_dir: Path) -> Pixels:
    """Returns decoded images from the cache; those that were lost or damaged are decoded again.

    Args:
        key: Key of the pixels.
        source: What they were decoded from.
        cache_dir: Folder of all caches.

    Raises:
        RunError: If they have to be decoded, and the files are no longer the same.
        DiskFullError: If there is no space for them.
    """
    found = open_pixels(cache_dir, key)
    if found is not None:
        return found
    found = decode_dataset(source.items, source.short_side, cache_dir, 1, reading=source.reading)
    if found.key != key:
        raise RunError(
            f"The decoded images {key} are no longer in the cache, and the image files have "
            "changed since the run began. Put them back and resume the run, or start a new one."
        )
    return found


def _lacked_memory(pixels: Pixels) -> bool:
    """Returns whether images were left out for a lack of memory that may be over."""
    short = [each.memory for each in pixels.facts if each.status == "no_memory"]
    return bool(short) and min(short) <= most_for_an_image()


def _check_cache(cache_dir: Path) -> None:
    """Checks, before any work, that a cache folder can be written to.

    Raises:
        InputError: If it cannot.
    """
    try:
        (cache_dir / "pixels").mkdir(parents=True, exist_ok=True)
        with TemporaryFile(dir=cache_dir / "pixels"):
            pass
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise InputError(
            f"Cannot write to the cache folder {cache_dir}: {error.strerror}. Set HEADSTART_CACHE "
            "to a folder that you can write to."
        ) from None


def hash_files(items: Sequence[Item], progress: Progress) -> list[str]:
    """Returns the SHA-256 of each file, or an empty string where it cannot be read."""
    with ThreadPoolExecutor(available_cores() * 2) as pool:
        hashes = pool.map(hash_file, [item.path for item in items])
        return list(progress.track(hashes, "Reading files", len(items)))


def hash_file(path: Path) -> str:
    """Returns the SHA-256 of a file, or an empty string where it cannot be read."""
    try:
        with open_regular(path) as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError:
        return ""


def _key(items: Sequence[Item], hashes: Sequence[str], short_side: int, reading: Reading) -> str:
    decoder = [DECODER_VERSION, PIL.__version__, features.version("jpg"), THUMBNAIL, short_side]
    decoder += readable_formats()  # what is no image now may be one with a plugin more
    decoder += [asdict(reading), *map(has_extra, EXTRA_KINDS)]
    images = [[digest, item.box] for item, digest in zip(items, hashes, strict=True)]
    return hashlib.sha256(json.dumps([decoder, images]).encode()).hexdigest()[:32]


@contextmanager
def _locked(path: Path, progress: Progress) -> Iterator[None]:
    """Waits for a lock and holds it."""
    waiting = False
    while True:
        with try_lock(path) as free:
            if free:
                yield
                return
        if not waiting:
            progress.say("Another process is decoding these images; waiting for it.")
        waiting = True
        time.sleep(_LOOK_S)


def _remove_leftovers(pixels_dir: Path) -> None:
    """Removes what processes left that died while decoding other images."""
    for temporary in pixels_dir.glob("*.tmp"):
        with try_lock(temporary.with_suffix(".lock")) as free:
            if free:  # else alive; or our own, which `_write` removes
                shutil.rmtree(temporary, ignore_errors=True)


def _write(
    folder: Path, plan: "_Plan", decoding: Decoding, workers: int, progress: Progress
) -> Share | None:
    """Decodes into a temporary folder, which becomes the entry when it is complete."""
    facts, sizes, offsets = list(plan.facts), [(0, 0)] * len(plan.facts), [0] * len(plan.facts)
    temporary = folder.with_suffix(".tmp")
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir()
    try:
        _reserve(temporary / "pixels.u8", plan.total)
        _reserve(temporary / "thumbnails.u8", len(facts) * THUMBNAIL_BYTES)
        with closing(decode_all(plan.jobs, decoding, temporary, workers)) as done:
            for job, learned in progress.track(done, "Decoding images", len(plan.jobs)):
                seen = learned_from(learned.pop("learned", None))
                facts[job.index] = replace(facts[job.index], **learned, learned=seen)
                offsets[job.index] = job.offset
                if learned["status"] == "ok":
                    sizes[job.index] = (job.height, job.width)
        known = [asdict(one) for one in facts]
        for one in known:
            del one["thumbnail"]
        index = {"bytes": plan.total, "sizes": sizes, "offsets": offsets, "facts": known}
        (temporary / "index.json").write_text(json.dumps(index))
        return publish(temporary, folder, {})
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


@dataclass(frozen=True)
class _Plan:
    """What the headers say, a job for each image worth decoding, and the bytes to reserve."""

    facts: tuple[Facts, ...]
    jobs: tuple[DecodeJob, ...]
    total: int


def _plan(items: Sequence[Item], hashes: Sequence[str], short_side: int, reading: Reading) -> _Plan:
    """Plans from headers alone; an image found broken only later leaves its space unused."""
    facts: list[Facts] = []
    jobs: list[DecodeJob] = []
    total = 0
    for index, (item, digest) in enumerate(zip(items, hashes, strict=True)):
        try:
            header = read_header(item.path, reading, item.box, short_side)
            width, height = stored_size(header.width, header.height, item.box, short_side)
        except BadImageError as bad:
            facts.append(Facts(bad.status, bad.reason, digest))
            continue
        facts.append(Facts("ok", "", digest, header.width, header.height, memory=header.memory))
        place = (total, width, height, header.memory)
        jobs.append(DecodeJob(index, str(item.path), item.box, *place))
        total += width * height * 3
    return _Plan(tuple(facts), tuple(jobs), max(1, total))  # An empty file cannot be mapped.


def _reserve(path: Path, size: int) -> None:
    """Makes a file of `size` bytes that the disk truly has: a full disk kills who writes to a map.

    Raises:
        DiskFullError: It does not have them.
    """
    try:
        with path.open("wb") as file:
            reserve(file, size)
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise DiskFullError(
            f"The decoded images need {data_size(size)} in {path.parent.parent}, which has "
            f"{data_size(shutil.disk_usage(path.parent).free)} left. Make room there, or "
            "choose another cache folder."
        ) from error
