"""Plain data types of data sets: items, boxes and splits."""

from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from headstart.data.reading import EACH, Reading

if TYPE_CHECKING:
    from headstart.data.understanding import PassedOver, Understanding

SplitName = Literal["train", "val", "test"]
SPLIT_NAMES: tuple[SplitName, ...] = ("train", "val", "test")

Box = tuple[int, int, int, int]
"""Left, top, right, bottom in pixels; right and bottom are exclusive."""


@dataclass(frozen=True)
class Item:
    """One labelled image that has not been read yet.

    Attributes:
        path: Absolute path of the image file.
        label: Name of its class; for a set of labels, their names in one text.
        split: Part in the source's own split, if any.
        group: Group that a split never divides (a patient, a part, a video), if any.
        box: Box to crop the image to first, if any.
        labels: Names of its labels, sorted, where an image may have any number; else None.
    """

    path: Path
    label: str
    split: SplitName | None = None
    group: str | None = None
    box: Box | None = None
    labels: tuple[str, ...] | None = None

    @property
    def names(self) -> tuple[str, ...]:
        """Names of all its labels: one, or any number where an image may have several."""
        return (self.label,) if self.labels is None else self.labels


@dataclass(frozen=True)
class Dataset:
    """Labelled images in a fixed order.

    Attributes:
        name: Short name, for run folders and reports.
        root: Folder that item paths are shown relative to.
        items: The images, sorted by path.
        licence: Licence of the images, if known.
        notes: Sentences about the source that a reader of the run should know.
        layout: Description of how the source was read.
        passed_over: Files and folders that are not used, by reason.
        reading: Conversion of files to pixels; the range is measured later.
    """

    name: str
    root: Path
    items: tuple[Item, ...]
    licence: str | None = None
    notes: tuple[str, ...] = ()
    layout: str = ""
    passed_over: "tuple[PassedOver, ...]" = ()
    reading: Reading = EACH

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes, sorted."""
        return tuple(sorted({name for item in self.items for name in item.names}))

    @property
    def multilabel(self) -> bool:
        """Whether an image may have any number of labels."""
        return any(item.labels is not None for item in self.items)

    @property
    def ignored(self) -> tuple[str, ...]:
        """Files in the folder that are not images, relative to the root."""
        kinds = ("unknown_extension", "needs_extra")
        groups = [each.names for each in self.passed_over if each.reason in kinds]
        return tuple(sorted(name for names in groups for name in names))

    @property
    def understanding(self) -> "Understanding":
        """How the source was read: classes by split, and what is not used."""
        # Not at the top: the processes that decode images need no pydantic.
        from headstart.data.understanding import Understanding  # noqa: PLC0415

        counts = Counter((name, item.split) for item in self.items for name in item.names)
        classes = {
            label: {
                split or "unassigned": counts[label, split]
                for split in (*SPLIT_NAMES, None)
                if counts[label, split]
            }
            for label in self.classes
        }
        return Understanding(
            layout=self.layout,
            classes=classes,
            passed_over=self.passed_over,
            notes=self.notes,
            images=len(self.items) if self.multilabel else None,
        )

    def key(self, index: int) -> str:
        """Returns the path of image `index` relative to the root, or its whole path if outside."""
        path = self.items[index].path
        inside = path.is_relative_to(self.root)
        return path.relative_to(self.root).as_posix() if inside else str(path)
