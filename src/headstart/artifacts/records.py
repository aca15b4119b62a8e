"""The records that a run folder holds, as typed models."""

import platform
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Literal

import psutil
from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from headstart.artifacts.continued import Continued
from headstart.artifacts.unlabelled import UnlabelledUse
from headstart.evaluation.trust import Calibration
from headstart.inputs.quantities import Count, Finite, Names, PathText, Share, Size
from headstart.recipes.options import FitOptions, SourceOptions, Task

_PACKAGES = (
    "headstart",
    "torch",
    "torchvision",
    "timm",
    "onnxruntime",
    "numpy",
    "pillow",
    "scipy",
    "pytorch-metric-learning",
)

HEAD_ALONE = frozenset({"probe", "random head", "head on frozen features"})
"""Values of `RunRecord.chosen` for classifiers of which only the head was trained."""

State = Literal["acted", "idle", "not due"]


class PlanStep(BaseModel):
    """One planned step and its outcome."""

    model_config = ConfigDict(frozen=True)

    stage: str
    planned: str
    happened: str = ""
    seconds: Size | None = None


class CheckedOperation(BaseModel):
    """An augmentation operation, and whether it changes the class of an image.

    Attributes:
        operation: Name of the operation.
        safe: Whether it may be used.
        evidence: Explanation, for display.
    """

    model_config = ConfigDict(frozen=True)

    operation: str
    safe: bool
    evidence: str


class Request(BaseModel):
    """What a search was asked for: all that is needed to resume it.

    Attributes:
        options: As they were given.
        recipe: The recipe that they led to before anything was searched, as plain data.
    """

    model_config = ConfigDict(frozen=True)

    options: FitOptions = FitOptions()
    recipe: dict[str, Any] = {}

    @field_validator("options", mode="before")
    @classmethod
    def _read_seconds(cls, options: Any) -> Any:
        """Reads a budget without a unit, which meant seconds when it was written."""
        budget = options.get("budget") if isinstance(options, dict) else None
        if isinstance(budget, str) and budget.strip()[-1:].isdigit():
            return {**options, "budget": f"{budget.strip()}s"}
        return options

    @model_validator(mode="before")
    @classmethod
    def _read_first_form(cls, data: Any) -> Any:
        """Reads a request of version 0.1.0, which held some of the options side by side."""
        if not isinstance(data, dict) or "options" in data or "split_seed" not in data:
            return data
        options = {
            "trials": data.get("trials"),
            "split_seed": data["split_seed"],
            "settings": data.get("settings", ()),
            "sampler": data.get("sampler", "tpe"),
            "executor": data.get("engine", "here"),
            "jobs": data.get("workers", 1),
            "address": data.get("address") or None,
            "ensemble": data.get("ensemble", 1),
            "trial_memory": data.get("trial_memory", 0) / 1e9 or None,
        }
        return {"options": options, "recipe": data.get("recipe", {})}


class Acted(BaseModel):
    """The observed effect of one method of the recipe.

    Attributes:
        family: Field of the recipe.
        method: Name of the method.
        state: `acted`; `idle` if the method was active but nothing triggered it (for example, no
            gradient was long enough to be clipped); `not due` if training ended before its start.
        evidence: Observed effect, for display.
        first_step: First step, from 1, at which it acted; None before training.
    """

    model_config = ConfigDict(frozen=True)

    family: str
    method: str
    state: State
    evidence: str
    first_step: Count | None = None


