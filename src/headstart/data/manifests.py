"""Tables of images: CSV, TSV, JSON Lines and Parquet files, DataFrames, and lists of paths.

The columns are `path` and `label`, and if wanted `split` (train, val or test) and `group` (images
of one group never straddle a split); `columns` has their other names. Other columns are passed
over.
"""

import csv
import json
import math
import os
import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from headstart.data.columns import COLUMNS, Columns, find_columns, unused_columns
from headstart.data.label_sets import notes_on, recognise
from headstart.data.locate import Finder
from headstart.data.rows import read_rows
from headstart.data.surroundings import surroundings
from headstart.data.table_row import TableRow
from headstart.data.tree import Tree
from headstart.data.types import Dataset
from headstart.errors import DataError
from headstart.inputs.regular_files import check_regular, open_text, read_text
from headstart.recipes.options import SourceOptions, Task
from headstart.text import shortened

if TYPE_CHECKING:
    import pandas
    import pyarrow.parquet

PARQUET_IMAGES = (
    "holds the images themselves, as the Hugging Face hub stores them, which is not read. Write "
    "each into a folder with the name of its class"
)
MAX_MANIFEST_BYTES = 256 * 2**20
MAX_MANIFEST_ROWS = 10_000_000
IMAGE_FOLDERS = ("images", "train_images", "imgs", "img")
"""Folders beside a manifest that its paths may start from."""
_NAMED_SEPARATOR = re.compile(r"sep=([,;|\t])", re.IGNORECASE)
_YES, _NO = frozenset({"true", "1", "1.0", "yes"}), frozenset({"false", "0", "0.0", "no"})


def load_manifest(path: Path, options: SourceOptions) -> Dataset:
    """Reads a table file with a header.

    Paths are relative to its folder, or to `root`, and stay inside either or beside its folder.

    Raises:
        DataError: The file or one of its rows cannot be used; the message names the row. In a
            CSV or TSV file the header is row 1; other rows are counted from 1.
    """
    check_size(path)
    match path.suffix.lower():
        case ".parquet":
            columns, rows = _parquet_rows(path)
        case ".json" | ".jsonl":
            columns, rows = _json_rows(path)
        case _:
            columns, rows = _csv_rows(path)
    if not rows:
        raise DataError(f"{path} has no rows under its header.")
    around = surroundings(path.parent.resolve())
    finder = replace(find_near(path, options, around), below=True)
    several = recognise(rows, options.task, path.name)
    column = columns.names.get("label", "label")
    items, notes = read_rows(rows, finder, path.name, several, column)
    return Dataset(
        name=path.stem,
        root=finder.root_of(item.path for item in items),
        items=items,
        notes=(*notes_on(several, rows, options.task), *notes),
        layout=f"the table {path.name}{columns.said}",
        passed_over=tuple(unused_columns(columns.ignored)),
    )


def load_frame(frame: "pandas.DataFrame", task: Task | None = None) -> Dataset:
    """Reads a pandas DataFrame; relative paths start from the working directory.

    Raises:
        DataError: A column is missing or a row cannot be used; rows are counted from 0.
    """
    cells = [list(frame.iloc[:, place]) for place in range(len(frame.columns))]
    rows = list(zip(*cells, strict=True))
    columns = find_columns([str(name) for name in frame.columns], "The DataFrame", rows)
    found = [
        _row(columns, cells, f"row {number} of the DataFrame") for number, cells in enumerate(rows)
    ]
    return _from_python(found, "the DataFrame", columns, task)


def load_pairs(
    paths: Iterable[object], labels: Iterable[object] | None = None, task: Task | None = None
) -> Dataset:
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
    rows = [TableRow(f"paths[{index}]", path, label) for index, (path, label) in enumerate(pairs)]
    return _from_python(rows, "the list", None, task)


def check_size(path: Path) -> None:
    """Refuses a file that is too large for a manifest or for annotations, or no file.

    Raises:
        DataError: It is too large, missing, or a named pipe, a socket or a device.
    """
    try:
        check_regular(path)
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}.") from None
    if path.stat().st_size > MAX_MANIFEST_BYTES:
        raise DataError(
            f"{path} is larger than {MAX_MANIFEST_BYTES >> 20} MB, too large for a manifest."
        )


def find_near(path: Path, options: SourceOptions, around: Path | None) -> Finder:
    """Returns where the images of a manifest are: `root`, its folder, or folders of images in it.

    Args:
        path: The manifest.
        options: Whether links are followed, and the root that the user names.
        around: Folder that may hold images as well, see `surroundings`.

    Raises:
        DataError: There is no folder `root`.
    """
    beside = path.parent.resolve()
    near = [beside / name for name in (path.stem, *IMAGE_FOLDERS) if (beside / name).is_dir()]
    own = Tree(beside).own
    if options.root is None:
        return Finder((beside, *near), own, around, options.follow_links)
    if not options.root.is_dir():
        raise DataError(f"There is no folder {options.root} (--root).")
    root = options.root.resolve()
    return Finder((root, beside, *near), (root, *own), around, options.follow_links)


