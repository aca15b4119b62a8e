"""A file of labels that a person gives, one by one: a manifest that `fit` reads."""

import os
from collections.abc import Mapping
from pathlib import Path

from headstart.artifacts.files import check_writable, replacing
from headstart.data.manifests import check_size, read_csv
from headstart.data.surroundings import surroundings
from headstart.errors import DataError, InputError
from headstart.names import write_rows

_COLUMNS = ["path", "label"]


class LabelFile:
    """Labels of image files, which are on the disk as soon as they are given.

    The file is read again before it is written, so what another program did to it meanwhile stays.

    Args:
        path: CSV file with the columns `path` and `label`; made with the first label.

    Raises:
        InputError: If it is another file, does not give each image one label, or its folder is
            missing.

    Example:
        >>> labels = LabelFile(Path("labels.csv"))
        >>> labels.label_of(Path("new/1.jpg")) is None
        True
    """

    def __init__(self, path: Path) -> None:
        check_writable(path)
        self.path = path
        self._folder = path.parent.resolve()
        self._labels = self._read() if path.exists() else {}

    def __len__(self) -> int:
        return len(self._labels)

    @property
    def names(self) -> frozenset[str]:
        """All labels that are given."""
        return frozenset(self._labels.values())

    def label_of(self, image: Path) -> str | None:
        """Returns the label of an image, or None if it has none."""
        return self._labels.get(image.resolve())

    def set(self, labels: Mapping[Path, str | None]) -> None:
        """Gives images labels, or takes theirs away with None, and writes the file.

        Raises:
            InputError: If the file was changed into one that gives no labels; it stays as it is.
        """
        if self.path.exists():
            self._labels = self._read()
        for image, label in labels.items():
            if label is None:
                self._labels.pop(image.resolve(), None)
            else:
                self._labels[image.resolve()] = label
        with replacing(self.path) as draft, draft.open("w", newline="", encoding="utf-8") as file:
            rows = ((self._named(image), label) for image, label in self._labels.items())
            write_rows(file, [_COLUMNS, *rows])

    def why_not(self, image: Path) -> str:
        """Returns why a manifest here cannot name an image; empty if it can."""
        real = image.resolve()
        try:
            str(real).encode()
        except UnicodeEncodeError:
            return "Its name is not valid Unicode, so no manifest can hold it. Rename it."
        around = surroundings(self._folder)
        if real.is_relative_to(self._folder) or (around and real.is_relative_to(around)):
            return ""
        return (
            f"{image} is neither in the folder of {self.path} nor beside it, where `fit` looks for "
            "the images of a manifest. Give --labels a file in a folder that holds the images."
        )

    def _read(self) -> dict[Path, str]:
        """Reads the file as `fit` does."""
        check_size(self.path)
        try:
            header, *rows = read_csv(self.path)
        except DataError as error:
            raise InputError(f"{error} Or give another file with --labels.") from None
        places = {name: place for place, name in enumerate(header)}
        if lacking := [name for name in _COLUMNS if name not in places]:
            raise InputError(
                f"{self.path} is not a file of labels: it lacks the column {lacking[0]}, and needs "
                "path and label. Give another file with --labels."
            )
        if len(header) > len(_COLUMNS):
            raise InputError(
                f"{self.path} has other columns than path and label, which would be lost. Give "
                "another file with --labels."
            )
        found: dict[Path, str] = {}
        for number, cells in enumerate(rows, start=2):
            if not any(cell.strip() for cell in cells):
                continue
            path, label = cells[places["path"]], cells[places["label"]].strip()
            where = f"(row {number} of {self.path})"
            if not path or not label:
                raise InputError(f"A path or a label is empty {where}. Remove the row.")
            if "\0" in path:
                raise InputError(f"A path holds a character that no name has {where}. Correct it.")
            known = found.setdefault((self._folder / path).resolve(), label)
            if known != label:
                raise InputError(f"{path!r} has the labels {known!r} and {label!r} {where}. "
                                 "Keep one of the rows.")  # fmt: skip
        return found

    def _named(self, image: Path) -> str:
        # "./" keeps a spreadsheet from taking a name for a formula; `fit` reads it as it stands.
        name = os.path.relpath(image, self._folder)
        return name if name[0].isalnum() or name.startswith("..") else f"./{name}"
