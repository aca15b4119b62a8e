"""The run folder: everything that one `fit` did and found, written and read here only.

run.json          what was asked, planned and done, on what machine, and how it ended
recipe.toml       the recipe, to be given back in with --recipe
search.toml       what a search started from
trials.jsonl      the recipes that a search tried, and what they scored
ledger.json       what each method brought, as `compare` measured it; ledger.jsonl is its journal
split.csv         train, val or test for every image, to be given back in with --split
audit.json        what is wrong with the data
epochs.jsonl      one record an epoch
metrics.json      the figures on the sealed test
predictions.csv   one row a test image
embeddings.safetensors  of the training images
suspects.csv      images that deserve a look, as the search judged them
evidence.json     neighbours of mistakes and the map; their pictures are in pictures/
certificate/      what transfer brings, where `benefit` was told to write it there
report.html       what a person looks at
bundle/           the classifier, with its model card
"""

import csv
import fcntl
import os
import platform
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Literal, TypeVar

import psutil
from pydantic import BaseModel, ConfigDict, Field

from headstart.artifacts.files import damaged, replacing, write_json, write_text
from headstart.artifacts.journal import Journal
from headstart.data.audit import Audit
from headstart.errors import RunError
from headstart.evaluate import Metrics
from headstart.fingerprints import Acted
from headstart.recipe import Recipe, parse_recipe, to_toml
from headstart.train import EpochRecord

M = TypeVar("M", bound=BaseModel)

EPOCHS = Journal("epochs.jsonl", EpochRecord)
append_epoch = EPOCHS.append

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


class PlanStep(BaseModel):
    """One thing that was planned, and what became of it."""

    model_config = ConfigDict(frozen=True)

    stage: str
    planned: str
    happened: str = ""
    seconds: float | None = None


class CheckedOperation(BaseModel):
    """An operation of augmentation, and whether it changes what an image is.

    Attributes:
        operation: Its name.
        safe: Whether it may be used.
        evidence: Why, for people.
    """

    model_config = ConfigDict(frozen=True)

    operation: str
    safe: bool
    evidence: str


HEAD_ALONE = frozenset({"probe", "random head", "head on frozen features"})
"""What is kept where the head alone is."""


class Request(BaseModel):
    """What is needed to go on with a search.

    Attributes:
        trials: Recipes to try; None where the budget decides.
        split_seed: Of the split.
        recipe: What was given, as plain data, before anything was searched.
        settings: What was set by hand, and is not searched.
        sampler: What draws recipes.
        engine: Where trials run.
        workers: Trials that run at a time.
        address: Of a Ray cluster.
        ensemble: Networks to average.
        trial_memory: Bytes that a trial may take in a process of its own; 0: what is free.
    """

    model_config = ConfigDict(frozen=True)

    trials: int | None
    split_seed: int
    recipe: dict[str, Any] = {}
    settings: tuple[str, ...] = ()
    sampler: Literal["tpe", "random"] = "tpe"
    engine: Literal["here", "processes", "ray"] = "here"
    workers: int = 1
    address: str = ""
    ensemble: int = 1
    trial_memory: int = 0


class RunRecord(BaseModel):
    """What was asked, planned and done."""

    status: Literal["running", "done", "interrupted", "failed"] = "running"
    command: str
    started_at: str
    seconds: float = 0.0
    budget_s: float | None = None
    request: Request | None = None
    stop_reason: str = ""
    source: str | None = None  # empty for Python objects; None in runs that did not keep it
    boxes: Literal["crop", "keep"] = "crop"
    split_seed: int | None = None  # None where a split was given
    data_name: str
    data_root: str
    licence: str | None = None
    n_train: int
    n_val: int
    n_test: int
    classes: tuple[str, ...]
    backbone: str
    backbone_source: str
    boundary: str = ""
    views: int = 0
    epochs: int = 0
    chosen: str = ""
    cached_view_accuracy: float | None = None
    fresh_view_accuracy: float | None = None
    plan: list[PlanStep] = Field(default_factory=list)
    notes: list[str] = Field(default_factory=list)
    acted: list[Acted] = Field(default_factory=list)
    operations: list[CheckedOperation] = Field(default_factory=list)
    test_opened_at: str = ""
    # By this run too, when it was stopped with the test open and gone on with.
    test_opened_before: list[str] = Field(default_factory=list)
    versions: dict[str, str] = Field(default_factory=dict)
    machine: str = ""

    @property
    def head_alone(self) -> bool:
        """Whether what is shipped has the backbone's pretrained weights, whatever was tried."""
        return self.chosen in HEAD_ALONE

    @property
    def searched(self) -> bool:
        """Whether more than one recipe was looked at."""
        return any(step.stage in {"heads", "search"} for step in self.plan)

    @property
    def openings(self) -> str:
        """How often the sealed test was opened, in words."""
        times = 1 + len(self.test_opened_before)
        return (
            "once" if times == 1 else f"{times} times, because the run was stopped during the test"
        )


class TestPrediction(BaseModel):
    """What the classifier says of one test image."""

    __test__ = False  # not a test of pytest's
    model_config = ConfigDict(frozen=True)

    path: str
    label: str
    prediction: str
    probability: float
    probability_of_label: float