def read_csv(path: Path) -> Iterator[list[str]]:
    """Yields the rows of a UTF-8 CSV or TSV file, the header first.

    Raises:
        DataError: It is not such a file, or a row has more cells than the header.
    """
    lines = raw_rows(path)
    header = next(lines, [])
    yield header
    for number, cells in enumerate(lines, start=2):
        if len(cells) > len(header):
            raise DataError(
                f"There are {len(cells)} cells but {len(header)} columns (row {number} of "
                f'{path.name}); put a name that holds a separator into "quotes".'
            )
        yield cells + [""] * (len(header) - len(cells))


def raw_rows(path: Path) -> Iterator[list[str]]:
    """Yields the rows of a UTF-8 CSV file as they are; tabs separate cells in a TSV file.

    Where the first line of a CSV file has no comma between cells, tabs, semicolons or bars in it
    do, as spreadsheets write them where a comma is the decimal sign.

    Raises:
        DataError: It is not such a file.
    """
    kind = "TSV" if path.suffix.lower() == ".tsv" else "CSV"
    try:
        with open_text(path, "utf-8-sig") as file:
            first = file.readline(MAX_MANIFEST_BYTES)
            named = _NAMED_SEPARATOR.fullmatch(first.strip("\r\n"))  # a line for Excel alone
            if named is None:
                file.seek(0)
            separator = named[1] if named else "\t" if kind == "TSV" else _separator(first)
            yield from csv.reader(file, delimiter=separator)
    except UnicodeDecodeError as error:
        raise DataError(
            f"{path} is not a {kind} file in UTF-8: {error}. Save it in UTF-8; spreadsheets call "
            "that 'CSV UTF-8' or ask for the character set."
        ) from error
    except csv.Error as error:
        raise DataError(f"{path} is not a {kind} file in UTF-8: {error}.") from error
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}.") from error


def _separator(first: str) -> str:
    """Returns what separates the cells of a CSV file with this first line.

    Example:
        >>> _separator("path;label"), _separator("path,a;b"), _separator('"path";"a, b"')
        (';', ',', ';')
    """
    for separator in ",\t;|":
        try:
            cells = next(csv.reader([first], delimiter=separator, strict=True), [])
        except csv.Error:  # it cuts a quoted cell
            continue
        if len(cells) > 1:
            return separator
    return ","


def read_json(path: Path, text: str, where: str) -> Any:
    """Returns what JSON text holds.

    Raises:
        DataError: It is not JSON.
    """
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path} is not JSON ({where}): {error}.") from error


def _csv_rows(path: Path) -> tuple[Columns, list[TableRow]]:
    lines = read_csv(path)
    header = next(lines)
    numbered = [
        (number, cells)
        for number, cells in enumerate(lines, start=2)
        if any(cell.strip() for cell in cells)
    ]
    columns = find_columns(header, str(path), [cells for _, cells in numbered])
    rows = [_row(columns, cells, f"row {number} of {path.name}") for number, cells in numbered]
    return columns, rows


def _json_objects(path: Path) -> dict[int, dict[str, Any]]:
    """Returns the objects of a JSON Lines file by line, or of a JSON list by place, from 1."""
    try:
        text = read_text(path, "utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(f"{path} is not a JSON file in UTF-8: {error}.") from error
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}.") from error
    whole = path.suffix.lower() == ".json"
    objects: dict[int, dict[str, Any]] = {}
    if whole:
        content = read_json(path, text, "the whole file")
        if not isinstance(content, list):
            raise DataError(
                f"{path} is not a list of images, nor an export that headstart knows (Label "
                "Studio, COCO)."
            )
        found = list(enumerate(content, start=1))
    else:
        lines = enumerate(text.split("\n"), start=1)
        found = [(n, read_json(path, line, f"line {n}")) for n, line in lines if line.strip()]
    for number, each in found:
        if not isinstance(each, dict):
            what = "Item" if whole else "Line"
            raise DataError(f"{what} {number} of {path} is not a JSON object.")
        objects[number] = each
    return objects


