"""Results on the sealed test of a classifier that gives an image any number of labels."""

import json
from collections.abc import Sequence
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError, field_validator

from headstart.artifacts.files import (
    damaged,
    explained,
    read_model,
    read_table,
    replacing,
    write_json,
)
from headstart.errors import RunError
from headstart.evaluation.label_metrics import SetMetrics
from headstart.inputs.quantities import Count, PathText, Share, Size
from headstart.names import printable_json, to_cell, write_rows


class SetPrediction(BaseModel):
    """The prediction for one test image.

    Attributes:
        path: Name of the image.
        labels: Its labels.
        given: Labels that it gets.
        log_loss: Mean log loss of its labels, in nats.
        group: Number that the copies, near-duplicates and images of one group share.
        probabilities: Calibrated probability of each label, in the order of the classifier.
    """

    model_config = ConfigDict(frozen=True)

    path: PathText
    labels: tuple[str, ...]
    given: tuple[str, ...]
    log_loss: Size
    group: Count
    probabilities: tuple[Share, ...]

    @field_validator("labels", "given", "probabilities", mode="before")
    @classmethod
    def _from_cell(cls, value: object) -> object:
        """Reads a cell of a table, which holds JSON."""
        return json.loads(value) if isinstance(value, str) else value

    @property
    def missed(self) -> tuple[str, ...]:
        """Labels of the image that it does not get."""
        return tuple(name for name in self.labels if name not in self.given)

    @property
    def wrong(self) -> tuple[str, ...]:
        """Labels that it gets and does not have."""
        return tuple(name for name in self.given if name not in self.labels)


def write_set_result(
    folder: Path, metrics: SetMetrics, predictions: Sequence[SetPrediction]
) -> None:
    """Writes `predictions.csv` and `metrics.json` of a run."""
    with (
        replacing(folder / "predictions.csv") as draft,
        draft.open("w", newline="", encoding="utf-8") as file,
    ):
        rows = [
            [
                to_cell(each.path),
                list_cell(each.labels),
                list_cell(each.given),
                each.log_loss,
                each.group,
                list_cell(each.probabilities),
            ]
            for each in predictions
        ]
        write_rows(file, [tuple(SetPrediction.model_fields), *rows])
    # Written last: a run with metrics is a finished run.
    write_json(folder / "metrics.json", metrics.model_dump(mode="json"))


def list_cell(values: Sequence[object]) -> str:
    """Returns a list as a cell of a table, in JSON."""
    return printable_json(json.dumps(values, ensure_ascii=False))


def read_set_metrics(folder: Path) -> SetMetrics:
    """Reads `metrics.json` of a multi-label run.

    Raises:
        RunError: If the folder is not such a finished run.
    """
    found = read_model(folder / "metrics.json", SetMetrics)
    if found is None:
        raise RunError(f"{folder} is not a finished run: it has no metrics.json.")
    return found


def read_set_predictions(folder: Path) -> list[SetPrediction]:
    """Reads the predictions on the test images of a multi-label run.

    Raises:
        RunError: If the folder is not such a finished run.
    """
    path = folder / "predictions.csv"
    rows = read_table(path, tuple(SetPrediction.model_fields))
    if rows is None:
        raise RunError(f"{folder} is not a finished run: it has no predictions.csv.")
    found = []
    for number, row in enumerate(rows, start=1):
        try:
            found.append(SetPrediction.model_validate(row))
        except ValidationError as error:
            raise RunError(damaged(path, explained(error, f"row {number}"))) from None
    return found
