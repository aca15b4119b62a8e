"""The form "imagenet_txt" of Datumaro and CVAT: `synsets.txt` and a list for each split."""

from collections.abc import Iterator
from pathlib import Path

from headstart.data.exports.export import Export, Place, only, text_of
from headstart.data.split_names import split_of
from headstart.data.table_row import TableRow
from headstart.errors import DataError

SYNSETS = "synsets.txt"


def read_synsets(place: Place) -> Export | None:
    """Reads `synsets.txt`, `train.txt` and so on; None if there are no such lists.

    Raises:
        DataError: A line is not a name and numbers of classes.
    """
    synsets = place.root / SYNSETS
    if not synsets.is_file():
        return None
    lists = [
        path
        for path in sorted(place.root.glob("*.txt"))
        if path != synsets and (split_of(path.stem) or path.stem == "default")
    ]
    if not lists:
        return None
    if not place.images.paths:
        raise DataError(
            f"{place.root} holds lists in the form of imagenet_txt but no images. Export again "
            "with the images, or put them into its folder images."
        )
    rows = [row for table in lists for row in _rows(table, synsets, place)]
    return Export("an export in the form of imagenet_txt", rows, (synsets, *lists))


def _rows(table: Path, synsets: Path, place: Place) -> Iterator[TableRow]:
    split = split_of(table.stem)
    classes = [line.strip() for line in text_of(synsets).split("\n")]
    for number, line in enumerate(text_of(table).splitlines(), start=1):
        if not line.strip():
            continue
        where = f"row {number} of {table.name}"
        # Names may hold spaces, in quotes or not: the numbers at the end are the classes.
        quoted, _, behind = line[1:].rpartition('"') if line.startswith('"') else ("", "", "")
        words = [quoted, *behind.split()] if quoted else line.split(" ")
        name = list[str](words)
        numbers: list[int] = []
        while len(name) > 1 and name[-1].isdecimal():
            numbers.insert(0, int(name.pop()))
        if any(each >= len(classes) or not classes[each] for each in numbers):
            raise DataError(f"{line!r} is not a name and numbers of classes ({where}).")
        if len(name) > 1 and not numbers:
            raise DataError(f"{line!r} is not a name and numbers of classes ({where}).")
        path = place.find(" ".join(name), where, "images")
        yield TableRow(where, path, only(classes[each] for each in numbers), split)
