"""Which columns of a table hold the path, the label, the split and the group of an image."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from headstart.data.understanding import PassedOver
from headstart.errors import DataError
from headstart.text import listed, shortened

Column = Literal["path", "label", "split", "group"]

COLUMNS: dict[Column, tuple[str, ...]] = {
    "path": (
        "path", "filepath", "file_path", "image_path", "img_path", "filename", "file_name",
        "image_name", "file", "image", "img", "image_id", "img_id", "id",
    ),
    "label": (
        "label", "class", "category", "target", "class_name", "label_name", "diagnosis", "dx",
    ),
    "split": ("split", "is_valid"),
    "group": ("group",),
}  # fmt: skip
"""Names of each column, the first one that a table has counts."""

SPLIT_LIKE = frozenset(
    {"subset", "partition", "set", "fold", "phase", "usage", "is_test", "is_train", "dataset"}
)
"""Names of columns that look like a split and are not read as one."""

GROUP_LIKE = frozenset(
    {"patient", "patient_id", "subject", "subject_id", "participant_id", "lesion_id", "case_id"}
    | {"person_id", "user_id", "slide_id", "specimen_id", "site", "session", "video_id", "group_id"}
)
"""Names of columns that look like a group and are not read as one."""


@dataclass(frozen=True)
class Columns:
    """The columns of a table that are read.

    Attributes:
        places: Place of each column among all.
        names: Name of each column as it is written.
        ignored: Names of the columns that are not used.
        marks: Places and names of columns of 0 and 1, one for each label; empty where a column
            holds the labels.
    """

    places: dict[Column, int]
    names: dict[Column, str]
    ignored: tuple[str, ...]
    marks: tuple[tuple[int, str], ...] = ()

    @property
    def said(self) -> str:
        """The columns that have another name than ours, for people; empty if there are none."""
        other = [
            f"{name!r} as {column}"
            for column, name in self.names.items()
            if name.strip().lower() != column
        ]
        if self.marks:
            other.append("a column of 0 and 1 for each label")
        return f", with {listed(other)}" if other else ""

    def marked(self, cells: Sequence[object]) -> object:
        """Returns the label of the columns that are 1, a tuple of several, or () without any."""
        names = tuple(name for place, name in self.marks if str(cells[place]).strip() in YES)
        return names[0] if len(names) == 1 else names


YES = frozenset({"1", "1.0", "True", "true"})
NO = frozenset({"0", "0.0", "False", "false"})


def marks_in(header: Sequence[str], rows: Sequence[Sequence[object]]) -> list[int]:
    """Returns the places of the columns of 0 and 1 if no other column could hold labels; else none.

    Example:
        >>> marks_in(["id", "ant", "bee", "fold"], [["7", "1", "0", "1"], ["8", "0", "1", "1"]])
        [1, 2]
        >>> marks_in(["id", "ant", "bee", "age"], [["7", "1", "0", "41"]])
        []
    """
    known = {name for names in COLUMNS.values() for name in names} | SPLIT_LIKE | GROUP_LIKE
    lower = [name.strip().lower() for name in header]
    others = [n for n, name in enumerate(lower) if name and name not in known]
    marks = {str(row[place]).strip() for row in rows for place in others}
    return others if len(others) > 1 and marks and marks <= YES | NO else []


def unused_columns(names: Sequence[str]) -> Iterator[PassedOver]:
    """Yields the columns that are not used, those apart that may be a split or a group."""
    lower = {name: name.strip().lower() for name in names}
    splits = {name for name, low in lower.items() if low in SPLIT_LIKE | set(COLUMNS["split"])}
    groups = {name for name, low in lower.items() if low in GROUP_LIKE}
    for what, found in (
        ("Columns that are not used, but look like a split; name one split to use it", splits),
        ("Columns that are not used, but look like groups; name one group to use it", groups),
        ("Columns that are not used", lower.keys() - splits - groups),
    ):
        if found:
            yield PassedOver(reason="ignored_column", what=what, names=tuple(sorted(found)))


def find_columns(
    header: Sequence[str], where: str, rows: Sequence[Sequence[object]] = ()
) -> Columns:
    """Returns the place of each known column; case and spaces around a name do not count.

    Without a column of labels, there may be a column of 0 and 1 for each label.

    Args:
        header: Names of the columns.
        where: What holds them, for messages.
        rows: Cells of all rows.

    Raises:
        DataError: There is no column of paths or labels, or there is one twice.

    Example:
        >>> find_columns(["id", "Class", "age"], "The table").places
        {'path': 0, 'label': 1}
    """
    names = [name.strip().lower() for name in header]
    places: dict[Column, int] = {}
    for column, known in COLUMNS.items():
        chosen = next((name for name in known if name in names), None)
        if chosen is None:
            continue
        if names.count(chosen) > 1:
            raise DataError(f"{where} has more than one column {chosen!r}.")
        places[column] = names.index(chosen)
    marks = marks_in(header, rows) if "label" not in places else []
    wanted = ("path",) if marks else ("path", "label")
    missing = [column for column in wanted if column not in places]
    if missing:
        raise DataError(
            f"{where} has no column {' and no column '.join(map(repr, missing))}; wanted are "
            "path,label[,split,group] (or a column of 0 and 1 for each label), and found "
            f"{shortened(', '.join(header), 300)!r}."
        )
    return Columns(
        places,
        {column: header[place] for column, place in places.items()},
        tuple(
            name
            for n, name in enumerate(header)
            if n not in {*places.values(), *marks} and name.strip()
        ),
        tuple((place, header[place].strip()) for place in marks),
    )
