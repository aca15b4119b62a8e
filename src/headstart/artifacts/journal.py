"""Journals with one JSON line per record, and the records that a search writes to them."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Generic, Literal, Self, TypeVar

import numpy as np
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from headstart.artifacts.files import read_lines, read_model, write_model, write_text
from headstart.artifacts.records import Acted
from headstart.evaluation.intervals import Groups, share_interval, wilson
from headstart.evaluation.label_rules import FittedRules
from headstart.evaluation.metrics import flags_of
from headstart.evaluation.statistics import Interval
from headstart.evaluation.trust import Calibration
from headstart.inputs.quantities import Bits, Count, Positive, Share, Size
from headstart.inputs.regular_files import read_bytes
from headstart.recipes.parsing import parse_recipe

M = TypeVar("M", bound=BaseModel)

PLAN = "plan.json"


def _whole(recipe: dict[str, Any]) -> dict[str, Any]:
    return parse_recipe(recipe).model_dump(mode="json")


PlainRecipe = Annotated[dict[str, Any], AfterValidator(_whole)]
"""A whole recipe as plain data."""


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
        return read_lines(self.path(folder), self.model)


def _drop_torn_line(path: Path) -> None:
    try:
        data = read_bytes(path)
    except FileNotFoundError:
        return
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
        val_right: Number of validation images that are classified correctly; of sets of labels,
            those that get exactly theirs at a probability of 50%.
        val_images: Number of validation images.
        val_bits: One character per validation image, `1` if it is classified correctly.
        val_groups: Group number of each validation image; empty if each is one of its own, and in
            older runs, which did not record it.
        calibration: Calibration by the validation images.
        cautious_calibration: The same for a network that differs from this one, such as one with a
            longer schedule; None in older runs.
        start_loss: Validation log loss before training, with the initial head.
        start_bits: `val_bits` before training.
        start_calibration: `calibration` before training.
        gain_noise: Standard error, over images, of the reduction in log loss by training.
        note: Changes that were needed to run the trial.
        train_s: Seconds to train on one image once.
        acted: Observed effect of each method.
        seconds: Wall time.
        cause: Reason for the failure, in one line.
        traceback: Traceback of the failure.
    """

    model_config = ConfigDict(frozen=True)

    rung: Count
    number: Count
    state: Literal["done", "failed"]
    recipe: PlainRecipe
    epochs: Count
    val_loss: Size | None = None
    val_right: Count = 0
    val_images: Count = 0
    val_bits: Bits = ""
    val_groups: tuple[Count, ...] = ()
    calibration: Calibration = Calibration()
    cautious_calibration: Calibration | None = None
    start_loss: Size | None = None
    start_bits: Bits = ""
    start_calibration: Calibration = Calibration()
    gain_noise: Size = 0.0
    note: str = ""
    train_s: Size = 0.0
    acted: tuple[Acted, ...] = ()
    seconds: Size = 0.0
    cause: str = ""
    traceback: str = ""

    # What older runs kept in place of calibrations.
    temperature: Positive | None = Field(None, exclude=True, repr=False)
    sets: tuple[Share, ...] = Field((), exclude=True, repr=False)
    start_temperature: Positive | None = Field(None, exclude=True, repr=False)
    start_sets: tuple[Share, ...] = Field((), exclude=True, repr=False)

    @model_validator(mode="after")
    def _agree(self) -> Self:
        _take_over_temperature(self, "", self.val_images)
        _take_over_temperature(self, "start_", self.val_images)
        counts = (len(self.val_bits), self.val_bits.count("1"))
        if self.val_bits and counts != (self.val_images, self.val_right):
            raise ValueError("The values val_images and val_right are not those of val_bits.")
        if self.val_groups and len(self.val_groups) != len(self.val_bits):
            raise ValueError("The values val_groups and val_bits do not have the same length.")
        if self.val_right > self.val_images:
            raise ValueError("The value val_right is more than val_images.")
        if self.state == "done" and (self.val_loss is None or not self.val_images):
            raise ValueError("A trial that is done needs val_loss and val_images.")
        return self

    @property
    def groups(self) -> Groups | None:
        """Group number of each validation image; None if each is one of its own."""
        return np.array(self.val_groups, np.int64) if self.val_groups else None

    @property
    def interval(self) -> Interval:
        """95% interval of the share of validation images that are classified correctly."""
        if self.val_bits:
            return share_interval(flags_of(self.val_bits), self.groups)
        if not self.val_images:
            return 0.0, 1.0
        return wilson(self.val_right / self.val_images, self.val_images)


def _take_over_temperature(record: BaseModel, prefix: str, images: int) -> None:
    """Moves a temperature and thresholds, which older runs kept side by side, to a calibration.

    A validator before all others could not do this: see `files.read_model`.
    """
    temperature = getattr(record, f"{prefix}temperature")
    if temperature is None:
        return
    sets = getattr(record, f"{prefix}sets")
    found = Calibration(temperature=temperature, images=images, sets=sets)
    for name, value in (("calibration", found), ("temperature", None), ("sets", ())):
        object.__setattr__(record, f"{prefix}{name}", value)


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
    loss: Size
    right: Count
    images: Count


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

    trials: Count
    epochs: Count
    planned: Count = 0
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
        head_calibration: Calibration of this head by its cross-validation.
        head_rules: Where an image may have several labels, calibration and threshold of each.
    """

    model_config = ConfigDict(frozen=True)

    rungs: tuple[Rung, ...]
    folds: Annotated[int, Field(ge=1, le=1000)]
    epochs: Count
    fitted_epochs: Count = 0
    view_s: Size = 0.0
    train_s: Size = 0.0
    head_loss: Size | None = None
    head_right: Count = 0
    head_images: Count = 0
    head_calibration: Calibration = Calibration()
    head_rules: FittedRules | None = Field(None, exclude_if=lambda rules: rules is None)
    # What older runs kept in its place.
    head_temperature: Positive | None = Field(None, exclude=True, repr=False)
    head_sets: tuple[Share, ...] = Field((), exclude=True, repr=False)

    @model_validator(mode="after")
    def _agree(self) -> Self:
        _take_over_temperature(self, "head_", self.head_images)
        return self

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
