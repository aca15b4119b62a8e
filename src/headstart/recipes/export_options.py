"""The options of `export`: declared, documented and checked here alone."""

from pathlib import Path
from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from headstart.errors import InputError

ExportTarget = Literal["onnx", "int8", "openvino", "torch-export", "timm", "hub", "web"]


class ExportOptions(BaseModel):
    """Options of `export`.

    Example:
        >>> ExportOptions(to="onnx").max_loss
        0.01
    """

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    to: ExportTarget = "onnx"
    """What to write."""
    out: Path | None = None
    """Folder to write; by default export/TARGET in the run folder."""
    data: str | None = None
    """The images of the run, if they are no longer where it found them: a folder, archive or
    manifest as for `fit`."""
    max_loss: float = Field(0.01, ge=0, le=1)
    """Most accuracy on the sealed test that an export may lose, as a share. One image is always
    allowed. Where an image has any number of labels: most micro F1 and mean average precision."""
    any_size: bool = False
    """With --to onnx, write a graph that takes an image of any size, with the resize inside. It is
    compared on whole images."""
    runtime: Path | None = None
    """Folder with the files of onnxruntime-web for --to web: `dist` of the npm package."""
    download: bool = False
    """Fetch the files of onnxruntime-web for --to web from the npm registry, once."""

    @model_validator(mode="after")
    def _check_runtime(self) -> Self:
        if self.to != "web" and (self.runtime is not None or self.download):
            raise InputError("--runtime and --download are for --to web. Leave them out.")
        if self.to != "onnx" and self.any_size:
            raise InputError("--any-size is for --to onnx. Leave it out.")
        return self
