"""Predictions as rows of CSV and as lines of JSON, and the images that such rows are of."""

import csv
import io
import json
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import BinaryIO, Literal

from headstart.errors import InputError, RunError
from headstart.inference.predict import Prediction
from headstart.names import from_cell, printable_json, to_cell, write_rows

Form = Literal["csv", "jsonl"]

_COLUMNS = (
    "image", "label", "probability", "error", "classes", "distance", "limit",
    "out_of_distribution", "depth", "warning",
)  # fmt: skip

_OF_SETS = tuple("labels" if name == "classes" else name for name in _COLUMNS)
"""The same where an image gets any number of labels, instead of a prediction set."""

_LONGEST = 1 << 24
"""Bytes of the longest row that is read; one is 20 KB with 1,000 classes."""


def form_of(path: Path) -> Form:
    """Returns in which form a file holds predictions.

    Raises:
        InputError: If its name ends otherwise.
    """
    forms: dict[str, Form] = {".csv": "csv", ".jsonl": "jsonl"}
    form = forms.get(path.suffix.lower())
    if form is None:
        raise InputError(f"Predictions cannot be written to {path}. Name it .csv or .jsonl.")
    return form


def header(classes: Sequence[str], form: Form, multilabel: bool = False) -> str:
    """Returns what comes before the rows; a class is the column `probability_CLASS`.

    Args:
        classes: Classes or labels.
        form: Form of the rows.
        multilabel: Whether an image gets any number of labels, in the column `labels`.

    Example:
        >>> header(("rose", "tulip"), "csv").strip().endswith("probability_rose,probability_tulip")
        True
    """
    if form == "jsonl":
        return ""
    names = (f"probability_{name}" for name in classes)
    return _csv([(*(_OF_SETS if multilabel else _COLUMNS), *names)])


def rows(predictions: Iterable[Prediction], classes: Sequence[str], form: Form) -> str:
    """Returns predictions as rows, each with its line end."""
    if form == "csv":
        return _csv(_cells(each, classes) for each in predictions)
    lines = (json.dumps(each.model_dump(), ensure_ascii=False) for each in predictions)
    return "".join(f"{printable_json(line)}\n" for line in lines)


def encoded(text: str, form: Form) -> bytes:
    """Returns rows as bytes. Names of files that are not UTF-8 keep their bytes, or are escaped."""
    return text.encode("utf-8", "surrogateescape" if form == "csv" else "backslashreplace")


def _cells(prediction: Prediction, classes: Sequence[str]) -> tuple[object, ...]:
    p = prediction
    # Class names may contain any separator; JSON quotes them.
    several = p.classes if p.labels is None else p.labels
    shown = bool(several) or p.labels is not None
    members = json.dumps(several, ensure_ascii=False) if shown else ""
    outside = "" if p.distance is None else str(p.out_of_distribution).lower()
    found = (printable_json(members), p.distance, p.limit, outside, p.depth, p.warning)
    by_class = (p.probabilities.get(name) for name in classes)
    return (to_cell(p.image), to_cell(p.label), p.probability, p.error, *found, *by_class)


def _csv(cells: Iterable[Sequence[object]]) -> str:
    text = io.StringIO(newline="")
    write_rows(text, cells)
    return text.getvalue()


def read_rows(file: BinaryIO, form: Form) -> Iterator[tuple[int, str]]:
    """Yields where each whole row ends, in bytes, and the row; one that is cut off is left out.

    A row of CSV ends at the first line end outside of quotes.

    Raises:
        RunError: If a row is longer than any that was written.
    """
    end, row = 0, b""
    while line := file.readline(_LONGEST):
        row += line
        if len(row) >= _LONGEST:
            raise RunError(f"{file.name} holds no predictions after byte {end:,}.")
        if not line.endswith(b"\n") or (form == "csv" and row.count(b'"') % 2):
            continue
        end += len(row)
        yield end, row.decode("utf-8", "surrogateescape")
        row = b""


def image_of(row: str, classes: Sequence[str], form: Form) -> str:
    """Returns the name of the image that a row is of.

    Raises:
        ValueError: If it is not such a row.
    """
    if form == "jsonl":
        found = json.loads(row)
        if not isinstance(found, dict) or not isinstance(found.get("image"), str):
            raise ValueError("It names no image.")
        return str(found["image"])
    try:
        (cells,) = csv.reader(io.StringIO(row, newline=""), strict=True)
    except csv.Error as error:
        raise ValueError(str(error)) from None
    if len(cells) != len(_COLUMNS) + len(classes):
        raise ValueError(f"It has {len(cells)} cells, not {len(_COLUMNS) + len(classes)}.")
    return from_cell(cells[0])
