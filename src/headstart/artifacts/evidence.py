"""The visual evidence of a report: small pictures, neighbours of mistakes, and a map of images.

A run stores it while the images are available, so the report can be rendered again from the run
folder alone.
"""

import hashlib
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Literal

from PIL import Image
from pydantic import BaseModel, ConfigDict, Field

from headstart.artifacts.files import read_model, replacing, write_model
from headstart.inputs.quantities import Finite, PathText
from headstart.inputs.regular_files import read_bytes

PICTURES = "pictures"
"""Folder inside the run that holds the pictures."""
EVIDENCE = "evidence.json"
AUGMENTATIONS = "augmentations.png"
TILES = "map.jpg"
"""File with the images of the map, side by side in the order of its points."""
_QUALITY = 82

Kind = Literal["photograph", "heat", "colour"]
"""What a small picture shows: the image, or a heat map (`heat` in older runs, without colours)."""


class Neighbour(BaseModel):
    """An image that is similar to another image.

    Attributes:
        image: Name of the image in the run.
        label: Class label of the image.
        similarity: Cosine of the two embeddings.

    Example:
        >>> Neighbour(image="rose/0007.jpg", label="rose", similarity=0.93).label
        'rose'
    """

    model_config = ConfigDict(frozen=True)

    image: PathText
    label: str
    similarity: Finite


class Point(BaseModel):
    """An image on the map.

    Attributes:
        image: Name of the image in the run.
        label: Class label of the image.
        prediction: Predicted class; empty for training images.
        x: Position from left (0) to right (1).
        y: Position from top (0) to bottom (1).
    """

    model_config = ConfigDict(frozen=True)

    image: PathText
    label: str
    prediction: str = ""
    x: Finite
    y: Finite


class FeatureMap(BaseModel):
    """A two-dimensional map of images by their embeddings.

    Attributes:
        method: Name of the projection method, for display.
        points: The images, in the order of their tiles.
        tile: Side of a tile in pixels.
        columns: Number of tiles in a row.
    """

    model_config = ConfigDict(frozen=True)

    method: str
    points: tuple[Point, ...]
    tile: Annotated[int, Field(ge=1, le=4096)]
    columns: Annotated[int, Field(ge=1, le=4096)]


class Evidence(BaseModel):
    """The evidence that a run stored.

    Attributes:
        neighbours: The training images most similar to each wrongly classified image, by its name.
        right: The most similar test image of the same class that was classified correctly, by the
            name of the wrongly classified image; empty in older runs.
        map: The map of images; None if there are too few images.
        notes: What is missing, and why.
    """

    model_config = ConfigDict(frozen=True)

    neighbours: dict[str, tuple[Neighbour, ...]] = {}
    right: dict[str, Neighbour] = {}
    map: FeatureMap | None = None
    notes: tuple[str, ...] = ()


def write_evidence(folder: Path, evidence: Evidence) -> None:
    """Writes `evidence.json`."""
    write_model(folder / EVIDENCE, evidence)


def read_evidence(folder: Path) -> Evidence:
    """Reads `evidence.json`; returns empty evidence for runs without it.

    Raises:
        RunError: If it is damaged.
    """
    return read_model(folder / EVIDENCE, Evidence) or Evidence()


def write_pictures(folder: Path, kind: Kind, pictures: Iterable[tuple[str, Image.Image]]) -> None:
    """Writes small pictures, given as (name of the image in the run, picture)."""
    (folder / PICTURES).mkdir(exist_ok=True)
    for image, picture in pictures:
        write_jpeg(_path(folder, kind, image), picture)


def write_jpeg(path: Path, picture: Image.Image) -> None:
    """Writes a picture as JPEG, atomically."""
    with replacing(path) as draft:
        picture.convert("RGB").save(draft, "JPEG", quality=_QUALITY, optimize=True)


def read_picture(folder: Path, kind: Kind, image: str) -> bytes | None:
    """Returns the stored JPEG file of an image, or None if there is none."""
    return read_kept(folder, _path(folder, kind, image).name)


def read_kept(folder: Path, name: str) -> bytes | None:
    """Returns a file of `pictures/`, or None if it is missing or leads out of the run folder."""
    try:
        path = (folder / PICTURES / name).resolve(strict=True)
        return read_bytes(path) if path.is_relative_to(folder.resolve()) else None
    except (OSError, RuntimeError):  # RuntimeError: circular links
        return None


def _path(folder: Path, kind: Kind, image: str) -> Path:
    # Image names contain separators and need not be valid file names.
    digest = hashlib.sha256(image.encode("utf-8", "surrogateescape")).hexdigest()[:20]
    return folder / PICTURES / f"{digest}-{kind}.jpg"
