"""The original images of a run, read only below a folder that the user names.

A run folder may come from anybody. What it says about places on this machine is never followed.
"""

from dataclasses import dataclass
from pathlib import Path

from headstart.artifacts.run import read_split_parts
from headstart.errors import InputError


@dataclass(frozen=True)
class Originals:
    """The images of a run in a folder.

    Attributes:
        root: Folder that the names are relative to, without links; None if the user named none.
        names: Names of the images that the run was split into.
    """

    root: Path | None = None
    names: frozenset[str] = frozenset()

    def find(self, image: str) -> Path | None:
        """Returns the file of an image, or None if it is not one of the images in the folder.

        Files are not found by absolute paths, by `..`, or by links that lead out of the folder.

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
        return file if file.is_relative_to(self.root) and file.is_file() else None


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
    return Originals(data.resolve(), frozenset(read_split_parts(run)))
