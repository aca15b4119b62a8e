"""Tables beside images: `train.csv` of a competition, `metadata.csv` of a Hugging Face folder."""

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from headstart.data.columns import COLUMNS, Column, unused_columns
from headstart.data.exports.export import Export, Place, marked, splits_of
from headstart.data.folder_names import is_group, is_split_word, is_wrapper
from headstart.data.formats import has_image_name
from headstart.data.manifests import split_said, text_table
from headstart.data.split_names import split_of
from headstart.data.table_row import TableRow
from headstart.data.understanding import quoted
from headstart.errors import DataError

_ENDINGS = (".csv", ".tsv", ".jsonl", ".parquet")
_TELLING = frozenset({"train", "metadata", "labels"})
"""Names of tables that must hold labels."""

_TRIED = 20
_COUNTED = re.compile(r"(\d+|(?<![^\W_])[A-Za-z])$")
"""The number or letter that tells one of several parts from the others."""
_KIND = re.compile("class|cls|label|grade|stage|type|categor|level|score|kind")
"""What is counted where folders with numbers are classes."""
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

    def place_of(self, column: Column) -> int | None:
        """Returns the place of a split or a group; None if there is none."""
        names = [name.strip().lower() for name in self.header]
        return next((names.index(name) for name in COLUMNS[column] if name in names), None)

    @property
    def says_label(self) -> bool:
        """Whether the column of labels has one of the names of labels."""
        return any(name.strip().lower() in COLUMNS["label"] for name in self.header)

    @property
    def unused(self) -> list[str]:
        """Names of the columns that are not used."""
        used = {self.image, *(self.labels or ()), self.place_of("split"), self.place_of("group")}
        return [name for n, name in enumerate(self.header) if n not in used and name.strip()]


def read_tables(place: Place) -> Export | None:
    """Reads a table whose rows name images that lie in no class folders; None if there is none.

    The column of the images is the one whose cells name some of them, with or without an
    extension. The label is the column of a known name, the only other one, or one of several
    columns of 0 and 1.

    Raises:
        DataError: Several tables label the images, or table and folders say different classes.
    """
    named = [table for table in _tables(place) if table.labels or not _is_of_test(table, place)]
    labelled = [table for table in named if table.labels]
    if labelled and all(_is_of_test(table, place) for table in labelled):
        names = quoted(place.shown(table.path) for table in labelled)
        raise DataError(
            f"{names} labels only images of a test or validation folder, and those of the training "
            "folder are in none of its rows. Add them with a column split, or use --layout splits "
            "to read the folders without it."
        )
    if not labelled:
        if named and all(_lies_in_no_classes(table, place) for table in named):
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
    says = hub and all(table.says_label for table in hub)
    if not says and _follows_folders(labelled[0], rows, place) and not _divides(rows, place):
        return None
    if hub:
        rows = _with_folder_splits(rows)
    columns = {_columns(table) for table in labelled}
    names = quoted(place.shown(table.path) for table in labelled)
    form = f"images with the table {names}, with {' or '.join(sorted(columns))}"
    unused = sorted({name for table in labelled for name in table.unused})
    files = tuple(table.path for table in labelled)
    return Export(form, rows, files, unused=tuple(unused_columns(unused)))


def why_not(place: Place) -> str:
    """Returns what keeps a table from being read; empty if there is none that names images."""
    tables = _tables(place)
    unclear = [table for table in tables if table.labels is None]
    if unclear:
        table = unclear[0]
        others = [name for number, name in enumerate(table.header) if number != table.image]
        return (
            f" {table.name} names the images, but it is not clear which of its columns is the "
            f"label: {quoted(others)}. Call it 'label'."
        )
    for table in tables:
        places = (table.place_of("split"), table.place_of("group"))
        if names := [table.header[each] for each in places if each is not None]:
            return (
                f" The folders are the classes, so the columns {quoted(names)} of {table.name} are "
                "not used. Give the table as the source to use them."
            )
    return ""


def _lies_in_no_classes(table: _Table, place: Place) -> bool:
    """Whether the images of a table lie in no folders that may be classes."""
    near = _near(table.path, place)
    paths = [path for row in table.rows for path in place.images.find(row[table.image], near)]
    folders = {PurePosixPath(path).parent.name for path in paths}
    return not _classes_in(folders) and not any(map(is_wrapper, folders))


def _is_of_test(table: _Table, place: Place) -> bool:
    """Whether a table names images of test and validation folders alone, beside training images."""
    near = _near(table.path, place)
    paths = {path for row in table.rows for path in place.images.find(row[table.image], near)}
    return {_split_of(path) for path in paths} <= {"test", "val"} and any(
        _split_of(path) == "train" for path in place.images.paths
    )


