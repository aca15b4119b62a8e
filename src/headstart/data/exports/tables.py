"""Tables beside images: `train.csv` of a competition, `metadata.csv` of a Hugging Face folder."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from headstart.data.columns import COLUMNS
from headstart.data.exports.export import Export, Place, only, splits_of
from headstart.data.folder_names import is_split_word, is_wrapper
from headstart.data.manifests import text_table
from headstart.data.rows import TableRow
from headstart.data.split_names import split_of
from headstart.data.understanding import quoted
from headstart.errors import DataError

_ENDINGS = (".csv", ".tsv", ".jsonl")
_TELLING = frozenset({"train", "metadata", "labels"})
"""Names of tables that must hold labels."""

_TRIED = 20
_SAMPLE = re.compile(r"sample.?submission|submission", re.IGNORECASE)


@dataclass(frozen=True)
class _Table:
    """A table whose rows name images; `labels` is None where it is not clear which column it is."""

    path: Path
    header: list[str]
    rows: list[list[str]]
    image: int
    labels: list[int] | None

    @property
    def name(self) -> str:
        return self.path.name


def read_tables(place: Place) -> Export | None:
    """Reads a table whose rows name images that lie in no class folders; None if there is none.

    The column of the images is the one whose cells name some of them, with or without an
    extension. The label is the column of a known name, the only other one, or one of several
    columns of 0 and 1.

    Raises:
        DataError: Several tables label the images, or table and folders say different classes.
    """
    named = _tables(place)
    labelled = [table for table in named if table.labels]
    if not labelled:
        if named and all(_is_beside_splits(table, place) for table in named):
            raise DataError(f"The labels of {place.root} are not clear.{why_not(place)}")
        return None
    hub = [table for table in labelled if _is_metadata(table)]
    labelled = hub or labelled
    splits = splits_of(place.shown(table.path) for table in labelled)
    inside = len({table.path.parent for table in labelled}) == len(labelled)
    if len(labelled) > 1 and None in splits.values() and not (hub and inside):
        names = quoted(place.shown(table.path) for table in labelled)
        raise DataError(f"{place.root} holds several tables of labels: {names}. Give one of them.")
    rows: list[TableRow] = []
    for table in labelled:
        rows += _rows(table, place, splits[place.shown(table.path)])
    if hub:
        rows = _with_folder_splits(rows)
    elif _follows_folders(rows, place):
        return None
    columns = {_columns(table) for table in labelled}
    names = quoted(place.shown(table.path) for table in labelled)
    form = f"images with the table {names}, with {' or '.join(sorted(columns))}"
    return Export(form, rows, tuple(table.path for table in labelled))


def why_not(place: Place) -> str:
    """Returns what keeps a table from being read; empty if there is none that names images."""
    unclear = [table for table in _tables(place) if table.labels is None]
    if not unclear:
        return ""
    table = unclear[0]
    others = [name for number, name in enumerate(table.header) if number != table.image]
    return (
        f" {table.name} names the images, but it is not clear which of its columns is the label: "
        f"{quoted(others)}. Call it 'label'."
    )


def _is_beside_splits(table: _Table, place: Place) -> bool:
    """Whether the images of a table lie in no folders that may be classes."""
    cells = [row[table.image] for row in table.rows[:_TRIED]]
    near = _near(table.path, place)
    paths = [PurePosixPath(path) for cell in cells for path in place.images.find(cell, near)]
    return all(not path.parts[:-1] or split_of(path.parent.name) for path in paths)


def _is_metadata(table: _Table) -> bool:
    return table.path.stem == "metadata" and table.header[table.image].endswith("file_name")


def _tables(place: Place) -> list[_Table]:
    """Returns the tables whose rows name images of the folder."""
    found = {path for ending in _ENDINGS for path in place.root.glob(f"*{ending}")}
    found |= {path for ending in _ENDINGS for path in place.files(f"metadata{ending}")}
    wanted = [path for path in found if path.is_file() and not _SAMPLE.search(path.stem)]
    tables = [_open(path, place) for path in sorted(wanted)]
    return [table for table in tables if table is not None]


def _open(path: Path, place: Place) -> _Table | None:
    """Returns a table if a column names images; damage is an error only of a telling name."""
    try:
        header, rows = text_table(path)
    except DataError:
        if path.stem in _TELLING and place.images.paths:
            raise
        return None
    if not rows:
        return None
    names = [name.strip().lower() for name in header]
    known = [names.index(name) for name in COLUMNS["path"] if name in names]
    near = _near(path, place)
    order = [*known, *(n for n, name in enumerate(names) if name not in COLUMNS["label"])]
    image = next((each for each in order if _names_images(rows, each, place, near)), None)
    if image is None:
        if path.stem in _TELLING and place.is_flat:
            _refuse(path, header, rows, known, place)
        return None
    return _Table(path, header, rows, image, _labels(names, rows, image))


def _refuse(
    path: Path, header: list[str], rows: list[list[str]], known: list[int], place: Place
) -> None:
    """Refuses a table that must hold the labels of images without class folders."""
    name = place.shown(path)
    if known and _labels([each.strip().lower() for each in header], rows, known[0]):
        first = quoted(row[known[0]] for row in rows)
        raise DataError(
            f"None of the images that {name} names ({first}) is in {place.root}. Put them beside "
            f"it, or correct its column {header[known[0]]!r}."
        )


def _near(path: Path, place: Place) -> str:
    """Returns the folder of a table inside the root, or the split that its name says."""
    return place.shown(path.parent) if path.parent != place.root else split_of(path.stem) or ""


def _names_images(rows: Sequence[Sequence[str]], column: int, place: Place, near: str) -> bool:
    every = [row[column] for row in rows if row[column].strip()]
    if 2 * len(set(every)) < len(every):  # a class called 1 is not the image 1.jpg
        return False
    cells = every[:_TRIED]
    found = sum(bool(place.images.find(cell, near)) for cell in cells)
    return found > 0 and 2 * found >= len(cells)


def _labels(names: Sequence[str], rows: Sequence[Sequence[str]], image: int) -> list[int] | None:
    """Returns the column of labels, or several of 0 and 1; None if it is not clear."""
    known = [names.index(name) for name in COLUMNS["label"] if name in names]
    if known:
        return known[:1]
    used = {*COLUMNS["split"], *COLUMNS["group"]}
    others = [n for n, name in enumerate(names) if n != image and name and name not in used]
    if len(others) == 1:
        return others
    marks = {row[column].strip() for row in rows for column in others}
    if others and marks <= {"0", "1", "0.0", "1.0"}:
        return others
    return None


def _columns(table: _Table) -> str:
    """Returns what the columns are, for people."""
    assert table.labels is not None
    if len(table.labels) > 1:
        return f"{table.header[table.image]!r} as path and a column for each class"
    label = table.header[table.labels[0]]
    return f"{table.header[table.image]!r} as path and {label!r} as label"


def _rows(table: _Table, place: Place, split: str | None) -> Iterator[TableRow]:
    assert table.labels is not None
    names = [name.strip().lower() for name in table.header]
    parts = names.index("split") if "split" in names else None
    groups = names.index("group") if "group" in names else None
    near = _near(table.path, place)
    for number, cells in enumerate(table.rows, start=2 if table.path.suffix != ".jsonl" else 1):
        where = f"row {number} of {place.shown(table.path)}"
        if len(table.labels) == 1:
            label: object = cells[table.labels[0]].strip() or None
        else:
            label = only(table.header[n] for n in table.labels if cells[n].strip().startswith("1"))
        own = cells[parts].strip() if parts is not None else ""
        group = cells[groups].strip() if groups is not None else ""
        image = place.find(cells[table.image], where, near)
        yield TableRow(where, image, label, own or split, group or None)


def _with_folder_splits(rows: list[TableRow]) -> list[TableRow]:
    """Adds the splits that the first folders say, where all rows lie in folders of splits."""
    first = [PurePosixPath(str(row.path)).parts for row in rows]
    if not all(len(parts) > 1 and is_split_word(parts[0]) for parts in first):
        return rows
    if {split_of(parts[0]) for parts in first} == {"train"}:
        return rows
    return [
        TableRow(row.where, row.path, row.label, row.split or split_of(parts[0]), row.group)
        for row, parts in zip(rows, first, strict=True)
    ]


def _follows_folders(rows: Sequence[TableRow], place: Place) -> bool:
    """Whether the images lie in class folders with the labels of the table.

    Raises:
        DataError: They lie in class folders with other names, as the table itself says.
    """
    folders = [PurePosixPath(str(row.path)).parent.name for row in rows]
    same = sum(str(row.label) == name for row, name in zip(rows, folders, strict=True))
    if 10 * same >= 9 * len(rows):
        return True
    classes = {name for name in folders if name and not split_of(name) and not is_wrapper(name)}
    known = {str(row.label) for row in rows}
    if len(classes) > 1 and len(classes & known) > 1:
        raise DataError(
            f"The folders of {place.root} ({quoted(classes)}) and its table say different classes "
            f"for {len(rows) - same:,} of {len(rows):,} images. Use --layout classes for those of "
            "the folders, or give the table as the source."
        )
    return False
