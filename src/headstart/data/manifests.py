"""Tables of images: CSV and Parquet files, DataFrames, and lists of paths with their labels.

The columns are `path` and `label`, and if wanted `split` (train, val or test) and `group` (images
of one group never straddle a split). Other columns are passed over.
"""

import csv
import math
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from headstart.data.locate import locate
from headstart.data.split_names import SPLIT_ALIASES
from headstart.data.types import Dataset, Item, SplitName
from headstart.errors import DataError, did_you_mean

if TYPE_CHECKING:
    import pandas

MAX_MANIFEST_BYTES = 256 * 2**20
MAX_MANIFEST_ROWS = 10_000_000
_COLUMNS = ("path", "label", "split", "group")
_SEPARATORS = (";", "|")
_MISSING = ("NoneType", "NAType", "NaTType")  # the last two are pandas's, which may not be loaded


@dataclass(frozen=True)
class _Row:
    """One row as it was written; `where` names it in messages."""

    where: str
    path: object
    label: object
    split: object = None
    group: object = None


def load_csv(path: Path) -> Dataset:
    """Reads a UTF-8 CSV file with a header; paths are relative to its folder and stay inside.

    Raises:
        DataError: The file or one of its rows cannot be used; the message names the row, where
            the header is row 1.
    """
    _check_size(path)
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            rows = list(_csv_rows(csv.reader(file), path))
    except (csv.Error, UnicodeDecodeError) as error:
        raise DataError(f"{path} is not a CSV file in UTF-8: {error}.") from error
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}.") from error
    return _from_file(path, rows)


def load_parquet(path: Path) -> Dataset:
    """Reads a Parquet file; paths are relative to its folder and stay inside.

    Raises:
        DataError: pyarrow is not installed, or the file or one of its rows cannot be used; rows
            are counted from 1.
    """
    _check_size(path)
    try:
        import pyarrow  # noqa: PLC0415 - an extra
        import pyarrow.parquet  # noqa: PLC0415
    except ImportError as error:
        raise DataError(
            "Parquet manifests need pyarrow: pip install 'headstart[tables]'."
        ) from error
    try:
        with pyarrow.parquet.ParquetFile(path) as file:
            places = _find_columns([str(name) for name in file.schema_arrow.names], str(path))
            names = [file.schema_arrow.names[place] for place in places.values()]
            if file.metadata.num_rows > MAX_MANIFEST_ROWS:  # a few bytes can stand for billions
                raise DataError(f"{path} has more than {MAX_MANIFEST_ROWS:,} rows.")
            table = file.read(columns=names).to_pydict()
    except (pyarrow.ArrowException, UnicodeDecodeError, OSError) as error:
        raise DataError(f"{path} cannot be read as a Parquet file: {error}") from error
    columns = {column: table[name] for column, name in zip(places, names, strict=True)}
    return _from_file(path, _column_rows(columns, path.name, 1))


def load_frame(frame: "pandas.DataFrame") -> Dataset:
    """Reads a pandas DataFrame; relative paths start from the working directory.

    Raises:
        DataError: A column is missing or a row cannot be used; rows are counted from 0.
    """
    places = _find_columns([str(name) for name in frame.columns], "The DataFrame")
    columns: dict[str, list[object]] = {
        column: list(frame.iloc[:, place]) for column, place in places.items()
    }
    return _from_python(_column_rows(columns, "the DataFrame", 0))


def load_pairs(paths: Iterable[object], labels: Iterable[object] | None = None) -> Dataset:
    """Reads a list of paths with `labels`, or without them a list of `(path, label)` pairs.

    Relative paths start from the working directory. The data set is sorted by path.

    Raises:
        DataError: The lengths differ, labels are missing, or a path or label cannot be used.
    """
    paths = list(paths)
    if labels is None:
        pairs = [pair for pair in paths if isinstance(pair, tuple) and len(pair) == 2]
        if len(pairs) < len(paths):
            raise DataError("A list of paths needs as many labels=, or (path, label) pairs.")
    else:
        labels = list(labels)
        if len(labels) != len(paths):
            raise DataError(f"There are {len(paths)} paths but {len(labels)} labels.")
        pairs = list(zip(paths, labels, strict=True))
    return _from_python(
        [_Row(f"paths[{index}]", path, label) for index, (path, label) in enumerate(pairs)]
    )


def _check_size(path: Path) -> None:
    if path.stat().st_size > MAX_MANIFEST_BYTES:
        raise DataError(
            f"{path} is larger than {MAX_MANIFEST_BYTES >> 20} MB, too large for a manifest."
        )


