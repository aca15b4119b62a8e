"""Seeded splits into train, val and test, stratified by class, with groups kept together."""

import csv
import errno
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from headstart.data.assign import assign
from headstart.data.stratify import stratify
from headstart.data.types import SPLIT_NAMES, SplitName
from headstart.errors import DataError, DiskFullError, RecipeError, did_you_mean
from headstart.inputs.regular_files import check_regular, open_text
from headstart.names import from_cell, to_cell, write_rows
from headstart.text import counted, listed, shortened

Indices = NDArray[np.int64]
Labels = Sequence[str] | Sequence[tuple[str, ...]] | Sequence[str | tuple[str, ...]]
"""The class of each image, or its set of labels where it may have any number."""

MAX_SPLIT_FILE_BYTES: Final = 256 * 2**20
_ALIASES: Final = {"valid": "val", "validation": "val"}


@dataclass(frozen=True)
class Split:
    """Sorted, disjoint indices of the training, validation and test images among the kept items."""

    train: Indices
    val: Indices
    test: Indices

    def names(self) -> list[SplitName]:
        """Returns the part of each image, in the order of the items.

        Example:
            >>> Split(train=np.array([0, 2]), val=np.array([1]), test=np.array([3])).names()
            ['train', 'val', 'train', 'test']
        """
        result: list[SplitName] = ["train"] * sum(map(len, (self.train, self.val, self.test)))
        for name in SPLIT_NAMES:
            for index in getattr(self, name):
                result[index] = name
        return result


def make_split(
    labels: Labels,
    groups: Indices,
    *,
    given: Sequence[SplitName | None],
    seed: int,
    test_share: float = 0.25,
    val_share: float = 0.15,
    keys: Sequence[str] = (),
) -> Split:
    """Splits images into train, val and test, stratified by class, with groups kept together.

    Every class is in train. A class with at least 2 groups is also in test, and one with at least
    4 in val, unless all its groups are shared with other classes that need them elsewhere. The
    share of each class in each part is as close to the requested one as its groups allow.

    Sets of labels are stratified iteratively instead; see `stratify`.

    A given split is kept. If it has no test or val part, that part is taken from train.

    Args:
        labels: Class of each image, or its set of labels.
        groups: Group number of each image, shape (n,); images of one group stay together.
        given: Part of each image in the source's own split; None for all images if it has none.
        seed: Seed for the random assignment.
        test_share: Requested share of test images, between 0 and 1.
        val_share: Requested share of validation images among the rest, between 0 and 1.
        keys: Image names for error messages.

    Raises:
        DataError: If there are no images, or if the given split covers only some images, has no
            training images, lacks a class in train, or divides a group.
        RecipeError: If a share is not between 0 and 1.

    Example:
        >>> labels = ["ants", "bees"] * 10
        >>> split = make_split(labels, np.arange(20), given=[None] * 20, seed=0)
        >>> len(split.train), len(split.val), len(split.test)
        (12, 2, 6)
    """
    for name, share in (("test", test_share), ("val", val_share)):
        if not 0 < share < 1:
            raise RecipeError(f"The {name} share must be between 0 and 1, not {share}.")
    if not len(labels) == len(groups) == len(given):
        raise ValueError("labels, groups and given must have one entry per image.")
    if not labels:
        raise DataError("There are no images to split.")
    parts = _given_parts(labels, groups, given, keys)

    missing = [name for name in SPLIT_NAMES if name not in parts]
    shares = {"train": 1.0}
    if "test" in missing:
        shares["test"] = test_share
        shares["train"] -= test_share
    if "val" in missing:
        shares["val"] = val_share * shares["train"]
        shares["train"] -= shares["val"]
    # Number of groups from which a class must be in the part.
    needed = {"train": 1, "test": 2, "val": len(shares) + 1}
    needed = {name: needed[name] for name in shares}

    pool = np.flatnonzero(parts == "train").tolist()
    pool_labels = [labels[index] for index in pool]
    chosen = _divided(pool_labels, groups[pool], shares, needed, seed)
    parts[pool] = np.array(list(shares))[chosen]
    return Split(*(np.flatnonzero(parts == name) for name in SPLIT_NAMES))


