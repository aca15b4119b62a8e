"""Rows of a manifest or of annotations, from what is written in them to labelled images."""

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from headstart.data.label_sets import LabelSets, set_name
from headstart.data.locate import Finder, Found, MissingFileError, Slip
from headstart.data.split_names import SPLIT_ALIASES
from headstart.data.surroundings import outside_notes
from headstart.data.table_row import TableRow
from headstart.data.types import Item, SplitName
from headstart.errors import DataError, did_you_mean
from headstart.text import counted, shortened

_MISSING = ("NoneType", "NAType", "NaTType")  # the last two are pandas's, which may not be loaded
_SHOWN = 10
_FEW_NUMBERS = 10
_MANY_NUMBERS = 20
_NO_LABEL = (
    " Give the image one or remove the row. If images may have several labels or none, give --task "
    "multilabel."
)
_SLIPS: dict[Slip, str] = {
    "backslash": "with backslashes, which are read as slashes",
    "case": "that differ from the files in upper and lower case",
    "extension": "without the extension of the file",
    "folder": "without the folder of the file",
    "space": "with spaces around them",
}


def read_rows(
    rows: Sequence[TableRow],
    finder: Finder,
    table: str,
    several: LabelSets | None = None,
    column: str = "label",
) -> tuple[tuple[Item, ...], tuple[str, ...]]:
    """Finds the image of every row; returns them without repeats, and notes about the rows.

    Args:
        rows: The rows.
        finder: Where their images are.
        table: What holds the rows, for messages.
        several: How the labels of an image are written where it may have any number of them: the
            rows of an image are then joined. None if it has one.
        column: Name of the column of labels, for messages.

    Raises:
        DataError: Images are missing, or a row cannot be used.
    """
    known: dict[Path, tuple[Item, str]] = {}
    repeats: list[str] = []
    missing: list[MissingFileError] = []
    gone: list[str] = []
    slips: dict[Slip, list[str]] = {}
    for row in rows:
        try:
            item, found = _read_row(row, finder, several)
        except MissingFileError as error:
            missing.append(error)
            gone.append(f"{str(row.path)!r} ({row.where})")
            continue
        for slip in found.slips:
            slips.setdefault(slip, []).append(str(row.path))
        first, first_where = known.setdefault(found.real, (item, row.where))
        if first_where == row.where:
            continue
        if several is not None:
            item = _joined(first, item)
            first = replace(first, label=item.label, labels=item.labels)
            known[found.real] = first, first_where
        elif item.label != first.label:
            raise DataError(
                f"{str(row.path)!r} is {first.label!r} in {first_where} and {item.label!r} in "
                f"{row.where}. Keep one of these rows, or give --task multilabel if an image may "
                "have several labels."
            )
        if replace(item, path=first.path) != first:
            raise DataError(
                f"{str(row.path)!r} has one split or group in {first_where} and another in "
                f"{row.where}; keep one of these rows."
            )
        if several is None:
            repeats.append(row.where)
    if len(missing) == 1:
        raise missing[0]
    if missing:
        raise DataError(_all_missing(gone, len(rows), finder, table))
    items = tuple(item for item, _ in known.values())
    _check_labels(items, table, column)
    outside = outside_notes(known, finder.inside) if finder.inside else ()
    return items, (*_notes(repeats, slips), *outside)


def _all_missing(gone: Sequence[str], total: int, finder: Finder, table: str) -> str:
    more = f" and {len(gone) - _SHOWN:,} more" if len(gone) > _SHOWN else ""
    return (
        f"{len(gone):,} of {counted(total, 'image')} in {table} are missing. There is no file in "
        f"{finder.bases[0]} for {', '.join(gone[:_SHOWN])}{more}. Use --root FOLDER if the images "
        "are in another folder."
    )


def _notes(repeats: Sequence[str], slips: dict[Slip, list[str]]) -> Iterator[str]:
    if repeats:
        yield f"Rows that repeat an image and were left out: {len(repeats)}, first {repeats[0]}."
    for slip, names in sorted(slips.items()):
        yield f"Paths {_SLIPS[slip]}: {len(names):,}, first {names[0]!r}."