class RunRecord(BaseModel):
    """The record of a run: request, plan and outcome."""

    status: Literal["running", "done", "interrupted", "failed"] = "running"
    command: str
    started_at: str
    seconds: Size = 0.0
    budget_s: Size | None = None
    request: Request | None = None
    stop_reason: str = ""
    source: PathText | None = None  # empty for Python objects; None in older runs
    reading: SourceOptions = SourceOptions()
    split_seed: int | None = None  # None if a split was given
    data_name: str
    data_root: PathText
    data_sha256: str = ""  # hash of all names, labels and files; empty in older runs
    licence: str | None = None
    n_train: Count
    n_val: Count
    n_test: Count
    classes: Names
    backbone: str
    backbone_source: str
    boundary: str = ""
    views: Count = 0
    epochs: Count = 0
    chosen: str = ""
    cached_view_accuracy: Share | None = None
    fresh_view_accuracy: Share | None = None
    task: Task = Field("single", exclude_if=lambda task: task == "single")
    precision: Share | None = Field(None, exclude_if=lambda share: share is None)  # asked for
    calibration: Calibration | None = None  # of what is shipped; None in older runs
    continued: Continued | None = None  # what an earlier run was continued to; None without one
    unlabelled: UnlabelledUse | None = Field(None, exclude_if=lambda use: use is None)
    alarms: list[str] = Field(default_factory=list)  # why not to trust its probabilities
    plan: list[PlanStep] = Field(default_factory=list)
    notes: list[str] = Field(default_factory=list)
    acted: list[Acted] = Field(default_factory=list)
    operations: list[CheckedOperation] = Field(default_factory=list)
    test_opened_at: str = ""
    # Earlier openings by this run, which was stopped during the test and then resumed.
    test_opened_before: list[str] = Field(default_factory=list)
    versions: dict[str, str] = Field(default_factory=dict)
    machine: str = ""

    @model_validator(mode="before")
    @classmethod
    def _lift_boxes(cls, record: Any) -> Any:
        """Reads the records of older runs, which had no other option than `boxes`."""
        if isinstance(record, dict) and "boxes" in record:
            record = {"reading": {"boxes": record["boxes"]}, **record}
            del record["boxes"]
        return record

    @property
    def head_alone(self) -> bool:
        """Whether the classifier uses the pretrained backbone unchanged."""
        return self.chosen in HEAD_ALONE

    @property
    def searched(self) -> bool:
        """Whether more than one recipe was tried."""
        return any(step.stage in {"heads", "search"} for step in self.plan)

    @property
    def openings(self) -> str:
        """How often the sealed test set was opened, in words."""
        times = 1 + len(self.test_opened_before)
        return (
            "once" if times == 1 else f"{times} times, because the run was stopped during the test"
        )


class TestPrediction(BaseModel):
    """The prediction for one test image.

    Attributes:
        path: Name of the image.
        label: Its class.
        prediction: Predicted class.
        probability: Probability of the predicted class.
        probability_of_label: Probability of its class.
        group: Number that the copies, near-duplicates and images of one group share; empty in
            older runs, which did not record it.
    """

    __test__ = False  # not a pytest test
    model_config = ConfigDict(frozen=True)

    path: PathText
    label: str
    prediction: str
    probability: Share
    probability_of_label: Share
    group: Count | Literal[""] = ""


def now() -> str:
    """Returns the present time as ISO 8601 in UTC."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def versions() -> dict[str, str]:
    """Returns the versions of Python and of the packages that a result depends on."""
    found = {"python": platform.python_version()}
    for package in _PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def machine() -> str:
    """Returns a description of the machine in one line."""
    memory = psutil.virtual_memory().total / 2**30
    return f"{psutil.cpu_count()} x {_processor()}, {memory:.0f} GiB, {platform.system()}"


def _processor() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        for line in cpuinfo.read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


class EpochRecord(BaseModel):
    """The result of one epoch.

    Attributes:
        epoch: Number of the epoch, from 1; 0 is the state before training.
        progress: Completed share of the schedule, in [0, 1].
        lr: Learning rate of the last block of the backbone at the end of the epoch.
        train_loss: Mean training loss of the epoch; None for epoch 0.
        val_loss: Mean validation log loss of the weights that would be kept now; None if no images
            are held out.
        val_accuracy: Validation accuracy of these weights.
        images_per_s: Training images per second, without validation.
        seconds: Wall time of the epoch.
        acted: Observed effect of each method so far; in the journal, only in the last record.
        val_right: One character per validation image, `1` if it is classified correctly; not
            written to files.
    """

    model_config = ConfigDict(frozen=True)

    epoch: Count
    progress: Share
    lr: Size
    train_loss: Finite | None
    val_loss: Size | None
    val_accuracy: Share | None
    images_per_s: Size | None
    seconds: Size
    acted: tuple[Acted, ...] = ()
    val_right: str = Field("", exclude=True, repr=False)
