"""Label Studio's exports of choices: JSON, JSON-MIN and CSV."""

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from headstart.data.exports.export import Export, Place, dicts_in, marked, only
from headstart.data.formats import has_image_name
from headstart.data.manifests import read_csv
from headstart.data.table_row import TableRow
from headstart.errors import DataError
from headstart.text import listed

_OWN = frozenset(
    {
        "id", "annotation_id", "annotator", "created_at", "updated_at", "lead_time", "agreement",
        "review_status", "comments", "predictions",
    }
)  # fmt: skip
"""Fields of a record that Label Studio adds to the data and the answers."""


def is_records(header: Sequence[str]) -> bool:
    """Whether a table, or a record of JSON-MIN, has the fields of Label Studio.

    Example:
        >>> is_records(["annotation_id", "annotator", "choice", "id", "image", "lead_time"])
        True
    """
    return "annotator" in header and bool({"annotation_id", "lead_time"} & set(header))


def is_tasks(content: Any) -> bool:
    """Whether the content of a JSON file is a list of tasks, or of JSON-MIN records."""
    first = content[0] if isinstance(content, list) and content else None
    if not isinstance(first, dict):
        return False
    kept = "annotations" in first or "completions" in first
    return (kept and isinstance(first.get("data"), dict)) or is_records(list(first))


def read_tasks(path: Path, content: Any, place: Place) -> Export:
    """Reads a JSON export.

    Raises:
        DataError: A task has no image, or answers of another kind than choices.
    """
    short = is_records(list(content[0]))
    if short:
        records = {f"record {n} of {path.name}": each for n, each in enumerate(content, start=1)}
        return Export("a JSON export of Label Studio", _records(records, place, path), (path,))
    rows = [_task(task, f"task {n} of {path.name}", place) for n, task in enumerate(content, 1)]
    _check_any(rows, path)
    return Export("a JSON export of Label Studio", rows, (path,))


def read_table(path: Path, place: Place) -> Export:
    """Reads a CSV export.

    Raises:
        DataError: The column of the answers is not clear.
    """
    lines = read_csv(path)
    header = next(lines)
    records = {
        f"row {number} of {path.name}": dict(zip(header, cells, strict=True))
        for number, cells in enumerate(lines, start=2)
        if any(cells)
    }
    return Export("a CSV export of Label Studio", _records(records, place, path), (path,))


def _records(records: Mapping[str, Any], place: Place, path: Path) -> list[TableRow]:
    image, answer = _fields([each for each in records.values() if isinstance(each, dict)], path)
    rows = []
    for where, record in records.items():
        if not isinstance(record, dict) or not record.get(image):
            raise DataError(f"There is no image ({where}).")
        labels = _choices(record.get(answer), where)
        # Skipped tasks are left out by Label Studio: an annotation without a choice is an answer.
        looked_at = record.get("annotation_id") not in (None, "")
        label = marked(labels) if looked_at else only(labels)
        rows.append(TableRow(where, place.find(str(record[image]), where), label))
    _check_any(rows, path)
    return rows


def _fields(records: Sequence[dict[str, Any]], path: Path) -> tuple[str, str]:
    """Returns the names of the fields of the image and of the answer."""
    names = list(dict.fromkeys(name for record in records for name in record))
    images = [name for name in names if any(_is_image(record.get(name)) for record in records)]
    if not images:
        raise DataError(f"No field of {path} names images; there are {listed(names)}.")
    answers = [name for name in names if name not in _OWN and name not in images]
    if len(answers) > 1:
        answers = [name for name in answers if name.lower() in {"choice", "choices", "label"}]
    if len(answers) != 1:
        raise DataError(
            f"It is not clear which field of {path} holds the label: there are {listed(names)}. "
            "Call the field of the choices 'choice'."
        )
    return images[0], answers[0]


def _is_image(value: object) -> bool:
    return isinstance(value, str) and has_image_name(value.partition("?")[0] or value)


def _choices(value: Any, where: str) -> list[str]:
    """Returns the choices in a field: a text, or several in JSON."""
    if isinstance(value, str) and value.startswith(("{", "[")):
        try:
            value = json.loads(value)
        except ValueError:
            return [value]
    if isinstance(value, dict):
        value = value.get("choices")
    if isinstance(value, list):
        if any(isinstance(each, dict) for each in value):
            raise DataError(_no_choices(where))
        return [str(each) for each in value]
    return [] if value is None or str(value).strip() == "" else [str(value)]


def _task(task: Any, where: str, place: Place) -> TableRow:
    data = task.get("data") if isinstance(task, dict) else None
    values = list(data.values()) if isinstance(data, dict) else []
    images = [value for value in values if _is_image(value)]
    if not images and isinstance(task, dict) and _is_image(task.get("file_upload")):
        images = [task["file_upload"]]
    if not images:
        images = [value for value in values if isinstance(value, str) and "?d=" in value]
    if not images:
        raise DataError(f"There is no image ({where}).")
    given = dicts_in(task.get("annotations") or task.get("completions"))
    answers = [tuple(_answers(each, where)) for each in given if not each.get("was_cancelled")]
    different = {frozenset(labels) for labels in answers if labels}
    if len(different) > 1 and all(len(labels) == 1 for labels in different):
        names = sorted(label for labels in different for label in labels)
        raise DataError(
            f"The annotators disagree ({where}): {', '.join(map(repr, names))}. Keep one "
            "annotation for each task."
        )
    labels = [label for each in answers for label in each]
    looked_at = marked(labels) if answers else None  # a skipped task has no answers
    return TableRow(where, place.find(images[0], where), looked_at)


def _answers(annotation: dict[str, Any], where: str) -> Iterator[str]:
    """Yields the choices of one annotation."""
    parts = dicts_in(annotation.get("result"))
    chosen = [each for each in parts if each.get("type") == "choices"]
    if parts and not chosen:
        raise DataError(_no_choices(where))
    asked = sorted({str(each.get("from_name")) for each in chosen})
    if len(asked) > 1:
        raise DataError(
            f"There are answers to several questions ({where}): {', '.join(map(repr, asked))}. "
            "Export one question."
        )
    for each in chosen:
        value = each.get("value")
        yield from _choices(value, where) if isinstance(value, dict) else []


def _no_choices(where: str) -> str:
    return (
        f"The labels are boxes, outlines or texts ({where}). headstart classifies whole images "
        "and reads choices only."
    )


def _check_any(rows: Sequence[TableRow], path: Path) -> None:
    if not any(row.label for row in rows):
        raise DataError(f"No image in {path} has a label.")
