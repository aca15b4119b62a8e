"""The split of an audited data set, the same for training and for a check."""

from collections.abc import Sequence

from headstart.data.audit import AuditResult
from headstart.data.splits import Split, make_split
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
    names = [dataset.items[row].label for row in kept]
    keys = [dataset.key(row) for row in kept]
    split = make_split(names, audited.groups, given=parts, seed=seed, keys=keys)
    if not len(split.val):
        raise DataError(
            f"{dataset.name} has too few images to validate on: at least one class needs 4 that "
            "are not copies of each other. Add images to the small classes."
        )
    return split


def why_undividable(dataset: Dataset, audited: AuditResult) -> str:
    """Returns why a data set cannot be split for training; empty if it can."""
    try:
        divide(dataset, audited)
    except DataError as error:
        return str(error)
    return ""
