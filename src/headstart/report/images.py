"""The sections of the report that show images: mistakes, confused classes and suspects."""

from base64 import b64encode
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from headstart.artifacts.evidence import (
    AUGMENTATIONS,
    PICTURES,
    TILES,
    Evidence,
    Neighbour,
    read_picture,
)
from headstart.artifacts.run import TestPrediction
from headstart.report.figures import photograph
from headstart.report.selection import (
    SUSPECTS_SHOWN,
    MixedUp,
    most_mixed_up,
    surest_mistakes,
)


@dataclass(frozen=True)
class Shown:
    """An image in the report.

    Attributes:
        image: Its name in the run.
        label: Its class.
        picture: A data URI, or None if the image is missing or damaged.
    """

    image: str
    label: str
    picture: str | None


@dataclass(frozen=True)
class Mistake:
    """A wrong prediction, its heat map and the most similar training images.

    Attributes:
        prediction: The prediction.
        picture: A data URI, or None if the image is missing or damaged.
        heat: The image, darkened where the classifier did not look, or None.
        near: The most similar training images.
    """

    prediction: TestPrediction
    picture: str | None
    heat: str | None
    near: tuple[Shown, ...]


@dataclass(frozen=True)
class Pair:
    """Two classes that are confused, with pictures.

    Attributes:
        mixed: The two classes and the number of mistakes.
        wrong: Images that were predicted as the other class.
        reminded: A training image of the other class that is similar to the first one, or None.
    """

    mixed: MixedUp
    wrong: tuple[Shown, ...]
    reminded: Shown | None


class Album:
    """Pictures of the images of a run: kept in the run folder, or else made from the originals.

    Args:
        folder: Run folder.
        root: Folder of the original images.
    """

    def __init__(self, folder: Path, root: Path) -> None:
        self._folder, self._root = folder, root

    def photograph(self, image: str) -> str | None:
        """Returns a small version of an image as a data URI, or None if there is none."""
        kept = read_picture(self._folder, "photograph", image)
        return photograph(self._root / image) if kept is None else data_uri(kept, "jpeg")

    def heat(self, image: str) -> str | None:
        """Returns the heat map of an image as a data URI, or None if there is none."""
        kept = read_picture(self._folder, "heat", image)
        return None if kept is None else data_uri(kept, "jpeg")

    def file(self, name: str, kind: str) -> str | None:
        """Returns a picture by its file name, or None if it is missing."""
        try:
            return data_uri((self._folder / PICTURES / name).read_bytes(), kind)
        except OSError:
            return None

    def views(self) -> str | None:
        """Returns the sheet of augmented views."""
        return self.file(AUGMENTATIONS, "png")

    def tiles(self) -> str | None:
        """Returns the images of the map, side by side."""
        return self.file(TILES, "jpeg")


def data_uri(content: bytes, kind: str) -> str:
    """Returns an encoded picture as a data URI.

    Example:
        >>> data_uri(b"abc", "png")
        'data:image/png;base64,YWJj'
    """
    return f"data:image/{kind};base64,{b64encode(content).decode()}"


def mistakes(
    predictions: Sequence[TestPrediction], evidence: Evidence, album: Album
) -> list[Mistake]:
    """Returns the most confident mistakes with their pictures."""

    def one(prediction: TestPrediction) -> Mistake:
        near = evidence.neighbours.get(prediction.path, ())
        return Mistake(
            prediction,
            album.photograph(prediction.path),
            album.heat(prediction.path),
            tuple(_near(each, album) for each in near),
        )

    with ThreadPoolExecutor() as pool:
        return list(pool.map(one, surest_mistakes(predictions)))


def pairs(predictions: Sequence[TestPrediction], evidence: Evidence, album: Album) -> list[Pair]:
    """Returns the most frequently confused classes with pictures."""
    found = []
    for mixed in most_mixed_up(predictions):
        wrong = tuple(Shown(p.path, p.label, album.photograph(p.path)) for p in mixed.surest)
        near = [
            each
            for each in evidence.neighbours.get(mixed.surest[0].path, ())
            if each.label == mixed.prediction
        ]
        found.append(Pair(mixed, wrong, _near(near[0], album) if near else None))
    return found


def suspects(rows: Sequence[dict[str, str]], album: Album) -> list[tuple[dict[str, str], Shown]]:
    """Returns the first suspects with their pictures, as (row of the table, picture)."""

    def one(row: dict[str, str]) -> tuple[dict[str, str], Shown]:
        return row, Shown(row["path"], row["label"], album.photograph(row["path"]))

    with ThreadPoolExecutor() as pool:
        return list(pool.map(one, rows[:SUSPECTS_SHOWN]))


def _near(near: Neighbour, album: Album) -> Shown:
    return Shown(near.image, near.label, album.photograph(near.image))
