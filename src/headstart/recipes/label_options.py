"""The options of `label-next`, for the command line and for Python."""

from pathlib import Path
from typing import Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from headstart.errors import InputError


class LabelNextOptions(BaseModel):
    """Options of `label-next`.

    Example:
        >>> LabelNextOptions(count=20).count
        20
    """

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    count: int = Field(50, ge=1)
    """Number of images to choose."""
    out: Path | None = None
    """CSV file for the chosen images."""
    links: Path | None = None
    """New folder with a link to each chosen image, named by its rank."""
    data: Path | None = None
    """Folder of the images of the run. Their near-duplicates are left out, too, and --labels lists
    them beside the new ones, so that the next run knows both."""
    labels: Path | None = None
    """CSV file for labels: a manifest for `fit`. Images that it has a label for are not chosen
    again. Default with --page: labels.csv."""
    page: bool = False
    """Open a page on this machine on which a person gives each chosen image its class, with the
    keyboard. Needs headstart[serve]."""
    port: int = Field(8000, ge=0, le=65535)
    """Port of the page; 0 takes a free one."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        for name in ("out", "labels"):
            path = getattr(self, name)
            if path is not None and path.suffix.lower() != ".csv":
                raise InputError(f"--{name} {path} is not a CSV file. Let its name end in .csv.")
        return self

    @property
    def manifest(self) -> Path | None:
        """File for labels, if there is to be one."""
        return Path("labels.csv") if self.page and self.labels is None else self.labels
