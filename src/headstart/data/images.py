"""`load_image`: the one way by which pixels enter, in training and in prediction alike.

Nothing here imports torch: the processes that decode import this module.
"""

import importlib
import io
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import BinaryIO

import numpy as np
from PIL import Image, UnidentifiedImageError

from headstart.data.memory import check_memory, decoding_gate, give_back, no_memory
from headstart.data.rasters import (
    BadImageError,
    Learned,
    Raster,
    Status,
    check_channels,
    page_number,
    pick_channels,
)
from headstart.data.rasters import to_rgb as raster_to_rgb
from headstart.data.readers import kinds
from headstart.data.readers.description import Description, largest_of
from headstart.data.readers.kinds import Kind
from headstart.data.readers.needs import bytes_of_picture, bytes_of_raster
from headstart.data.readers.pillow import (
    TRANSPOSE,
    beyond_pillow,
    check_fits,
    draft_to,
    each_page,
    is_deep,
    is_not_alpha,
    orientation_of,
    page_numbers,
    raster_of,
    to_rgb,
    turn_to,
)
from headstart.data.readers.quiet import quiet
from headstart.data.reading import Reading
from headstart.data.types import Box
from headstart.errors import DataError
from headstart.inputs.regular_files import open_regular

__all__ = ["BadImageError", "Header", "Learned", "Status", "load_image", "read_header"]

MAX_PIXELS = 100_000_000

MAX_ASPECT = 3


@dataclass(frozen=True)
class Header:
    """What a file says of its image before its pixels are decoded.

    Attributes:
        width: In pixels, as shown (after EXIF orientation).
        height: As `width`.
        orientation: EXIF orientation, 1 to 8.
        mode: Pillow's name of the file's own colour mode.
        format: Pillow's name of the file's format.
        patient: Anonymous mark of the patient that the file names; empty if it names none.
        memory: Bytes that decoding it takes at most.
    """

    width: int
    height: int
    orientation: int
    mode: str
    format: str
    patient: str = ""
    memory: int = 0


def load_image(
    source: Path | bytes | BinaryIO,
    box: Box | None = None,
    short_side: int | None = None,
    reading: Reading | None = Reading(),  # noqa: B008 - frozen
) -> Image.Image:
    """Returns an image as RGB uint8, as it is meant to be seen.

    EXIF orientation is applied, and transparency laid over white. Which page and channels are taken
    and what is black and white in more than 8 bits is up to `reading`. Without a range, 16-bit grey
    is divided by 257, 32-bit integers are read as 16-bit ones if they fit, and floats as 0..1 or
    0..255 if they fit; else they are stretched from their smallest to their largest value.

    Args:
        source: A file, or the bytes of one.
        box: Where to crop, in pixels of the image as shown; what lies outside is ignored.
        short_side: If given, the longer side is cut (from both ends) to at most `MAX_ASPECT` times
            the shorter, and images that are larger are resized (bicubic, antialiased) until the
            shorter side is `short_side` pixels. Smaller images are not enlarged.
        reading: Page, channels and range. None reads as the first version of headstart did: fourth
            channels are opacity, and 16-bit images whose low values are bright are negatives.

    Raises:
        DataError: No image, a broken one, one of more than `MAX_PIXELS`, or an empty box.
    """
    return see_image(source, box, short_side, reading)[0]


def see_image(
    source: Path | bytes | BinaryIO,
    box: Box | None,
    short_side: int | None,
    reading: Reading | None,
) -> tuple[Image.Image, Learned]:
    """Returns what `load_image` does, and what the pixels say."""
    try:
        with _file_of(source) as file:
            rgb, _, learned = _decode(file, box, short_side, reading)
            return rgb, learned
    except BadImageError as bad:
        name = str(source) if isinstance(source, Path) else "the image"
        raise DataError(f"Cannot use {name}: {bad.reason}.") from bad


def read_header(
    source: Path | bytes | BinaryIO,
    reading: Reading | None = Reading(),  # noqa: B008 - frozen
    box: Box | None = None,
    short_side: int | None = None,
) -> Header:
    """Returns what a file says of its image, without decoding it.

    Raises:
        BadImageError: No image, a broken one, or one of more than `MAX_PIXELS`.
    """
    with _file_of(source) as file, _opened(file, reading) as opened:
        return replace(opened.header, memory=_needs(opened, file, box, short_side))


