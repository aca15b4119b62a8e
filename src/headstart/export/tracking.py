"""Finished runs in TensorBoard and MLflow: parameters, metrics by epoch and trial, the report."""

import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from headstart.artifacts.files import read_lines
from headstart.artifacts.journal import TRIALS
from headstart.artifacts.records import EpochRecord, RunRecord
from headstart.artifacts.run import read_metrics, read_record
from headstart.artifacts.set_results import read_set_metrics
from headstart.errors import InputError
from headstart.recipes.options import Log
from headstart.recipes.parsing import load_recipe

_PACKAGES = {"tensorboard": "tensorboardX", "mlflow": "mlflow"}

LONGEST = 500
"""Most characters of a parameter that MLflow keeps for sure."""


@dataclass(frozen=True)
class Logged:
    """What a run logs.

    Attributes:
        name: Name of the run.
        parameters: Fields of the recipe, and facts of the data, by name.
        result: Figures of the sealed test, by name.
        curves: Figures with their step, in order: epochs, and the log loss of trials.
    """

    name: str
    parameters: dict[str, str]
    result: dict[str, float]
    curves: list[tuple[str, int, float]] = field(default_factory=list)


def check_log(log: Log | None) -> None:
    """Checks, before any work, that a package for logging is installed.

    Raises:
        InputError: If it is not.
    """
    if log is not None and find_spec(_PACKAGES[log]) is None:
        raise InputError(
            f"--log {log} needs a package that is not installed. Install it with "
            f"`pip install 'headstart[{log}]'`."
        )


def log_run(log: Log, folder: Path) -> str:
    """Logs a finished run, and returns where, as a sentence.

    Args:
        log: Where to log.
        folder: Run folder.
    """
    logged = logged_of(folder)
    return _to_tensorboard(logged, folder) if log == "tensorboard" else _to_mlflow(logged, folder)


def logged_of(folder: Path) -> Logged:
    """Returns what a finished run logs."""
    record = read_record(folder)
    recipe = load_recipe(str(folder / "recipe.toml")).model_dump(mode="json")
    facts = {
        "data": record.data_name, "data.sha256": record.data_sha256, "backbone": record.backbone,
        "kept": record.chosen, "images.train": record.n_train, "images.val": record.n_val,
        "images.test": record.n_test,
    }  # fmt: skip
    parameters = {"recipe." + name: value for name, value in _flat(recipe)} | facts
    figures = _figures(folder, record)
    return Logged(
        folder.resolve().name,
        {name: str(value)[:LONGEST] for name, value in parameters.items()},
        {f"test/{name}": float(value) for name, value in figures.items() if value is not None},
        list(_curves(folder, record)),
    )


def _figures(folder: Path, record: RunRecord) -> dict[str, float | None]:
    """Returns the figures of the sealed test."""
    if record.task == "multilabel":
        of_sets = read_set_metrics(folder)
        low, high = of_sets.mean_average_precision_interval
        return {
            "mean_average_precision": of_sets.mean_average_precision,
            "mean_average_precision_low": low, "mean_average_precision_high": high,
            "micro_f1": of_sets.micro_f1, "macro_f1": of_sets.macro_f1, "exact": of_sets.exact,
            "log_loss": of_sets.log_loss, "ece": of_sets.ece,
        }  # fmt: skip
    metrics = read_metrics(folder)
    return {
        "accuracy": metrics.accuracy, "balanced_accuracy": metrics.balanced_accuracy,
        "macro_f1": metrics.macro_f1, "log_loss": metrics.log_loss, "ece": metrics.ece,
        "accuracy_low": metrics.accuracy_interval[0], "accuracy_high": metrics.accuracy_interval[1],
    }  # fmt: skip


def _curves(folder: Path, record: RunRecord) -> Iterator[tuple[str, int, float]]:
    score = "val_mean_average_precision" if record.task == "multilabel" else "val_accuracy"
    names = {"train_loss": "train_loss", "val_loss": "val_loss", "val_accuracy": score, "lr": "lr"}
    for epoch in read_lines(folder / "epochs.jsonl", EpochRecord):
        for field_name, name in names.items():
            if (value := getattr(epoch, field_name)) is not None:
                yield f"epoch/{name}", epoch.epoch, float(value)
    for step, trial in enumerate(TRIALS.read(folder)):
        if trial.val_loss is not None:
            yield "trial/val_loss", step, float(trial.val_loss)


def _flat(values: dict[str, Any], before: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in values.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{before}{name}.")
        else:
            yield before + name, value


def _to_tensorboard(logged: Logged, folder: Path) -> str:
    from tensorboardX import SummaryWriter  # noqa: PLC0415 - an extra

    place = folder / "tensorboard"
    with SummaryWriter(str(place)) as writer:
        for name, step, value in logged.curves:
            writer.add_scalar(name, value, step)
        for name, value in logged.result.items():
            writer.add_scalar(name, value, 0)
        rows = "\n".join(f"| {name} | {value} |" for name, value in logged.parameters.items())
        writer.add_text("parameters", f"| name | value |\n|-|-|\n{rows}")
    return f"It is logged for TensorBoard: `tensorboard --logdir {folder.parent}`."


def _to_mlflow(logged: Logged, folder: Path) -> str:
    for switch in ("MLFLOW_DISABLE_TELEMETRY", "DO_NOT_TRACK"):  # read when it is imported
        os.environ.setdefault(switch, "true")
    import mlflow  # noqa: PLC0415 - an extra
    from mlflow.models import ModelSignature  # noqa: PLC0415
    from mlflow.types import ColSpec, Schema  # noqa: PLC0415

    if "MLFLOW_TRACKING_URI" not in os.environ:
        mlflow.set_tracking_uri(f"sqlite:///{folder.resolve().parent / 'mlflow.db'}")
    mlflow.set_experiment("headstart")
    inputs = Schema([ColSpec("string", "image")])
    columns = [ColSpec("double", f"p({name})") for name in read_record(folder).classes]
    outputs = Schema([ColSpec("string", "label"), *columns])
    with mlflow.start_run(run_name=logged.name):
        mlflow.log_params(logged.parameters)
        mlflow.log_metrics(logged.result)
        for name, step, value in logged.curves:
            mlflow.log_metric(name, value, step=step)
        mlflow.log_artifact(str(folder / "report.html"))
        mlflow.pyfunc.log_model(
            name="classifier",
            python_model=str(Path(__file__).with_name("mlflow_model.py")),
            artifacts={"bundle": str(folder / "bundle")},
            signature=ModelSignature(inputs=inputs, outputs=outputs),
            pip_requirements=["headstart"],
            registered_model_name=logged.name.replace(":", "-"),
        )
    return f"It is logged and registered in MLflow: {mlflow.get_tracking_uri()}."
