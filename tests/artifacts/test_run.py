"""What is read again from a run folder."""

import json
from pathlib import Path
from typing import Any

import pytest

from headstart.artifacts.journal import TRIALS, SearchPlan, Trial, read_plan
from headstart.artifacts.records import EpochRecord, Request, RunRecord
from headstart.artifacts.run import read_metrics, read_predictions, read_record
from headstart.artifacts.run_start import EPOCHS, forget_epochs
from headstart.errors import RunError
from headstart.recipes.options import SourceOptions


def epoch(number: int) -> EpochRecord:
    return EpochRecord(
        epoch=number, progress=0, lr=0, train_loss=None, val_loss=0.5, val_accuracy=0.5,
        images_per_s=None, seconds=0,
    )  # fmt: skip


def test_epochs_of_a_failed_training_are_forgotten(tmp_path: Path) -> None:
    for number in (0, 1, 2):
        EPOCHS.append(tmp_path, epoch(number))
    forget_epochs(tmp_path)
    assert [each.epoch for each in EPOCHS.read(tmp_path)] == [0]


def test_an_epoch_that_a_crash_tore_is_left_out(tmp_path: Path) -> None:
    EPOCHS.append(tmp_path, epoch(0))
    path = EPOCHS.path(tmp_path)
    path.write_bytes(path.read_bytes() + b'{"epoch": 1, "prog')
    assert EPOCHS.read(tmp_path) == [epoch(0)]
    EPOCHS.append(tmp_path, epoch(1))
    assert EPOCHS.read(tmp_path) == [epoch(0), epoch(1)]


@pytest.mark.parametrize("content", [b"path;label\na;b\n", b"\xff\xfe\x00\n", b"path,label\na\n"])
def test_damaged_files_are_named(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "predictions.csv").write_bytes(content)
    (tmp_path / "epochs.jsonl").write_bytes(content)
    with pytest.raises(RunError, match=r"predictions\.csv is damaged"):
        read_predictions(tmp_path)
    with pytest.raises(RunError, match=r"epochs\.jsonl is damaged"):
        EPOCHS.read(tmp_path)
    with pytest.raises(RunError, match="not a finished run"):
        read_predictions(tmp_path / "nowhere")


def test_names_of_before_are_read() -> None:

    old = {"trials": 2, "split_seed": 0, "engine": "processes", "workers": 3}
    request = Request.model_validate(old)
    options = request.options
    assert (options.executor, options.jobs) == ("processes", 3)
    assert Request.model_validate_json(request.model_dump_json()) == request


def test_temperatures_of_older_runs_are_read() -> None:
    folder = Path(__file__).parents[1] / "fixtures" / "run_6dddef2" / "finished"
    old = json.loads((folder / "trials.jsonl").read_text().splitlines()[0])
    trial = TRIALS.read(folder)[0]
    assert trial.calibration.temperature == old["temperature"] != 1
    assert trial.calibration.sets == tuple(old["sets"])
    assert trial.start_calibration.temperature == old["start_temperature"]
    assert trial.calibration.images == trial.start_calibration.images == old["val_images"]
    assert trial.cautious_calibration is None
    assert Trial.model_validate_json(trial.model_dump_json()) == trial
    old = json.loads((folder / "plan.json").read_text())
    plan = read_plan(folder)
    assert plan is not None
    assert plan.head_calibration.temperature == old["head_temperature"]
    assert plan.head_calibration.images == old["head_images"]
    assert SearchPlan.model_validate_json(plan.model_dump_json()) == plan
    assert read_metrics(folder).log_loss_uncalibrated is None
    record = read_record(folder)
    assert (record.calibration, record.alarms) == (None, [])


def test_a_record_with_boxes_alone_is_read() -> None:
    old: dict[str, Any] = {
        "command": "", "started_at": "", "data_name": "d", "data_root": "/d", "n_train": 1,
        "n_val": 1, "n_test": 1, "classes": ["a", "b"], "backbone": "x", "backbone_source": "y",
    }  # fmt: skip
    record = RunRecord.model_validate({**old, "boxes": "keep"})
    assert record.reading == SourceOptions(boxes="keep")
    assert RunRecord.model_validate_json(record.model_dump_json()) == record
    assert RunRecord.model_validate(old).reading == SourceOptions()


def test_a_budget_without_a_unit_of_an_older_run_is_seconds() -> None:
    assert Request.model_validate({"options": {"budget": "300"}}).options.budget_s == 300
    assert Request.model_validate({"options": {"budget": "5m"}}).options.budget == "5m"
    assert Request.model_validate({"options": {"budget": 90.0}}).options.budget_s == 90
