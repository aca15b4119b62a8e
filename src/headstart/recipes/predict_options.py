"""The options of `predict`, for the command line and for Python."""

from pathlib import Path
from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from headstart.errors import InputError


class PredictOptions(BaseModel):
    """Options of `predict`.

    Example:
        >>> PredictOptions(out="found.csv", resume=True).engine
        'here'
    """

    # Not docstrings below the fields: pydantic reads those from the source file, which would take a
    # thirtieth of the time of a command that classifies one image.
    model_config = ConfigDict(frozen=True, extra="forbid")

    out: Path | None = Field(
        None,
        description="File for any number of predictions, written as they come: .csv, with a column "
        "of probabilities for each class, or .jsonl. NAME.about.json beside it says what made "
        "them.",
    )
    resume: bool = Field(
        False,
        description="Continue the file of --out: classify the images that have no row in it. A "
        "half-written last row is removed first.",
    )
    set_coverage: float | None = Field(
        None,
        description="Prediction sets with this coverage of the true class: 0.8, 0.9, 0.95, 0.99.",
    )
    reject: bool = Field(
        False,
        description="Answer `unknown` for images that are unlike all training images. How many of "
        "those that are like them are rejected nevertheless is calibrated: 5% at most.",
    )
    engine: Literal["here", "ray"] = Field(
        "here",
        description="Where images are classified: here, or on a Ray cluster, whose machines see "
        "the images and the run under the same paths. Its rows come in another order. Needs --out.",
    )
    address: str | None = Field(
        None,
        description="Address of a running Ray cluster, for --engine ray: auto, or HOST:PORT. By "
        "default Ray is started on this machine.",
    )

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.out is None and (self.resume or self.engine != "here"):
            raise InputError("--resume and --engine ray are for a file: give --out.")
        if self.address is not None and self.engine != "ray":
            raise InputError("--address needs --engine ray.")
        return self
