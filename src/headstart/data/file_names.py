"""What a file is by its name: an archive or a manifest."""

from pathlib import Path

MANIFEST_EXTENSIONS = (".csv", ".tsv", ".json", ".jsonl", ".parquet")

TAR_ENDINGS = (".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tbz2", ".tar.xz", ".txz")
ARCHIVE_ENDINGS = (".zip", ".tm", *TAR_ENDINGS)
"""Endings of what is unpacked. A project of Teachable Machine (`.tm`) is a ZIP file."""

OTHER_ENDINGS = (".7z", ".rar", ".zst", ".lz4", ".gz", ".bz2", ".xz", ".z", ".cab", ".iso", ".dmg")


def is_archive(path: Path) -> bool:
    """Returns whether a name is that of an archive that is read.

    Example:
        >>> is_archive(Path("pets.tar.gz")), is_archive(Path("pets.csv"))
        (True, False)
    """
    return path.name.lower().endswith(ARCHIVE_ENDINGS)


def other_archive(path: Path) -> str:
    """Returns the refusal of an archive of another kind; empty for all other files.

    Example:
        >>> other_archive(Path("pets.7z"))
        'pets.7z is an archive that headstart does not open. Unpack it and give the folder.'
    """
    if is_archive(path) or not path.name.lower().endswith(OTHER_ENDINGS):
        return ""
    return f"{path} is an archive that headstart does not open. Unpack it and give the folder."
