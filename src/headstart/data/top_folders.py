"""The uppermost folders of a data set, and a look into each of them."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from unicodedata import normalize

from headstart.data.folder_names import is_split_word, is_wrapper, repeats
from headstart.data.tree import Entry, Tree


@dataclass(frozen=True)
class TopFolder:
    """An uppermost folder.

    Attributes:
        entry: The folder itself.
        name: Its name.
        folders: Its subfolders, those of a folder that only wraps them.
        filled: Those of them that hold images.
        rest: What else lies in it.
    """

    entry: Entry
    name: str
    folders: tuple[Entry, ...]
    filled: tuple[Entry, ...]
    rest: tuple[Entry, ...]

    @property
    def loose(self) -> bool:
        """Whether an image lies directly in the folder."""
        return any(entry.kind == "image" for entry in self.rest)

    @property
    def labels(self) -> frozenset[str]:
        """Names of the subfolders with images, in Unicode normal form C."""
        return frozenset(normalize("NFC", entry.path.name) for entry in self.filled)

    @property
    def has_images(self) -> bool:
        """Whether an image lies in the folder, at any depth."""
        return self.loose or bool(self.filled)


def first_level(tree: Tree) -> tuple[Entry, list[Entry]]:
    """Returns the folder that holds the classes or splits, and what was passed on the way.

    Beside no image, a folder is opened that is the only one, or the only one with images if it is
    called `images` or the like.
    """
    folder, passed, seen = tree.start, list[Entry](), set[Path]()
    while folder.real not in seen:
        seen.add(folder.real)
        inside = tree.entries(folder)
        below = [entry for entry in inside if entry.kind in {"folder", "outside"}]
        if any(entry.kind == "image" for entry in inside):
            break
        if len(below) > 1:
            filled = [e for e in below if e.kind == "outside" or tree.has_image(e)]
            below = filled if len(filled) == 1 and is_wrapper(filled[0].path.name) else below
        if len(below) > 1 or any(is_split_word(entry.path.name) for entry in below):
            return folder, passed
        if not below or below[0].kind == "outside":
            break
        passed += [entry for entry in inside if entry != below[0]]
        folder = below[0]
    return tree.start, []


def look_into(tree: Tree, folders: Iterable[Entry]) -> list[TopFolder]:
    """Returns what folders hold, through folders in them that only wrap it."""
    return [_look(tree, folder) for folder in folders]


def _look(tree: Tree, entry: Entry) -> TopFolder:
    """Looks into a top folder, and through folders in it that only wrap what it holds."""
    name, folder = entry.path.name, entry
    rest = list[Entry]()
    while True:
        inside = tree.entries(folder)
        rest += [each for each in inside if each.kind != "folder"]
        folders = [each for each in inside if each.kind == "folder"]
        loose = any(each.kind == "image" for each in inside)
        filled = [] if loose and not folders else [e for e in folders if tree.has_image(e)]
        if loose or len(filled) != 1 or not _wraps(tree, filled[0], name):
            return TopFolder(entry, name, tuple(folders), tuple(filled), tuple(rest))
        folder = filled[0]


def _wraps(tree: Tree, inner: Entry, outer: str) -> bool:
    """Whether the only folder in another stands for nothing, as in `train/train`."""
    if repeats(inner.path.name, outer):
        return True
    loose = any(entry.kind == "image" for entry in tree.entries(inner))
    return is_wrapper(inner.path.name) and not loose
