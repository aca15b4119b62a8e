"""Atomic writing and checked reading of files."""

import csv
import errno
import json
import os
import tempfile
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError
from safetensors import SafetensorError

from headstart.errors import DiskFullError, InputError, RunError
from headstart.inputs.regular_files import open_text, read_bytes
from headstart.names import from_cell
from headstart.text import counted, listed, shortened

M = TypeVar("M", bound=BaseModel)


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yields a temporary path, which replaces `path` when the block ends without an error.

    Raises:
        DiskFullError: If there is no space left.
    """
    descriptor, name = tempfile.mkstemp(prefix=f".{path.name}-", dir=path.parent)
    os.close(descriptor)
    draft = Path(name)
    try:
        yield draft
        draft.chmod(0o644)
        draft.replace(path)
    except (OSError, SafetensorError) as error:
        if not is_disk_full(error):
            raise
        raise DiskFullError(
            f"There is no space left for {path}. Free some space and run the command again."
        ) from None
    finally:
        draft.unlink(missing_ok=True)


def is_disk_full(error: Exception) -> bool:
    """Returns whether a disk is full; safetensors says so only in its message.

    Example:
        >>> is_disk_full(OSError(errno.ENOSPC, "")), is_disk_full(OSError(errno.EACCES, ""))
        (True, False)
    """
    if isinstance(error, OSError):
        return error.errno in {errno.ENOSPC, errno.EDQUOT}
    return any(f"os error {code})" in str(error) for code in (errno.ENOSPC, errno.EDQUOT))


def write_text(path: Path, text: str) -> None:
    """Writes a text file atomically."""
    with replacing(path) as draft:
        draft.write_text(text, encoding="utf-8")


def write_model(path: Path, model: BaseModel) -> None:
    """Writes a model as JSON in one step; `read_model` reads it."""
    write_text(path, model.model_dump_json(indent=1) + "\n")


def read_model(path: Path, model: type[M], *, strict: bool = True) -> M | None:
    """Reads a model from a JSON file, or returns None if there is no such file.

    Args:
        path: JSON file that `write_model` wrote.
        model: Model class.
        strict: Whether values must have exactly the type of their field. Not for models that read
            older forms by a validator before all others: it makes lists of JSON lists of Python,
            which are no tuples.

    Raises:
        RunError: If it cannot be read; the message names the field.
    """
    content = _bytes(path)
    return None if content is None else _parsed(path, model, content, "", strict)


def read_lines(path: Path, model: type[M]) -> list[M]:
    """Reads a file with one JSON record per line; empty without such a file.

    An incomplete last line, which a crash leaves, is ignored.

    Raises:
        RunError: If any other line cannot be read; the message names the line and the field.
    """
    content = _bytes(path) or b""
    return [
        _parsed(path, model, line, f"line {number}", strict=True)
        for number, line in enumerate(content[: content.rfind(b"\n") + 1].split(b"\n"), start=1)
        if line
    ]


def read_table(path: Path, columns: Collection[str]) -> list[dict[str, str]] | None:
    """Reads the rows of a CSV file with a header, or returns None if there is no such file.

    Args:
        path: CSV file in UTF-8; file names in it need not be valid UTF-8.
        columns: Columns that it must have.

    Raises:
        RunError: If it cannot be read, lacks a column, or a row has too few or too many cells.
    """
    try:
        with open_text(path, "utf-8-sig", "surrogateescape") as file:
            reader = csv.DictReader(file, strict=True)
            lacking = [name for name in columns if name not in (reader.fieldnames or ())]
            if lacking:
                raise RunError(damaged(path, f"the header lacks {listed(lacking)}"))
            rows = []
            for row in reader:
                if None in row or None in row.values():
                    raise RunError(damaged(path, f"line {reader.line_num}: the number of cells"))
                rows.append({name: from_cell(cell) for name, cell in row.items()})
            return rows
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise RunError(f"Cannot read {path}: {error.strerror}.") from None
    except csv.Error as error:
        raise RunError(damaged(path, str(error))) from None


def read_records(path: Path, model: type[M]) -> list[M] | None:
    """Reads a CSV file with one record per row, or returns None if there is no such file.

    Raises:
        RunError: As `read_table`, or if a cell has no such value.
    """
    wanted = [name for name, field in model.model_fields.items() if field.is_required()]
    rows = read_table(path, wanted)
    if rows is None:
        return None
    records = []
    for number, row in enumerate(rows, start=1):
        try:
            records.append(model.model_validate_strings(row))
        except ValidationError as error:
            raise RunError(damaged(path, explained(error, f"row {number}"))) from None
    return records


def damaged(path: Path, detail: str) -> str:
    """Returns the error message for a file that cannot be parsed.

    Example:
        >>> damaged(Path("run.json"), "epochs: input should be a valid integer")
        'run.json is damaged, or was written by another version of headstart (epochs: input should \
be a valid integer). Restore it from a copy, or make it again.'
    """
    return (
        f"{path} is damaged, or was written by another version of headstart ({detail}). "
        "Restore it from a copy, or make it again."
    )


def explained(error: ValidationError, where: str = "") -> str:
    """Returns the first problem that a model found as one line: the place, and what is wrong.

    Args:
        error: What pydantic raised.
        where: Part of the file, such as its line.
    """
    first, *others = error.errors(include_url=False)
    place = ".".join(shortened(str(part)) for part in first["loc"])
    what = shortened(first["msg"].removeprefix("Value error, ").rstrip("."), 200)
    more = f", and {counted(len(others), 'more problem')}" if others else ""
    return ": ".join(part for part in (where, place, what[:1].lower() + what[1:]) if part) + more


def _bytes(path: Path) -> bytes | None:
    try:
        return read_bytes(path)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise RunError(f"Cannot read {path}: {error.strerror}.") from None


def _parsed(path: Path, model: type[M], content: bytes, where: str, strict: bool) -> M:
    try:
        return model.model_validate_json(content, strict=strict or None)
    except ValidationError as error:
        raise RunError(damaged(path, explained(error, where))) from None


def check_writable(path: Path) -> None:
    """Checks, before any work, that `replacing` can write a file.

    Raises:
        InputError: If its folder is missing, or the path is a folder.
    """
    if not path.parent.is_dir():
        raise InputError(f"There is no folder {path.parent} to write {path.name} to. Create it.")
    if path.is_dir():
        raise InputError(f"{path} is a folder. Give the path of a file.")


def write_json(path: Path, data: Any) -> None:
    """Writes a JSON file atomically."""
    write_text(path, json.dumps(data, indent=1, ensure_ascii=False, default=str) + "\n")
