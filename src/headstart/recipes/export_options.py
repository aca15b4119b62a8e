"""The options of `export`: declared, documented and checked here alone."""

from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

ExportTarget = Literal["onnx", "int8", "openvino", "torch-export", "timm", "hub"]


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
    allowed."""
