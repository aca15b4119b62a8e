"""The decoded images of a data set, in one memory-mapped uint8 file."""

import json
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, model_validator

from headstart.data.array_files import open_array
from headstart.data.entries import discard, use
from headstart.data.locks import Share
from headstart.data.ranges import common_range, exposures_differ
from headstart.data.rasters import THUMBNAIL_BYTES, Learned, Status
from headstart.data.types import Dataset
from headstart.errors import DataError
from headstart.inputs.quantities import Count
from headstart.inputs.regular_files import read_bytes
from headstart.progress import SILENT, Progress


@dataclass(frozen=True)
class Facts:
    """What was learned about one file while reading it.

    Attributes:
        status: Whether its pixels are there, and if not, why.
        reason: The same for people; empty when ok.
        sha256: SHA-256 of the file's bytes; empty if it could not be read at all.
        width: In pixels, as shown (after EXIF orientation), before the box crop; 0 if unknown.
        height: As `width`.
        mode: Pillow's name of the file's own colour mode.
        format: Pillow's name of the file's format.
        pixels: SHA-256 of the stored size and pixels.
        thumbnail: The stored image squeezed to `THUMBNAIL` x `THUMBNAIL` grey values, if ok.
        patient: Anonymous mark of the patient that the file names; empty if it names none.
        learned: What its pixels say.
        memory: Bytes that decoding it takes at most.
    """

    status: Status
    reason: str = ""
    sha256: str = ""
    width: int = 0
    height: int = 0
    mode: str = ""
    format: str = ""
    pixels: str = ""
    thumbnail: bytes | memoryview = b""
    patient: str = ""
    learned: Learned = field(default=Learned())
    memory: int = 0


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


class _Facts(BaseModel):
    """The stored facts about one file; see `Facts`."""

    model_config = ConfigDict(extra="forbid")

    status: Status
    reason: str
    sha256: str
    width: Count
    height: Count
    mode: str
    format: str
    pixels: str
    patient: str
    learned: Learned | None
    memory: Count = 0


class _Index(BaseModel):
    """The stored index of decoded images; see `Pixels`."""

    bytes: Count
    sizes: list[tuple[Count, Count]]
    offsets: list[Count]
    facts: list[_Facts]

    @model_validator(mode="after")
    def _agree(self) -> Self:
        if not len(self.sizes) == len(self.offsets) == len(self.facts):
            raise ValueError("The index does not have one entry per image.")
        for start, (height, width) in zip(self.offsets, self.sizes, strict=True):
            if start + height * width * 3 > self.bytes:
                raise ValueError("An image lies behind the end of the pixels.")
        return self


def open_pixels(cache_dir: Path, key: str, progress: Progress = SILENT) -> Pixels | None:
    """Returns images that were decoded before; None if they are not there as they were written.

    Other processes do not delete them while the pixels are mapped.

    Args:
        cache_dir: Folder of all caches.
        key: Key of the pixels.
        progress: Progress display, which says what is damaged.
    """
    folder = cache_dir / "pixels" / key
    held = use(folder, progress)
    return None if held is None else read_pixels(folder, key, held, progress)


def read_pixels(folder: Path, key: str, held: Share, progress: Progress = SILENT) -> Pixels | None:
    """Reads the decoded images of an entry that is locked; the pixels stay on the disk.

    Returns None if another version wrote it.
    """
    with closing(held):
        try:
            found = _read(folder, key)
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            progress.say(f"{folder} is an entry of another version of headstart; made again.")
            discard(folder)
            return None
        if isinstance(found.data, np.memmap):
            held.keep_for(found.data.base)  # the map, which its slices share
        return found


def _read(folder: Path, key: str) -> Pixels:
    content = read_bytes(folder / "index.json")
    _Index.model_validate_json(content)
    index = json.loads(content)
    shape = (len(index["facts"]) * THUMBNAIL_BYTES,)
    thumbnails = open_array(folder / "thumbnails.u8", np.uint8, shape).data
    facts = []
    for number, known in enumerate(index["facts"]):
        start = number * THUMBNAIL_BYTES if known["status"] == "ok" else len(thumbnails)
        thumbnail = thumbnails[start : start + THUMBNAIL_BYTES]
        learned = learned_from(known.pop("learned"))
        facts.append(Facts(**known, learned=learned, thumbnail=thumbnail))
    return Pixels(
        facts=tuple(facts),
        sizes=np.array(index["sizes"], dtype=np.int64).reshape(-1, 2),
        key=key,
        offsets=np.array(index["offsets"], dtype=np.int64),
        data=open_array(folder / "pixels.u8", np.uint8, (index["bytes"],)),
    )


def learned_from(known: Mapping[str, Any] | None) -> Learned:
    """Returns what was learned from the pixels of an image, from the lists of JSON.

    Example:
        >>> learned_from({"sample": "uint16", "range": [0, 4095]}).range
        (0, 4095)
    """
    if known is None:
        return Learned()
    span = known["range"]
    return Learned(**{**known, "range": tuple(span) if span else None})


def depths_of(facts: Sequence[Facts], rows: Sequence[int] | NDArray[np.int64]) -> tuple[str, ...]:
    """Returns the types of the values in some of the images, sorted.

    Example:
        >>> depths_of([Facts("ok"), Facts("ok", learned=Learned("uint16"))], [0, 1, 1])
        ('uint16', 'uint8')
    """
    return tuple(sorted({facts[int(row)].learned.sample for row in rows}))


def with_range(
    dataset: Dataset, facts: Sequence[Facts], rows: Sequence[int] | NDArray[np.int64]
) -> Dataset:
    """Returns a data set that reads deep images by the range of some of its images.

    Where the exposures of these differ too much, each image is read by its own range.

    Args:
        dataset: The images.
        facts: What was learned about each file.
        rows: The images that are measured. Where none of them is deep, the others go by the type
            of their values.
    """
    if all(each.learned.range is None for each in facts):
        return dataset
    ranges = [span for row in rows if (span := facts[int(row)].learned.range) is not None]
    found: tuple[float, float] | Literal["own"] | None = None
    if ranges:
        found = "own" if exposures_differ(ranges) else common_range(ranges)
    return replace(dataset, reading=replace(dataset.reading, range=found))
