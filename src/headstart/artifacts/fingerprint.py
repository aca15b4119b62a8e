"""The fingerprint of a run's data: label and content of every image, by which changes are named."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from headstart.artifacts.files import read_table, replacing
from headstart.data.types import Dataset
from headstart.names import to_cell, write_rows
from headstart.text import counted, listed

FINGERPRINT = "data.csv"
"""The file of the run that holds the fingerprint, one row per image."""

_PART = "part"

DIGITS = 16
MOST_NAMES = 10


class Mark(NamedTuple):
    """One image: its name, its label, and the start of the SHA-256 of its file."""

    path: str
    label: str
    sha256: str


@dataclass(frozen=True)
class DataChange:
    """Images that changed in one way.

    Attributes:
        what: How they changed, such as `other labels`.
        images: Names of the images, sorted, each with what changed.
    """

    what: str
    images: tuple[str, ...]

    def __str__(self) -> str:
        """Returns their number and the first names."""
        shown = ", ".join(self.images[:MOST_NAMES])
        more = len(self.images) - MOST_NAMES
        rest = f" and {more} more" if more > 0 else ""
        return f"{counted(len(self.images), 'image')} {self.what} ({shown}{rest})"


def fingerprint(dataset: Dataset, hashes: Sequence[str]) -> list[Mark]:
    """Returns the marks of all images, sorted.

    Args:
        dataset: The images.
        hashes: SHA-256 of each file; empty where it cannot be read.
    """
    return sorted(
        Mark(dataset.key(row), item.label, hashes[row][:DIGITS])
        for row, item in enumerate(dataset.items)
    )


def combined(marks: Sequence[Mark]) -> str:
    """Returns one hash of all marks.

    Example:
        >>> a, b = Mark("a.jpg", "ant", "12"), Mark("b.jpg", "bee", "34")
        >>> combined([a, b]) == combined([b, a]), combined([a]) == combined([a, b])
        (True, False)
    """
    return hashlib.sha256(repr([tuple(mark) for mark in sorted(marks)]).encode()).hexdigest()


def changes(before: Sequence[Mark], after: Sequence[Mark]) -> list[DataChange]:
    """Returns how images differ between two fingerprints.

    Example:
        >>> old = [Mark("a.jpg", "ant", "12"), Mark("b.jpg", "bee", "34")]
        >>> new = [Mark("a.jpg", "bee", "12"), Mark("c.jpg", "bee", "34")]
        >>> for change in changes(old, new):
        ...     print(change)
        1 image with another label (a.jpg: ant is now bee)
        1 image missing (b.jpg)
        1 image added (c.jpg)
    """
    # An image may be in a data set several times, once per box.
    old, new = _by_name(before), _by_name(after)
    both = sorted(old.keys() & new.keys())
    labels = [
        f"{name}: {listed(_labels(old[name]))} is now {listed(_labels(new[name]))}"
        for name in both
        if _labels(old[name]) != _labels(new[name])
    ]
    content = [name for name in both if _hashes(old[name]) != _hashes(new[name])]
    found = [
        DataChange("with another label", tuple(labels)),
        DataChange("with other content", tuple(content)),
        DataChange("missing", tuple(sorted(old.keys() - new.keys()))),
        DataChange("added", tuple(sorted(new.keys() - old.keys()))),
    ]
    return [change for change in found if change.images]


def write_fingerprint(
    folder: Path,
    marks: Sequence[Mark],
    parts: Mapping[str, str] | None = None,
    name: str = FINGERPRINT,
) -> None:
    """Writes the fingerprint of a run.

    Args:
        folder: Run folder.
        marks: The images.
        parts: Part of the split (`train`, `val` or `test`) of each used image, by its name.
        name: Name of the file, for images beside the data set.
    """
    known = parts or {}
    # surrogateescape: a file name need not be valid UTF-8.
    with (
        replacing(folder / name) as draft,
        draft.open("w", newline="", encoding="utf-8", errors="surrogateescape") as file,
    ):
        rows = [[*map(to_cell, mark), known.get(mark.path, "")] for mark in marks]
        write_rows(file, [[*Mark._fields, _PART], *rows])


def read_fingerprint(folder: Path, name: str = FINGERPRINT) -> list[Mark] | None:
    """Reads the fingerprint of a run; None in runs of older versions, which kept none.

    Args:
        folder: Run folder.
        name: Name of the file, for images beside the data set.

    Raises:
        RunError: If it cannot be read.
    """
    rows = read_table(folder / name, Mark._fields)
    return None if rows is None else [Mark(*(row[each] for each in Mark._fields)) for row in rows]


def read_parts(folder: Path) -> dict[str, str]:
    """Returns the part of each used image when a run began; empty if the run did not keep it.

    Raises:
        RunError: If the fingerprint cannot be read.
    """
    rows = read_table(folder / FINGERPRINT, Mark._fields) or []
    return {row["path"]: row[_PART] for row in rows if row.get(_PART)}


def _by_name(marks: Sequence[Mark]) -> dict[str, list[Mark]]:
    found: dict[str, list[Mark]] = {}
    for mark in sorted(marks):
        found.setdefault(mark.path, []).append(mark)
    return found


def _labels(marks: Sequence[Mark]) -> list[str]:
    return [mark.label for mark in marks]


def _hashes(marks: Sequence[Mark]) -> set[str]:
    return {mark.sha256 for mark in marks}
