"""A picture of an image and of the training images that are most similar. Needs no torch."""

from collections.abc import Sequence
from contextlib import suppress
from io import BytesIO
from pathlib import Path

from PIL import Image

from headstart.artifacts.evidence import Neighbour, read_picture
from headstart.artifacts.originals import Originals, originals
from headstart.data.images import load_image
from headstart.data.reading import EACH
from headstart.errors import DataError
from headstart.inference.run import Run
from headstart.report.sheets import draw_similar


def show_similar(
    run: Run,
    image: str | Path,
    found: Sequence[Neighbour],
    out: Path,
    data: Path | None = None,
) -> list[str]:
    """Draws an image next to its most similar training images.

    These come from the folder `data`, or else from the pictures that the run keeps; what a run
    folder says about this machine is never followed.

    Args:
        run: The run.
        image: The image.
        found: Its most similar training images.
        out: PNG file.
        data: Folder that the names of the training images start from.

    Returns:
        Names of the training images that have no picture; their squares are empty.

    Raises:
        DataError: If the image cannot be read.
        InputError: If there is no folder `data`.
    """
    reading, files = run.bundle.spec.reading, originals(run.folder, data)
    query = load_image(Path(image), None, 160, reading)
    pictures = [_training_image(run, files, each.image) for each in found]
    titles = [f"{each.label} {each.similarity:.2f}" for each in found]
    draw_similar(out, query, list(zip(pictures, titles, strict=True)))
    return [each.image for each, drawn in zip(found, pictures, strict=True) if drawn is None]


def _training_image(run: Run, files: Originals, name: str) -> Image.Image | None:
    """Returns a training image, or None if there is no picture of it."""
    file, kept = files.find(name), read_picture(run.folder, "photograph", name)
    with suppress(DataError):
        if file is not None:
            return load_image(file, None, 160, run.bundle.spec.reading)
    with suppress(DataError):
        if kept is not None:
            return load_image(BytesIO(kept), None, 160, EACH)
    return None
