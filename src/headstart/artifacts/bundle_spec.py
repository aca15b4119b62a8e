"""The description of a bundle: everything of a classifier except its network.

Nothing here imports torch: `predict` reads it and runs `model.onnx`.
"""

import hashlib
import json
from math import isfinite
from pathlib import Path
from typing import Annotated, Any, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import AliasChoices, BaseModel, BeforeValidator, ConfigDict, Field, model_validator
from safetensors import SafetensorError
from safetensors.numpy import load as load_arrays

from headstart.artifacts.files import damaged, read_model
from headstart.backbones.preprocessing import Preprocessing
from headstart.data.reading import Reading
from headstart.errors import RunError
from headstart.evaluation.label_rules import LabelRule
from headstart.evaluation.retrieval import unit
from headstart.inputs.quantities import Count, Names, Positive, Share
from headstart.inputs.regular_files import read_bytes
from headstart.text import shortened

FORMAT, MULTILABEL_FORMAT = 1, 2
MOST_FEATURES, MOST_MEMBERS, MOST_PIXELS = 1_000_000, 100, 4096
"""Largest sizes that a bundle may state; more is damage."""

Width = Annotated[int, Field(ge=1, le=MOST_FEATURES)]
"""A number of features."""

LONGEST_NAME = 200
"""Most characters in the name of a backbone; the longest of timm has 56."""

SPEC = "bundle.json"
_GIVE = "Give the folder of a finished run, or its bundle."
WEIGHTS = "model.safetensors"
GRAPH = "model.onnx"
GALLERY = "range.safetensors"
BACKGROUND = "background.safetensors"


def _as_data(method: Any) -> Any:
    return method.model_dump(mode="json") if isinstance(method, BaseModel) else method


MethodData = Annotated[dict[str, Any], BeforeValidator(_as_data)]
"""A method as plain data: it becomes a method only where the network is built in PyTorch."""


class SetSpec(BaseModel):
    """The threshold of prediction sets that contain the true class with a given probability.

    Attributes:
        coverage: Share of the sets that contain the true class.
        threshold: A class is in the set if 1 - p(class) is at most this.
        images: Number of held-out images in the calibration.
    """

    model_config = ConfigDict(frozen=True)

    coverage: Share
    threshold: Share
    images: Count


class DistributionSpec(BaseModel):
    """The distance from which an image is out of distribution.

    Attributes:
        k: The distance is that to the k-th nearest embedding in `range.safetensors`.
        threshold: Cosine distance.
        false_alarm: Share of images like the training images that are flagged, by calibration.
        calibrated_on: Description of the calibration images.
        sha256: SHA-256 of `range.safetensors`.
    """

    model_config = ConfigDict(frozen=True)

    k: Annotated[int, Field(ge=1, le=1000)]
    threshold: Annotated[float, Field(ge=-1e-6, le=2)]  # older bundles have it rounded below 0
    false_alarm: Share
    calibrated_on: str
    sha256: str = ""


class BackgroundSpec(BaseModel):
    """Images of no class, by which others of no class are told from those of a class.

    Attributes:
        threshold: Largest distance to the training images less that to these images.
        images: Number of embeddings in `background.safetensors`.
        sha256: SHA-256 of that file.
    """

    model_config = ConfigDict(frozen=True)

    threshold: Annotated[float, Field(ge=-2, le=2)]
    images: Count
    sha256: str = ""


class BundleSpec(BaseModel):
    """The description of a classifier: everything except its weights."""

    model_config = ConfigDict(frozen=True)

    format: Count = FORMAT
    backbone: Annotated[str, Field(min_length=1, max_length=LONGEST_NAME)]
    features: Width
    parts: tuple[Width, ...] = ()  # empty in older bundles: one part
    boundary: str
    taps: tuple[str, ...]
    head: MethodData
    activation: MethodData
    test_time_flip: bool
    classes: Annotated[Names, Field(min_length=2)]
    preprocessing: Preprocessing
    reading: Reading | None = None  # None in older bundles
    depths: Names = ()  # types of the values in the training images; empty in older bundles
    temperature: Positive
    recipe: dict[str, Any]
    members: Annotated[int, Field(ge=1, le=MOST_MEMBERS)] = 1
    weights_sha256: str
    onnx_sha256: str = ""  # empty if there is no model.onnx, as in older bundles
    pretrained_sha256: str
    licence: str
    data_sha256: str
    versions: dict[str, str]
    labels: tuple[LabelRule, ...] = Field((), exclude_if=lambda rules: not rules)  # multi-label
    sets: tuple[SetSpec, ...] = ()  # older bundles have neither sets nor a range
    distribution: DistributionSpec | None = Field(  # bundles of before call it range
        None, validation_alias=AliasChoices("distribution", "range")
    )
    background: BackgroundSpec | None = Field(None, exclude_if=lambda known: known is None)

    @property
    def widths(self) -> tuple[int, ...]:
        """Numbers of features of the parts."""
        return self.parts or (self.features,)

    @property
    def multilabel(self) -> bool:
        """Whether an image may get any number of labels."""
        return bool(self.labels)

    @model_validator(mode="after")
    def _agree(self) -> Self:
        if self.labels and (len(self.labels) != len(self.classes) or self.temperature != 1):
            raise ValueError("The rules of the labels are not those of the classes.")
        if sum(self.widths) != self.features or len(self.widths) > 1 + len(self.taps):
            raise ValueError("The parts are not those of the features.")
        views, reading = self.preprocessing, self.reading
        limits = (views.mean, views.std)
        if not 1 <= views.resolution <= MOST_PIXELS or not 1 <= views.resize <= 4 * MOST_PIXELS:
            raise ValueError(f"The resolution and resize are not from 1 to {MOST_PIXELS}.")
        if not all(abs(mean) <= 100 and 0 < std <= 100 for mean, std in zip(*limits, strict=True)):
            raise ValueError("The mean and std are not those of channels.")
        if reading is None:
            return self
        ends = reading.range
        if isinstance(ends, tuple) and not (all(map(isfinite, ends)) and ends[0] < ends[1]):
            raise ValueError("The range of values is not from a lower to a higher one.")
        if reading.channels is not None and (
            len(reading.channels) not in (1, 3) or min(reading.channels) < 0
        ):
            raise ValueError("The channels are not one or three numbers from 0.")
        return self


