"""A file of labels that a person gives, one by one: a manifest that `fit` reads."""

import os
from collections.abc import Mapping
from pathlib import Path

from headstart.artifacts.files import check_writable, read_table, replacing
from headstart.data.surroundings import surroundings
from headstart.errors import InputError, RunError
from headstart.names import write_rows

_COLUMNS = ("path", "label")


class LabelFile:
    """Labels of image files, which are on the disk as soon as they are given.

    Args:
        path: CSV file with the columns `path` and `label`; made with the first label.

    Raises:
        InputError: If it is another file, or its folder is missing.

    Example:
        >>> labels = LabelFile(Path("labels.csv"))
        >>> labels.label_of(Path("new/1.jpg")) is None
        True
    """

    def __init__(self, path: Path) -> None:
        check_writable(path)
        self.path = path
        self._folder = path.parent.resolve()
        try:
            rows = read_table(path, _COLUMNS) or []
        except RunError:
            raise InputError(
                f"{path} is not a file of labels: it needs the columns path and label. Give "
                "another file with --labels."
            ) from None
        self._labels: dict[Path, str] = {}
        for row in rows:
            if set(row) != set(_COLUMNS):
                raise InputError(
                    f"{path} has other columns than path and label, which would be lost. Give "
                    "another file with --labels."
                )
            self._labels[(self._folder / row["path"]).resolve()] = row["label"]

    def __len__(self) -> int:
        return len(self._labels)

    def label_of(self, image: Path) -> str | None:
        """Returns the label of an image, or None if it has none."""
        return self._labels.get(image.resolve())

    def set(self, labels: Mapping[Path, str | None]) -> None:
        """Gives images labels, or takes theirs away with None, and writes the file."""
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

    def _named(self, image: Path) -> str:
        # "./" keeps a spreadsheet from taking a name for a formula; `fit` reads it as it stands.
        name = os.path.relpath(image, self._folder)
        return name if name[0].isalnum() or name.startswith("..") else f"./{name}"
