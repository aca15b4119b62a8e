"""The audit: problems of a data set, files to leave out, and images that belong together."""

from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Literal, TypeVar

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

from headstart.data.audit_classes import (
    FEW_PER_CLASS,
    MIN_PER_CLASS,
    class_counts,
    imbalance,
    label_messages,
    learned_classes,
    too_few_classes,
)
from headstart.data.class_names import similar_names
from headstart.data.images import MAX_ASPECT
from headstart.data.near_duplicates import near_duplicates
from headstart.data.pixel_notes import PixelKind, pixel_notes, same_patient
from headstart.data.pixels import Facts
from headstart.data.rasters import THUMBNAIL
from headstart.data.types import SPLIT_NAMES, Dataset
from headstart.data.understanding import Understanding
from headstart.errors import DataError
from headstart.inputs.quantities import Count
from headstart.text import counted, listed

SMALL_SIDE = 32

T = TypeVar("T")
_Link = tuple[int, int]

_OwnKind = Literal[
    "unreadable",
    "truncated",
    "not_an_image",
    "too_large",
    "needs_extra",
    "no_memory",
    "exact_duplicate",
    "near_duplicate",
    "conflicting_labels",
    "split_leak",
    "tiny_class",
    "imbalance",
    "odd_size",
    "similar_class_names",
    "ignored_file",
]
Kind = _OwnKind | PixelKind
Severity = Literal["info", "warning"]


class Finding(BaseModel):
    """One problem or peculiarity of a data set.

    Attributes:
        kind: Kind of the finding.
        severity: Whether something is wrong (warning) or only worth knowing (info).
        files: Files concerned, relative to the data set's folder.
        message: Sentences that say what was found and what is done about it.
    """

    model_config = ConfigDict(frozen=True)

    kind: Kind
    severity: Severity
    files: tuple[str, ...]
    message: str


class Audit(BaseModel):
    """Results of examining a data set.

    Attributes:
        n_images: Number of files in the data set, including broken ones.
        n_usable: Number of images left for training and testing.
        classes: Number of usable images of each remaining class.
        dropped: Reason for each file that is left out.
        findings: All findings.
        understood: How the source was read; None in the files of older runs.
        problem: Why nothing can be trained on the data set; empty if it can be used.
    """

    model_config = ConfigDict(frozen=True)

    n_images: Count
    n_usable: Count
    classes: dict[str, Count]
    dropped: dict[str, str]
    findings: tuple[Finding, ...]
    understood: Understanding | None = None
    problem: str = ""


@dataclass(frozen=True, eq=False)
class AuditResult:
    """An audit, the usable images and their groups.

    Attributes:
        audit: The audit, as shown and saved.
        kept: (K,) indices of the usable images, ascending.
        groups: (K,) group number of each kept image; a split never divides a group.
    """

    audit: Audit
    kept: NDArray[np.int64]
    groups: NDArray[np.int64]


@dataclass
class _Notes:
    """Findings so far."""

    dataset: Dataset
    facts: Sequence[Facts]
    findings: list[Finding] = field(default_factory=list)
    dropped: dict[int, str] = field(default_factory=dict)

    def add(self, kind: Kind, severity: Severity, indices: Iterable[int], message: str) -> None:
        files = tuple(self.dataset.key(index) for index in indices)
        self.findings.append(Finding(kind=kind, severity=severity, files=files, message=message))

    def drop(self, indices: Iterable[int], reason: str) -> None:
        self.dropped.update(dict.fromkeys(indices, reason))

    def left(self) -> list[int]:
        return [index for index in range(len(self.facts)) if index not in self.dropped]

    def label(self, index: int) -> str:
        return self.dataset.items[index].label


def audit(dataset: Dataset, facts: Sequence[Facts], resolution: int = 224) -> AuditResult:
    """Looks for problems that would spoil training or bias the test.

    Args:
        dataset: Images to audit.
        facts: Facts about each image, from decoding.
        resolution: Side of the network's square input, in pixels.

    Raises:
        DataError: If fewer than two classes are usable.
    """
    result = examine(dataset, facts, resolution)
    if result.audit.problem:
        raise DataError(result.audit.problem)
    return result


