"""The journal of a search: one line a trial, on the disk before the trial counts."""

import json
import os
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from headstart.errors import RunError

JOURNAL = "trials.jsonl"


class Trial(BaseModel):
    """One recipe that was tried.

    Attributes:
        rung: 0 is the shortest schedule.
        number: Of the trial, from 0; it keeps its number in later rungs.
        state: `done`, or `failed`, which is never a score.
        recipe: What was tried.
        epochs: Length of its schedule.
        val_loss: Log loss on validation at the best temperature, in nats.
        val_right: Validation images that were right.
        val_images: Of so many.
        seconds: Wall time.
        cause: Why it failed, in one line.
        traceback: Where it failed.
    """

    model_config = ConfigDict(frozen=True)

    rung: int
    number: int
    state: Literal["done", "failed"]
    recipe: dict[str, Any]
    epochs: int
    val_loss: float | None = None
    val_right: int = 0
    val_images: int = 0
    seconds: float = 0.0
    cause: str = ""
    traceback: str = ""


def append_trial(folder: Path, trial: Trial) -> None:
    """Adds a trial to the journal; when this returns, it outlives a crash."""
    path = folder / JOURNAL
    _drop_torn_line(path)
    with path.open("a", encoding="utf-8") as journal:
        journal.write(trial.model_dump_json() + "\n")
        journal.flush()
        os.fsync(journal.fileno())


def read_trials(folder: Path) -> list[Trial]:
    """Reads the journal, without a last line that was torn by a crash.

    Raises:
        RunError: If another line cannot be read.
    """
    path = folder / JOURNAL
    if not path.exists():
        return []
    lines = path.read_text(encoding="utf-8").split("\n")
    try:
        return [Trial.model_validate(json.loads(line)) for line in lines[:-1] if line]
    except (ValueError, ValidationError) as error:
        raise RunError(f"cannot read {path}: {error}") from None


def _drop_torn_line(path: Path) -> None:
    if not path.exists():
        return
    data = path.read_bytes()
    whole = data.rfind(b"\n") + 1
    if whole != len(data):
        os.truncate(path, whole)
