"""Embeddings of images by a trained classifier."""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from headstart.inference.bundle import open_bundle
from headstart.inference.predict import embed_images
from headstart.progress import Shown, display


def embed(run: str | Path, images: Any, *, progress: Shown = None) -> NDArray[np.float32]:
    """Returns the embeddings of images: vectors that are close for similar images.

    Args:
        run: Run folder or bundle.
        images: One image or several: paths, folders, patterns, bytes, Pillow images or arrays.
        progress: Progress display; by default one where there is a terminal or a notebook. False
            shows nothing.

    Returns:
        Embeddings (N, E); images that cannot be read have rows of NaN.

    Raises:
        RunError: If the folder has no classifier.

    Example:
        >>> import headstart
        >>> headstart.embed("runs/flowers", "photographs").shape  # doctest: +SKIP
        (40, 1280)
    """
    return embed_images(open_bundle(run, multilabel=True), images, display(progress))[0]
