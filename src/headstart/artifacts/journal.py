"""Journals with one JSON line per record, and the records that a search writes to them."""

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, Literal, TypeVar

from pydantic import BaseModel, ConfigDict

from headstart.artifacts.files import damaged, read_model, write_model, write_text
from headstart.artifacts.records import Acted
from headstart.errors import RunError

M = TypeVar("M", bound=BaseModel)

PLAN = "plan.json"


@dataclass(frozen=True)
class Journal(Generic[M]):
    """A file with one JSON record per line; appended records survive a crash.

    Attributes:
        name: File name in its folder.
        model: Model class of the records.
    """

    name: str
    model: type[M]

    def path(self, folder: Path) -> Path:
        """Returns the path of the journal in a folder."""
        return folder / self.name

    def append(self, folder: Path, record: M) -> None:
        """Appends a record; it is on the disk when this returns."""
        path = self.path(folder)
        _drop_torn_line(path)
        with path.open("a", encoding="utf-8") as file:
            file.write(record.model_dump_json() + "\n")
            file.flush()
            os.fsync(file.fileno())

    def write(self, folder: Path, records: Sequence[M]) -> None:
        """Replaces all records atomically."""
        text = "".join(record.model_dump_json() + "\n" for record in records)
        write_text(self.path(folder), text)

    def read(self, folder: Path) -> list[M]:
        """Reads all records; ignores an incomplete last line after a crash, and a missing file.

        Raises:
            RunError: If any other line cannot be read.
        """
        path = self.path(folder)
        if not path.exists():
            return []
        data = path.read_bytes()
        try:
            lines = data[: data.rfind(b"\n") + 1].decode().split("\n")
            return [self.model.model_validate(json.loads(line)) for line in lines if line]
        except ValueError:  # not JSON, not this model, or not text
            raise RunError(damaged(path)) from None


def _drop_torn_line(path: Path) -> None:
    if not path.exists():
        return
    data = path.read_bytes()
    whole = data.rfind(b"\n") + 1
    if whole != len(data):
        os.truncate(path, whole)


class Trial(BaseModel):
    """One trial: a recipe and its result.

    Attributes:
        rung: Number of the rung; 0 has the shortest schedule.
        number: Number of the trial, from 0; the same in all rungs.
        state: `done` or `failed`; a failed trial has no score.
        recipe: The recipe, as plain data.
        epochs: Length of the schedule.
        val_loss: Validation log loss at the best temperature, in nats.
        val_right: Number of validation images that are classified correctly.
        val_images: Number of validation images.
        val_bits: One character per validation image, `1` if it is classified correctly.
        temperature: Best temperature.
        start_loss: Validation log loss before training, with the initial head.
        start_temperature: Best temperature before training.
        start_bits: `val_bits` before training.
        sets: Thresholds of prediction sets; see `calibration.set_thresholds`.
        start_sets: `sets` before training.
        gain_noise: Standard error, over images, of the reduction in log loss by training.
        note: Changes that were needed to run the trial.
        train_s: Seconds to train on one image once.
        acted: Observed effect of each method.
        seconds: Wall time.
        cause: Reason for the failure, in one line.
        traceback: Traceback of the failure.
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
    """One head that was evaluated on cached features.

    Attributes:
        head: The head method, as plain data.
        loss: Cross-validated log loss in nats at the best temperature.
        right: Number of images that are classified correctly.
        images: Number of images.
    """

    model_config = ConfigDict(frozen=True)

    head: dict[str, Any]
    loss: float
    right: int
    images: int


TRIALS = Journal("trials.jsonl", Trial)
HEADS = Journal("heads.jsonl", HeadRecord)


class Rung(BaseModel):
    """A rung: trials with the same number of epochs, each with a complete schedule.

    Attributes:
        trials: Number of trials: planned ones, or those that ran once the rung has ended.
        epochs: Length of each schedule.
        planned: Number of trials that were planned at first.
        ended: Why fewer trials ran than planned; empty otherwise.
    """

    model_config = ConfigDict(frozen=True)

    trials: int
    epochs: int
    planned: int = 0
    ended: str = ""


class SearchPlan(BaseModel):
    """The plan of a search, made after all measurements and followed by a resumed search.

    Attributes:
        rungs: The rungs, shortest schedule first.
        folds: 1 to score trials on the validation images; else the number of folds.
        epochs: Planned length of the schedule of the winner.
        fitted_epochs: Final length, which depends on the time that the trials left; 0 until it is
            known, and without a budget.
        view_s: Measured seconds per view of an image; 0 without a budget.
        train_s: Measured seconds to train on one image once.
        head_loss: Cross-validated log loss in nats of the best head on frozen features; None if
            heads were not searched.
        head_right: Number of images that this head classifies correctly.
        head_images: Number of images.
        head_temperature: Best temperature of this head.
        head_sets: Thresholds of prediction sets of this head.
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
        """Number of epochs that the winner trains."""
        return self.fitted_epochs or self.epochs


def write_plan(folder: Path, plan: SearchPlan) -> None:
    """Writes the plan of a search, which is binding from then on."""
    write_model(folder / PLAN, plan)


def read_plan(folder: Path) -> SearchPlan | None:
    """Reads the plan of a search, or returns None if there is none yet.

    Raises:
        RunError: If it cannot be read.
    """
    return read_model(folder / PLAN, SearchPlan)
