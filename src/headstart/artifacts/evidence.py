"""What the report shows besides figures: small pictures, neighbours of mistakes, a map.

All of it is kept in the run while the images are at hand, so that the report is drawn again from
the run folder alone.
"""

import hashlib
from collections.abc import Iterable
from pathlib import Path
from typing import Literal

from PIL import Image
from pydantic import BaseModel, ConfigDict

from headstart.artifacts.files import read_model, replacing, write_text

PICTURES = "pictures"
"""The folder of the run that holds them."""
EVIDENCE = "evidence.json"
AUGMENTATIONS = "augmentations.png"
TILES = "map.jpg"
"""The file with the map's images, side by side in the order of its points."""
_QUALITY = 82

Kind = Literal["photograph", "heat"]


class Neighbour(BaseModel):
    """A training image that is like another one.

    Attributes:
        image: Its name in the run.
        label: Its class.
        similarity: Cosine of the two embeddings.
    """

    model_config = ConfigDict(frozen=True)

    image: str
    label: str
    similarity: float


class Point(BaseModel):
    """An image on the map.

    Attributes:
        image: Its name in the run.
        label: Its class.
        prediction: What the classifier says; empty for training images.
        x: 0 to 1 from left to right.
        y: 0 to 1 from top to bottom.
    """

    model_config = ConfigDict(frozen=True)

    image: str
    label: str
    prediction: str = ""
    x: float
    y: float


class FeatureMap(BaseModel):
    """Images by their embeddings, in two dimensions.

    Attributes:
        method: What projected them, for people.
        points: In the order of their tiles.
        tile: Side of a tile in pixels.
        columns: Tiles in a row.
    """

    model_config = ConfigDict(frozen=True)

    method: str
    points: tuple[Point, ...]
    tile: int
    columns: int


class Evidence(BaseModel):
    """What was kept.

    Attributes:
        neighbours: The training images most like a wrongly classified one, by its name.
        map: None where there are too few images for one.
        notes: What is missing, and why.
    """

    model_config = ConfigDict(frozen=True)

    neighbours: dict[str, tuple[Neighbour, ...]] = {}
    map: FeatureMap | None = None
    notes: tuple[str, ...] = ()


def write_evidence(folder: Path, evidence: Evidence) -> None:
    """Writes `evidence.json`."""
    write_text(folder / EVIDENCE, evidence.model_dump_json(indent=1) + "\n")


def read_evidence(folder: Path) -> Evidence:
    """Reads `evidence.json`; runs that kept none have an empty one.

    Raises:
        RunError: If it is damaged.
    """
    return read_model(folder / EVIDENCE, Evidence) or Evidence()


def write_pictures(folder: Path, kind: Kind, pictures: Iterable[tuple[str, Image.Image]]) -> None:
    """Writes small pictures of images, given by their names in the run."""
    (folder / PICTURES).mkdir(exist_ok=True)
    for image, picture in pictures:
        write_jpeg(_path(folder, kind, image), picture)


def write_jpeg(path: Path, picture: Image.Image) -> None:
    """Writes one picture in one step."""
    with replacing(path) as draft:
        picture.convert("RGB").save(draft, "JPEG", quality=_QUALITY, optimize=True)


def read_picture(folder: Path, kind: Kind, image: str) -> bytes | None:
    """Returns the JPEG file of an image, or None where none was kept."""
    try:
        return _path(folder, kind, image).read_bytes()
    except OSError:
        return None


def _path(folder: Path, kind: Kind, image: str) -> Path:
    # Names of images hold separators, and need not be valid as names of files.
    digest = hashlib.sha256(image.encode("utf-8", "surrogateescape")).hexdigest()[:20]
    return folder / PICTURES / f"{digest}-{kind}.jpg"
