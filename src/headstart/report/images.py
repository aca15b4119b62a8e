"""The images of the report: mistakes, confused pairs and suspects."""

import shlex
from base64 import b64encode
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from headstart.artifacts.evidence import (
    AUGMENTATIONS,
    TILES,
    Evidence,
    Neighbour,
    read_kept,
    read_picture,
)
from headstart.artifacts.originals import Originals
from headstart.artifacts.records import RunRecord, TestPrediction
from headstart.diagnose.reasons import SUSPECTS
from headstart.report.figures import photograph

MISTAKES_SHOWN = 24

SUSPECTS_SHOWN = 24

PAIRS_SHOWN = 5

IN_A_PAIR = 4

NEIGHBOURS_SHOWN = 3


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
class Answer:
    """A prediction with its picture and its heat map.

    Attributes:
        prediction: The prediction.
        picture: A data URI, or None if the image is missing or damaged.
        heat: The image with the parts that the classifier looked at, or None.
    """

    prediction: TestPrediction
    picture: str | None
    heat: str | None


@dataclass(frozen=True)
class Mistake:
    """A wrong prediction, a right one to compare it with, and the most similar training images.

    Attributes:
        wrong: The wrong prediction.
        right: The most similar image of the same class that was classified correctly, or None.
        near: The most similar training images.
    """

    wrong: Answer
    right: Answer | None
    near: tuple[Shown, ...]


@dataclass(frozen=True)
class MixedUp:
    """A class whose images are predicted as another class.

    Attributes:
        label: The label of the images.
        prediction: The class that is predicted instead.
        count: Number of such images.
        surest: The most confident mistakes among them.
    """

    label: str
    prediction: str
    count: int
    surest: tuple[TestPrediction, ...]


@dataclass(frozen=True)
class ConfusedPair:
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
        originals: The images in the folder that the user names, if any.

    Attributes:
        absent: Names of the images without a picture, so far.
        coloured: Whether the heat maps have colours; those of older runs are dark where the
            classifier did not look.
    """

    def __init__(self, folder: Path, originals: Originals) -> None:
        self.folder, self._originals = folder, originals
        self.absent: set[str] = set()
        self.coloured = True

    def photograph(self, image: str) -> str | None:
        """Returns a small version of an image as a data URI, or None if there is none."""
        kept = read_picture(self.folder, "photograph", image)
        if kept is not None:
            return data_uri(kept, "jpeg")
        file = self._originals.find(image)
        drawn = None if file is None else photograph(file)
        if drawn is None:
            self.absent.add(image)
        return drawn

    def heat(self, image: str) -> str | None:
        """Returns the heat map of an image as a data URI, or None if there is none."""
        kept = read_picture(self.folder, "colour", image)
        if kept is None:
            kept = read_picture(self.folder, "heat", image)
            self.coloured &= kept is None
        return None if kept is None else data_uri(kept, "jpeg")

    def file(self, name: str, kind: str) -> str | None:
        """Returns a picture by its file name, or None if it is missing."""
        kept = read_kept(self.folder, name)
        return None if kept is None else data_uri(kept, kind)

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
    by_name = {each.path: each for each in predictions}

    def answer(prediction: TestPrediction) -> Answer:
        image = prediction.path
        return Answer(prediction, album.photograph(image), album.heat(image))

    def one(prediction: TestPrediction) -> Mistake:
        near = evidence.neighbours.get(prediction.path, ())
        right = evidence.right.get(prediction.path)
        known = None if right is None else by_name.get(right.image)
        return Mistake(
            answer(prediction),
            None if known is None else answer(known),
            tuple(_near(each, album) for each in near),
        )

    with ThreadPoolExecutor() as pool:
        return list(pool.map(one, surest_mistakes(predictions)))


def pairs(
    predictions: Sequence[TestPrediction], evidence: Evidence, album: Album
) -> list[ConfusedPair]:
    """Returns the most frequently confused classes with pictures."""
    found = []
    for mixed in most_mixed_up(predictions):
        wrong = tuple(Shown(p.path, p.label, album.photograph(p.path)) for p in mixed.surest)
        near = [
            each
            for each in evidence.neighbours.get(mixed.surest[0].path, ())
            if each.label == mixed.prediction
        ]
        found.append(ConfusedPair(mixed, wrong, _near(near[0], album) if near else None))
    return found


def suspects(rows: Sequence[dict[str, str]], album: Album) -> list[tuple[dict[str, str], Shown]]:
    """Returns the first suspects with their pictures, as (row of the table, picture)."""

    def one(row: dict[str, str]) -> tuple[dict[str, str], Shown]:
        return row, Shown(row["path"], row["label"], album.photograph(row["path"]))

    with ThreadPoolExecutor() as pool:
        return list(pool.map(one, rows[:SUSPECTS_SHOWN]))


def suspects_command(record: RunRecord, folder: Path) -> str:
    """Returns the command that writes the table of suspects; empty without a source path."""
    if record.source == "":
        return ""
    return shlex.join(["headstart", "suspects", str(folder), "--out", str(folder / SUSPECTS)])


def _near(near: Neighbour, album: Album) -> Shown:
    return Shown(near.image, near.label, album.photograph(near.image))


def surest_mistakes(predictions: Sequence[TestPrediction]) -> list[TestPrediction]:
    """Returns the wrong predictions, the most confident first, at most `MISTAKES_SHOWN`."""
    wrong = [p for p in predictions if p.prediction != p.label]
    return sorted(wrong, key=lambda p: (-p.probability, p.path))[:MISTAKES_SHOWN]


def most_mixed_up(predictions: Sequence[TestPrediction]) -> list[MixedUp]:
    """Returns the most frequently confused pairs of classes with their most confident mistakes."""
    wrong = [p for p in predictions if p.prediction != p.label]
    counts = Counter((p.label, p.prediction) for p in wrong)
    ordered = sorted(counts.items(), key=lambda pair: (-pair[1], pair[0]))[:PAIRS_SHOWN]
    found = []
    for (label, prediction), count in ordered:
        these = [p for p in wrong if (p.label, p.prediction) == (label, prediction)]
        surest = sorted(these, key=lambda p: (-p.probability, p.path))[:IN_A_PAIR]
        found.append(MixedUp(label, prediction, count, tuple(surest)))
    return found


def shown_mistakes(predictions: Sequence[TestPrediction]) -> list[TestPrediction]:
    """Returns every wrong prediction that the report shows, each once."""
    shown = [*surest_mistakes(predictions)]
    for pair in most_mixed_up(predictions):
        shown += pair.surest
    return list({each.path: each for each in shown}.values())