def text_table(path: Path) -> tuple[list[str], list[list[str]]]:
    """Returns the header and the rows of a CSV, TSV, JSON, JSON Lines or Parquet file as text.

    Several values in one cell are joined by `; `, which a label may not hold. Columns of bytes
    are left out.

    Raises:
        DataError: The file is too large, or damaged.
    """
    check_size(path)
    if path.suffix.lower() == ".parquet":
        with _open_parquet(path) as file:
            header = [
                str(each.name) for each in file.schema_arrow if "binary" not in str(each.type)
            ]
            cells = file.read(columns=header).to_pydict().values()
        return header, [list(map(_as_text, row)) for row in zip(*cells, strict=True)]
    if path.suffix.lower() not in {".json", ".jsonl"}:
        lines = read_csv(path)
        return next(lines), [cells for cells in lines if any(cell.strip() for cell in cells)]
    objects = _json_objects(path).values()
    header = list(dict.fromkeys(name for each in objects for name in each))
    return header, [[_as_text(each.get(name)) for name in header] for each in objects]


def _as_text(value: Any) -> str:
    if isinstance(value, list):
        return "; ".join(map(_as_text, value))
    missing = value is None or (isinstance(value, float) and math.isnan(value))
    return "" if missing else str(value)


def _json_rows(path: Path) -> tuple[Columns, list[TableRow]]:
    objects = _json_objects(path)
    header = list(dict.fromkeys(name for each in objects.values() for name in each))
    cells = [[each.get(name) for name in header] for each in objects.values()]
    columns = find_columns(header, str(path), cells)
    where = [f"row {number} of {path.name}" for number in objects]
    return columns, [_row(columns, each, row) for row, each in zip(where, cells, strict=True)]


def _parquet_rows(path: Path) -> tuple[Columns, list[TableRow]]:
    with _open_parquet(path) as file:
        header = [str(name) for name in file.schema_arrow.names]
        kinds = list(map(str, file.schema_arrow.types))
        known = {name for names in COLUMNS.values() for name in names}
        lower = [name.strip().lower() for name in header]
        # Without a column of labels, any other may be a mark.
        alone = not set(lower).isdisjoint(COLUMNS["label"])
        read = [
            name
            for name, low, kind in zip(header, lower, kinds, strict=True)
            if "binary" not in kind and (low in known or not alone)
        ]
        table = file.read(columns=read).to_pydict()
        count = file.metadata.num_rows
    rows = list(zip(*(table.get(name, [None] * count) for name in header), strict=True))
    columns = find_columns(header, str(path), rows)
    if "binary" in kinds[columns.places["path"]]:
        raise DataError(f"{path} {PARQUET_IMAGES}.")
    return columns, [
        _row(columns, cells, f"row {number} of {path.name}") for number, cells in enumerate(rows, 1)
    ]


@contextmanager
def _open_parquet(path: Path) -> "Iterator[pyarrow.parquet.ParquetFile]":
    try:
        import pyarrow  # noqa: PLC0415 - an extra
        import pyarrow.parquet  # noqa: PLC0415
    except ImportError as error:
        raise DataError(
            "Parquet manifests need pyarrow: pip install 'headstart[tables]'."
        ) from error
    try:
        with pyarrow.parquet.ParquetFile(path) as file:
            if file.metadata.num_rows > MAX_MANIFEST_ROWS:  # a few bytes can stand for billions
                raise DataError(f"{path} has more than {MAX_MANIFEST_ROWS:,} rows.")
            yield file
    except (pyarrow.ArrowException, UnicodeDecodeError, OSError) as error:
        raise DataError(
            f"{path} cannot be read as a Parquet file: {shortened(str(error), 200)}"
        ) from error


def _row(columns: Columns, cells: Sequence[Any], where: str) -> TableRow:
    found = {column: cells[place] for column, place in columns.places.items()}
    split = split_said(columns.names.get("split", ""), found.get("split"), where)
    label = columns.marked(cells) if columns.marks else found["label"]
    return TableRow(where, found["path"], label, split, found.get("group"))


def split_said(column: str, cell: object, where: str) -> object:
    """Returns the split that a cell says in a column `split` or `is_valid`.

    Raises:
        DataError: It is neither true nor false in a column `is_valid`.
    """
    if column.strip().lower() != "is_valid":
        return cell
    said = str(cell).strip().lower()
    if said not in _YES | _NO:
        raise DataError(f"is_valid is {cell!r} ({where}). Write true or false.")
    return "val" if said in _YES else "train"


def _from_python(
    rows: Sequence[TableRow], table: str, columns: Columns | None, task: Task | None
) -> Dataset:
    if not rows:
        raise DataError("There are no images: the list or DataFrame is empty.")
    several = recognise(rows, task, table)
    column = columns.names.get("label", "label") if columns else "label"
    items, notes = read_rows(rows, Finder((Path.cwd(),)), table, several, column)
    root = Path(os.path.commonpath([item.path.parent for item in items]))
    return Dataset(
        name=root.name or "images",
        root=root,
        items=items,
        notes=(*notes_on(several, rows, task), *notes),
        layout=f"a table{columns.said}" if columns else "",
        passed_over=tuple(unused_columns(columns.ignored if columns else ())),
    )