def read_image(
    path: Path, box: Box | None, short_side: int, reading: Reading | None
) -> tuple[Image.Image, Header, Learned]:
    """Returns what `load_image` does, the file's header, and what its pixels say.

    Raises:
        BadImageError: As `read_header`; or a file that ends early, or an empty box.
    """
    with _reading(path) as file:
        return _decode(file, box, short_side, reading)


def stored_size(width: int, height: int, box: Box | None, short_side: int) -> tuple[int, int]:
    """Returns width and height that `load_image` gives an image of `width` x `height` pixels."""
    left, top, right, bottom = _region(width, height, box, clamp_aspect=True)
    width, height = right - left, bottom - top
    short = min(width, height)
    if short <= short_side:
        return width, height
    return round(width * short_side / short), round(height * short_side / short)


def _decode(
    file: BinaryIO, box: Box | None, short_side: int | None, reading: Reading | None
) -> tuple[Image.Image, Header, Learned]:
    """Decodes an image as soon as the memory for it is there.

    One that runs out of memory beside others is decoded once more, alone.
    """
    gate, memory = decoding_gate(), 0
    for alone in (False, True):
        try:
            with _opened(file, reading) as opened:
                memory = _needs(opened, file, box, short_side)
                check_memory(memory)
                with gate.holding(gate.size if alone else memory):
                    decoded = _decoded(opened, file, box, short_side, reading)
            del opened
            give_back(memory)
            return decoded
        except MemoryError:
            file.seek(0)  # From here on the memory of this attempt is free again.
    raise no_memory(memory)


def _needs(opened: "_Opened", file: BinaryIO, box: Box | None, short_side: int | None) -> int:
    """Returns the bytes that decoding an open file takes at most; a JPEG is set to its size."""
    image = opened.image
    if image is None:
        assert opened.known is not None and opened.kind is not None
        return bytes_of_raster(opened.known, opened.kind, file)
    full = image.size
    if box is None and short_side is not None:
        draft_to(image, short_side)
    return bytes_of_picture(image, full)


def _decoded(
    opened: "_Opened",
    file: BinaryIO,
    box: Box | None,
    short_side: int | None,
    reading: Reading | None,
) -> tuple[Image.Image, Header, Learned]:
    header = opened.header
    region = _region(header.width, header.height, box, clamp_aspect=short_side is not None)
    size = (region[2] - region[0], region[3] - region[1])
    if short_side is not None:
        size = stored_size(header.width, header.height, box, short_side)
    rgb, learned = _pixels(opened, file, reading)
    if header.orientation in TRANSPOSE:
        rgb = rgb.transpose(TRANSPOSE[header.orientation])
    # Not 1 where the JPEG decoder has already shrunk the image.
    scale_x, scale_y = rgb.width / header.width, rgb.height / header.height
    if scale_x == scale_y == 1 and size == (region[2] - region[0], region[3] - region[1]):
        return rgb.crop(region), header, learned
    left, top, right, bottom = region
    source = (left * scale_x, top * scale_y, right * scale_x, bottom * scale_y)
    return rgb.resize(size, Image.Resampling.BICUBIC, box=source), header, learned


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


def _of_raster(raster: Raster, reading: Reading, learned: Learned) -> tuple[Image.Image, Learned]:
    picked = pick_channels(raster, reading.channels)
    there = raster.values.shape[2]
    shown = len(reading.channels) if reading.channels else picked.values.shape[2]
    learned = replace(
        learned,
        sample=raster.sample,
        range=picked.range if picked.is_deep else None,
        missing=raster.missing,
        unused=max(learned.unused, there - shown) if reading.channels is None else 0,
    )
    return raster_to_rgb(picked, reading), learned


