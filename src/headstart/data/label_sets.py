"""Rows that give an image several labels: how they are recognised, and the set of each image."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from headstart.data.comma_lists import COMMA, commas
from headstart.data.table_row import TableRow
from headstart.errors import DataError
from headstart.text import counted, shortened

if TYPE_CHECKING:
    from headstart.recipes.options import Task

SEPARATORS = (";", "|")
"""What stands between labels in one cell. A comma may, too: see `comma_lists`."""

NO_LABEL = "no label"
"""Name of the empty set."""

CLEARLY = 0.05
"""Share of images with several labels from which nobody needs to say that they are meant."""


@dataclass(frozen=True)
class LabelSets:
    """How the labels of an image are written where it may have any number of them.

    Attributes:
        separator: What stands between labels in one cell; None if cells hold one.
        note: What was recognised, as a sentence.
    """

    separator: str | None
    note: str

    def names(self, label: object) -> tuple[str, ...]:
        """Returns the names in a cell, sorted; none where it is empty.

        Example:
            >>> LabelSets(";", "").names("tulip; rose"), LabelSets(None, "").names(None)
            (('rose', 'tulip'), ())
        """
        return tuple(sorted(set(_names(label, self.separator))))


def set_name(labels: Iterable[str]) -> str:
    """Returns one name for a set of labels.

    Example:
        >>> set_name(["rose", "tulip"]), set_name([])
        ('rose; tulip', 'no label')
    """
    return "; ".join(labels) or NO_LABEL


def recognise(rows: Sequence[TableRow], task: "Task | None", table: str) -> LabelSets | None:
    """Returns how sets of labels are written; None where each image has one label.

    Args:
        rows: All rows.
        task: What was asked for; None to follow the labels.
        table: What holds the rows, for messages.

    Raises:
        DataError: Only a few images have several labels, and it was not said whether that is
            meant.

    Example:
        >>> rows = [TableRow("row 2", "a.jpg", "ant;bee"), TableRow("row 3", "b.jpg", "ant")]
        >>> recognise(rows, None, "labels.csv").separator
        ';'
    """
    if task == "single":
        return None
    used = {sep: sum(sep in row.label for row in rows if isinstance(row.label, str))
            for sep in SEPARATORS}  # fmt: skip
    if all(used.values()):
        raise DataError(_two_separators(used, table))
    separator = max(used, key=used.__getitem__) if any(used.values()) else None
    if separator is None:
        taken = {"lists", "unclear"} if task == "multilabel" else {"lists"}
        separator = COMMA if commas(row.label for row in rows) in taken else None
    by_image: dict[str, set[str]] = {}
    how, first = "", ""
    for row in rows:
        names = _names(row.label, separator)
        known = by_image.setdefault(str(row.path), set())
        if not first and len(known.union(names)) > 1:
            how = _written(row.label, names, separator)
            first = f"{str(row.path)!r} ({row.where}) has {_shown(known.union(names))}"
        known.update(names)
    several, images = sum(len(names) > 1 for names in by_image.values()), len(by_image)
    empty = sum(not names for names in by_image.values())
    bare = f" {counted(empty, 'image')} with none of the labels." if empty else ""
    if task == "multilabel":
        found = f", in {how}" if how else ""
        return LabelSets(separator, f"Any number of labels an image: {several:,} of "
                         f"{counted(images, 'image')} have several{found}.{bare}")  # fmt: skip
    if not several and separator in (None, COMMA):
        return None
    if several < CLEARLY * images or not several:
        raise DataError(
            f"{several:,} of {counted(images, 'image')} in {table} "
            f"{'has' if several == 1 else 'have'} several labels"
            + (f": {first}" if first else f", and a label holds {separator!r}")
            + (f", with {COMMA!r} between them" if separator == COMMA else "")
            + ". Give --task multilabel if an image may have several labels. Otherwise give each "
            "image one label; --task single takes what is in a cell as one name."
        )
    return LabelSets(
        separator,
        f"Recognised as multi-label: {several:,} of {counted(images, 'image')} "
        f"{'has' if several == 1 else 'have'} several labels, in {how}; {first}. --task single if "
        f"each has one.{bare}",
    )


def notes_on(
    several: LabelSets | None, rows: Sequence[TableRow], task: "Task | None"
) -> tuple[str, ...]:
    """Returns what is to be said of the labels of rows: what was recognised, or may be meant.

    Args:
        several: What `recognise` returned for the rows.
        rows: All rows.
        task: What was asked for.
    """
    if several is not None:
        return (several.note,)
    if task is not None or commas(row.label for row in rows) != "unclear":
        return ()
    label = next(row.label for row in rows if isinstance(row.label, str) and COMMA in row.label)
    return (
        f"Labels hold commas, such as {label.strip()!r}, and each is taken as one name. "
        "--task multilabel if commas stand between the labels of an image.",
    )


def _names(label: object, separator: str | None) -> list[str]:
    if label is None or type(label).__name__ in {"NAType", "NaTType"}:
        return []
    if isinstance(label, float) and math.isnan(label):
        return []
    if isinstance(label, str):
        parts: Iterable[object] = label.split(separator) if separator else [label]
    else:
        parts = label if isinstance(label, Iterable) and not isinstance(label, bytes) else [label]
    return [text for part in parts if (text := str(part).strip())]


def _two_separators(used: dict[str, int], table: str) -> str:
    rows = " and ".join(f"{sep!r} in {counted(used[sep], 'row')}" for sep in SEPARATORS)
    return (
        f"Labels in {table} hold {rows}, so it is not clear which of them stands between labels. "
        "Use one of them in all rows. If names hold the other one, write the labels as lists, in "
        "JSON Lines for example; --task single takes what is in a cell as one name."
    )


def _written(label: object, names: Sequence[str], separator: str | None) -> str:
    """Returns where several labels of an image stand, for people."""
    if len(names) < 2:
        return "several rows"
    return f"one cell, with {separator!r} between them" if isinstance(label, str) else "one row"


def _shown(names: Iterable[str]) -> str:
    return shortened(", ".join(repr(name) for name in sorted(names)), 200)
