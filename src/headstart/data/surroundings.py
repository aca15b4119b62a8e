"""What lies beside a data set: its links and rows may lead there, and it is said if they do."""

import os
from collections.abc import Iterable, Sequence
from pathlib import Path

_TEMPORARY = ("/tmp", "/var/tmp")


def surroundings(folder: Path) -> Path | None:
    """Returns the folder around a data set, below which its links and rows may lead unasked.

    It is the parent of a resolved folder, or None where that holds everything: the root of the
    file system or a folder directly in it, the user's home or what holds it, the folder of
    temporary files, or the root of another file system.

    Example:
        >>> surroundings(Path("/data/pets/photographs")).as_posix()
        '/data/pets'
        >>> surroundings(Path("/data/pets")) is None
        True
    """
    around = folder.parent
    home = Path(os.path.expanduser("~")).resolve()  # noqa: PTH111 - Path's fails without a home
    named = filter(None, map(os.environ.get, ("TMPDIR", "TEMP", "TMP")))
    temporary = [Path(name).resolve() for name in (*named, *_TEMPORARY)]
    holds_all = (
        around.parent in (around, Path(around.anchor))
        or home.is_relative_to(around)
        or around in temporary
        or os.path.ismount(around)
    )
    return None if holds_all else around


def outside_notes(files: Iterable[Path], folders: Sequence[Path]) -> tuple[str, ...]:
    """Returns how many resolved files lie outside folders, and where, as a sentence if any does.

    Example:
        >>> files = [Path("/pets/disk/ants/1.jpg"), Path("/pets/disk/bees/1.jpg")]
        >>> outside_notes(files, [Path("/pets/links")])
        ("Images that lie outside the folder: 2, in '../disk'.",)
        >>> outside_notes(files, [Path("/pets")])
        ()
    """
    starts = tuple(os.path.join(folder, "") for folder in folders)  # noqa: PTH118 - ends in "/"
    away = [file for file in files if not str(file).startswith(starts)]
    if not away:
        return ()
    place = os.path.relpath(os.path.commonpath([file.parent for file in away]), folders[0])
    shown = place.encode(errors="backslashreplace").decode()
    return (f"Images that lie outside the folder: {len(away):,}, in {shown!r}.",)
