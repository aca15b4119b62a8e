"""Images as people have them: paths, folders, patterns, bytes, Pillow images, arrays and tables."""

import glob
import os
from collections.abc import Iterable, Iterator
from io import BytesIO
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from headstart.data.file_names import MANIFEST_EXTENSIONS, is_archive, other_archive
from headstart.data.formats import is_image_file
from headstart.data.images_in import each_image_in, images_in
from headstart.data.types import Box
from headstart.errors import DataError

_IN_PNG = {"1", "L", "LA", "P", "RGB", "RGBA", "I;16"}
_IN_TIFF = {"I", "F", "CMYK", "YCbCr", "LAB"}


class ImageInput(NamedTuple):
    """One image to predict.

    Attributes:
        name: Its path as it was given, or its number.
        source: A path, or the bytes of an image file.
        box: Box to crop from it first, or None.
    """

    name: str
    source: Path | bytes
    box: Box | None = None


def image_inputs(images: Any) -> list[ImageInput]:
    """Returns all images that are meant, in their order.

    Args:
        images: One image or several. One is a path, the bytes of an image file, a Pillow image, or
            a uint8 array (height, width, 3) or (height, width). Several are a folder, which stands
            for the images below it, a pattern such as `new/*.jpg`, a list, a Series, a table of one
            column, an array (n,) or (n, 1) of paths, or a uint8 array (n, height, width, 3) or
            (n, height, width).

    Raises:
        DataError: If something is not an image, or a folder has none.

    Example:
        >>> [each.name for each in image_inputs(np.array([["a.jpg"], ["b.jpg"]]))]
        ['a.jpg', 'b.jpg']
        >>> [each.name for each in image_inputs("a.jpg")]
        ['a.jpg']
    """
    return list(each_input(images))


def each_input(images: Any) -> Iterator[ImageInput]:
    """Yields what `image_inputs` returns, one by one.

    At most the names of one folder are kept, or of what matches one pattern.

    Raises:
        DataError: If something is not an image, or a folder has none.
    """
    number = 0
    for value in _each(images):
        if isinstance(value, ImageInput):
            found: Iterable[ImageInput] = [value]
        elif isinstance(value, str | os.PathLike):
            found = _at(os.fspath(value))
        else:
            found = [ImageInput(f"image {number}", _file_of(value, number))]
        for each in found:
            yield each
            number += 1


def count_inputs(images: Any) -> int | None:
    """Returns how many images are meant; None for an iterator, which would be used up.

    Raises:
        DataError: As `each_input`.
    """
    return None if isinstance(images, Iterator) else sum(1 for _ in each_input(images))


def why_missing(image: ImageInput, reason: str) -> str:
    """Returns why an image cannot be read, with what its name is if it is no path."""
    if isinstance(image.source, bytes):
        return reason
    if "://" in image.name:
        return f"{image.name} is an address. Download the image and give its path."
    if glob.has_magic(image.name) and not os.path.lexists(image.name):
        return f"No image matches the pattern {image.name}."
    is_file = os.path.isfile(image.source)  # noqa: PTH113 - Path.is_file raises on a long name
    if is_file and (is_archive(image.source) or other_archive(image.source)):
        return f"{image.name} is an archive. Unpack it and give the folder."
    if is_file and image.source.suffix.lower() in MANIFEST_EXTENSIONS:
        return f"{image.name} is a table. Give the images that it names, or their folder."
    return reason


