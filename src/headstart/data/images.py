"""`load_image`: the one way by which pixels enter, in training and in prediction alike.

Nothing here imports torch: the processes that decode import this module.
"""

import importlib
import importlib.util
import io
import stat
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, BinaryIO, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image, UnidentifiedImageError

from headstart.data.types import Box
from headstart.errors import DataError

MAX_PIXELS = 100_000_000

MAX_ASPECT = 3

Status = Literal["ok", "unreadable", "truncated", "not_an_image", "too_large"]

_TRANSPOSE = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


class BadImageError(Exception):
    """A file that gives no pixels; becomes facts in a data set and a `DataError` elsewhere."""

    def __init__(self, status: Status, reason: str) -> None:
        super().__init__(reason)
        self.status: Status = status
        self.reason = reason


@dataclass(frozen=True)
class Header:
    """What a file says of its image before its pixels are decoded.

    Attributes:
        width: In pixels, as shown (after EXIF orientation).
        height: As `width`.
        orientation: EXIF orientation, 1 to 8.
        mode: Pillow's name of the file's own colour mode.
        format: Pillow's name of the file's format.
    """

    width: int
    height: int
    orientation: int
    mode: str
    format: str


def load_image(
    source: Path | bytes | BinaryIO, box: Box | None = None, short_side: int | None = None
) -> Image.Image:
    """Returns an image as RGB uint8, as it is meant to be seen.

    EXIF orientation is applied, the first frame taken, transparency laid over white. 16-bit grey is
    divided by 257. 32-bit integers are read as 16-bit ones if they fit, and floats as 0..1 or
    0..255 if they fit; else they are stretched from their smallest to their largest value.

    Args:
        source: A file, or the bytes of one.
        box: Where to crop, in pixels of the image as shown; what lies outside is ignored.
        short_side: If given, the longer side is cut (from both ends) to at most `MAX_ASPECT` times
            the shorter, and images that are larger are resized (bicubic, antialiased) until the
            shorter side is `short_side` pixels. Smaller images are not enlarged.

    Raises:
        DataError: No image, a broken one, one of more than `MAX_PIXELS`, or an empty box.
    """
    try:
        if isinstance(source, Path):
            with _reading(source) as file:
                return _decode(file, box, short_side)[0]
        with _as_file(source) as file:
            return _decode(file, box, short_side)[0]
    except BadImageError as bad:
        name = str(source) if isinstance(source, Path) else "the image"
        raise DataError(f"Cannot use {name}: {bad.reason}.") from bad


def read_header(path: Path) -> Header:
    """Returns what a file says of its image, without decoding it.

    Raises:
        BadImageError: No image, a broken one, or one of more than `MAX_PIXELS`.
    """
    with _reading(path) as file, _opened(file) as (_, header):
        return header


def read_image(path: Path, box: Box | None, short_side: int) -> tuple[Image.Image, Header]:
    """Returns what `load_image` does, and the file's header.

    Raises:
        BadImageError: As `read_header`; or a file that ends early, or an empty box.
    """
    with _reading(path) as file:
        return _decode(file, box, short_side)


def stored_size(width: int, height: int, box: Box | None, short_side: int) -> tuple[int, int]:
    """Returns width and height that `load_image` gives an image of `width` x `height` pixels."""
    left, top, right, bottom = _region(width, height, box, clamp_aspect=True)
    width, height = right - left, bottom - top
    short = min(width, height)
    if short <= short_side:
        return width, height
    return round(width * short_side / short), round(height * short_side / short)


def _decode(file: BinaryIO, box: Box | None, short_side: int | None) -> tuple[Image.Image, Header]:
    with _opened(file) as (image, header):
        region = _region(header.width, header.height, box, clamp_aspect=short_side is not None)
        size = (region[2] - region[0], region[3] - region[1])
        if short_side is not None:
            size = stored_size(header.width, header.height, box, short_side)
            if box is None:
                _draft(image, short_side)
        image.load()
        rgb = _to_rgb(image)
        if header.orientation in _TRANSPOSE:
            rgb = rgb.transpose(_TRANSPOSE[header.orientation])
        # Not 1 where the JPEG decoder has already shrunk the image.
        scale_x, scale_y = rgb.width / header.width, rgb.height / header.height
        if scale_x == scale_y == 1 and size == (region[2] - region[0], region[3] - region[1]):
            return rgb.crop(region), header
        left, top, right, bottom = region
        source = (left * scale_x, top * scale_y, right * scale_x, bottom * scale_y)
        return rgb.resize(size, Image.Resampling.BICUBIC, box=source), header


def _region(width: int, height: int, box: Box | None, clamp_aspect: bool) -> Box:
    """Returns what is kept of an image of `width` x `height` pixels."""
    left, top, right, bottom = 0, 0, width, height
    if box is not None:
        left, top = max(left, box[0]), max(top, box[1])
        right, bottom = min(right, box[2]), min(bottom, box[3])
    if right <= left or bottom <= top:
        raise BadImageError(
            "unreadable", f"its box {box} holds nothing of its {width} x {height} pixels"
        )
    if clamp_aspect:
        limit = MAX_ASPECT * min(right - left, bottom - top)
        left += max(0, right - left - limit) // 2
        top += max(0, bottom - top - limit) // 2
        right, bottom = min(right, left + limit), min(bottom, top + limit)
    return left, top, right, bottom


