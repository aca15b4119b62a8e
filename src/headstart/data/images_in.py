"""The images below a folder, whatever its folders mean."""

import os
from collections.abc import Iterable, Iterator
from pathlib import Path

from headstart.data.formats import is_image_file
from headstart.data.tree import SYSTEM_FOLDERS
from headstart.errors import DataError


def images_in(paths: Iterable[Path]) -> list[Path]:
    """Returns the paths with each folder among them replaced by the images below it, sorted.

    Raises:
        DataError: If a folder holds no images, or cannot be read.
    """
    found: list[Path] = []
    for path in paths:
        found += each_image_in(path) if path.is_dir() else [path]
    return found


def each_image_in(folder: Path) -> Iterator[Path]:
    """Yields the images below a folder, sorted; at most the names of one folder are kept.

    Raises:
        DataError: If it holds no images, or a folder cannot be read.
    """
    path = None
    for path in _below(folder):
        yield path
    if path is None:
        raise DataError(f"There are no images in the folder {folder}.")


def _below(folder: Path) -> Iterator[Path]:
    names: list[str] = []
    folders: set[str] = set()
    try:
        with os.scandir(folder) as scan:
            for entry in scan:
                if entry.name.startswith(".") or entry.name.lower() in SYSTEM_FOLDERS:
                    continue
                if entry.is_dir(follow_symlinks=False):
                    folders.add(entry.name)
                elif not (entry.is_file() and is_image_file(folder / entry.name)):
                    continue
                names.append(entry.name)
    except OSError as error:
        raise DataError(f"The folder {folder} cannot be read: {error.strerror}.") from None
    names.sort()
    for name in names:
        if name in folders:
            yield from _below(folder / name)
        else:
            yield folder / name