def _csv_rows(lines: Iterator[list[str]], path: Path) -> Iterator[_Row]:
    header = next(lines, [])
    places = _find_columns(header, str(path))
    for number, cells in enumerate(lines, start=2):
        if not any(cell.strip() for cell in cells):
            continue
        where = f"row {number} of {path.name}"
        if len(cells) > len(header):
            raise DataError(
                f"There are {len(cells)} cells but {len(header)} columns ({where}); "
                'put a name that holds a comma into "quotes".'
            )
        values = {
            column: cells[place] if place < len(cells) else None for column, place in places.items()
        }
        yield _Row(where, values["path"], values["label"], values.get("split"), values.get("group"))


def _column_rows(columns: dict[str, list[object]], table: str, start: int) -> list[_Row]:
    blank: list[object] = [None] * len(columns["path"])
    every = [columns.get(column, blank) for column in _COLUMNS]
    return [
        _Row(f"row {number} of {table}", *values)
        for number, values in enumerate(zip(*every, strict=True), start)
    ]


def _find_columns(header: Sequence[str], where: str) -> dict[str, int]:
    """Returns the place of each known column; case and spaces around a name do not count."""
    names = [name.strip().lower() for name in header]
    for column in _COLUMNS:
        if names.count(column) > 1:
            raise DataError(f"{where} has more than one column {column!r}.")
    missing = [column for column in ("path", "label") if column not in names]
    if missing:
        raise DataError(
            f"{where} has no column {' and no column '.join(map(repr, missing))}; wanted are "
            f"path,label[,split,group], separated by commas, and found {', '.join(header)!r}."
        )
    return {column: names.index(column) for column in _COLUMNS if column in names}


def _from_file(path: Path, rows: Sequence[_Row]) -> Dataset:
    root = path.parent.resolve()
    if not rows:
        raise DataError(f"{path} has no rows under its header.")
    items, notes = _read_rows(rows, root, inside=root)
    return Dataset(name=path.stem, root=root, items=items, notes=notes)


def _from_python(rows: Sequence[_Row]) -> Dataset:
    if not rows:
        raise DataError("There are no images: the list or DataFrame is empty.")
    items, notes = _read_rows(rows, Path.cwd(), inside=None)
    root = Path(os.path.commonpath([item.path.parent for item in items]))
    return Dataset(name=root.name or "images", root=root, items=items, notes=notes)


def _read_rows(
    rows: Iterable[_Row], base: Path, *, inside: Path | None
) -> tuple[tuple[Item, ...], tuple[str, ...]]:
    known: dict[Path, tuple[Item, str]] = {}
    repeats: list[str] = []
    for row in rows:
        item, real = _read_row(row, base, inside)
        first, first_where = known.setdefault(real, (item, row.where))
        if first_where == row.where:
            continue
        if item.label != first.label:
            raise DataError(
                f"{str(row.path)!r} is {first.label!r} in {first_where} and {item.label!r} in "
                f"{row.where}; several labels for one image (multi-label) is not there yet."
            )
        if replace(item, path=first.path) != first:
            raise DataError(
                f"{str(row.path)!r} has one split or group in {first_where} and another in "
                f"{row.where}; keep one of these rows."
            )
        repeats.append(row.where)
    notes = (
        (f"Rows that repeat an image and were left out: {len(repeats)}, first {repeats[0]}.",)
        if repeats
        else ()
    )
    return tuple(item for item, _ in known.values()), notes


def _read_row(row: _Row, base: Path, inside: Path | None) -> tuple[Item, Path]:
    if not isinstance(row.label, str) and isinstance(row.label, Iterable):
        raise DataError(_multi_label(row))
    name, label = _text(row.path, "path", row.where), _text(row.label, "label", row.where)
    if name is None or label is None:
        raise DataError(f"The {'path' if name is None else 'label'} is empty ({row.where}).")
    if any(separator in label for separator in _SEPARATORS):
        raise DataError(_multi_label(row))
    path, real = locate(name, base, row.where, inside)
    group = _text(row.group, "group", row.where)
    return Item(path=path, label=label, split=_split(row), group=group), real


def _multi_label(row: _Row) -> str:
    return (
        f"There are several labels in one cell, {str(row.label)!r} ({row.where}): "
        "multi-label is not there yet, so give each image one label."
    )


def _split(row: _Row) -> SplitName | None:
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
