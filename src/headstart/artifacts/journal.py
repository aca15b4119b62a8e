"""Journals: one line a record, on the disk before it counts; what a search keeps in them."""

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, Literal, TypeVar

from pydantic import BaseModel, ConfigDict

from headstart.artifacts.files import damaged, read_model, write_text
from headstart.errors import RunError
from headstart.fingerprints import Acted

M = TypeVar("M", bound=BaseModel)

PLAN = "plan.json"


@dataclass(frozen=True)
class Journal(Generic[M]):
    """A file with one record a line; what was appended outlives a crash.

    Attributes:
        name: File name in its folder.
        model: Type of the records.
    """

    name: str
    model: type[M]

    def path(self, folder: Path) -> Path:
        """Returns the file in a folder."""
        return folder / self.name

    def append(self, folder: Path, record: M) -> None:
        """Adds a record; when this returns, it is on the disk."""
        path = self.path(folder)
        _drop_torn_line(path)
        with path.open("a", encoding="utf-8") as file:
            file.write(record.model_dump_json() + "\n")
            file.flush()
            os.fsync(file.fileno())

    def write(self, folder: Path, records: Sequence[M]) -> None:
        """Replaces all records in one step."""
        text = "".join(record.model_dump_json() + "\n" for record in records)
        write_text(self.path(folder), text)

    def read(self, folder: Path) -> list[M]:
        """Reads all records but a last one that a crash tore; none where there is no file.

        Raises:
            RunError: If another line cannot be read.
        """
        path = self.path(folder)
        if not path.exists():
            return []
        data = path.read_bytes()
        try:
            lines = data[: data.rfind(b"\n") + 1].decode().split("\n")
            return [self.model.model_validate(json.loads(line)) for line in lines if line]
        except ValueError:  # no JSON, not of this form, or no text at all
            raise RunError(damaged(path)) from None


def _drop_torn_line(path: Path) -> None:
    if not path.exists():
        return
    data = path.read_bytes()
    whole = data.rfind(b"\n") + 1
    if whole != len(data):
        os.truncate(path, whole)


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
        val_bits: One character a validation image, `1` where it was right.
        temperature: The best one.
        start_loss: The log loss before training, of the head alone.
        start_temperature: Its best one.
        start_bits: As `val_bits`, before training.
        sets: Thresholds of class sets, see `calibration.set_thresholds`.
        start_sets: As `sets`, before training.
        gain_noise: Standard error, over images, of the log loss that training saved.
        note: What was changed so that it could run.
        train_s: Seconds to train on an image once.
        acted: What each method was seen to do.
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
    val_bits: str = ""
    temperature: float = 1.0
    start_loss: float | None = None
    start_temperature: float = 1.0
    start_bits: str = ""
    sets: tuple[float, ...] = ()
    start_sets: tuple[float, ...] = ()
    gain_noise: float = 0.0
    note: str = ""
    train_s: float = 0.0
    acted: tuple[Acted, ...] = ()
    seconds: float = 0.0
    cause: str = ""
    traceback: str = ""


class HeadRecord(BaseModel):
    """One head that was tried on cached features.

    Attributes:
        head: The method, as plain data.
        loss: Cross-validated log loss in nats at the best temperature.
        right: Images that were right.
        images: Of so many.
    """

    model_config = ConfigDict(frozen=True)

    head: dict[str, Any]
    loss: float
    right: int
    images: int


TRIALS = Journal("trials.jsonl", Trial)
HEADS = Journal("heads.jsonl", HeadRecord)


class Rung(BaseModel):
    """Trials that train for the same number of epochs, each on a whole schedule of that length.

    Attributes:
        trials: How many: those that are planned, and those that ran once it has ended.
        epochs: Of each.
        planned: How many were planned before any ran.
        ended: Why there were no more, where fewer ran than were planned.
    """

    model_config = ConfigDict(frozen=True)

    trials: int
    epochs: int
    planned: int = 0
    ended: str = ""


class SearchPlan(BaseModel):
    """What a search does once everything is measured; a resumed one does the same.

    Attributes:
        rungs: Shortest schedules first.
        folds: 1 scores trials on the validation images; more cross-validates them.
        epochs: Of the winner's whole schedule as planned: trials are judged by it.
        fitted_epochs: Of the same as trained, once it is known what time the trials left; 0 before,
            and without a clock.
        view_s: Seconds for one view of an image, as measured; 0 without a clock.
        train_s: Seconds to train on an image once, as measured.
        head_loss: Cross-validated log loss in nats of the best head on frozen features; None where
            heads were not searched.
        head_right: Images that it had right.
        head_images: Of so many.
        head_temperature: Its best one.
        head_sets: Its thresholds of class sets.
    """

    model_config = ConfigDict(frozen=True)

    rungs: tuple[Rung, ...]
    folds: int
    epochs: int
    fitted_epochs: int = 0
    view_s: float = 0.0
    train_s: float = 0.0
    head_loss: float | None = None
    head_right: int = 0
    head_images: int = 0
    head_temperature: float = 1.0
    head_sets: tuple[float, ...] = ()

    @property
    def whole_epochs(self) -> int:
        """Epochs that the winner trains."""
        return self.fitted_epochs or self.epochs


def write_plan(folder: Path, plan: SearchPlan) -> None:
    """Writes what the search is going to do; from then on it counts."""
    write_text(folder / PLAN, plan.model_dump_json(indent=1) + "\n")


def read_plan(folder: Path) -> SearchPlan | None:
    """Reads the plan of a search, or returns None where none was made yet.

    Raises:
        RunError: If it cannot be read.
    """
    return read_model(folder / PLAN, SearchPlan)


append_trial, read_trials, write_heads = TRIALS.append, TRIALS.read, HEADS.write
