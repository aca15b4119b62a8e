"""Writing files so that a reader never sees half of one."""

import errno
import json
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from headstart.errors import DiskFullError, RunError

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
    except (OSError, ValidationError) as error:
        raise RunError(f"cannot read {path}: {error}") from None


def write_json(path: Path, data: Any) -> None:
    """Writes a JSON file in one step."""
    write_text(path, json.dumps(data, indent=1, ensure_ascii=False, default=str) + "\n")
