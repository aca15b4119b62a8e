"""Atomic writing and checked reading of files."""

import errno
import json
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel

from headstart.errors import DiskFullError, InputError, RunError

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
    except OSError as error:
        if error.errno in {errno.ENOSPC, errno.EDQUOT}:
            raise DiskFullError(
                f"There is no space left for {path}. Free some space and run the command again."
            ) from None
        raise
    finally:
        draft.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Writes a text file atomically."""
    with replacing(path) as draft:
        draft.write_text(text, encoding="utf-8")


def write_model(path: Path, model: BaseModel) -> None:
    """Writes a model as JSON in one step; `read_model` reads it."""
    write_text(path, model.model_dump_json(indent=1) + "\n")


def read_model(path: Path, model: type[M]) -> M | None:
    """Reads a model from a JSON file, or returns None if there is no such file.

    Raises:
        RunError: If it cannot be read.
    """
    try:
        return model.model_validate_json(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise RunError(f"Cannot read {path}: {error.strerror}.") from None
    except ValueError:  # not JSON, not this model, or not text
        raise RunError(damaged(path)) from None


def damaged(path: Path) -> str:
    """Returns the error message for a file that cannot be parsed.

    Example:
        >>> damaged(Path("run.json"))
        'run.json is damaged, or was written by another version of headstart.'
    """
    return f"{path} is damaged, or was written by another version of headstart."


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