def _each(images: Any) -> Iterable[Any]:
    """Returns the images one by one, each in one of the forms of a single image."""
    if isinstance(images, ImageInput | str | os.PathLike | bytes | bytearray | Image.Image):
        return [images]
    if hasattr(images, "tocsr"):  # of SciPy
        raise DataError("A sparse matrix holds no images. Give paths or an array of bytes.")
    if hasattr(images, "to_numpy"):  # a table or a column of pandas or polars
        images = images.to_numpy()
    if not isinstance(images, np.ndarray):
        if not isinstance(images, Iterable):
            raise DataError(_unusable("the argument", images))
        return map(_single, images)
    if images.dtype.kind in "OUS":
        return [_single(value) for value in _column(images).tolist()]
    one = images.ndim == 2 or (images.ndim == 3 and images.shape[2] == 3)
    if images.dtype != np.uint8 or not (one or _is_stack(images)):
        raise DataError(
            "Images must be paths, or a uint8 array (n, height, width, 3) or (n, height, width); "
            f"this is an array of {images.dtype} of shape {images.shape}."
        )
    return [images] if one else images


def _is_stack(images: NDArray[Any]) -> bool:
    return images.ndim == 3 or (images.ndim == 4 and images.shape[3] == 3)


def _column(images: NDArray[Any]) -> NDArray[Any]:
    """Returns the images of an array of objects, which has one column.

    Raises:
        DataError: If it has several.
    """
    if images.ndim > 1 and images.size != len(images):
        raise DataError(
            f"A table of images needs one column of paths; this one has the shape {images.shape}. "
            "Select the column of paths."
        )
    return images.reshape(-1)


def _single(value: Any) -> Any:
    """Returns what the row of a column holds: a list or an array of one path stands for it."""
    if isinstance(value, list | tuple) and not isinstance(value, ImageInput) and len(value) == 1:
        return value[0]
    if isinstance(value, np.ndarray) and value.dtype.kind in "OUS" and value.size == 1:
        return value.item()
    return value


def _at(name: str | bytes) -> Iterator[ImageInput]:
    """Yields the image with this path, the images in a folder, or those that match a pattern."""
    text = os.fsdecode(name)
    path = Path(text)
    # os.path's tests say False where Path's raise: a NUL in the name, or a name too long.
    if os.path.isdir(text):  # noqa: PTH112
        paths: Iterable[Path] = each_image_in(path)
    elif not os.path.lexists(text) and glob.has_magic(text):
        paths = _matching(text)
    else:
        paths = []
    each = None
    for each in paths:
        yield ImageInput(str(each), each)
    if each is None:
        yield ImageInput(text, path)


def _matching(pattern: str) -> list[Path]:
    """Returns the images that match a pattern, and those below the folders that match it."""
    found: list[Path] = []
    for path in map(Path, sorted(glob.glob(pattern, recursive=True))):  # noqa: PTH207 - as a shell
        if path.is_dir():
            try:
                found += images_in([path])
            except DataError:  # a folder without images
                continue
        elif path.is_file() and is_image_file(path):
            found.append(path)
    return list(dict.fromkeys(found))


def _file_of(value: Any, number: int) -> bytes:
    """Returns the bytes of a file that holds an image.

    Raises:
        DataError: If it is not an image.
    """
    if isinstance(value, bytes | bytearray):
        return bytes(value)
    if isinstance(value, np.ndarray):
        if value.dtype != np.uint8 or not (value.ndim == 2 or value.shape[2:] == (3,)):
            raise DataError(
                f"Image {number} must be a uint8 array (height, width, 3) or (height, width); it "
                f"is an array of {value.dtype} of shape {value.shape}."
            )
        value = Image.fromarray(value)
    if not isinstance(value, Image.Image):
        raise DataError(_unusable(f"image {number}", value))
    stream = BytesIO()
    try:
        upright = ImageOps.exif_transpose(value)
        if upright.mode in _IN_TIFF:
            upright.save(stream, "TIFF")
        else:
            kept = upright if upright.mode in _IN_PNG else upright.convert("RGB")
            kept.save(stream, "PNG", compress_level=1)
    except OSError as error:
        raise DataError(f"Image {number} cannot be read: {error}.") from None
    return stream.getvalue()


def _unusable(what: str, value: Any) -> str:
    return (
        f"{what[0].upper()}{what[1:]} is {value!r:.60} ({type(value).__name__}). Give a path, the "
        "bytes of an image file, a Pillow image or a uint8 array."
    )
