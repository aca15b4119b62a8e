"""Image files named by rows of manifests and annotations."""

import os
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path, PurePosixPath
from typing import Literal

from headstart.data.formats import readable_extensions
from headstart.data.image_names import ImageNames
from headstart.data.tree import Tree
from headstart.errors import DataError
from headstart.text import shortened

Slip = Literal["backslash", "case", "extension", "folder", "space"]
"""How a name differs from that of the file that it stands for."""

_SHOWN = 3
_MOST_BELOW = 1_000_000
"""Number of files up to which the folders below a manifest are searched."""


class MissingFileError(DataError):
    """A row names a file that does not exist."""


@dataclass(frozen=True)
class Found:
    """A file that a row names.

    Attributes:
        path: Absolute path, as people know it.
        real: The same with all links resolved.
        slips: How the name in the row differs from the path.
    """

    path: Path
    real: Path
    slips: tuple[Slip, ...] = ()


@dataclass(frozen=True)
class Finder:
    """Where the files of a manifest are looked for.

    Attributes:
        bases: Absolute folders that a relative path may start from, the likeliest first.
        inside: Resolved folders, one of which must hold each file; anywhere if empty.
        around: Resolved folder that may hold files as well, see `surroundings`.
        follow_links: Whether links in them may lead outside.
        below: Whether a name without folders may stand for an image in a folder below.
    """

    bases: tuple[Path, ...]
    inside: tuple[Path, ...] = ()
    around: Path | None = None
    follow_links: bool = False
    below: bool = False
    _listed: dict[Path, dict[str, list[str]]] = field(
        default_factory=dict, init=False, repr=False, compare=False
    )
    _images: list[ImageNames] = field(default_factory=list, init=False, repr=False, compare=False)

    def find(self, name: str, where: str) -> Found:
        """Returns the file that a row names.

        A name with backslashes, without its extension, or in other letter case stands for the
        one file that fits it.

        Args:
            name: A relative or absolute path.
            where: What names the file, for messages ("row 3 of cars.csv").

        Raises:
            MissingFileError: There is no such file, or more than one fits.
            DataError: It lies outside `inside`.
        """
        outside: DataError | None = None
        for base in self.bases:
            try:
                return self._plain(base, name, where)
            except MissingFileError:
                continue
            except DataError as error:
                outside = outside or error
        if outside:
            raise outside
        unlike = [found for base in self.bases for found in self._alike(base, name, where)]
        unlike = unlike or self._below(name, where)
        if not unlike and name != name.strip():
            found = self.find(name.strip(), where)
            return replace(found, slips=tuple(sorted({*found.slips, "space"})))
        real = {found.real for found in unlike}
        if len(real) == 1:
            return unlike[0]
        names = sorted({repr(found.path.name) for found in unlike})
        if len(names) < len(real):  # files of one name in several folders
            names = sorted(repr(os.path.relpath(path, self.bases[0])) for path in real)[:_SHOWN]
        hint = f" It may mean {' or '.join(names)}." if real else ""
        raise MissingFileError(
            f"There is no file {shortened(name, 300)!r} in {self.bases[0]} ({where}).{hint}"
        )

    def _below(self, name: str, where: str) -> list[Found]:
        """Returns the images of a name without folders that lie in folders below the base."""
        if not self.below or "\0" in name or {"/", "\\"} & set(name):
            return []
        if not self._images:
            tree = Tree(self.bases[0].resolve(), self.follow_links, self.around)
            seen = list(islice(tree.walk(tree.start), _MOST_BELOW))
            paths = [each.path for each in seen if each.kind == "image"]
            shown = [path.relative_to(tree.root).as_posix() for path in paths]
            self._images.append(ImageNames(tuple(shown) if len(seen) < _MOST_BELOW else ()))
        same = [
            path
            for path in self._images[0].find(name)
            if _key(name) in {_key(PurePosixPath(path).name), _key(PurePosixPath(path).stem)}
        ]
        return [self._plain(self.bases[0], path, where, ("folder",)) for path in same]

    def _plain(self, base: Path, name: str, where: str, slips: tuple[Slip, ...] = ()) -> Found:
        """Returns the file that a name means to the letter."""
        plain = base / name
        try:
            real = Path(os.path.realpath(plain))
            # With links followed, only the name must stay inside.
            held = Path(os.path.normpath(plain)) if self.follow_links else real
        except ValueError:  # a NUL in the name
            raise MissingFileError(
                f"There is no file {shortened(name, 300)!r} ({where})."
            ) from None
        if self.inside and not self._is_allowed(held):
            named = Path(os.path.normpath(plain))
            if self._is_allowed(named):
                raise DataError(
                    f"{name!r} ({where}) is outside {self.inside[0]}: a link leads to {real}. Use "
                    "--follow-links to read what links lead to."
                )
            raise DataError(
                f"{name!r} ({where}) is outside {self.inside[0]}. Use --root FOLDER with a "
                "folder that holds every image, or give a list of paths in Python."
            )
        if not os.path.isfile(real):  # noqa: PTH113 - Path.is_file raises where a name is too long
            raise MissingFileError(f"There is no file {shortened(name, 300)!r} ({where}).")
        away = self.inside and not _is_below(plain, self.inside)
        return Found(real if ".." in plain.parts or away else plain, real, slips)

    def _is_allowed(self, file: Path) -> bool:
        around = () if self.around is None else (self.around,)
        return _is_below(file, (*self.inside, *around))

    def root_of(self, files: Iterable[Path]) -> Path:
        """Returns the folder that files are shown relative to: that around if it alone has all."""
        root = self.inside[0]
        if self.around is None or not root.is_relative_to(self.around):
            return root
        return root if all(_is_below(file, self.inside) for file in files) else self.around

    def _alike(self, base: Path, name: str, where: str) -> list[Found]:
        """Returns the files whose names differ in separators, letter case or extension alone."""
        if "\0" in name or len(name) > 4096:
            return []
        slashed = name.replace("\\", "/")
        start = Path(slashed).anchor or str(base)
        places = [Path(start)]
        parts = [part for part in Path(slashed).parts if part != "/"]
        slips: set[Slip] = {"backslash"} if slashed != name else set()
        for number, part in enumerate(parts):
            if part == "..":
                places = [place.parent for place in places]
                continue
            is_last = number == len(parts) - 1
            inner = [each for place in places for each in self._inner(place, part, is_last)]
            exact = [each for each in inner if each.name == part]
            places = exact or inner
        written = os.path.normpath(Path(start, *parts))
        found = []
        for place in places if parts else []:
            shorter = _key(place.name) != _key(parts[-1])
            how = slips.copy()
            if shorter:
                how.add("extension")
            if str(place.with_suffix("") if shorter else place) != written:
                how.add("case")
            try:
                found.append(self._plain(base, str(place), where, tuple(sorted(how))))
            except MissingFileError:
                continue
        return found

    def _inner(self, folder: Path, name: str, is_file: bool) -> list[Path]:
        """Returns what lies in a folder and is called alike, a file with any extension."""
        if folder not in self._listed:
            self._listed[folder] = self._list(folder)
        known = self._listed[folder]
        if (key := _key(name)) in known:
            return [folder / each for each in known[key]]
        if not is_file or Path(key).suffix in readable_extensions():
            return []
        return [
            folder / each
            for ending in sorted(readable_extensions())
            for each in known.get(key + ending, ())
        ]

    @staticmethod
    def _list(folder: Path) -> dict[str, list[str]]:
        names: dict[str, list[str]] = {}
        try:
            for name in sorted(os.listdir(folder)):  # noqa: PTH208 - names alone, many of them
                names.setdefault(_key(name), []).append(name)
        except (OSError, ValueError):
            return {}
        return names


def _is_below(file: Path, folders: Iterable[Path]) -> bool:
    return any(file.is_relative_to(folder) for folder in folders)


def _key(name: str) -> str:
    return unicodedata.normalize("NFC", name).casefold()


def locate(name: str, base: Path, where: str, inside: Path) -> tuple[Path, Path]:
    """Returns the path of the file `name`, seen from the folder `base`, and its resolved path.

    Raises:
        DataError: There is no such file, or it lies outside the resolved folder `inside`.
    """
    found = Finder((base,), (inside,)).find(name, where)
    return found.path, found.real
