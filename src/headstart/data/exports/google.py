"""The import files of Google's AutoML and Vertex AI: CSV without a header, and JSON Lines."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from headstart.data.exports.export import Export, Place, only, text_of
from headstart.data.formats import has_image_name
from headstart.data.manifests import raw_rows, read_json
from headstart.data.table_row import TableRow
from headstart.errors import DataError

USES: dict[str, str | None] = {
    "train": "train",
    "training": "train",
    "validation": "val",
    "validate": "val",
    "test": "test",
    "unassigned": None,
}
"""What the first column may say, in lower case."""

_NUMBER = re.compile(r"-?(\d+\.?\d*|\.\d+)(e-?\d+)?", re.IGNORECASE)


def is_import(cells: Sequence[str]) -> bool:
    """Whether the first row of a CSV file is one of an import file, not a header.

    Example:
        >>> is_import(["TRAIN", "gs://pets/1.jpg", "cat"]), is_import(["path", "label"])
        (True, False)
    """
    stripped = [cell.strip() for cell in cells]
    if stripped and stripped[0].startswith("gs://"):
        return True
    if len(stripped) < 2 or (stripped[0] and stripped[0].lower() not in USES):
        return False
    return stripped[1].startswith("gs://") or (bool(stripped[0]) and has_image_name(stripped[1]))


def read_import(path: Path, place: Place) -> Export:
    """Reads a CSV import file.

    Raises:
        DataError: A row has boxes, or says nothing that is known in its first column.
    """
    rows = []
    for number, cells in enumerate(raw_rows(path), start=1):
        if any(cell.strip() for cell in cells):
            rows.append(
                _row([cell.strip() for cell in cells], f"row {number} of {path.name}", place)
            )
    form = "an import file of Google AutoML or Vertex AI"
    return Export(form, rows, (path,))


def is_import_line(content: Any) -> bool:
    """Whether an object of a JSON Lines file is one of an import file."""
    return isinstance(content, dict) and "imageGcsUri" in content


def read_import_lines(path: Path, place: Place) -> Export:
    """Reads a JSON Lines import file.

    Raises:
        DataError: A line cannot be read, or has several labels.
    """
    rows = []
    for number, line in enumerate(text_of(path).split("\n"), start=1):
        if not line.strip():
            continue
        where = f"row {number} of {path.name}"
        content = read_json(path, line, f"line {number}")
        if not is_import_line(content):
            raise DataError(f"There is no imageGcsUri ({where}).")
        given = content.get("classificationAnnotation") or content.get("classificationAnnotations")
        labels = [
            str(each.get("displayName"))
            for each in (given if isinstance(given, list) else [given])
            if isinstance(each, dict) and each.get("displayName")
        ]
        kept = content.get("dataItemResourceLabels")
        said = kept.get("aiplatform.googleapis.com/ml_use", "") if isinstance(kept, dict) else ""
        image = place.find(str(content["imageGcsUri"]), where)
        rows.append(TableRow(where, image, only(labels), _use(str(said), where)))
    form = "a JSON Lines import file of Vertex AI"
    return Export(form, rows, (path,))


def _row(cells: list[str], where: str, place: Place) -> TableRow:
    said = "" if cells[0].startswith("gs://") else cells.pop(0)
    if not cells or not cells[0]:
        raise DataError(f"There is no image ({where}).")
    labels = [cell for cell in cells[1:] if cell]
    if len(labels) > 2 and all(_NUMBER.fullmatch(each) for each in labels[1:]):
        raise DataError(
            f"The row has a box ({where}). headstart classifies whole images; export labels of "
            "images."
        )
    use = _use(said, where)
    return TableRow(where, place.find(cells[0], where, use or ""), only(labels), use)


def _use(said: str, where: str) -> str | None:
    if said and said.lower() not in USES:
        raise DataError(
            f"{said!r} is not a part ({where}). The first column is TRAIN, VALIDATION, TEST or "
            "UNASSIGNED, or empty."
        )
    return USES.get(said.lower())
