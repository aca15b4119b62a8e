"""The run folder: everything that one `fit` did and found.

This module and `artifacts/run_start` read and write it. Nothing here imports torch: `predict` does
without it.

run.json          request, plan, outcome, machine and status
request.toml      the options that were given, which can be reused with --config
recipe.toml       the recipe, which can be reused with --recipe
search.toml       the recipe that a search starts from
trials.jsonl      the recipes that a search tried, and their scores
ledger.json       the effect of each method, measured by `compare`; ledger.jsonl is its journal
split.csv         train, val or test for every image, which can be reused with --split
data.csv          label of every image and a hash of its file, by which `resume` finds changes
audit.json        findings about the data
epochs.jsonl      one record per epoch
metrics.json      results on the sealed test set
predictions.csv   one row per test image
embeddings.safetensors  embeddings of the training images
suspects.csv      suspicious images
evidence.json     neighbours of mistakes and the map; their pictures are in pictures/
certificate/      the transfer certificate, if `benefit` wrote it there
report.html       the report
bundle/           the classifier with its model card
"""

import csv
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel

from headstart.artifacts.files import (
    read_model,
    read_records,
    read_table,
    replacing,
    write_json,
    write_model,
)
from headstart.artifacts.records import RunRecord, TestPrediction
from headstart.data.locks import lock_file, try_lock
from headstart.errors import RunError
from headstart.evaluation.metrics import Metrics
from headstart.names import to_cell

M = TypeVar("M", bound=BaseModel)

SEARCH_RECIPE = "search.toml"
_GIVE = "Give the folder of a finished run."
"""The file of the run that holds what a search started from."""


def claim_folder(folder: Path) -> None:
    """Creates a new run folder.

    Raises:
        RunError: If it is not empty or cannot be created.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        in_use = any(folder.iterdir())
    except OSError as error:
        raise RunError(f"Cannot create the run folder {folder}: {error.strerror}.") from None
    if in_use:
        raise RunError(f"The output folder {folder} is in use. Choose another folder with --out.")


def check_unclaimed(folder: Path) -> None:
    """Checks, before any work, that `claim_folder` can use a folder; does not create it.

    Raises:
        RunError: If it is not empty.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise RunError(f"The output folder {folder} is in use. Choose another folder with --out.")


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Locks a run folder against other processes.

    Raises:
        RunError: If another process has the lock, or the folder does not exist.
    """
    if not folder.is_dir():
        raise RunError(f"Cannot open the run {folder}: there is no such folder.")
    with try_lock(folder) as free:
        if not free:
            held = lock_file(folder)
            more = f" If there is none, delete {held}." if held.exists() else ""
            raise RunError(f"Another process is working on {folder}. Wait for it.{more}")
        yield


def clear_unfinished(folder: Path) -> None:
    """Removes incomplete files of an interrupted run; keeps the journal of its trials."""
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


def write_record(folder: Path, record: RunRecord) -> None:
    """Writes `run.json`."""
    write_model(folder / "run.json", record)


def write_result(folder: Path, metrics: Metrics, predictions: Sequence[TestPrediction]) -> None:
    """Writes the results on the sealed test set."""
    with (
        replacing(folder / "predictions.csv") as draft,
        draft.open("w", newline="", encoding="utf-8") as file,
    ):
        writer = csv.DictWriter(file, list(TestPrediction.model_fields))
        writer.writeheader()
        for prediction in predictions:
            names = {"path", "label", "prediction"}
            cells = {name: to_cell(getattr(prediction, name)) for name in names}
            writer.writerow(prediction.model_dump() | cells)
    # Written last: a run with metrics is a finished run.
    write_json(folder / "metrics.json", metrics.model_dump(mode="json"))


def read_record(folder: Path) -> RunRecord:
    """Reads `run.json`.

    Raises:
        RunError: If the folder is not a run.
    """
    return read_part(folder, "run.json", RunRecord, strict=False)


def read_metrics(folder: Path) -> Metrics:
    """Reads `metrics.json`.

    Raises:
        RunError: If the folder is not a finished run, or one of several labels an image; see
            `set_results`.
    """
    check_single(folder)
    return read_part(folder, "metrics.json", Metrics)


def check_single(folder: Path) -> None:
    """Refuses a run of several labels an image where only one can be used.

    Raises:
        RunError: If it is one.
    """
    record = folder / "run.json"
    if record.exists() and read_record(folder).task == "multilabel":
        raise RunError(
            f"{folder} is a run of several labels an image (multi-label), which this cannot use "
            "yet. `headstart predict` and `headstart report` can."
        )


def read_predictions(folder: Path) -> list[TestPrediction]:
    """Reads the predictions on the test images.

    Raises:
        RunError: If the folder is not a finished run, or one of several labels an image.
    """
    check_single(folder)
    found = read_records(folder / "predictions.csv", TestPrediction)
    if found is None:
        raise RunError(f"{folder} is not a finished run: it has no predictions.csv. {_GIVE}")
    return found


def read_split_parts(folder: Path) -> dict[str, str]:
    """Returns the part of every image of a run (`train`, `val` or `test`), by image name.

    Raises:
        RunError: If the run has no readable split.
    """
    rows = read_table(folder / "split.csv", ("path", "split"))
    if rows is None:
        raise RunError(f"{folder} is not a run: it has no split.csv.")
    return {row["path"]: row["split"] for row in rows}


def read_part(folder: Path, name: str, model: type[M], *, strict: bool = True) -> M:
    """Reads a JSON file that every run has.

    Raises:
        RunError: If the folder has none, or it is damaged.
    """
    found = read_model(folder / name, model, strict=strict)
    if found is None:
        raise RunError(f"{folder} is not a finished run: it has no {name}. {_GIVE}")
    return found
