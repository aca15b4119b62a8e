"""Finding the file that a row of a manifest or of annotations names."""

import os
from pathlib import Path

from headstart.errors import DataError


def locate(name: str, base: Path, where: str, inside: Path | None = None) -> tuple[Path, Path]:
    """Finds the file `name`, seen from the folder `base`.

    Args:
        name: A relative or absolute path.
        base: The folder that a relative path starts from; absolute.
        where: What names the file, for messages ("row 3 of cars.csv").
        inside: A resolved folder that must hold the file after every link is followed.

    Returns:
        The file's absolute path as people know it, and the same with all links resolved.

    Raises:
        DataError: There is no such file, or it lies outside `inside`.
    """
    plain = base / name
    try:
        real = Path(os.path.realpath(plain))
    except ValueError:  # a NUL in the name
        raise DataError(f"There is no file {name!r} ({where}).") from None
    if inside is not None and not real.is_relative_to(inside):
        raise DataError(
            f"{name!r} ({where}) points outside {inside}; "
            "move the image into that folder, or give a list of paths in Python."
        )
    if not os.path.isfile(real):  # noqa: PTH113 - Path.is_file raises where a name is too long
        raise DataError(f"There is no file {name!r} in {base} ({where}).")
    astray = ".." in plain.parts or (inside is not None and not plain.is_relative_to(inside))
    return (real if astray else plain), real