def _check_labels(items: Sequence[Item], table: str, column: str) -> None:
    """Refuses labels that are measured numbers rather than classes."""
    labels = {name for item in items for name in item.names}
    try:
        numbers = {float(label) for label in labels}
    except ValueError:
        return
    measured = any(not number.is_integer() for number in numbers if math.isfinite(number))
    mostly_single = len(labels) > _FEW_NUMBERS and 2 * len(labels) > len(items)
    if mostly_single or (measured and len(labels) > _MANY_NUMBERS):
        raise DataError(
            f"The column {column!r} of {table} looks like a continuous target: {len(labels):,} "
            f"different numbers for {counted(len(items), 'image')}, such as {min(labels)} and "
            f"{max(labels)}. headstart trains classifiers, and neither regression nor classes in "
            "an order are supported. Group the numbers into a few named ranges."
        )


def _joined(first: Item, item: Item) -> Item:
    """Returns the second item with the labels of both."""
    labels = tuple(sorted({*first.names, *item.names}))
    return replace(item, label=set_name(labels), labels=labels)


def _read_row(row: TableRow, finder: Finder, several: LabelSets | None) -> tuple[Item, Found]:
    if several is not None:
        return _read_set(row, finder, several)
    if not isinstance(row.label, str) and isinstance(row.label, Iterable):
        raise DataError(_multi_label(row))
    name, label = _text(row.path, "path", row.where), _text(row.label, "label", row.where)
    if name is None or label is None:
        what = "path" if name is None else "label"
        none = "" if name is None else _NO_LABEL
        raise DataError(f"The {what} is empty ({row.where}).{none}")
    group, split = _text(row.group, "group", row.where), _split(row)
    found = finder.find(name, row.where)
    return Item(path=found.path, label=label, split=split, group=group), found


def _multi_label(row: TableRow) -> str:
    several = "for one image" if isinstance(row.label, tuple) else "in one cell"
    shown = repr(shortened(_shown(row.label)))
    return (
        f"There are several labels {several}, {shown} ({row.where}). Give each image one label, "
        "or --task multilabel if an image may have several."
    )


def _shown(label: object) -> str:
    return ", ".join(map(str, label)) if isinstance(label, tuple) else str(label)


def _read_set(row: TableRow, finder: Finder, several: LabelSets) -> tuple[Item, Found]:
    name, labels = _text(row.path, "path", row.where), several.names(row.label)
    if name is None:
        raise DataError(f"The path is empty ({row.where}).")
    for label in labels:
        _text(label, "label", row.where)
    group, split = _text(row.group, "group", row.where), _split(row)
    found = finder.find(name, row.where)
    return Item(found.path, set_name(labels), split, group, labels=labels), found


def _split(row: TableRow) -> SplitName | None:
    name = _text(row.split, "split", row.where)
    if name is None:
        return None
    if name.lower() not in SPLIT_ALIASES:
        hint = did_you_mean(name, SPLIT_ALIASES) or "; wanted is train, val or test."
        raise DataError(f"Unknown split {name!r} ({row.where}){hint}")
    return SPLIT_ALIASES[name.lower()]


def _text(value: object, column: str, where: str) -> str | None:
    """Returns a cell as text without spaces around it, or None where it is empty."""
    if type(value).__name__ in _MISSING or (isinstance(value, float) and math.isnan(value)):
        return None
    if isinstance(value, bytes) or (not isinstance(value, str) and isinstance(value, Iterable)):
        raise DataError(f"The {column} is not a text but a {type(value).__name__} ({where}).")
    # Spaces may belong to a file's name.
    text = str(value) if column == "path" else str(value).strip()
    try:
        text.encode()
    except UnicodeEncodeError:
        raise DataError(f"The {column} {text!r} is not valid Unicode ({where}).") from None
    return text if text.strip() else None
