"""The original images of a run, read only below a folder that the user names.

A run folder may come from anybody. What it says about places on this machine is never followed.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from headstart.artifacts.fingerprint import DIGITS, read_fingerprint
from headstart.artifacts.run import read_split_parts
from headstart.data.decode import hash_file
from headstart.errors import InputError


@dataclass(frozen=True)
class Originals:
    """The images of a run in a folder.

    Attributes:
        root: Folder that the names are relative to, without links; None if the user named none.
        names: Names of the images that the run was split into.
        hashes: Start of the SHA-256 of each file when the run began, by name, where it is known.
    """

    root: Path | None = None
    names: frozenset[str] = frozenset()
    hashes: Mapping[str, str] = field(default_factory=dict)

    def find(self, image: str) -> Path | None:
        """Returns the file of an image, or None if it is not one of the images in the folder.

        A file that changed since the run began is another image. Files are not found by absolute
        paths, by `..`, or by links that lead out of the folder.

        Args:
            image: Name of the image in the run.

        Example:
            >>> Originals(Path("/photos"), frozenset({"../secret.png"})).find("../secret.png")
        """
        if self.root is None or image not in self.names or ".." in Path(image).parts:
            return None
        try:
            file = (self.root / image).resolve(strict=True)
        except (OSError, ValueError, RuntimeError):  # missing, NUL in the name, circular links
            return None
        if not file.is_relative_to(self.root) or not file.is_file():
            return None
        known = self.hashes.get(image)
        return file if known is None or hash_file(file)[:DIGITS] == known else None


def originals(run: Path, data: Path | None) -> Originals:
    """Returns the images of a run that lie below a folder; none without a folder.

    Raises:
        InputError: If there is no such folder.
        RunError: If the run has no readable split.
    """
    if data is None:
        return Originals()
    if not data.is_dir():
        raise InputError(
            f"--data {data} is not a folder. Give the folder that the names of the images start "
            "from."
        )
    hashes = {mark.path: mark.sha256 for mark in read_fingerprint(run) or []}
    return Originals(data.resolve(), frozenset(read_split_parts(run)), hashes)