def claim_folder(folder: Path) -> None:
    """Makes a new run folder.

    Raises:
        RunError: If it is in use or cannot be made.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        in_use = any(folder.iterdir())
    except OSError as error:
        raise RunError(f"cannot make the run folder {folder}: {error.strerror}.") from None
    if in_use:
        raise RunError(f"the output folder {folder} is in use. Name another with --out.")


def check_unclaimed(folder: Path) -> None:
    """Refuses a folder that `claim_folder` would refuse, before any work, without making it.

    Raises:
        RunError: If it is in use.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise RunError(f"the output folder {folder} is in use. Name another with --out.")


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Keeps every other process from working on a run folder.

    Raises:
        RunError: If one does, or there is no such folder.
    """
    try:
        descriptor = os.open(folder, os.O_RDONLY)
    except OSError as error:
        raise RunError(f"cannot open the run {folder}: {error.strerror}.") from None
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise RunError(f"another process is working on {folder}; wait for it.") from None
        yield
    finally:
        os.close(descriptor)  # which unlocks it; so does the end of the process, however it ends


def clear_unfinished(folder: Path) -> None:
    """Removes what an interrupted run left half done; the journal of its trials stays."""
    for draft in folder.rglob(".*-*"):
        if draft.is_file():
            draft.unlink()
    for name in (
        "epochs.jsonl", "predictions.csv", "metrics.json", "report.html", "evidence.json",
        "embeddings.safetensors",
    ):  # fmt: skip
        (folder / name).unlink(missing_ok=True)
    for name in ("bundle", "pictures"):
        shutil.rmtree(folder / name, ignore_errors=True)


def write_recipe(folder: Path, recipe: Recipe, name: str = "recipe.toml") -> None:
    """Writes a recipe into the run."""
    write_text(folder / name, to_toml(recipe))


def write_start(folder: Path, record: RunRecord, recipe: Recipe, audit: Audit) -> None:
    """Writes what is known before training."""
    write_record(folder, record)
    write_recipe(folder, recipe)
    write_text(folder / "audit.json", audit.model_dump_json(indent=1) + "\n")


def write_record(folder: Path, record: RunRecord) -> None:
    """Writes `run.json`."""
    write_text(folder / "run.json", record.model_dump_json(indent=1) + "\n")


def write_result(folder: Path, metrics: Metrics, predictions: Sequence[TestPrediction]) -> None:
    """Writes what the sealed test showed."""
    with (
        replacing(folder / "predictions.csv") as draft,
        draft.open("w", newline="", encoding="utf-8") as file,
    ):
        writer = csv.DictWriter(file, list(TestPrediction.model_fields))
        writer.writeheader()
        writer.writerows(prediction.model_dump() for prediction in predictions)
    # Last: a run with metrics is a finished run.
    write_json(folder / "metrics.json", metrics.model_dump(mode="json"))


def read_record(folder: Path) -> RunRecord:
    """Reads `run.json`.

    Raises:
        RunError: If the folder is no run.
    """
    return _read(folder, "run.json", RunRecord)


def asked_recipe(record: RunRecord) -> Recipe | None:
    """Returns the recipe that a search was given; None without one, or where it was not kept."""
    if record.request is None or not record.request.recipe:
        return None
    return parse_recipe(record.request.recipe)


def read_metrics(folder: Path) -> Metrics:
    """Reads `metrics.json`.

    Raises:
        RunError: If the folder is no finished run.
    """
    return _read(folder, "metrics.json", Metrics)


def read_audit(folder: Path) -> Audit:
    """Reads `audit.json`.

    Raises:
        RunError: If the folder is no run.
    """
    return _read(folder, "audit.json", Audit)


def forget_epochs(folder: Path) -> None:
    """Takes the epochs of a training that failed out of the journal; what was before them stays."""
    EPOCHS.write(folder, [epoch for epoch in EPOCHS.read(folder) if epoch.epoch == 0])


def read_predictions(folder: Path) -> list[TestPrediction]:
    """Reads the predictions on the test images.

    Raises:
        RunError: If the folder is no finished run.
    """
    try:
        with (folder / "predictions.csv").open(newline="", encoding="utf-8") as file:
            return [TestPrediction.model_validate(row) for row in csv.DictReader(file)]
    except OSError:
        raise RunError(f"{folder} is no finished run: it has no predictions.csv.") from None
    except (ValueError, csv.Error):
        raise RunError(damaged(folder / "predictions.csv")) from None


def read_split_parts(folder: Path) -> dict[str, str]:
    """Reads which part every image of a run is in, `train`, `val` or `test`, by its name.

    Raises:
        RunError: If the run has no readable split.
    """
    path = folder / "split.csv"
    try:
        # surrogateescape: as it was written.
        with path.open(newline="", encoding="utf-8", errors="surrogateescape") as file:
            return {row["path"]: row["split"] for row in csv.DictReader(file)}
    except OSError:
        raise RunError(f"{folder} is no run with a split: it has no split.csv.") from None
    except (KeyError, csv.Error):
        raise RunError(f"{path} is damaged: it wants the columns path and split.") from None


def now() -> str:
    """Returns the time as ISO 8601 in UTC."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def versions() -> dict[str, str]:
    """Returns the versions of what a result depends on."""
    found = {"python": platform.python_version()}
    for package in _PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def machine() -> str:
    """Describes the machine in one line."""
    memory = psutil.virtual_memory().total / 2**30
    return f"{psutil.cpu_count()} x {_processor()}, {memory:.0f} GiB, {platform.system()}"


def _processor() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        for line in cpuinfo.read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _read(folder: Path, name: str, model: type[M]) -> M:
    try:
        return model.model_validate_json((folder / name).read_text(encoding="utf-8"))
    except OSError:
        raise RunError(f"{folder} is no finished run: it has no readable {name}.") from None
    except ValueError:  # no JSON, not of this form, or no text at all
        raise RunError(damaged(folder / name)) from None
