"""What Pillow reads: pages, values, opacity, and what it would leave out."""

import re
from collections.abc import Iterator
from typing import Any, BinaryIO

import numpy as np
from PIL import ExifTags, Image

from headstart.data.rasters import BadImageError, Learned, Raster, page_number, without_nodata
from headstart.data.readers import jpeg2000
from headstart.data.readers.kinds import NEEDS_EXTRA, Kind, has_extra
from headstart.data.reading import Page, Reading

TRANSPOSE = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def is_deep(image: Image.Image) -> bool:
    """Returns whether Pillow gives more than 8 bits a value."""
    return image.mode.startswith("I;16") or image.mode in ("I", "F")


def raster_of(image: Image.Image, as_before: bool) -> Raster:
    """Returns the values that Pillow reads.

    Args:
        image: Any image.
        as_before: Whether negatives, missing values and signed FITS are read as in the first
            version of headstart, which knew none of them.
    """
    image.load()
    if not is_deep(image):
        if image.mode not in ("1", "L", "LA", "RGB", "RGBA", "CMYK"):
            image = image.convert("RGBA" if "transparency" in image.info else "RGB")
        values = np.asarray(image)
        return Raster(values if values.ndim == 3 else values[..., None], "uint8")
    values = np.asarray(image)
    values = values.astype(values.dtype.newbyteorder("="), copy=False)
    tags: Any = getattr(image, "tag_v2", {})
    sample = {"I": "int32", "F": "float32"}.get(image.mode, "uint16")
    if as_before:
        return Raster(values[..., None], sample)
    if image.format == "FITS" and sample == "uint16":
        values, sample = values.view(np.int16), "int16"
    elif image.format == "TIFF":
        bits, kind = tags.get(258, (16,))[0], tags.get(339, (1,))[0]
        sample = f"{ {1: 'uint', 2: 'int', 3: 'float'}.get(kind, 'uint') }{bits}"
        if sample == "uint32":
            values = values.view(np.uint32)
    inverted = image.format == "TIFF" and tags.get(262) == 0
    return Raster(without_nodata(values, tags.get(42113, ""))[..., None], sample, None, inverted)


def is_not_alpha(image: Image.Image) -> bool:
    """Returns whether the fourth channel of a TIFF is called opacity and is data.

    Opacity is mostly all or nothing. GDAL calls the fourth of four bands opacity whatever it is.
    """
    if image.format != "TIFF" or image.mode != "RGBA":
        return False
    counts = np.array(image.getchannel("A").histogram())
    extremes = counts[0] + counts[255]
    if np.count_nonzero(counts) <= 2:
        return False
    georeferenced = any(tag in image.tag_v2 for tag in (33550, 34264, 34735, 42112))  # type: ignore[attr-defined]
    return georeferenced or bool(extremes < counts.sum() / 2)


def page_numbers(image: Image.Image) -> list[int]:
    """Returns the frames of an image that are pages, without thumbnails and overviews.

    The frame that is open stays open. The second picture of a photograph (MPO), the sizes of an
    icon and the layers of a drawing are no pages.
    """
    if image.format in {"MPO", "ICO", "ICNS", "PSD"}:
        return [0]
    here = image.tell()
    try:
        count = getattr(image, "n_frames", 1)
        if image.format != "TIFF" or count == 1:
            return list(range(count))
        numbers = []
        for number in range(count):
            image.seek(number)
            if not image.tag_v2.get(254, 0) & 5:  # type: ignore[attr-defined]
                numbers.append(number)
    except Exception:  # What follows the first page is damaged.
        return [here]
    finally:
        image.seek(here)
    return numbers or [0]


def each_page(image: Image.Image) -> Iterator[Image.Image]:
    """Yields the same image, turned to each of its pages."""
    for number in page_numbers(image):
        image.seek(number)
        yield image


def to_rgb(image: Image.Image) -> Image.Image:
    """Returns an image of 8 bits a value as RGB; what is transparent lies over white."""
    if image.mode == "RGB" and "transparency" not in image.info:
        return image
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


def beyond_pillow(image: Image.Image, reading: Reading) -> tuple[Kind | None, Learned]:
    """Returns what must read an image that Pillow would cut; else what Pillow leaves out of it.

    Raises:
        BadImageError: If that is not installed.
    """
    if image.format == "TIFF":
        return _beyond_tiff(image, reading)
    if image.format == "PNG":
        tile: Any = getattr(image, "tile", ())
        deep = bool(tile) and ";16" in str(tile[0][3]) and not is_deep(image)
        return (_in_full_depth("PNG") if deep else None), Learned()
    file: Any = getattr(image, "fp", None)
    deep = image.format == "JPEG2000" and len(image.getbands()) > 1 and jpeg2000.bits_of(file) > 8
    return (_in_full_depth("JPEG2000") if deep else None), Learned()


