"""The report's sections with pictures of images: mistakes, mixed-up classes, suspects."""

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
    """An image of the report.

    Attributes:
        image: Its name in the run.
        label: Its class.
        picture: A data URI, or None where the image is gone or broken.
    """

    image: str
    label: str
    picture: str | None


@dataclass(frozen=True)
class Mistake:
    """A wrong prediction, what the classifier looked at, and what it may have been reminded of.

    Attributes:
        prediction: What the classifier said.
        picture: A data URI, or None where the image is gone or broken.
        heat: The same dark where the classifier did not look, or None.
        near: The training images most like it.
    """

    prediction: TestPrediction
    picture: str | None
    heat: str | None
    near: tuple[Shown, ...]


@dataclass(frozen=True)
class Pair:
    """Two classes that are mixed up, with pictures.

    Attributes:
        mixed: Which, and how often.
        wrong: Images that were taken for the other class.
        reminded: A training image of that class that the first of them is like, or None.
    """

    mixed: MixedUp
    wrong: tuple[Shown, ...]
    reminded: Shown | None


class Album:
    """Pictures of a run's images: those it kept, else the images themselves where they still are.

    Args:
        folder: Of the run.
        root: Where the images were.
    """

    def __init__(self, folder: Path, root: Path) -> None:
        self._folder, self._root = folder, root

    def photograph(self, image: str) -> str | None:
        """Returns an image made small, as a data URI."""
        kept = read_picture(self._folder, "photograph", image)
        return photograph(self._root / image) if kept is None else data_uri(kept, "jpeg")

    def heat(self, image: str) -> str | None:
        """Returns where the classifier looked."""
        kept = read_picture(self._folder, "heat", image)
        return None if kept is None else data_uri(kept, "jpeg")

    def file(self, name: str, kind: str) -> str | None:
        """Returns a picture by its file's name."""
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
    """Returns a picture as it stands in a page."""
    return f"data:image/{kind};base64,{b64encode(content).decode()}"


def mistakes(
    predictions: Sequence[TestPrediction], evidence: Evidence, album: Album
) -> list[Mistake]:
    """Returns the surest mistakes with their pictures."""

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
    """Returns the classes that are mixed up most with pictures of it."""
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
    """Returns the first suspects, as rows of their table, with their pictures."""

    def one(row: dict[str, str]) -> tuple[dict[str, str], Shown]:
        return row, Shown(row["path"], row["label"], album.photograph(row["path"]))

    with ThreadPoolExecutor() as pool:
        return list(pool.map(one, rows[:SUSPECTS_SHOWN]))


def _near(near: Neighbour, album: Album) -> Shown:
    return Shown(near.image, near.label, album.photograph(near.image))