def _draft(image: Image.Image, short_side: int) -> None:
    """Lets a JPEG be decoded at 1/2, 1/4 or 1/8, if that is still twice the size asked for."""
    if min(image.size) // (2 * short_side) >= 2:
        image.draft(None, (2 * short_side, 2 * short_side))


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode == "RGB" and "transparency" not in image.info:
        return image
    if image.mode.startswith("I;16"):
        values = np.asarray(image).astype(np.float32) / 257
        return Image.fromarray(np.rint(values).astype(np.uint8)).convert("RGB")
    if image.mode in ("I", "F"):
        return Image.fromarray(_stretch(np.asarray(image), image.mode)).convert("RGB")
    if image.mode == "LAB":
        from PIL import ImageCms  # noqa: PLC0415 - rarely needed, and not in every build of Pillow

        lab, srgb = ImageCms.createProfile("LAB"), ImageCms.createProfile("sRGB")
        transform = ImageCms.buildTransform(lab, srgb, "LAB", "RGB")
        converted = ImageCms.applyTransform(image, transform)
        return converted if converted is not None else image
    if "transparency" in image.info or "A" in image.mode or "a" in image.mode:
        rgba = image.convert("RGBA")
        white = Image.new("RGB", image.size, "white")
        white.paste(rgba, mask=rgba)
        return white
    return image.convert("RGB")


def _stretch(values: NDArray[Any], mode: str) -> NDArray[np.uint8]:
    """Returns grey values of unknown range as 0..255; the ranges are in `load_image`."""
    finite = np.nan_to_num(values.astype(np.float64))
    low, high = float(finite.min()), float(finite.max())
    ranges = (65535,) if mode == "I" else (1, 255)
    top = next((top for top in ranges if low >= 0 and high <= top), None)
    if top is not None:
        low, high = 0, top
    scaled = (finite - low) * (255 / max(high - low, 1e-12))
    return np.rint(scaled).astype(np.uint8)


@contextmanager
def _opened(file: BinaryIO) -> Iterator[tuple[Image.Image, Header]]:
    """Opens an image whose size is allowed; whatever Pillow raises meanwhile is a bad image."""
    _register_plugins()
    try:
        with _quiet, Image.open(file) as image:
            width, height = image.size
            if width * height > MAX_PIXELS:
                raise BadImageError(
                    "too_large",
                    f"it has {width:,} x {height:,} pixels, and at most {MAX_PIXELS:,} are read",
                )
            if image.format == "EPS":  # Pillow would hand it to Ghostscript, which runs programs.
                raise BadImageError("not_an_image", "EPS files are programs and are not run")
            # Pillow turns a TIFF itself.
            orientation = 1 if image.format == "TIFF" else _orientation(image)
            if orientation >= 5:
                width, height = height, width
            yield (
                image,
                Header(width, height, orientation, image.mode, image.format or ""),
            )
    except (BadImageError, MemoryError):
        raise
    except Image.DecompressionBombError as error:
        raise BadImageError(
            "too_large", f"it has more than the {MAX_PIXELS:,} pixels that are read"
        ) from error
    except UnidentifiedImageError as error:
        raise BadImageError("not_an_image", "it is not an image that Pillow can read") from error
    except Exception as error:  # Pillow's plugins raise nearly anything on a damaged file.
        if isinstance(error, EOFError) or "truncat" in str(error).lower():
            raise BadImageError("truncated", "the file ends in the middle of the image") from error
        raise BadImageError("unreadable", f"the file is damaged ({error})") from error


def _orientation(image: Image.Image) -> int:
    try:
        # Not `image.getexif()`: a PNG's decodes the pixels, and we would swallow its errors.
        value = Image.Image.getexif(image).get(ExifTags.Base.Orientation, 1)
    except Exception:  # Damaged EXIF data are no reason to lose the picture.
        return 1
    return value if value in _TRANSPOSE else 1


@contextmanager
def _reading(path: Path) -> Iterator[BinaryIO]:
    """Opens a file for `_decode`; a file that cannot be opened is a bad image."""
    try:
        # Before opening it: opening a named pipe would wait for ever.
        if not stat.S_ISREG(path.stat().st_mode):
            raise BadImageError("unreadable", "it is not a regular file")
        file = path.open("rb")
    except OSError as error:
        raise BadImageError("unreadable", f"the file cannot be read ({error.strerror})") from error
    with file:
        if path.stat().st_size == 0:
            raise BadImageError("not_an_image", "the file is empty")
        yield file


@contextmanager
def _as_file(source: bytes | BinaryIO) -> Iterator[BinaryIO]:
    if not isinstance(source, bytes):
        yield source
        return
    if not source:
        raise BadImageError("not_an_image", "it is empty")
    yield io.BytesIO(source)


@cache
def _register_plugins() -> None:
    """Lets Pillow read HEIF, where the package for it is installed."""
    with suppress(ImportError):
        importlib.import_module("pillow_heif").register_heif_opener()


class _Quiet:
    """Silences warnings while any thread is inside; `warnings.catch_warnings` alone is for one."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._inside = 0
        self._caught = warnings.catch_warnings()

    def __enter__(self) -> None:
        with self._lock:
            if self._inside == 0:
                self._caught = warnings.catch_warnings()
                self._caught.__enter__()
                warnings.simplefilter("ignore")
            self._inside += 1

    def __exit__(self, *error: object) -> None:
        with self._lock:
            self._inside -= 1
            if self._inside == 0:
                self._caught.__exit__(None, None, None)


_quiet = _Quiet()
