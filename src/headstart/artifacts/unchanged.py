"""Whether the data of a run are those that it began with, for everything that continues from it."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from headstart.artifacts.files import damaged
from headstart.artifacts.fingerprint import (
    FINGERPRINT,
    DataChange,
    Mark,
    changes,
    combined,
    fingerprint,
    read_fingerprint,
    read_parts,
)
from headstart.artifacts.records import RunRecord
from headstart.artifacts.run import read_split_parts
from headstart.data.decode import hash_files
from headstart.data.types import Dataset
from headstart.errors import RunError
from headstart.progress import Progress

ANOTHER_RUN = (
    "The results so far belong to the former data. Restore it, or run `fit` on the new data with "
    "another --out."
)
THE_FOLDER = (
    "The split and the recipe of the run belong to the former data. Restore it, or pass the folder "
    "of images instead of the run."
)


def check_unchanged(
    folder: Path, record: RunRecord, dataset: Dataset, way_out: str, progress: Progress
) -> str:
    """Checks that the labels, images and split of a run are those that it began with.

    Args:
        folder: Run folder.
        record: Its record.
        dataset: Its images as they are now.
        way_out: What to do if they changed, as sentences.
        progress: Progress display.

    Returns:
        Why that cannot be known; empty if it is known.

    Raises:
        RunError: If they changed; the message names the images.
    """
    before = read_fingerprint(folder)
    if before is None and record.data_sha256:
        raise RunError(
            f"{folder} has no {FINGERPRINT}, by which changed images are found. Restore the file, "
            "or run `fit` again with another --out."
        )
    if before is None:
        return (
            "An older version of headstart began this run and kept no fingerprint of its data. "
            "It is not known whether labels or images have changed since then."
        )
    if record.data_sha256 and combined(before) != record.data_sha256:
        raise RunError(damaged(folder / FINGERPRINT, "it is not the one that run.json describes"))
    found = changes(before, fingerprint(dataset, hash_files(dataset.items, progress)))
    found += _moved(folder, read_parts(folder))
    if found:
        raise RunError(
            f"The data of {folder} changed since the run began: {'; '.join(map(str, found))}. "
            f"{way_out}"
        )
    return ""


def check_folder_unchanged(folder: Path, option: str, now: Sequence[Mark]) -> list[str]:
    """Checks that the images of an option's folder are those that a run began with.

    Args:
        folder: Run folder.
        option: Name of the option, such as `background`.
        now: Fingerprint of the images as they are now.

    Returns:
        Why that cannot be known, as a sentence; nothing if it is known.

    Raises:
        RunError: If they changed; the message names the images.
    """
    before = read_fingerprint(folder, f"{option}.csv")
    if before is None:
        return [
            f"The run has no {option}.csv, so it is not known whether the images of --{option} "
            "have changed since it began."
        ]
    if found := changes(before, now):
        raise RunError(
            f"The images of --{option} changed since {folder} began: "
            f"{'; '.join(map(str, found))}. {ANOTHER_RUN}"
        )
    return []


def _moved(folder: Path, before: Mapping[str, str]) -> list[DataChange]:
    """Returns the images that split.csv has in another part than the run began with.

    Raises:
        RunError: If the run has no readable split.csv.
    """
    if not before:
        return []
    now = read_split_parts(folder)
    moved = [
        f"{name}: {before.get(name) or 'unused'} is now {now.get(name) or 'unused'}"
        for name in sorted(before.keys() | now.keys())
        if before.get(name, "") != now.get(name, "")
    ]
    return [DataChange("in another part of split.csv", tuple(moved))] if moved else []
