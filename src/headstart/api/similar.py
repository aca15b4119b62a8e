"""The training images that are most similar to an image."""

from pathlib import Path
from typing import Any

from headstart.artifacts.evidence import Neighbour
from headstart.inference.run import Run


def similar(run: str | Path, image: Any, k: int = 5) -> list[Neighbour]:
    """Finds the training images of a run that are most similar to an image.

    Args:
        run: Run folder.
        image: One image: a path, bytes, a Pillow image or an array.
        k: Number of images to find, at least 1.

    Returns:
        Training images with their classes and cosine similarities, most similar first.

    Raises:
        DataError: If the image cannot be read.
        RunError: If the folder is not a finished run.

    Example:
        >>> import headstart
        >>> found = headstart.similar("runs/flowers", "rose.jpg", k=1)  # doctest: +SKIP
        >>> found[0].image, found[0].label  # doctest: +SKIP
        ('rose/0007.jpg', 'rose')
    """
    return Run.open(run).similar(image, k)
