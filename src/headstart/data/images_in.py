"""The images below a folder, whatever its folders mean."""

from collections.abc import Iterable
from pathlib import Path

from headstart.data.formats import is_image_file
from headstart.data.tree import SYSTEM_FOLDERS
from headstart.errors import DataError


def images_in(paths: Iterable[Path]) -> list[Path]:
    """Returns the paths with each folder among them replaced by the images below it, sorted.

    Raises:
        DataError: If a folder holds no images.
    """
    found: list[Path] = []
    for path in paths:
        if not path.is_dir():
            found.append(path)
            continue
        inside = sorted(
            each
            for each in path.rglob("*")
            if each.is_file()
            and not any(
                part.startswith(".") or part.lower() in SYSTEM_FOLDERS
                for part in each.relative_to(path).parts
            )
            and is_image_file(each)
        )
        if not inside:
            raise DataError(f"There are no images in the folder {path}.")
        found += inside
    return found
