"""What is read again from a run folder."""

from pathlib import Path

import pytest

from headstart.artifacts.run import append_epoch, forget_epochs, read_epochs, read_predictions
from headstart.errors import RunError
from headstart.train import EpochRecord


def epoch(number: int) -> EpochRecord:
    return EpochRecord(
        epoch=number, progress=0, lr=0, train_loss=None, val_loss=0.5, val_accuracy=0.5,
        images_per_s=None, seconds=0,
    )  # fmt: skip


def test_epochs_of_a_failed_training_are_forgotten(tmp_path: Path) -> None:
    for number in (0, 1, 2):
        append_epoch(tmp_path, epoch(number))
    forget_epochs(tmp_path)
    assert [each.epoch for each in read_epochs(tmp_path)] == [0]


@pytest.mark.parametrize("content", [b"path;label\na;b\n", b"\xff\xfe\x00", b"path,label\na\n"])
def test_damaged_files_are_named(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "predictions.csv").write_bytes(content)
    (tmp_path / "epochs.jsonl").write_bytes(content)
    with pytest.raises(RunError, match=r"predictions\.csv is damaged"):
        read_predictions(tmp_path)
    with pytest.raises(RunError, match=r"epochs\.jsonl is damaged"):
        read_epochs(tmp_path)
    with pytest.raises(RunError, match="no finished run"):
        read_predictions(tmp_path / "nowhere")
