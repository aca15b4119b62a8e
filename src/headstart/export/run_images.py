"""The images of a run, read again from their files, as the evaluation views of its classifier."""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from headstart.artifacts.bundle_spec import BundleSpec
from headstart.artifacts.fingerprint import DIGITS, read_fingerprint
from headstart.artifacts.originals import originals
from headstart.artifacts.records import RunRecord
from headstart.artifacts.run import read_split_parts
from headstart.data.decode import hash_file
from headstart.data.eval_view import eval_view
from headstart.data.images import see_image
from headstart.data.sources import load_dataset
from headstart.data.types import Box
from headstart.errors import DataError, InputError
from headstart.text import counted, listed

SHOWN = 5
"""How many names a message lists."""


@dataclass(frozen=True)
class RawImage:
    """An image file of a run.

    Attributes:
        name: Its name in the run.
        path: Its file.
        box: Where it is cropped first, if anywhere.
    """

    name: str
    path: Path
    box: Box | None = None


def test_images(
    run: Path, record: RunRecord, names: Sequence[str], data: str | None, cache_dir: Path
) -> list[RawImage]:
    """Returns the files of sealed test images in the order of their names.

    Args:
        run: Run folder.
        record: Its record.
        names: Names of the images in the run; one with several boxes occurs several times.
        data: Where the images are now; None for where the run found them.
        cache_dir: Cache folder, for archives.

    Raises:
        InputError: If the run does not know where its images are.
        DataError: If an image is missing, or its file is another than in the run.
    """
    return _checked(run, _found(run, record, data, cache_dir), names)


def training_images(
    run: Path, record: RunRecord, number: int, data: str | None, cache_dir: Path
) -> list[RawImage]:
    """Returns some training images of a run, the same each time.

    Args:
        run: Run folder.
        record: Its record.
        number: Most images to return.
        data: Where the images are now; None for where the run found them.
        cache_dir: Cache folder, for archives.

    Raises:
        InputError: If the run does not know where its images are.
        DataError: If an image is missing, or its file is another than in the run.
    """
    parts = read_split_parts(run)
    names = sorted(name for name, part in parts.items() if part == "train")
    order = np.random.default_rng(0).permutation(len(names))[:number]
    found = _found(run, record, data, cache_dir)
    once = {name: images[:1] for name, images in found.items()}
    return _checked(run, once, [names[row] for row in order])


def view_batches(
    images: Sequence[RawImage], spec: BundleSpec, size: int
) -> Iterator[NDArray[np.uint8]]:
    """Yields the evaluation views (B, R, R, 3) of images in batches of at most `size`.

    Raises:
        DataError: If an image cannot be read.
    """
    for start in range(0, len(images), size):
        batch = []
        for each in images[start : start + size]:
            image, _ = see_image(each.path, each.box, spec.preprocessing.resize, spec.reading)
            batch.append(eval_view(image, spec.preprocessing))
        yield np.stack(batch)


def whole_images(images: Sequence[RawImage], spec: BundleSpec) -> Iterator[NDArray[np.uint8]]:
    """Yields images (1, height, width, 3) as they are, one by one.

    Raises:
        DataError: If an image cannot be read.
    """
    for each in images:
        image, _ = see_image(each.path, each.box, None, spec.reading)
        yield np.asarray(image)[None]


def _found(
    run: Path, record: RunRecord, data: str | None, cache_dir: Path
) -> dict[str, list[RawImage]]:
    """Returns the images that the source holds now, by name."""
    source = data or record.source
    if not source:
        raise InputError(
            f"The images of {run} were passed in Python, so it is not known where they are. Give "
            "the folder that their names start from with --data."
        )
    found: dict[str, list[RawImage]] = defaultdict(list)
    if not record.source:  # the names are all that is known
        place = originals(run, Path(source))
        for name in place.names:
            if (path := place.find(name)) is not None:
                found[name].append(RawImage(name, path))
        return found
    several = record.task == "multilabel"
    dataset = load_dataset(source, record.reading, cache_dir=cache_dir, multilabel=several)
    for row, item in enumerate(dataset.items):
        name = dataset.key(row)
        found[name].append(RawImage(name, item.path, item.box))
    return found


def _checked(run: Path, found: dict[str, list[RawImage]], names: Sequence[str]) -> list[RawImage]:
    """Returns images in the order of their names, if their files are those of the run."""
    hashes = {mark.path: mark.sha256 for mark in read_fingerprint(run) or []}
    waiting = {name: list(found.get(name, ())) for name in names}
    chosen, missing, changed = [], [], []
    for name in names:
        if not waiting[name]:
            missing.append(name)
            continue
        image = waiting[name].pop(0)
        if hashes.get(name) not in (None, hash_file(image.path)[:DIGITS]):
            changed.append(name)
        chosen.append(image)
    for wrong, what in ((missing, "are missing"), (changed, "have changed since the run")):
        if wrong:
            more = f" and {len(wrong) - SHOWN} more" if len(wrong) > SHOWN else ""
            raise DataError(
                f"{counted(len(wrong), 'image')} of {run} {what}: {listed(wrong[:SHOWN])}{more}. "
                "Restore them, or name the place of the images with --data."
            )
    return chosen
