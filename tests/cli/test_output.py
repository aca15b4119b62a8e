"""What the commands print of a finished run."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from headstart.artifacts.records import RunRecord
from headstart.cli.output import print_run
from headstart.evaluation.metrics import compute_metrics
from headstart.evaluation.trust import Calibration
from headstart.inference.run import Run

CALIBRATION = Calibration(
    temperature=0.5, images=54, log_loss=0.4, log_loss_uncalibrated=0.3, source="trial"
)


@pytest.mark.parametrize(
    ("changes", "temperature", "expected"),
    [
        ({"calibration": CALIBRATION, "alarms": ["It is wrong."]}, 0.5, [
            "without its temperature: log loss 0.920, calibration error 30.2%",
            "temperature: 0.50, from 54 images (trial); their log loss: 0.300 without it, 0.400 "
            "with it",
            "ALARM: It is wrong.",
        ]),
        ({"calibration": Calibration(images=1, source="trial")}, 1.0,
         ["temperature: 1.00, from 1 image (trial)"]),
        ({}, 1.0, []),
    ],
    ids=["alarm", "none", "older"],
)  # fmt: skip
def test_what_the_probabilities_stand_on_is_printed(
    changes: dict[str, Any],
    temperature: float,
    expected: list[str],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    record = RunRecord(
        command="", started_at="", data_name="", data_root="", n_train=1, n_val=1, n_test=2,
        classes=("a", "b"), backbone="", backbone_source="", **changes,
    )  # fmt: skip
    # Half of the answers are right, with a probability of sigmoid(1.4) = 0.8022.
    logits, labels = np.array([[1.4, 0.0]] * 2), np.array([0, 1])
    print_run(Run(tmp_path, record, compute_metrics(logits, labels, ["a", "b"], temperature)))
    lines = capsys.readouterr().out.splitlines()
    assert lines[1].startswith("balanced accuracy")
    rest = lines[2:]
    assert rest[: len(expected)] == expected
    assert not any("temperature" in line or "ALARM" in line for line in rest[len(expected) :])