def examine(dataset: Dataset, facts: Sequence[Facts], resolution: int = 224) -> AuditResult:
    """Audits like `audit`, but reports an unusable data set in `Audit.problem`."""
    notes = _Notes(dataset, facts)
    problem = _note_broken(notes)
    links = _note_copies(notes) + _note_near_duplicates(notes)
    groups = _groups(notes, links)
    _note_leaks(notes, groups)
    problem = problem or too_few_classes(dataset, notes.left())
    if not problem:
        _note_tiny_classes(notes)
        if message := imbalance(dataset, notes.left()):
            notes.add("imbalance", "warning", (), message)
        _note_odd_sizes(notes, resolution)
    for note in pixel_notes(facts, notes.left(), dataset.reading):
        notes.add(note.kind, note.severity, note.indices, note.message)
    for first, second in similar_names(dataset.classes):
        message = f"{first!r} and {second!r} may be two spellings of one class. If so, merge them."
        notes.add("similar_class_names", "warning", (), message)
    if dataset.ignored:
        message = f"Skipped {counted(len(dataset.ignored), 'non-image file')}."
        notes.findings.append(
            Finding(kind="ignored_file", severity="info", files=dataset.ignored, message=message)
        )
    kept = np.array(notes.left(), dtype=np.int64)
    dropped = {dataset.key(index): notes.dropped[index] for index in sorted(notes.dropped)}
    report = Audit(
        n_images=len(facts),
        n_usable=len(kept),
        classes=learned_classes(dataset, notes.left()),
        dropped=dropped,
        findings=tuple(notes.findings),
        understood=dataset.understanding,
        problem=problem,
    )
    return AuditResult(report, kept, np.unique(groups[kept], return_inverse=True)[1])


def summary_rows(report: Audit) -> list[tuple[str, str, str]]:
    """Returns rows of kind, severity and message, warnings first, one per kind and severity.

    Args:
        report: Audit to summarize.

    Example:
        >>> finding = Finding(kind="tiny_class", severity="info", files=(), message="Few images.")
        >>> report = Audit(n_images=4, n_usable=4, classes={}, dropped={}, findings=(finding,) * 3)
        >>> summary_rows(report)
        [('tiny class', 'info', 'Few images. (and 2 more like it)')]
    """
    rows: list[tuple[str, str, str]] = []
    found = _gather(report.findings, lambda finding: (finding.severity, finding.kind))
    for same in sorted(found, key=lambda same: same[0].severity, reverse=True):
        more = f" (and {len(same) - 1} more like it)" if len(same) > 1 else ""
        files = ", ".join(same[0].files[:2]) + (", ..." if len(same[0].files) > 2 else "")
        shown = f" [{files}]" if files and same[0].files[0] not in same[0].message else ""
        kind = same[0].kind.replace("_", " ")
        rows.append((kind, same[0].severity, same[0].message + shown + more))
    return rows


def _note_broken(notes: _Notes) -> str:
    """Leaves out broken files; returns the problem if no file remains."""
    for index, fact in enumerate(notes.facts):
        if fact.status != "ok":
            notes.drop([index], fact.reason)
            message = f"{notes.dataset.key(index)} is left out: {fact.reason}."
            notes.add(fact.status, "warning", [index], message)
    if notes.left():
        return ""
    example = f" ({notes.dataset.key(0)}: {notes.dropped[0]})" if notes.dropped else ""
    files = f"{counted(len(notes.facts), 'file')} in {notes.dataset.root}"
    return f"None of the {files} can be used{example}."


def _note_copies(notes: _Notes) -> list[_Link]:
    """Links files with the same pixels; leaves out those with different labels."""
    links: list[_Link] = []
    for same in _gather(notes.left(), lambda index: notes.facts[index].pixels):
        if len(same) == 1:
            continue
        labels = sorted({notes.label(index) for index in same})
        if len(labels) > 1:
            names = listed([repr(label) for label in labels])
            notes.drop(same, f"the same image is labelled {names}")
            message = f"The same image is labelled {names}. All {len(same)} copies are left out."
            notes.add("conflicting_labels", "warning", same, message)
        else:
            message = f"{len(same)} files contain the same image. A split keeps them together."
            notes.add("exact_duplicate", "info", same, message)
            links += [(same[0], other) for other in same[1:]]
    return links


def _note_near_duplicates(notes: _Notes) -> list[_Link]:
    copies = _gather(notes.left(), lambda index: notes.facts[index].pixels)
    originals = [same[0] for same in copies]
    thumbnails = [_thumbnail(notes.facts[index]) for index in originals]
    kinds = sorted({item.label for item in notes.dataset.items})
    numbers = {label: number for number, label in enumerate(kinds)}
    labels = np.array([numbers[notes.label(index)] for index in originals], dtype=np.int64)
    links: list[_Link] = []
    for pair in near_duplicates(thumbnails, labels):
        both = first, second = originals[pair.first], originals[pair.second]
        links.append(both)
        what = "Two files show nearly the same image" + (", one mirrored" if pair.mirrored else "")
        if notes.label(first) == notes.label(second):
            message = f"{what}. A split keeps them together."
            notes.add("near_duplicate", "info", both, message)
        else:
            message = (
                f"{what}, labelled {notes.label(first)!r} and {notes.label(second)!r}. Check the "
                "labels. Both images are used; a split keeps them together."
            )
            notes.add("near_duplicate", "warning", both, message)
    return links