def _split_of(path: str) -> str | None:
    return split_of(path.partition("/")[0]) if "/" in path else None


def _is_metadata(table: _Table) -> bool:
    return table.path.stem == "metadata" and table.header[table.image].endswith("file_name")


def _tables(place: Place) -> list[_Table]:
    """Returns the tables whose rows name images of the folder."""
    found = {path for ending in _ENDINGS for path in place.root.glob(f"*{ending}")}
    found |= {path for ending in _ENDINGS for path in place.files(f"metadata{ending}")}
    wanted = [
        path
        for path in found
        if path.is_file()
        and not _SAMPLE.search(path.stem)
        and (path.suffix != ".parquet" or path.stem in _TELLING)  # others hold images
    ]
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
    if image is not None and not any(names[:image] + names[image + 1 :]):
        return None  # a list of the test images
    if image is None:
        if path.stem in _TELLING and place.is_flat:
            _refuse(path, header, rows, known, place)
        return None
    first = header[image].strip()
    if (has_image_name(first) or first.isdecimal()) and place.images.find(first, near):
        raise DataError(
            f"{place.shown(path)} has no header: its first row names the image {first!r}. Put a "
            "row with the names of the columns before it, such as path,label."
        )
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
        cells = [row[others[0]] for row in rows if row[others[0]].strip()]
        texts = len(cells) > _TRIED and 2 * len(set(cells)) > len(cells)  # captions, dates
        return None if texts else others
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
    parts, groups = table.place_of("split"), table.place_of("group")
    column = "" if parts is None else table.header[parts]
    near = _near(table.path, place)
    for number, cells in enumerate(table.rows, start=2 if table.path.suffix != ".jsonl" else 1):
        where = f"row {number} of {place.shown(table.path)}"
        if len(table.labels) == 1:
            label: object = cells[table.labels[0]].strip() or None
        else:
            names = (table.header[n] for n in table.labels if cells[n].strip().startswith("1"))
            label = marked(names)
        own = None if parts is None else split_said(column, cells[parts].strip(), where)
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


def _divides(rows: Sequence[TableRow], place: Place) -> bool:
    """Whether rows give splits or groups to all images of folders that have none themselves."""
    paths = {str(row.path) for row in rows}
    parts = {part for path in paths for part in PurePosixPath(path).parts[:-1]}
    says = any(row.split or row.group for row in rows)
    return says and not any(map(is_split_word, parts)) and paths.issuperset(place.images.paths)


def _follows_folders(table: _Table, rows: Sequence[TableRow], place: Place) -> bool:
    """Whether the images lie in class folders that divide them as the labels of the table do.

    Raises:
        DataError: They lie in class folders that divide them otherwise.
    """
    folders = [PurePosixPath(str(row.path)).parent.name for row in rows]
    pairs = Counter(zip(folders, (str(row.label) for row in rows), strict=True))
    same = sum(count for (folder, label), count in pairs.items() if folder == label)
    if 10 * same >= 9 * len(rows):
        return True
    classes = _classes_in(folders)
    if not classes:
        return False
    known = {label for _, label in pairs}
    if len(pairs) == len(known) == len(set(folders)) and not known & classes:
        return True  # the same under other names, such as 0 and 1
    if not {str(row.path) for row in rows} <= set(place.images.paths):
        return False  # the missing images are named when the rows are read
    column = "" if table.labels is None else f" ({quoted(table.header[n] for n in table.labels)})"
    raise DataError(
        f"The folders of {place.root} ({quoted(classes)}) and {table.name}{column} say different "
        f"classes for {len(rows) - same:,} of {len(rows):,} images. Use --layout classes for those "
        f"of the folders, or give {table.name} as the source for those of the table."
    )


def _classes_in(folders: Iterable[str]) -> set[str]:
    """Returns the names of folders that may be classes; none if they are parts of a download.

    Example:
        >>> _classes_in(["images_part_1", "images_part_2"]), _classes_in(["train", "images"])
        (set(), set())
        >>> sorted(_classes_in(["ants", "bees"])), sorted(_classes_in(["class_1", "class_2"]))
        (['ants', 'bees'], ['class_1', 'class_2'])
    """
    names = {name for name in folders if name and not split_of(name) and not is_wrapper(name)}
    stems = {_COUNTED.sub("", name).lower() for name in names}
    stem = next(iter(stems), "")
    are_parts = len(stems) == 1 and stem and _KIND.search(stem) is None
    return set() if len(names) < 2 or are_parts or all(map(is_group, names)) else names
