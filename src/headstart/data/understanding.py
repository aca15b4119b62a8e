"""What was understood of a source, before any image is opened: plain data and words for it."""

from collections.abc import Iterable
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from headstart.inputs.quantities import Count
from headstart.text import counted

Reason = Literal[
    "empty_class",
    "link_outside",
    "broken_link",
    "repeated_link",
    "unknown_extension",
    "needs_extra",
    "loose_image",
    "unlabelled",
    "beside_splits",
    "system_folder",
    "own_output",
    "not_utf8",
    "ignored_column",
    "page",
    "channel",
]

SHOWN_NAMES = 5
SHOWN_CLASSES = 20


class PassedOver(BaseModel):
    """Things of one kind that are not used.

    Attributes:
        reason: Why they are not used, as a word.
        what: What they are, for people, without a full stop.
        names: Their names, relative to the root of the data set, sorted.
    """

    model_config = ConfigDict(frozen=True)

    reason: Reason
    what: str
    names: tuple[str, ...]

    @property
    def sentence(self) -> str:
        """The same as one sentence, with the first names."""
        return f"{self.what}: {quoted(self.names)}."


class Understanding(BaseModel):
    """How a source was read: its layout, its classes, and what is not used.

    Attributes:
        layout: What the folders or columns mean, for people.
        classes: Images of each class by split; `unassigned` where the source gives no split.
        passed_over: What is not used, by reason.
        notes: Other sentences that a reader should know.
        images: Number of images where one may have several labels; else None.
    """

    model_config = ConfigDict(frozen=True)

    layout: str
    classes: dict[str, dict[str, Count]]
    passed_over: tuple[PassedOver, ...] = ()
    notes: tuple[str, ...] = ()
    images: Count | None = Field(None, exclude_if=lambda images: images is None)

    def __str__(self) -> str:
        """The same as `lines`, so that `print` shows it."""
        return "\n".join(self.lines())

    def lines(self) -> list[str]:
        r"""Returns the understanding as lines for a terminal.

        Example:
            >>> found = {"ants": {"train": 2, "test": 1}, "bees": {"train": 1}}
            >>> print("\n".join(Understanding(layout="splits", classes=found).lines()))
            understood: splits; 2 classes, 4 images
            classes: 'ants' (2 train, 1 test), 'bees' (1 train)
        """
        total, kind = self.images, ("label", "labels")
        if total is None:
            total = sum(sum(counts.values()) for counts in self.classes.values())
            kind = ("class", "classes")
        names = counted(len(self.classes), *kind)
        shown = [
            f"{name!r} ({_by_split(counts)})"
            for name, counts in list(self.classes.items())[:SHOWN_CLASSES]
        ]
        more = len(self.classes) - len(shown)
        return [
            f"understood: {self.layout}; {names}, {counted(total, 'image')}",
            f"{kind[1]}: {', '.join(shown)}" + (f" and {more} more" if more else ""),
            *(f"passed over: {each.sentence}" for each in self.passed_over),
            *(f"note: {note}" for note in self.notes),
        ]


def quoted(names: Iterable[str]) -> str:
    """Returns up to five quoted names, and how many more there are.

    Example:
        >>> quoted(["b", "a"])
        "'a', 'b'"
    """
    every = sorted(names)
    more = f" and {len(every) - SHOWN_NAMES} more" if len(every) > SHOWN_NAMES else ""
    return ", ".join(repr(name) for name in every[:SHOWN_NAMES]) + more


def _by_split(counts: dict[str, int]) -> str:
    return ", ".join(
        f"{count:,}" if split == "unassigned" else f"{count:,} {split}"
        for split, count in counts.items()
    )
