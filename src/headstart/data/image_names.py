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
        whether the image lies in `near`: a folder, or one that is named like that split.

        Example:
            >>> names = ImageNames(("a/1.jpg", "b/1.jpg", "b/2.jpg"))
            >>> names.find("gs://bucket/b/1.jpg"), names.find("2"), names.find("1", "a")
            (['b/1.jpg'], ['b/2.jpg'], ['a/1.jpg'])
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
                    return _closest(found, parts[:-1], near)
        return []


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


def _closest(found: Sequence[str], before: Sequence[str], near: str) -> list[str]:
    def same(path: str) -> int:
        folders = PurePosixPath(path).parts[:-1]
        count = 0
        for one, other in zip(reversed(folders), reversed(before), strict=False):
            if one.casefold() != other.casefold():
                break
            count += 1
        return count

    def is_near(path: str) -> bool:
        folders = PurePosixPath(path).parts[:-1]
        inside = path.startswith(f"{near}/") if near else False
        return inside or any(split_of(each) == near for each in folders)

    most = max(same(path) for path in found)
    best = [path for path in found if same(path) == most]
    return [path for path in best if is_near(path)] or best if near else best