def folds(labels: Labels, groups: Indices, n_folds: int, seed: int) -> Indices:
    """Returns the cross-validation fold of each image, shape (n,), 0 to `n_folds` - 1.

    Folds are stratified by class, and groups are kept together, as in `make_split`.

    Args:
        labels: Class of each image, or its set of labels.
        groups: Group number of each image, shape (n,).
        n_folds: Number of folds, at least 2.
        seed: Seed for the random assignment.

    Raises:
        DataError: If there are fewer groups than folds.
        ValueError: If `n_folds` is below 2.

    Example:
        >>> fold_of = folds(["ants", "bees"] * 6, np.arange(12), n_folds=3, seed=0)
        >>> np.bincount(fold_of).tolist()
        [4, 4, 4]
    """
    if n_folds < 2:
        raise ValueError(f"Cross-validation needs at least 2 folds, not {n_folds}.")
    n_groups = len(np.unique(groups))
    if n_groups < n_folds:
        raise DataError(
            f"{n_folds} folds need at least {n_folds} independent images or groups of images, but "
            f"there {'is' if n_groups == 1 else 'are'} only {n_groups}. Use fewer folds or add "
            "images."
        )
    shares = {str(fold): 1 / n_folds for fold in range(n_folds)}
    return _divided(labels, groups, shares, {}, seed)


def _names(label: str | Sequence[str]) -> Sequence[str]:
    return (label,) if isinstance(label, str) else label


def _divided(
    labels: Labels,
    groups: Indices,
    shares: Mapping[str, float],
    needed: Mapping[str, int],
    seed: int,
) -> Indices:
    """Returns the part number of each image, shape (n,): classes by `assign`, sets iteratively."""
    rng = np.random.default_rng(seed)
    sets = [tuple(label) for label in labels if not isinstance(label, str)]
    if sets:
        return stratify(sets, groups, shares, rng)
    return assign(
        [label for label in labels if isinstance(label, str)], groups, shares, needed, rng
    )


def split_notes(labels: Labels, split: Split) -> tuple[str, ...]:
    """Returns a sentence for each part in which classes with few images are missing.

    Args:
        labels: Class of each image, or its set of labels.
        split: Split of these images.

    Example:
        >>> split = Split(train=np.array([0, 1]), val=np.array([2]), test=np.array([3]))
        >>> split_notes(["ants", "bees", "ants", "bees"], split)[0]
        "Class 'bees' has too few images to have some in val: it plays no part in model selection."
    """
    parts = split.names()
    every = {name for label in labels for name in _names(label)}
    notes = []
    for part, effects in (
        ("val", ("it plays no part in model selection", "they play no part in model selection")),
        ("test", ("its accuracy is unknown", "their accuracy is unknown")),
    ):
        present = {
            name
            for label, own in zip(labels, parts, strict=True)
            if own == part
            for name in _names(label)
        }
        absent = sorted(every - present)
        if absent:
            classes = f"Class {absent[0]!r} has"
            if len(absent) > 1:
                more = [f"{len(absent) - 5} more"] if len(absent) > 5 else []
                classes = f"Classes {listed([*map(repr, absent[:5]), *more])} have"
            effect = effects[len(absent) > 1]
            notes.append(f"{classes} too few images to have some in {part}: {effect}.")
    return tuple(notes)


def save_split(path: Path, split: Split, keys: Sequence[str]) -> None:
    """Writes a split as a CSV file with the columns `path` and `split`, one row per image.

    Args:
        path: File to write or replace.
        split: Split of all of `keys`.
        keys: Image names, in order.

    Raises:
        DiskFullError: If there is no space left.
    """
    rows = list(zip(keys, split.names(), strict=True))
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        # surrogateescape: a file name need not be valid UTF-8.
        with temporary.open("w", encoding="utf-8", errors="surrogateescape", newline="") as file:
            cells = ((to_cell(key), part) for key, part in rows)
            write_rows(file, [("path", "split"), *cells])
        temporary.replace(path)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise DiskFullError(
                f"There is no space left to write {path}. Free some and run again."
            ) from None
        raise


