"""Unlabelled images that may help to train: which of them may, so that nothing leaks.

An image that shows what a labelled image shows (a copy, a near-duplicate, the same patient) would
let a head see what it is measured on. So it is left out, and what belongs to it, too.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from headstart.data.images_in import images_in
from headstart.data.near_duplicates import near_duplicates
from headstart.data.pixel_notes import same_patient
from headstart.data.pixels import Facts
from headstart.data.rasters import THUMBNAIL
from headstart.data.types import Item, SplitName
from headstart.errors import InputError

MOST = 1000
"""Most unlabelled images that are used."""

SAYS: Mapping[str, str] = {
    "test": "like sealed test images",
    "val": "like validation images",
    "train": "like training images",
    "copy": "copies of others",
    "unread": "unreadable",
    "drawn": "not drawn",
}
"""Why an unlabelled image is left out, in words, by reason."""

_STRONGEST: tuple[SplitName, ...] = ("test", "val", "train")


@dataclass(frozen=True)
class Unlabelled:
    """The images of a folder of unlabelled ones.

    Attributes:
        folder: The folder.
        items: The images that are decoded.
        rows: Rows of those that may be used (U,), ascending.
        left_out: Number of the others by reason in words; no reason without any.
        why_unread: Why the first of the unreadable ones cannot be read; empty if all can.
    """

    folder: Path
    items: tuple[Item, ...]
    rows: NDArray[np.int64]
    left_out: Mapping[str, int]
    why_unread: str = ""

    @property
    def images(self) -> int:
        """Number of images in the folder."""
        return len(self.rows) + sum(self.left_out.values())


def images_below(folder: Path, option: str = "unlabelled") -> list[Path]:
    """Returns the images below the folder of an option, sorted.

    Raises:
        DataError: If there are none.
        InputError: If it is no folder.
    """
    if not folder.is_dir():
        raise InputError(f"--{option} {folder} is not a folder. Give a folder of images.")
    return images_in([folder])


def drawn(files: Sequence[Path], most: int) -> list[Path]:
    """Returns at most so many files, drawn at random and always the same, in their order.

    Example:
        >>> files = [Path(f"{number}.png") for number in range(5)]
        >>> len(drawn(files, 3)), drawn(files, 9) == files
        (3, True)
    """
    if len(files) <= most:
        return list(files)
    rows = np.sort(np.random.default_rng(0).permutation(len(files))[:most])
    return [files[row] for row in rows]


def usable(
    folder: Path,
    files: Sequence[Path],
    undrawn: int,
    facts: Sequence[Facts],
    labelled: Sequence[tuple[Facts, SplitName]],
    known: Mapping[str, SplitName] | None = None,
) -> Unlabelled:
    """Returns which unlabelled images may be used.

    Args:
        folder: Their folder.
        files: The files that were drawn (U).
        undrawn: Number of the others.
        facts: What is known of each drawn file (U).
        labelled: What is known of each labelled image, with its part of the split.
        known: Part of further files that are not to be seen, by the start of their SHA-256.
    """
    why = reasons(facts, labelled, known or {})
    counts = Counter(why)
    counts["drawn"] = undrawn
    first = next((fact.reason for fact in facts if fact.status != "ok"), "")
    return Unlabelled(
        folder,
        tuple(Item(file, "") for file in files),
        np.array([row for row, reason in enumerate(why) if not reason], np.int64),
        {says: counts[reason] for reason, says in SAYS.items() if counts[reason]},
        first,
    )


def reasons(
    facts: Sequence[Facts],
    labelled: Sequence[tuple[Facts, SplitName]],
    known: Mapping[str, SplitName],
) -> list[str]:
    """Returns why each unlabelled image (U,) is left out; empty where it may be used.

    What belongs together is found as in a data set: the same pixels, near-duplicates, one patient,
    and all that is linked by such in turn. The part whose measurement would suffer most is named.

    Args:
        facts: What is known of each unlabelled image.
        labelled: What is known of each labelled image, with its part of the split.
        known: Part of further files, by the first 16 digits of their SHA-256.
    """
    read = [row for row, fact in enumerate(facts) if fact.status == "ok"]
    both = [*(fact for fact, _ in labelled), *(facts[row] for row in read)]
    parts: list[SplitName | None] = [part for _, part in labelled]
    parts += [known.get(facts[row].sha256[:16]) for row in read]
    component = _components(both)
    strongest: dict[int, SplitName] = {}
    for name in reversed(_STRONGEST):
        strongest.update({component[row]: name for row, part in enumerate(parts) if part == name})
    found = ["" if fact.status == "ok" else "unread" for fact in facts]
    seen: set[str] = set()
    for place, row in enumerate(read, start=len(labelled)):
        found[row] = strongest.get(component[place], "")
        if not found[row] and facts[row].pixels in seen:
            found[row] = "copy"
        seen.add(facts[row].pixels)
    return found


def _components(facts: Sequence[Facts]) -> list[int]:
    """Returns the number of the set of linked images that each image belongs to."""
    from scipy.sparse import coo_array  # noqa: PLC0415 - heavy
    from scipy.sparse.csgraph import connected_components  # noqa: PLC0415

    first: dict[str, int] = {}
    links = [(first.setdefault(fact.pixels, row), row) for row, fact in enumerate(facts)]
    links += same_patient(facts, range(len(facts)))
    originals = sorted(first.values())
    thumbnails = [
        np.frombuffer(facts[row].thumbnail, np.uint8).reshape(THUMBNAIL, THUMBNAIL)
        for row in originals
    ]
    for pair in near_duplicates(thumbnails, np.zeros(len(originals), np.int64)):
        links.append((originals[pair.first], originals[pair.second]))
    rows, columns = np.array(links, np.int64).reshape(-1, 2).T
    size = (len(facts), len(facts))
    graph = coo_array((np.ones(len(rows)), (rows, columns)), shape=size)
    numbers: list[int] = connected_components(graph, directed=False)[1].tolist()
    return numbers
