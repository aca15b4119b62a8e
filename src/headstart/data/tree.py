"""What lies in a folder: images, other files, links, and what is never looked into."""

import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Literal

from headstart.data.formats import is_image_file
from headstart.errors import DataError

_CLUTTER = frozenset({"thumbs.db", "desktop.ini"})

SYSTEM_FOLDERS = frozenset(
    {
        "#recycle", "#snapshot", "$recycle.bin", "@eadir", "@recycle", "@tmp", "__macosx",
        "found.000", "lost+found", "no_label", "recycler", "system volume information",
    }
)  # fmt: skip
"""Lower-case names of folders that an operating system, a share or a labelling tool keeps."""

OWN_FILES = (
    ("run.json", "recipe.toml"),
    ("asked.json", "audit.json"),
    ("certificate.json", "certificate.html"),
    ("ledger.jsonl",),
    ("augmentations.png", "mixing.png", "schedules.png", "activations.png"),
)
"""Files that together mark a folder as written by `fit`, `benefit`, `compare` or `show`."""

Kind = Literal[
    "image", "other", "folder", "outside", "broken", "counted", "unnameable", "system", "own"
]


@dataclass(frozen=True)
class Entry:
    """One thing in a folder. `real` is `path` with every link resolved."""

    kind: Kind
    path: Path
    real: Path
    is_link: bool = False


@dataclass(frozen=True)
class Tree:
    """A resolved folder, and where its links may lead.

    Attributes:
        root: The folder.
        follow_links: Whether links may lead anywhere, rather than below the root.
        around: Resolved folder below which they may lead as well, see `surroundings`.
    """

    root: Path
    follow_links: bool = False
    around: Path | None = None
    _listed: dict[Path, list[Entry]] = field(default_factory=dict, init=False, repr=False)

    @property
    def start(self) -> Entry:
        """The folder itself."""
        return Entry("folder", self.root, self.root)

    def shown(self, path: Path) -> str:
        """Returns a path relative to the root; bytes that are not UTF-8 are escaped."""
        return path.relative_to(self.root).as_posix().encode(errors="backslashreplace").decode()

    @cached_property
    def own(self) -> tuple[Path, ...]:
        """The root, and for a snapshot of the Hugging Face hub the folder that its links lead to.

        The hub's cache keeps `REPO/snapshots/REVISION/…` as links into `REPO/blobs`.
        """
        blobs = hub_blobs(self.root)
        return (self.root,) if blobs is None else (self.root, blobs)

    def entries(self, folder: Entry) -> list[Entry]:
        """Returns what lies directly in a folder, sorted by name, without hidden files.

        Every folder is read once, as its layout is looked at before its images are taken.

        Raises:
            DataError: The folder cannot be read.
        """
        if folder.path not in self._listed:
            self._listed[folder.path] = self._read(folder)
        return self._listed[folder.path]

    def _read(self, folder: Entry) -> list[Entry]:
        try:
            with os.scandir(folder.path) as scan:
                entries = sorted(scan, key=lambda entry: entry.name)
        except OSError as error:
            raise DataError(f"The folder {folder.path} cannot be read: {error.strerror}.") from None
        linked = folder.real != folder.path
        return [
            self._classify(entry, path, folder.real / entry.name if linked else path)
            for entry, path in ((entry, folder.path / entry.name) for entry in entries)
            if not entry.name.startswith(".") and entry.name.lower() not in _CLUTTER
        ]

    def walk(self, start: Entry) -> Iterator[Entry]:
        """Yields everything but folders under `start`, each real folder once.

        A link to a folder waits until the plain folders have been read, and counts only where it
        leads to one that has not been read and does not hold itself, which ends every circle.
        """
        seen = {start.real, *start.real.parents, *start.path.parents}
        plain, linked = [start], list[Entry]()
        while plain or linked:
            folder = plain.pop() if plain else linked.pop(0)
            if folder is not start:
                if folder.real in seen:
                    yield Entry("counted", folder.path, folder.real, folder.is_link)
                    continue
                seen.add(folder.real)
            for entry in self.entries(folder):
                if entry.kind != "folder":
                    yield entry
                elif entry.is_link:
                    linked.append(entry)
                else:
                    plain.append(entry)

    def has_image(self, folder: Entry) -> bool:
        """Whether an image lies in a folder, at any depth."""
        return any(entry.kind == "image" for entry in self.walk(folder))

    def _classify(self, entry: os.DirEntry[str], path: Path, real: Path) -> Entry:
        try:
            entry.name.encode()
        except UnicodeEncodeError:  # bytes that are not UTF-8: no manifest or report could hold it
            return Entry("unnameable", path, real)
        if not entry.is_symlink():
            return Entry(_kind(entry, path), path, real)
        real = Path(os.path.realpath(path))
        kind: Kind
        if not (self.follow_links or self._is_allowed(real)):
            kind = "outside"
        elif not os.path.exists(real):  # noqa: PTH110 - Path.exists raises where a name is too long
            kind = "broken"
        elif real in path.parents:
            kind = "counted"
        else:
            kind = _kind(entry, path)
        return Entry(kind, path, real, is_link=True)

    def _is_allowed(self, real: Path) -> bool:
        """Whether a link may lead to `real`: into one of the own folders, or beside the root."""
        if any(real.is_relative_to(folder) for folder in self.own):
            return True
        return self.around is not None and self.around in real.parents


def hub_blobs(root: Path) -> Path | None:
    """Returns where the links of a snapshot of the Hugging Face hub lead; None for other folders.

    Example:
        >>> hub_blobs(Path("/hub/datasets--pets/snapshots/abc/data")).as_posix()
        '/hub/datasets--pets/blobs'
    """
    for place in (root, *root.parents):
        if place.parent.name == "snapshots":
            return place.parent.parent / "blobs"
    return None


def _kind(entry: os.DirEntry[str], path: Path) -> Kind:
    if entry.is_dir():
        if entry.name.lower() in SYSTEM_FOLDERS:
            return "system"
        return "own" if is_own(path) else "folder"
    # A pipe or socket is never an image: opening it would hang.
    is_image = entry.is_file() and is_image_file(path)
    return "image" if is_image else "other"


def is_own(folder: Path) -> bool:
    """Whether headstart itself wrote a folder."""
    # Asked of every folder: joining strings is ten times faster than joining paths.
    return any(all(os.path.isfile(f"{folder}/{name}") for name in names) for names in OWN_FILES)  # noqa: PTH113