def read_split(path: Path, keys: Sequence[str]) -> list[SplitName | None]:
    """Reads a split file and returns the part of each image of `keys`.

    Args:
        path: CSV file with the columns `path` and `split` (train, val or valid, test); other
            columns are ignored.
        keys: Image names, in order.

    Raises:
        DataError: If the file cannot be read, names an unknown part or image, repeats an image, or
            lacks one.
    """
    found: dict[str, SplitName] = {}
    known = set(keys)
    for line, key, part in _split_rows(path):
        name = _ALIASES.get(part.strip().lower(), part.strip().lower())
        if name not in SPLIT_NAMES:
            raise DataError(
                f"Line {line} of {path} has the unknown split {shortened(part)!r}"
                f"{did_you_mean(name, SPLIT_NAMES) or '.'} Use train, val or test."
            )
        if key not in known:
            raise DataError(
                f"Line {line} of {path} names {shortened(key, 200)!r}, which is not among the "
                "images used. Remove the line or restore the image."
            )
        if key in found:
            raise DataError(f"{path} repeats {key!r} in line {line}. Keep one line per image.")
        found[key] = name
    absent = [key for key in keys if key not in found]
    if absent:
        raise DataError(
            f"{path} has no line for {len(absent)} of {counted(len(keys), 'image')}, the first "
            f"being {absent[0]!r}. Add a line for each."
        )
    return [found[key] for key in keys]


def _split_rows(path: Path) -> list[tuple[int, str, str]]:
    """Returns the line number, image and part of each row of a split file."""
    try:
        check_regular(path)
        if path.stat().st_size > MAX_SPLIT_FILE_BYTES:
            raise DataError(f"The split file {path} is larger than {MAX_SPLIT_FILE_BYTES} bytes.")
        # utf-8-sig: spreadsheets write a byte order mark.
        with open_text(path, "utf-8-sig", "surrogateescape") as file:
            reader = csv.DictReader(file, strict=True)
            if not {"path", "split"} <= set(reader.fieldnames or ()):
                raise DataError(
                    f"The split file {path} needs a first line that names the columns path,split."
                )
            return [
                (reader.line_num, from_cell(row["path"] or ""), row["split"] or "")
                for row in reader
            ]
    except (OSError, csv.Error) as error:
        reason = getattr(error, "strerror", None) or error
        raise DataError(
            f"The split file {path} cannot be read: {reason}. Give the split.csv of a run."
        ) from None


def _given_parts(
    labels: Labels,
    groups: Indices,
    given: Sequence[SplitName | None],
    keys: Sequence[str],
) -> NDArray[np.str_]:
    """Returns the given part of each image, or "train" for all if none is given."""

    def shown(index: int) -> str:
        return repr(keys[index]) if keys else f"number {index}"

    stated = [index for index, part in enumerate(given) if part is not None]
    if not stated:
        return np.full(len(labels), "train")
    if len(stated) < len(labels):
        first = next(index for index, part in enumerate(given) if part is None)
        raise DataError(
            f"{len(labels) - len(stated)} of {len(labels)} images have no split although others "
            f"have one, the first being {shown(first)}. Give every image a split, or none."
        )
    parts = np.asarray(given, dtype=np.str_)
    if "train" not in parts:
        raise DataError("The given split has no training images. Put some into train.")
    trained = {
        name
        for label, part in zip(labels, given, strict=True)
        if part == "train"
        for name in _names(label)
    }
    for index, label in enumerate(labels):
        if absent := [name for name in _names(label) if name not in trained]:
            raise DataError(
                f"Class {absent[0]!r} has images in {parts[index]} ({shown(index)}) but none in "
                "train. Put some of them into train or leave out the class."
            )
    first_of_group: dict[int, int] = {}
    for index, group in enumerate(groups.tolist()):
        first = first_of_group.setdefault(group, index)
        if parts[first] != parts[index]:
            raise DataError(
                f"Images {shown(first)} ({parts[first]}) and {shown(index)} ({parts[index]}) "
                "are in one group, but the given split divides it. Put both into one part."
            )
    return parts
