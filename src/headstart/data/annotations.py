"""Folders as annotation tools export them, with their labels in text files."""

from collections.abc import Iterator
from pathlib import Path

from headstart.data.locate import Finder
from headstart.data.manifests import check_size, find_near, read_csv
from headstart.data.rows import TableRow, read_rows
from headstart.data.split_names import split_of
from headstart.data.types import Dataset
from headstart.data.understanding import PassedOver
from headstart.errors import DataError
from headstart.inputs.regular_files import read_text
from headstart.recipes.options import SourceOptions

ONE_HOT = "_classes.csv"
SYNSETS = "synsets.txt"


def load_annotations(folder: Path, options: SourceOptions) -> Dataset | None:
    """Reads a folder that an annotation tool wrote; returns None for any other folder.

    These are Roboflow's multi-class export (`train/_classes.csv`), and "imagenet_txt" of Datumaro
    and CVAT (`synsets.txt`, `train.txt` and `images/`).

    Raises:
        DataError: A row cannot be used, or has several labels.
    """
    root = folder.resolve()
    tables = sorted([*root.glob(ONE_HOT), *root.glob(f"*/{ONE_HOT}")])
    if tables:
        rows = [row for table in tables for row in _one_hot_rows(table, root)]
        return _dataset(root, Finder((root,), (root,), options.follow_links), rows, "Roboflow")
    if (root / SYNSETS).is_file() and (root / "images").is_dir():
        rows = list(_synset_rows(root))
        return _dataset(root, find_near(root / SYNSETS, options), rows, "imagenet_txt")
    return None


def _dataset(root: Path, finder: Finder, rows: list[TableRow], tool: str) -> Dataset:
    bare = tuple(sorted(str(row.path) for row in rows if row.label is None))
    labelled = [row for row in rows if row.label is not None]
    if not labelled:
        raise DataError(f"No image in {root} has a label.")
    items, notes = read_rows(labelled, finder, root.name)
    passed = PassedOver(reason="unlabelled", what="Images without a label", names=bare)
    return Dataset(
        name=root.name or "images",
        root=root,
        items=items,
        notes=notes,
        layout=f"an export in the form of {tool}",
        passed_over=(passed,) if bare else (),
    )


def _one_hot_rows(table: Path, root: Path) -> Iterator[TableRow]:
    """Yields the rows of a table with a column of 0 and 1 per class."""
    check_size(table)
    lines = read_csv(table)
    classes = [name.strip() for name in next(lines)[1:]]
    inside = table.parent.relative_to(root)
    for number, cells in enumerate(lines, start=2):
        if not any(cell.strip() for cell in cells):
            continue
        where = f"row {number} of {(inside / table.name).as_posix()}"
        marks = [cell.strip() for cell in cells[1:]]
        if any(mark not in {"0", "1"} for mark in marks):
            raise DataError(f"A cell is neither 0 nor 1 ({where}).")
        labels = tuple(name for name, mark in zip(classes, marks, strict=True) if mark == "1")
        split = split_of(inside.name) if inside.parts else None
        yield TableRow(where, (inside / cells[0].strip()).as_posix(), _only(labels), split)


def _synset_rows(root: Path) -> Iterator[TableRow]:
    """Yields the rows of the text files of an imagenet_txt export, one file per split."""
    classes = read_text(root / SYNSETS).split("\n")
    for table in sorted(root.glob("*.txt")):
        split = split_of(table.stem)
        if table.name == SYNSETS or (split is None and table.stem != "default"):
            continue
        check_size(table)
        for number, line in enumerate(read_text(table).splitlines(), start=1):
            if not line.strip():
                continue
            where = f"row {number} of {table.name}"
            words = line.split()
            numbers = [word for word in words[1:] if word.isdecimal() and int(word) < len(classes)]
            if len(numbers) < len(words) - 1:
                raise DataError(f"{line!r} is not a name and numbers of classes ({where}).")
            labels = tuple(classes[int(each)].strip() for each in numbers)
            yield TableRow(where, words[0], _only(labels), split)


def _only(labels: tuple[str, ...]) -> object:
    """Returns the label if there is one, None if there is none, or all for the refusal."""
    return labels[0] if len(labels) == 1 else labels or None
