"""One row of a manifest or of annotations, as it was written."""

from dataclasses import dataclass


@dataclass(frozen=True)
class TableRow:
    """One row; `where` names it in messages.

    The label is a text, or several in a tuple, a list or a set. `()` says that none of the labels
    fits the image, and None that nobody said which do.
    """

    where: str
    path: object
    label: object
    split: object = None
    group: object = None