def _beyond_tiff(image: Image.Image, reading: Reading) -> tuple[Kind | None, Learned]:
    tags: Any = image.tag_v2  # type: ignore[attr-defined]
    count, bits = int(tags.get(277, 1)), max(tags.get(258, (1,)))
    seen = len(image.getbands())
    deep = count > 1 and bits > 8
    signed = bits == 8 and 2 in tags.get(339, ())  # Pillow takes these for unsigned.
    if _has_channel_planes(str(tags.get(270, "")), count):
        if has_extra("TIFF"):
            return "TIFF", Learned()
        raise BadImageError(
            "needs_extra", f"its channels lie on planes of their own, which needs {NEEDS_EXTRA}"
        )
    wanted = max(reading.channels or (0,))
    if deep or signed or seen <= wanted < count:
        if has_extra("TIFF"):
            return "TIFF", Learned()
        if signed:
            raise BadImageError(
                "needs_extra", f"its values are signed 8-bit numbers, which needs {NEEDS_EXTRA}"
            )
        if wanted >= seen:
            raise BadImageError("needs_extra", f"reading its channel {wanted} needs {NEEDS_EXTRA}")
        return _in_full_depth("TIFF"), Learned()
    unused = max(0, count - seen) if reading.channels is None else 0
    return None, Learned(unused=unused)


def _has_channel_planes(description: str, samples: int) -> bool:
    r"""Returns whether OME or ImageJ data name more channels than a plane holds.

    Example:
        >>> _has_channel_planes("ImageJ=1.54f\nimages=6\nchannels=2\nslices=3", 1)
        True
    """
    if description.startswith("ImageJ="):
        return any(int(count) > 1 for count in re.findall(r"^channels=(\d+)", description, re.M))
    counts = re.findall(r"\bSizeC=[\"'](\d+)", description) if "<OME" in description else []
    return any(int(count) > samples for count in counts)


def _in_full_depth(kind: Kind) -> Kind:
    """Returns the reader of colours of which Pillow reads the upper 8 bits alone.

    Raises:
        BadImageError: If it is not installed.
    """
    if not has_extra(kind):
        raise BadImageError(
            "needs_extra", f"its colours have more than 8 bits a value, which needs {NEEDS_EXTRA}"
        )
    return kind


def turn_to(image: Image.Image, page: Page | None) -> None:
    """Turns an image to a page.

    Raises:
        BadImageError: If there is no such page.
    """
    if page is None:
        return
    numbers = page_numbers(image)
    number = numbers[page_number(page, len(numbers))]
    if number != image.tell():
        image.seek(number)


def check_fits(file: BinaryIO) -> int:
    """Returns the number of planes of a FITS image whose numbers are meant as they are stored.

    Raises:
        BadImageError: If they are scaled or compressed.
    """
    file.seek(0)
    cards: dict[str, str] = {}
    while card := file.read(80).decode("latin-1"):
        name, _, value = card.partition("=")
        if name.strip() == "END":
            if cards.get("NAXIS", "0") != "0":
                break
            file.seek(-(-file.tell() // 2880) * 2880)
        else:
            cards[name.strip()] = value.partition("/")[0].strip()
    file.seek(0)
    if cards.get("ZIMAGE") == "T":
        raise BadImageError("unreadable", "it is a compressed FITS image, which is not read")
    for name, plain in (("BZERO", 0.0), ("BSCALE", 1.0)):
        if float(cards.get(name, plain)) != plain:
            raise BadImageError(
                "unreadable",
                f"its FITS values are scaled ({name} = {cards[name]}), which is not read",
            )
    return int(cards.get("NAXIS3", 1))


def orientation_of(image: Image.Image) -> int:
    """Returns the EXIF orientation, 1 to 8; 1 where it is missing or damaged."""
    try:
        # Not `image.getexif()`: a PNG's decodes the pixels, and we would swallow its errors.
        value = Image.Image.getexif(image).get(ExifTags.Base.Orientation, 1)
    except Exception:  # Damaged EXIF data are no reason to lose the picture.
        return 1
    return value if value in TRANSPOSE else 1


def draft_to(image: Image.Image, short_side: int) -> None:
    """Lets a JPEG be decoded at 1/2, 1/4 or 1/8, if that is still twice the size asked for."""
    if min(image.size) // (2 * short_side) >= 2:
        image.draft(None, (2 * short_side, 2 * short_side))
