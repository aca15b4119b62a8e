"""Finished runs in TensorBoard and MLflow."""

import os
import struct
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from headstart.errors import InputError
from headstart.export import tracking
from headstart.export.tracking import check_log, log_run, logged_of
from headstart.inference.run import Run

Command = Callable[..., subprocess.CompletedProcess[str]]


def events(folder: Path) -> dict[str, tuple[int, float]]:
    """Reads the last scalar of each name from a file of TensorBoard."""
    from tensorboardX.proto.event_pb2 import Event

    (path,) = folder.glob("events.out.tfevents.*")
    data, at, found = path.read_bytes(), 0, {}
    while at < len(data):
        (length,) = struct.unpack_from("<Q", data, at)
        event = Event.FromString(data[at + 12 : at + 12 + length])
        at += length + 16
        for value in event.summary.value:
            if value.HasField("simple_value"):
                found[value.tag] = (event.step, value.simple_value)
    return found


def test_what_is_logged_is_what_the_run_found(head_run: Run) -> None:
    logged = logged_of(head_run.folder)
    assert logged.result["test/accuracy"] == head_run.metrics.accuracy
    assert logged.parameters["recipe.backbone.name"] == head_run.record.backbone
    assert logged.parameters["images.test"] == str(head_run.record.n_test)
    assert ("epoch/val_loss", 0) in [(name, step) for name, step, _ in logged.curves]


def test_fit_logs_for_tensorboard(pictures: Path, tmp_path: Path, headstart: Command) -> None:
    pytest.importorskip("tensorboardX")
    done = headstart(
        "fit", pictures, "--strategy", "head", "--epochs", 0, "--set", "backbone.resolution=64",
        "--out", tmp_path / "run", "--log", "tensorboard",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert f"tensorboard --logdir {tmp_path}" in done.stderr
    found = events(tmp_path / "run" / "tensorboard")
    metrics = Run.open(tmp_path / "run").metrics
    assert found["test/accuracy"] == (0, pytest.approx(metrics.accuracy))
    assert "epoch/val_loss" in found


@pytest.mark.filterwarnings("default")  # its database layer warns about itself
def test_mlflow_gets_metrics_the_report_and_a_model_that_predicts(
    head_run: Run, pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mlflow = pytest.importorskip("mlflow")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path / 'mlflow.db'}")
    mlflow.set_tracking_uri(f"sqlite:///{tmp_path / 'mlflow.db'}")
    log_run("mlflow", head_run.folder)
    assert os.environ["MLFLOW_DISABLE_TELEMETRY"] == "true"
    (found,) = mlflow.search_runs(experiment_names=["headstart"], output_format="list")
    assert found.data.metrics["test/accuracy"] == head_run.metrics.accuracy
    model = mlflow.pyfunc.load_model(f"models:/{head_run.folder.name}/1")
    image = next(pictures.rglob("*.png"))
    import pandas as pd

    (row,) = model.predict(pd.DataFrame({"image": [str(image)]})).to_dict("records")
    (expected,) = head_run.predict(image)
    assert row["label"] == expected.label
    assert row[f"p({expected.label})"] == pytest.approx(expected.probability)


def test_a_missing_package_is_said_before_any_work(monkeypatch: pytest.MonkeyPatch) -> None:
    check_log(None)
    monkeypatch.setattr(tracking, "find_spec", lambda name: None)
    with pytest.raises(InputError, match=r"pip install 'headstart\[mlflow\]'"):
        check_log("mlflow")
