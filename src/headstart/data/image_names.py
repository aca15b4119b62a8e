"""Images of a folder by their names, for rows that name them by addresses or ids."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import PurePosixPath
from urllib.parse import parse_qs, unquote, urlsplit

from headstart.data.formats import has_image_name
from headstart.data.split_names import split_of

_UPLOADED = re.compile(r"[0-9a-f]{8}-(?=.)")
"""What Label Studio puts before the name of an uploaded file."""


@dataclass(frozen=True)
class ImageNames:
    """Paths of images relative to a folder, with slashes."""

    paths: tuple[str, ...]

    @cached_property
    def _every(self) -> frozenset[str]:
        return frozenset(self.paths)

    @cached_property
    def _folders(self) -> frozenset[tuple[str, ...]]:
        return frozenset(PurePosixPath(path).parts[:-1] for path in self.paths)

    @cached_property
    def _by_name(self) -> dict[str, list[str]]:
        found: dict[str, list[str]] = {}
        for path in self.paths:
            pure = PurePosixPath(path)
            for key in {pure.name.casefold(), pure.stem.casefold()}:
                found.setdefault(key, []).append(path)
        return found

    def find(self, name: str, near: str = "") -> list[str]:
        """Returns the images that fit a name best: one, several, or none.

        The file name counts first, then how many of the folders before it are the same, then
        whether the image lies in `near`: a folder, or one that is named like that split. A name
        with a folder that holds other images stands for none elsewhere.

        Example:
            >>> names = ImageNames(("a/1.jpg", "b/1.jpg", "b/2.jpg"))
            >>> names.find("gs://bucket/b/1.jpg"), names.find("2"), names.find("1", "a")
            (['b/1.jpg'], ['b/2.jpg'], ['a/1.jpg'])
            >>> names.find("a/2.jpg"), names.find("elsewhere/2.jpg")
            ([], ['b/2.jpg'])
        """
        for form in _forms(name):
            if (exact := PurePosixPath(near, form).as_posix()) in self._every:
                return [exact]
            if form in self._every:
                return [form]
        for form in _forms(name):
            parts = PurePosixPath(form).parts
            for last in _lasts(parts[-1]) if parts else ():
                if found := self._by_name.get(last.casefold(), []):
                    return self._closest(found, parts[:-1], near)
        return []

    def holds(self, folder: str) -> bool:
        """Whether an image lies directly in a folder."""
        return PurePosixPath(folder).parts in self._folders

    def _closest(self, found: Sequence[str], before: Sequence[str], near: str) -> list[str]:
        """Returns the images whose folders fit best; none if the folder meant has others."""
        most = max((_alike(folders, before) for folders in self._folders), default=0)
        best = [path for path in found if _alike(PurePosixPath(path).parts[:-1], before) == most]
        if not near:
            return best
        elsewhere = [] if self.holds(near) and not before else best
        return [path for path in best if _is_near(path, near)] or elsewhere


def _forms(name: str) -> list[str]:
    """Returns what a name may mean as a path: an address without its host, with spaces."""
    plain = name.strip().replace("\\", "/")
    forms = [plain]
    if "://" in plain:
        address = urlsplit(plain)
        forms = [address.path, unquote(address.path)]
    elif plain.startswith("/data/local-files/?"):
        forms = parse_qs(urlsplit(plain).query).get("d", [])
    elif "%" in plain:
        forms.append(unquote(plain))
    return [form.lstrip("/") for form in forms]


def _lasts(last: str) -> list[str]:
    """Returns a file name as it is written, and without what an upload put before it."""
    shorter = _UPLOADED.sub("", last, count=1) if _UPLOADED.match(last) else last
    names = [last] if shorter == last else [last, shorter]
    # Without an extension only a name that has none of an image stands for one that has.
    return names if not has_image_name(last) else [each for each in names if has_image_name(each)]


def _alike(folders: Sequence[str], others: Sequence[str]) -> int:
    """Returns how many folders before a file name are the same, from the last one on."""
    count = 0
    for one, other in zip(reversed(folders), reversed(others), strict=False):
        if one.casefold() != other.casefold():
            break
        count += 1
    return count


def _is_near(path: str, near: str) -> bool:
    """Whether an image lies in a folder, or in one that is named like a split."""
    folders = PurePosixPath(path).parts[:-1]
    return path.startswith(f"{near}/") or any(split_of(each) == near for each in folders)


def is_written_out(name: str, path: str) -> bool:
    """Whether a name is the end of a path, with or without the extension.

    Example:
        >>> is_written_out("b/1.jpg", "a/b/1.jpg"), is_written_out("1", "a/1.jpg")
        (True, True)
        >>> is_written_out("c/1.jpg", "a/b/1.jpg"), is_written_out("gs://b/1.jpg", "b/1.jpg")
        (False, False)
    """
    if "://" in name:
        return False
    wanted, there = PurePosixPath(name), PurePosixPath(path)
    folders = there.parts[-len(wanted.parts) : -1]
    return folders == wanted.parts[:-1] and wanted.name in (there.name, there.stem)
