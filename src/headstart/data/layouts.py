"""What the folders of a data set mean: classes, splits, or groups such as patients.

The names and the structure of the two uppermost levels decide. Where both readings are possible,
the user is asked.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from headstart.data.folder_names import (
    UNLABELLED,
    is_dummy,
    is_group,
    is_mask,
    is_split_word,
    is_unlabelled,
    is_wrapper,
)
from headstart.data.split_names import split_of
from headstart.data.top_folders import TopFolder, first_level, look_into
from headstart.data.tree import Entry, Tree
from headstart.data.types import SPLIT_NAMES, SplitName
from headstart.data.understanding import quoted
from headstart.errors import DataError
from headstart.recipes.options import Layout


@dataclass(frozen=True)
class ClassFolder:
    """A folder whose images are of one class."""

    entry: Entry
    label: str
    split: SplitName | None = None
    group: str | None = None


@dataclass(frozen=True)
class Plan:
    """How a tree is read.

    Attributes:
        layout: The same in words.
        classes: The class folders.
        rest: What lies beside them and is no folder.
        unlabelled: Folders whose images have no class.
        beside: Other folders that are not used.
    """

    layout: str
    classes: list[ClassFolder]
    rest: list[Entry]
    unlabelled: list[Entry] = field(default_factory=list)
    beside: list[Entry] = field(default_factory=list)


def plan_folders(tree: Tree, asked: Layout | None) -> Plan:
    """Says what the folders of a tree mean.

    Args:
        tree: The folder.
        asked: What its top folders are; None if their names and structure are to say it.

    Raises:
        DataError: The folders can be read in more than one way, or not as asked.
    """
    start, passed = first_level(tree)
    here = tree.entries(start)
    tops = look_into(tree, [entry for entry in here if entry.kind == "folder"])
    rest = [entry for entry in (*passed, *here) if entry.kind != "folder"]
    beside = [entry for entry in passed if entry.kind == "folder"]
    match asked:
        case "classes":
            plan = _classes(tops)
        case "groups":
            plan = _groups(tree, tops)
        case "splits":
            plan = _splits_as_asked(tree, tops)
        case None:
            plan = _by_names_and_structure(tree, tops)
    where = f", inside {tree.shown(start.path)!r}" if start.path != tree.root else ""
    return replace(
        plan,
        layout=plan.layout + where,
        rest=[*rest, *plan.rest],
        beside=[*beside, *plan.beside],
    )


def _by_names_and_structure(tree: Tree, tops: Sequence[TopFolder]) -> Plan:
    filled = [top for top in tops if top.has_images]
    if mirrored := _mirrored(filled):
        return replace(mirrored, beside=[top.entry for top in tops if not top.has_images])
    if splits := _splits(tree, tops, filled):
        return splits
    if copies := [top for top in filled if _copies(top, filled)]:
        raise DataError(
            f"{copies[0].entry.path} holds the same folders as {tree.root} "
            f"({quoted(copies[0].labels)}), so it may be a copy. Give it as the source if the "
            "images are there, or use --layout classes."
        )
    if halves := [top for top in filled if _is_divided(top)]:
        whole = [top.name for top in filled if top not in halves]
        raise DataError(
            f"In {tree.root}, folders of splits lie in {quoted(top.name for top in halves)} but "
            f"not in {quoted(whole)}. Divide every class, or use --layout classes to pool what "
            "they hold."
        )
    if masks := _masks(filled):
        raise DataError(
            f"{tree.root} holds images and what seem to be their masks or annotations "
            f"({quoted(masks)}), not classes. headstart classifies whole images: give a CSV file "
            "with the columns path,label, or use --layout classes if these are the classes."
        )
    if _same_inside(filled):
        if all(is_group(top.name) for top in filled):
            return _groups(tree, tops)
        raise DataError(_question(tree, filled))
    unlabelled = [top for top in filled if top.name.lower() in UNLABELLED and not top.filled]
    plan = _classes(top for top in tops if top not in unlabelled)
    return replace(plan, unlabelled=[top.entry for top in unlabelled])


def _masks(filled: Sequence[TopFolder]) -> list[str]:
    """Returns the folders of masks beside a folder that only wraps images; none if others are."""
    masks = [top.name for top in filled if is_mask(top.name)]
    flat = not any(top.filled for top in filled)
    others = [top.name for top in filled if top.name not in masks]
    return masks if flat and others and all(map(is_wrapper, others)) else []


def _copies(top: TopFolder, filled: Sequence[TopFolder]) -> bool:
    """Whether a folder holds all the others beside it once more."""
    others = {other.name for other in filled if other is not top}
    return not top.loose and len(others) > 1 and others <= top.labels


def _classes(tops: Iterable[TopFolder]) -> Plan:
    classes = [ClassFolder(top.entry, top.name) for top in tops]
    return Plan("one folder per class", classes, [])


def _is_divided(top: TopFolder) -> bool:
    """Whether a folder holds nothing but splits, train among them."""
    splits = {split_of(label) for label in top.labels}
    return not top.loose and None not in splits and splits > {"train"}


def _mirrored(filled: Sequence[TopFolder]) -> Plan | None:
    """Reads CLASS/train and CLASS/test, if every top folder with images is built so."""
    divided = [top for top in filled if _is_divided(top)]
    splits = {split_of(label) for top in filled for label in top.labels}
    if not divided or None in splits or any(top.loose for top in filled):
        return None
    if all(split_of(top.name) for top in filled):  # train/train: the top folders are the splits
        return None
    classes = [
        ClassFolder(entry, top.name, split_of(entry.path.name))
        for top in filled
        for entry in top.folders
    ]
    names = {entry.path.name for top in filled for entry in top.filled}
    rest = [entry for top in filled for entry in top.rest]
    return Plan(f"one folder per class, each with its splits ({_said(names)})", classes, rest)


def _splits(tree: Tree, tops: Sequence[TopFolder], filled: Sequence[TopFolder]) -> Plan | None:
    """Reads folders of splits, or returns None where the top folders are no splits."""
    exact = [top for top in tops if is_split_word(top.name)]
    train = [top for top in filled if split_of(top.name) == "train" and not top.loose]
    labels = frozenset(label for top in train for label in top.labels)
    unlabelled = [top for top in filled if _has_no_labels(top, labels)]
    named = [top for top in filled if top not in unlabelled and _is_split(top, labels)]
    others = [top for top in filled if top not in unlabelled and top not in named]
    found = {split_of(top.name) for top in named}
    if others:
        alike = [top for top in others if train and not top.loose and len(labels & top.labels) > 1]
        if alike:
            raise DataError(_question(tree, filled))
        split_alone = [top for top in train if is_split_word(top.name) and len(top.labels) > 1]
        if not split_alone and not ("train" in found and len(found) > 1):
            return None  # a class may be called "train" or "test"
        raise DataError(
            f"{tree.root} holds split folders ({quoted(t.name for t in named)}) and other folders "
            f"with images ({quoted(t.name for t in others)}). Use --layout splits to pass the "
            "others over, or --layout classes to take every folder as a class."
        )
    if not named and not exact:
        return None
    if "train" in found and len(found) == 1 and not exact and not unlabelled:
        return None
    # Without images, too, a folder may be what a split is called.
    named += [top for top in exact if not top.has_images]
    return _read_splits(tree, tops, named, unlabelled)


def _splits_as_asked(tree: Tree, tops: Sequence[TopFolder]) -> Plan:
    filled = [top for top in tops if top.has_images]
    named = [top for top in filled if split_of(top.name)]
    if not any(split_of(top.name) == "train" for top in named):
        if mirrored := _mirrored(filled):
            return mirrored
        raise DataError(
            f"No folder in {tree.root} is named like a training set, so --layout splits cannot be "
            "followed. Rename the folders to train, val and test."
        )
    train = [top for top in named if split_of(top.name) == "train"]
    labels = frozenset(label for top in train for label in top.labels)
    bare = [t for t in named if split_of(t.name) != "train" and _has_no_labels(t, labels)]
    return _read_splits(tree, tops, [top for top in named if top not in bare], bare)


def _is_split(top: TopFolder, labels: frozenset[str]) -> bool:
    """Whether a folder is a split: by its name alone, or by a longer name and what it holds."""
    holds_classes = not top.loose and bool(labels & top.labels)
    return is_split_word(top.name) or (split_of(top.name) is not None and holds_classes)


def _has_no_labels(top: TopFolder, labels: frozenset[str]) -> bool:
    """Whether the images of a folder have no class, and its name says so or that they are a test.

    They lie in no subfolder, or in one that stands for none, such as `test/unknown`.

    Args:
        top: The folder.
        labels: The classes of the training folder; none where there is no training folder.
    """
    if labels & top.labels:
        return False
    if is_unlabelled(top.name):
        return True
    dummy = len(top.filled) == 1 and is_dummy(top.filled[0].path.name, top.name)
    bare = not top.filled or (dummy and not top.loose)
    return bool(labels) and split_of(top.name) in {"val", "test"} and bare


def _read_splits(
    tree: Tree,
    tops: Sequence[TopFolder],
    named: Sequence[TopFolder],
    unlabelled: Sequence[TopFolder],
) -> Plan:
    by_split: dict[SplitName, TopFolder] = {}
    for top in named:
        split = split_of(top.name)
        assert split is not None
        if split in by_split:
            twins = quoted([by_split[split].name, top.name])
            raise DataError(f"{tree.root} holds both {twins} for one split. Keep one of them.")
        by_split[split] = top
    if "train" not in by_split:
        raise DataError(
            f"{tree.root} holds {quoted(top.name for top in named)} but no 'train' folder."
        )
    train = by_split["train"]
    if train.loose and not train.folders:
        raise DataError(no_classes(train.entry.path))
    inner = [entry for top in by_split.values() for entry in top.filled]
    named_so = all(is_group(entry.path.name) for entry in inner)
    grouped = named_so and _same_inside(look_into(tree, inner))
    classes: list[ClassFolder] = []
    for split, top in by_split.items():
        if grouped:
            groups = look_into(tree, top.folders)
            classes += [found for group in groups for found in _in_group(group, split)]
        else:
            classes += [ClassFolder(entry, entry.path.name, split) for entry in top.folders]
    inside = "group folders, each with one folder per class" if grouped else "one folder per class"
    used = [top.entry for top in (*named, *unlabelled)]
    return Plan(
        f"split folders ({_said(top.name for top in by_split.values())}), each with {inside}",
        classes,
        [entry for top in by_split.values() for entry in top.rest],
        [top.entry for top in unlabelled],
        [top.entry for top in tops if top.entry not in used],
    )


def _groups(tree: Tree, tops: Sequence[TopFolder]) -> Plan:
    """Reads GROUP/CLASS, or SPLIT/GROUP/CLASS where every folder is named like a split."""
    filled = [top for top in tops if top.has_images]
    by_split: list[tuple[SplitName | None, TopFolder]] = [(None, top) for top in tops]
    what = "group folders"
    if filled and all(split_of(top.name) for top in filled):
        by_split = [(split_of(t.name), each) for t in filled for each in look_into(tree, t.folders)]
        what = f"split folders ({_said(top.name for top in filled)}), each with group folders"
    names = quoted(top.name for _, top in by_split if top.has_images)
    classes = [found for split, top in by_split for found in _in_group(top, split)]
    rest = [entry for _, top in by_split for entry in top.rest]
    return Plan(f"{what} ({names}), each with one folder per class", classes, rest)


def _in_group(top: TopFolder, split: SplitName | None) -> Iterator[ClassFolder]:
    for entry in top.folders:
        yield ClassFolder(entry, entry.path.name, split, top.name)


def _same_inside(tops: Sequence[TopFolder]) -> bool:
    """Whether folders hold the same subfolders, or each of them some of a few."""
    if len(tops) < 2 or any(top.loose or not top.filled for top in tops):
        return False
    counts = Counter(label for top in tops for label in top.labels)
    few = len(tops) >= 2 * len(counts)
    shared = [n for n in counts.values() if n > 1 and (few or 2 * n >= len(tops))]
    return len(shared) > 1 and 2 * len(shared) >= len(counts)


def _question(tree: Tree, tops: Sequence[TopFolder]) -> str:
    counts = Counter(label for top in tops for label in top.labels)
    inside = quoted(label for label, count in counts.items() if count > 1)
    names = quoted(top.name for top in tops)
    answers = [
        "--layout groups if they are patients, days or places and their subfolders are the classes",
        "--layout classes if they are the classes themselves",
    ]
    used = [top.name for top in tops if split_of(top.name)]
    if any(split_of(name) == "train" for name in used):
        what = f"{quoted(used)} {'are splits' if len(used) > 1 else 'is a split'}"
        answers.insert(0, f"--layout splits if {what} and the rest is not needed")
    return (
        f"The folders {names} in {tree.root} hold the same subfolders ({inside}), so it is not "
        f"clear which are the classes. Use {', '.join(answers[:-1])}, or {answers[-1]}."
    )


def _said(names: Iterable[str]) -> str:
    found = {name: split_of(name) for name in names}
    order = sorted(found, key=lambda name: (SPLIT_NAMES.index(found[name] or "train"), name))
    return ", ".join(
        repr(name) if name == found[name] else f"{name!r} is {found[name]}" for name in order
    )


def no_classes(folder: Path) -> str:
    """Returns the refusal of images without class folders."""
    return (
        f"The images in {folder} lie directly in it, so their classes are not known. Put them "
        f"into one subfolder per class ({folder.name}/CLASS/IMAGE.jpg), or give a CSV file with "
        "the columns path,label."
    )
