"""Roboflow's multi-class export: `_classes.csv` with a column of 0 and 1 per class."""

from collections.abc import Iterator
from pathlib import Path

from headstart.data.exports.export import Export, Place, marked
from headstart.data.manifests import check_size, read_csv
from headstart.data.split_names import split_of
from headstart.data.table_row import TableRow
from headstart.errors import DataError

ONE_HOT = "_classes.csv"


def read_one_hot(place: Place) -> Export | None:
    """Reads `_classes.csv` in the root or in folders of splits; None if there is none.

    Raises:
        DataError: A cell is neither 0 nor 1.
    """
    tables = place.files(ONE_HOT)
    if not tables:
        return None
    rows = [row for table in tables for row in _rows(table, place.root)]
    return Export("an export in the form of Roboflow", rows, tuple(tables))


def _rows(table: Path, root: Path) -> Iterator[TableRow]:
    check_size(table)
    lines = read_csv(table)
    classes = [name.strip() for name in next(lines)[1:]]
    inside = table.parent.relative_to(root)
    split = split_of(inside.name) if inside.parts else None
    for number, cells in enumerate(lines, start=2):
        if not any(cell.strip() for cell in cells):
            continue
        where = f"row {number} of {(inside / table.name).as_posix()}"
        marks = [cell.strip() for cell in cells[1:]]
        if any(mark not in {"0", "1"} for mark in marks):
            raise DataError(f"A cell is neither 0 nor 1 ({where}).")
        labels = [name for name, mark in zip(classes, marks, strict=True) if mark == "1"]
        yield TableRow(where, (inside / cells[0].strip()).as_posix(), marked(labels), split)
