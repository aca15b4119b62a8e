"""The split of an audited data set, the same for training and for a check."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from headstart.data.audit import AuditResult
from headstart.data.splits import Split, make_split
from headstart.data.stratify import indicators
from headstart.data.types import Dataset, SplitName
from headstart.errors import DataError


def divide(
    dataset: Dataset,
    audited: AuditResult,
    seed: int = 0,
    given: Sequence[SplitName | None] | None = None,
) -> Split:
    """Splits the images that the audit keeps.

    Args:
        dataset: The images.
        audited: Their audit.
        seed: Seed of a split that is drawn.
        given: Part of each kept image; by default that of the data set, if it has one.

    Raises:
        DataError: As `make_split`, or if too few images are left to validate on.
    """
    kept = [int(row) for row in audited.kept]
    parts = [dataset.items[row].split for row in kept] if given is None else given
    names = labels_of(dataset, audited)
    keys = [dataset.key(row) for row in kept]
    split = make_split(names, audited.groups, given=parts, seed=seed, keys=keys)
    if not len(split.val):
        raise DataError(
            f"{dataset.name} has too few images to validate on: at least one class needs 4 that "
            "are not copies of each other. Add images to the small classes."
        )
    return split


def labels_of(dataset: Dataset, audited: AuditResult) -> Sequence[str] | Sequence[tuple[str, ...]]:
    """Returns the class of each kept image, or its set of those labels that can be learned."""
    items = [dataset.items[int(row)] for row in audited.kept]
    if not dataset.multilabel:
        return [item.label for item in items]
    learned = audited.audit.classes
    return [tuple(name for name in item.names if name in learned) for item in items]


def numbered(
    labels: Sequence[str] | Sequence[tuple[str, ...]], learned: Sequence[str]
) -> tuple[tuple[str, ...], NDArray[np.int64]]:
    """Returns the classes, sorted, and the number of the class of each image, (n,).

    Of sets of labels, it is 1 where an image has one of those that can be learned and 0 elsewhere,
    (n, classes).

    Example:
        >>> numbered(["bee", "ant"], ["ant", "bee"])[1].tolist()
        [1, 0]
        >>> numbered([("bee",), ()], ["ant", "bee"])[1].tolist()
        [[0, 1], [0, 0]]
    """
    single = [label for label in labels if isinstance(label, str)]
    if len(single) < len(labels):
        sets = [label for label in labels if not isinstance(label, str)]
        return tuple(sorted(learned)), indicators(sets, sorted(learned))
    classes = tuple(sorted(set(single)))
    number_of = {name: number for number, name in enumerate(classes)}
    return classes, np.array([number_of[name] for name in single], np.int64)


def why_undividable(dataset: Dataset, audited: AuditResult) -> str:
    """Returns why a data set cannot be split for training; empty if it can."""
    try:
        divide(dataset, audited)
    except DataError as error:
        return str(error)
    return ""
