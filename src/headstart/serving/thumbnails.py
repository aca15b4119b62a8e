"""Small pictures of training images: what a run keeps, or files in a folder that the user names."""

from contextlib import suppress
from io import BytesIO
from pathlib import Path

from PIL import Image

from headstart.artifacts.evidence import TILES, Evidence, read_evidence, read_kept, read_picture
from headstart.artifacts.originals import originals
from headstart.data.images import load_image
from headstart.data.reading import EACH, Reading
from headstart.errors import DataError, RunError

_SIDE = 160
_QUALITY = 82


class Thumbnails:
    """The pictures of the training images of a run.

    What a run folder says about places on this machine is never followed.

    Args:
        folder: Run folder.
        data: Folder that the names of the training images start from, if any.
        reading: How images are read.
    """

    def __init__(self, folder: Path, data: Path | None, reading: Reading | None) -> None:
        self._folder, self._reading = folder, reading
        self._files = originals(folder, data)
        self._sheet, self._tiles = _open_map(folder)

    def of(self, image: str) -> bytes | None:
        """Returns a JPEG of a training image, or None if there is none."""
        file = self._files.find(image)
        with suppress(DataError):
            if file is not None:
                return _jpeg(load_image(file, None, _SIDE, self._reading))
        kept = read_picture(self._folder, "photograph", image)
        with suppress(DataError):
            if kept is not None:
                return _jpeg(load_image(kept, None, _SIDE, EACH))
        box = self._tiles.get(image)
        if self._sheet is None or box is None:
            return None
        return _jpeg(self._sheet.crop(box))


def _open_map(folder: Path) -> tuple[Image.Image | None, dict[str, tuple[int, int, int, int]]]:
    """Returns the tiles of the map of images, and where each image is in them."""
    try:
        evidence = read_evidence(folder)
    except RunError:
        evidence = Evidence()
    kept = None if evidence.map is None else read_kept(folder, TILES)
    if evidence.map is None or kept is None:
        return None, {}
    try:
        sheet = load_image(kept, None, None, EACH)
    except DataError:
        return None, {}
    tile, columns = evidence.map.tile, evidence.map.columns
    boxes = {}
    for number, point in enumerate(evidence.map.points):
        left, top = number % columns * tile, number // columns * tile
        if left + tile <= sheet.width and top + tile <= sheet.height:
            boxes[point.image] = (left, top, left + tile, top + tile)
    return sheet, boxes


def _jpeg(image: Image.Image) -> bytes:
    stream = BytesIO()
    image.thumbnail((2 * _SIDE, 2 * _SIDE))
    image.save(stream, "JPEG", quality=_QUALITY)
    return stream.getvalue()
