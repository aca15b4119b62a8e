"""Writing files so that a reader never sees half of one."""

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
    """Gives a temporary path to write to; renames it to `path` when the block ends well.

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
                f"no space is left for {path}. Free some space and run the command again."
            ) from None
        raise
    finally:
        draft.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Writes a text file in one step."""
    with replacing(path) as draft:
        draft.write_text(text, encoding="utf-8")


def read_model(path: Path, model: type[M]) -> M | None:
    """Reads what `write_text` wrote of a model, or returns None where there is no such file.

    Raises:
        RunError: If it cannot be read.
    """
    if not path.exists():
        return None
    try:
        return model.model_validate_json(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise RunError(f"cannot read {path}: {error.strerror}.") from None
    except ValueError:  # no JSON, not of this form, or no text at all
        raise RunError(damaged(path)) from None


def damaged(path: Path) -> str:
    """Says that a file cannot be understood."""
    return f"{path} is damaged, or was written by another version of headstart."


def check_writable(path: Path) -> None:
    """Refuses a file that `replacing` cannot write, before any work.

    Raises:
        InputError: Its folder is missing, or it is a folder itself.
    """
    if not path.parent.is_dir():
        raise InputError(f"there is no folder {path.parent} to write {path.name} to; make it.")
    if path.is_dir():
        raise InputError(f"{path} is a folder; name a file to write to.")


def write_json(path: Path, data: Any) -> None:
    """Writes a JSON file in one step."""
    write_text(path, json.dumps(data, indent=1, ensure_ascii=False, default=str) + "\n")