def _pixels(
    opened: "_Opened", file: BinaryIO, reading: Reading | None
) -> tuple[Image.Image, Learned]:
    """Returns the pixels of an open file as RGB, and what they say."""
    image, choice = opened.image, reading or Reading()
    if image is None:
        assert opened.kind is not None and opened.known is not None
        raster = kinds.read_raster(file, opened.kind, choice.page)
        return _of_raster(raster, choice, Learned(pages=opened.known.pages))
    numbers = page_numbers(image)
    learned = replace(opened.learned, pages=max(opened.learned.pages, len(numbers)))
    several = choice.page == "max" and len(numbers) > 1
    if not is_deep(image) and choice.channels is None:
        image.load()
        not_alpha = reading is not None and is_not_alpha(image)
        if not several:
            rgb = image.convert("RGB") if not_alpha else to_rgb(image)
        else:
            largest = largest_of(np.asarray(to_rgb(each)) for each in each_page(image))
            rgb = Image.fromarray(largest)
        unused = learned.unused + not_alpha
        return rgb, replace(learned, not_alpha=not_alpha, unused=unused)
    raster = raster_of(image, as_before=reading is None)
    if several:
        values = (raster_of(each, as_before=False).values for each in each_page(image))
        raster = replace(raster, values=largest_of(values))
    return _of_raster(raster, choice, learned)


@dataclass(frozen=True)
class _Opened:
    """A file whose size is known: by Pillow, or by `scientific` where there is no `image`."""

    header: Header
    image: Image.Image | None = None
    learned: Learned = field(default=Learned())
    kind: Kind | None = None
    known: Description | None = None


@contextmanager
def _opened(file: BinaryIO, reading: Reading | None) -> Iterator[_Opened]:
    """Opens an image whose size is allowed; whatever a reader raises meanwhile is a bad image."""
    _register_plugins()
    try:
        with quiet, ExitStack() as stack:
            yield _open(file, reading, stack)
    except (BadImageError, MemoryError):
        raise
    except Image.DecompressionBombError as error:
        raise BadImageError(
            "too_large", f"it has more than the {MAX_PIXELS:,} pixels that are read"
        ) from error
    except UnidentifiedImageError as error:
        raise BadImageError("not_an_image", "it is not an image that Pillow can read") from error
    except Exception as error:  # Readers raise nearly anything on a damaged file.
        if isinstance(error, EOFError) or "truncat" in str(error).lower():
            raise BadImageError("truncated", "the file ends in the middle of the image") from error
        cause = " ".join(str(error).split())
        raise BadImageError("unreadable", f"the file is damaged ({cause})") from error


def _open(file: BinaryIO, reading: Reading | None, stack: ExitStack) -> _Opened:
    choice = reading or Reading()
    kind = kinds.sniff(file)
    if kind is not None:
        return _described(file, kind, choice)
    try:
        image = stack.enter_context(Image.open(file))
    except UnidentifiedImageError:
        if reading is None or not kinds.is_tiff(file):
            raise
        return _described(file, "TIFF", choice)
    if image.format == "EPS":  # Pillow would hand it to Ghostscript, which runs programs.
        raise BadImageError("not_an_image", "EPS files are programs and are not run")
    learned = Learned()
    if reading is not None:
        wanted, learned = beyond_pillow(image, choice)
        if wanted is not None:
            return _described(file, wanted, choice)
        if image.format == "FITS":
            learned = replace(learned, pages=check_fits(file))
        turn_to(image, choice.page)
    width, height = image.size
    _check_size(width, height)
    # Pillow turns a TIFF itself.
    orientation = 1 if image.format == "TIFF" else orientation_of(image)
    if orientation >= 5:
        width, height = height, width
    header = Header(width, height, orientation, image.mode, image.format or "")
    return _Opened(header, image, learned)


def _described(file: BinaryIO, kind: Kind, reading: Reading) -> _Opened:
    known = kinds.describe(file, kind)
    page_number(reading.page, known.pages)
    if reading.channels is not None:
        check_channels(known.channels, reading.channels)
    _check_size(known.width, known.height)
    width, height = known.width, known.height
    if known.orientation >= 5:
        width, height = height, width
    header = Header(width, height, known.orientation, known.sample, kind, known.patient)
    return _Opened(header, kind=kind, known=known)


def _check_size(width: int, height: int) -> None:
    if width * height > MAX_PIXELS:
        raise BadImageError(
            "too_large",
            f"it has {width:,} x {height:,} pixels, and at most {MAX_PIXELS:,} are read",
        )


def _file_of(source: Path | bytes | BinaryIO) -> AbstractContextManager[BinaryIO]:
    return _reading(source) if isinstance(source, Path) else _as_file(source)


@contextmanager
def _reading(path: Path) -> Iterator[BinaryIO]:
    """Opens a file for `_decode`; a file that cannot be opened is a bad image."""
    try:
        file = open_regular(path)
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
