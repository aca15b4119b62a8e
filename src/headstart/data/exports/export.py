"""What an export is: rows with labels, and the folder whose images they name."""

import os
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from headstart.data.image_names import ImageNames, is_written_out
from headstart.data.manifests import check_size, read_json
from headstart.data.split_names import split_of
from headstart.data.table_row import TableRow
from headstart.data.tree import Entry, Tree
from headstart.data.types import SplitName
from headstart.data.understanding import PassedOver
from headstart.errors import DataError
from headstart.inputs.regular_files import read_text


@dataclass(frozen=True)
class Export:
    """Labels of images as a tool wrote them.

    Attributes:
        form: The tool and its form, for people.
        rows: The rows; one without a label has the label None, or () if none fits the image.
        files: Files that hold the labels.
        notes: Sentences that a reader should know.
        unused: Columns of the files that are not used.
    """

    form: str
    rows: list[TableRow]
    files: tuple[Path, ...] = ()
    notes: tuple[str, ...] = ()
    unused: tuple[PassedOver, ...] = ()


@dataclass
class Place:
    """A resolved folder with an export, and the images below it.

    Attributes:
        root: The folder.
        follow_links: Whether links may lead outside.
        around: Resolved folder that its links and rows may lead to, see `surroundings`.
        matched: Names of rows that are not the end of a path, and the file that they stand for.
    """

    root: Path
    follow_links: bool = False
    around: Path | None = None
    matched: dict[str, str] = field(default_factory=dict)

    @cached_property
    def entries(self) -> list[Entry]:
        """Everything but folders below the root."""
        tree = Tree(self.root, self.follow_links, self.around)
        return list(tree.walk(tree.start))

    @cached_property
    def images(self) -> ImageNames:
        """The images below the root."""
        paths = [each.path for each in self.entries if each.kind == "image"]
        return ImageNames(tuple(path.relative_to(self.root).as_posix() for path in paths))

    def files(self, name: str) -> list[Path]:
        """Returns the files of a name, or of a pattern, in the root or in a folder in it."""
        found = [*self.root.glob(name), *self.root.glob(f"*/{name}")]
        return sorted(path for path in found if not path.is_dir())

    @cached_property
    def json_files(self) -> list[tuple[Path, Any]]:
        """JSON files beside the images or in `annotations/`, with their contents.

        Damage is an error only of a file that must hold labels, by its name.
        """
        found = []
        places = {
            *self.root.glob("*.json"),
            *self.root.glob("annotations/*.json"),
            *self.root.glob("*/_annotations.coco.json"),
        }
        for path in sorted(path for path in places if path.is_file()):
            try:
                found.append((path, json_of(path)))
            except DataError:
                if path.name.endswith(".coco.json") or path.parent.name == "annotations":
                    raise
        return found

    @cached_property
    def is_flat(self) -> bool:
        """Whether an image lies directly in the root, or in a folder that is named like a split."""
        tree = Tree(self.root, self.follow_links, self.around)
        here = tree.entries(tree.start)
        parts = [each for each in here if each.kind == "folder" and split_of(each.path.name)]
        inside = [*here, *(entry for part in parts for entry in _first(tree, part))]
        return any(entry.kind == "image" for entry in inside)

    def find(self, name: str, where: str, near: str = "") -> str:
        """Returns the image that a row names, relative to the root, or where it would be.

        Args:
            name: A path, or an address such as `gs://bucket/a.jpg`.
            where: What names the image, for messages.
            near: Folder that a relative path starts from, or a split.

        Raises:
            DataError: More than one image fits.
        """
        found = self.images.find(name, near)
        if len(found) > 1:
            raise DataError(
                f"{name!r} ({where}) may be any of {', '.join(map(repr, sorted(found)[:3]))}. "
                "Give a CSV file with the columns path,label and whole paths."
            )
        if not found:  # a name alone might be found in any folder
            is_alone = near and "/" not in name and self.images.holds(near)
            return f"{near}/{name}" if is_alone else _inside(name)
        if not is_written_out(name, found[0]):
            self.matched[name] = found[0]
        return found[0]

    @property
    def notes(self) -> tuple[str, ...]:
        """What a reader should know about the names that were looked for."""
        if not self.matched:
            return ()
        first, file = next(iter(self.matched.items()))
        count = f"{len(self.matched):,}"
        return (f"Images matched by file name: {count}, first {first!r} is {file!r}.",)

    def shown(self, path: Path) -> str:
        """Returns a path relative to the root."""
        return path.relative_to(self.root).as_posix()


def _inside(name: str) -> str:
    """Returns an address, or a path that does not exist here, as a path relative to the root."""
    _, scheme, rest = name.partition("://")
    if scheme:
        return rest.partition("/")[2] or name
    return name if os.path.exists(name) else name.lstrip("/") or name  # noqa: PTH110


def _first(tree: Tree, folder: Entry) -> list[Entry]:
    """Returns what lies in a folder, or in the only folder in it."""
    inside = tree.entries(folder)
    return tree.entries(inside[0]) if len(inside) == 1 and inside[0].kind == "folder" else inside


def dicts_in(value: object) -> list[dict[str, Any]]:
    """Returns the objects in a list of JSON; nothing for anything else.

    Example:
        >>> dicts_in([{"a": 1}, 2]), dicts_in(3), dicts_in(None)
        ([{'a': 1}], [], [])
    """
    return [each for each in value if isinstance(each, dict)] if isinstance(value, list) else []


def only(labels: Iterable[str]) -> object:
    """Returns the label if there is one, None if there is none, or all for the refusal.

    Example:
        >>> only(["a", "a"]), only([]), only(["a", "b"])
        ('a', None, ('a', 'b'))
    """
    different = tuple(dict.fromkeys(labels))
    return different[0] if len(different) == 1 else different or None


def marked(labels: Iterable[str]) -> object:
    """Returns the same of an image that somebody looked at: () if none of the labels fits it.

    Example:
        >>> marked(["a"]), marked([]), marked(["a", "b"])
        ('a', (), ('a', 'b'))
    """
    found = only(labels)
    return () if found is None else found


def splits_of(names: Iterable[str]) -> dict[str, SplitName | None]:
    """Returns the splits that names of files say; none if they do not say different ones.

    Example:
        >>> splits_of(["train.json", "val.json"]), splits_of(["train.json"])
        ({'train.json': 'train', 'val.json': 'val'}, {'train.json': None})
    """
    found = {name: split_of(Path(name).stem) for name in names}
    given = [split for split in found.values() if split is not None]
    if len(found) > 1 and "train" in given and len(given) == len(set(given)) == len(found):
        return found
    return dict.fromkeys(found)


def json_of(path: Path) -> Any:
    """Returns what a JSON file holds.

    Raises:
        DataError: It is too large, or damaged.
    """
    return read_json(path, text_of(path), "the whole file")


def text_of(path: Path) -> str:
    """Returns the text of a file with labels.

    Raises:
        DataError: It is too large, or not text.
    """
    check_size(path)
    try:
        return read_text(path, "utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(f"{path} is not text in UTF-8: {error}.") from error
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}.") from error