def _thumbnail(facts: Facts) -> NDArray[np.uint8]:
    return np.frombuffer(facts.thumbnail, dtype=np.uint8).reshape(THUMBNAIL, THUMBNAIL)


def _groups(notes: _Notes, links: list[_Link]) -> NDArray[np.int64]:
    """Returns the group number of each file, joining linked files and given groups."""
    from scipy.sparse import coo_array  # noqa: PLC0415 - heavy
    from scipy.sparse.csgraph import connected_components  # noqa: PLC0415

    items = notes.dataset.items
    given = [index for index in notes.left() if items[index].group is not None]
    links = list(links)
    for members in _gather(given, lambda index: items[index].group):
        links += [(members[0], other) for other in members[1:]]
    links += same_patient(notes.facts, notes.left())
    size = len(items)
    rows, columns = np.array(links, dtype=np.int64).reshape(-1, 2).T
    graph = coo_array((np.ones(len(rows)), (rows, columns)), shape=(size, size))
    groups: NDArray[np.int64] = connected_components(graph, directed=False)[1].astype(np.int64)
    return groups


def _note_leaks(notes: _Notes, groups: NDArray[np.int64]) -> None:
    """Leaves out copies of validation and test images in earlier parts of a given split."""
    items = notes.dataset.items
    given = [index for index in notes.left() if items[index].split is not None]
    for members in _gather(given, lambda index: int(groups[index])):
        present = [name for name in SPLIT_NAMES if any(items[i].split == name for i in members)]
        if len(present) < 2:
            continue
        leaking = [index for index in members if items[index].split != present[-1]]
        others = listed(present[:-1])
        message = (
            f"The same image or group is in {listed(present)}. The images in {others} are left "
            f"out to keep {present[-1]} independent."
        )
        notes.add("split_leak", "warning", members, message)
        notes.drop(leaking, f"the same image or group is in {present[-1]}")


def _note_tiny_classes(notes: _Notes) -> None:
    if notes.dataset.multilabel:
        for message in label_messages(notes.dataset, notes.left()):
            notes.add("tiny_class", "warning", (), message)
        return
    counts = class_counts(notes.dataset, notes.left())
    gathered = _gather(notes.left(), notes.label)
    members_of = {notes.label(members[0]): members for members in gathered}
    for label, count in counts.items():
        if count < MIN_PER_CLASS:
            members = members_of.get(label, [])
            usable = counted(len(members), "usable image")
            reason = f"its class {label!r} has only {usable}"
            notes.drop(members, reason)
            message = (
                f"Class {label!r} has only {usable} and is left out. At least {MIN_PER_CLASS} are "
                "needed."
            )
            notes.add("tiny_class", "warning", members, message)
        elif count < FEW_PER_CLASS:
            message = f"Class {label!r} has only {count} usable images. Expect wide intervals."
            notes.add("tiny_class", "warning", (), message)


def _note_odd_sizes(notes: _Notes, resolution: int) -> None:
    sizes = {index: _shown_size(notes, index) for index in notes.left()}
    long = [
        i
        for i, (width, height) in sizes.items()
        if max(width, height) > MAX_ASPECT * min(width, height)
    ]
    small = [i for i, size in sizes.items() if min(size) < SMALL_SIDE]
    if long:
        images = counted(len(long), "image")
        message = f"{images} with an aspect ratio above {MAX_ASPECT}:1. Only the middle is used."
        notes.add("odd_size", "warning", long, message)
    if small:
        message = f"{counted(len(small), 'image')} with a side of less than {SMALL_SIDE} pixels."
        notes.add("odd_size", "warning", small, message)
    usual = float(np.median([min(size) for size in sizes.values()]))
    if usual < resolution / 2:
        message = (
            f"Half of the images have a side of {usual:.0f} pixels or less, but the network sees "
            f"{resolution}. A lower resolution would be faster, probably without loss."
        )
        notes.add("odd_size", "info", (), message)


def _shown_size(notes: _Notes, index: int) -> tuple[int, int]:
    """Returns the width and height of an image after cropping to its box."""
    width, height = notes.facts[index].width, notes.facts[index].height
    box = notes.dataset.items[index].box
    if box is None:
        return width, height
    return min(width, box[2]) - max(0, box[0]), min(height, box[3]) - max(0, box[1])


def _gather(members: Iterable[T], key: Callable[[T], Hashable]) -> list[list[T]]:
    """Returns members grouped by key; groups and members keep their order."""
    gathered: dict[Hashable, list[T]] = {}
    for member in members:
        gathered.setdefault(key(member), []).append(member)
    return list(gathered.values())
