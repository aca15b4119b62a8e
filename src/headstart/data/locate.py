"""Image files named by rows of manifests and annotations."""

import os
from pathlib import Path

from headstart.errors import DataError


def locate(name: str, base: Path, where: str, inside: Path | None = None) -> tuple[Path, Path]:
    """Finds the file `name` relative to the folder `base`.

    Args:
        name: Relative or absolute path.
        base: Absolute folder that relative paths start from.
        where: Place that names the file, for messages ("row 3 of cars.csv").
        inside: Resolved folder that must contain the file after all links are resolved.

    Returns:
        The absolute path of the file as given, and the same with all links resolved.

    Raises:
        DataError: If there is no such file, or it is outside `inside`.
    """
    plain = base / name
    try:
        real = Path(os.path.realpath(plain))
    except ValueError:  # a NUL in the name
        raise DataError(f"There is no file {name!r} ({where}).") from None
    if inside is not None and not real.is_relative_to(inside):
        raise DataError(
            f"{name!r} ({where}) is outside {inside}. "
            "Move the image into that folder, or give a list of paths in Python."
        )
    if not os.path.isfile(real):  # noqa: PTH113 - Path.is_file raises where a name is too long
        raise DataError(f"There is no file {name!r} in {base} ({where}).")
    astray = ".." in plain.parts or (inside is not None and not plain.is_relative_to(inside))
    return (real if astray else plain), real