def read_spec(folder: Path) -> BundleSpec:
    """Reads the description of a bundle, without its network.

    Raises:
        RunError: If it is not a bundle, is of a newer format, or cannot be read.
    """
    found = read_model(folder / SPEC, BundleSpec)
    if found is None:
        raise RunError(f"{folder} is not a bundle: it has no {SPEC}. {_GIVE}")
    if found.format != (MULTILABEL_FORMAT if found.multilabel else FORMAT):
        raise RunError(
            f"{folder} has format {found.format}, but this version of headstart reads {FORMAT}."
        )
    return found


def bundle_files(folder: Path) -> list[str]:
    """Returns the names of the files by which a bundle predicts.

    Raises:
        RunError: If it is not a bundle or cannot be read.
    """
    spec = read_spec(folder)
    names = [SPEC, GRAPH if spec.onnx_sha256 else WEIGHTS]
    names += [] if spec.distribution is None else [GALLERY]
    return names if spec.background is None else [*names, BACKGROUND]


def plain_spec(folder: Path) -> dict[str, Any]:
    """Returns the values of the description as they are in the file.

    Raises:
        RunError: If they cannot be read.
    """
    path = folder / SPEC
    try:
        known: dict[str, Any] = json.loads(read_bytes(path))
    except OSError as error:
        raise RunError(f"Cannot read {path}: {error.strerror}.") from None
    except (ValueError, RecursionError) as error:  # numbers of thousands of digits, deep nesting
        raise RunError(damaged(path, shortened(str(error), 200))) from None
    return known


def description_hash(folder: Path) -> str:
    """Returns the SHA-256 of the description, without the hash of `model.onnx`, which holds it.

    It is made from the values in the file, so that a later version finds the same.

    Raises:
        RunError: If the description cannot be read.
    """
    known = {name: value for name, value in plain_spec(folder).items() if name != "onnx_sha256"}
    return hashlib.sha256(json.dumps(known, sort_keys=True).encode()).hexdigest()


def read_checked(folder: Path, name: str, sha256: str) -> bytes:
    """Returns the bytes of a file of a bundle.

    They are read, not mapped: not every file system can map files.

    Raises:
        RunError: If it cannot be read, or its hash is another than the description states.
    """
    path = folder / name
    try:
        content = read_bytes(path)
    except FileNotFoundError:
        raise RunError(f"{folder} is not a bundle: it has no {name}. {_GIVE}") from None
    except OSError as error:
        raise RunError(f"Cannot read {path}: {error.strerror}.") from None
    if hashlib.sha256(content).hexdigest() != sha256:
        raise RunError(f"{path} is damaged: its hash differs from the one in {SPEC}.")
    return content


def read_gallery(folder: Path, known: DistributionSpec) -> NDArray[np.float32]:
    """Reads the gallery of a range: embeddings (G, E) of length 1.

    Raises:
        RunError: If it is damaged.
    """
    return _read_embeddings(folder, GALLERY, known.sha256, known.k)


def read_background(folder: Path, spec: BundleSpec) -> NDArray[np.float32] | None:
    """Reads the embeddings (B, E) of images of no class; None if the bundle has none.

    Raises:
        RunError: If they are damaged.
    """
    if spec.background is None or spec.distribution is None:
        return None
    return _read_embeddings(folder, BACKGROUND, spec.background.sha256, spec.distribution.k)


def _read_embeddings(folder: Path, name: str, sha256: str, least: int) -> NDArray[np.float32]:
    path, content = folder / name, read_checked(folder, name, sha256)
    try:
        gallery = load_arrays(content)["gallery"]
    except (SafetensorError, KeyError, ValueError) as error:
        raise RunError(f"{path} is damaged: {shortened(str(error), 200)}.") from None
    if gallery.ndim != 2 or len(gallery) < least:
        raise RunError(f"{path} is damaged: its gallery has the shape {gallery.shape}.")
    if gallery.dtype.kind == "f":
        with np.errstate(invalid="ignore"):  # what is not finite stays so, at any length
            rows = unit(gallery)
        if np.isfinite(rows).all():
            return rows
    raise RunError(f"{path} is damaged: its gallery has values that are not finite numbers.")
