"""The page makes the view of the network as headstart does: the same pixels, in a real browser."""

import base64
from collections.abc import Iterator
from io import BytesIO
from typing import Any

import numpy as np
import pytest
from browser_pages import MARKS, launched
from PIL import Image

from headstart.backbones.preprocessing import Interpolation, Preprocessing
from headstart.data.eval_view import eval_view
from headstart.data.images import see_image
from headstart.data.reading import Reading
from headstart.webpage.pages import text_of

RUN = """async ([data, type, how]) => {
  const raw = Uint8Array.from(atob(data), (letter) => letter.charCodeAt(0));
  const view = await viewOf(new Blob([raw], { type }), how);
  return btoa(Array.from(view, (value) => String.fromCharCode(value)).join(""));
}"""

pytestmark = MARKS


@pytest.fixture(scope="module")
def page() -> Iterator[Any]:
    with launched() as browser:
        opened = browser.new_page()
        opened.add_script_tag(content=text_of("resize.js") + text_of("view.js"))
        yield opened


def scene(width: int, height: int, mode: str = "RGB") -> Image.Image:
    """Waves and edges in all colours."""
    y, x = np.mgrid[:height, :width]
    waves = np.stack([np.sin(x / 9 + y / 31), np.cos(y / 7 - x / 17), np.sin((x * y) / 997)], 2)
    pixels = (127 + 90 * waves + 37 * ((x // 40 + y // 30) % 2)[:, :, None]).clip(0, 255)
    image = Image.fromarray(pixels.astype(np.uint8))
    if mode == "RGBA":
        image.putalpha(Image.fromarray(((x + y) % 2 * 255).astype(np.uint8)))
    return image.convert(mode)


def encoded(image: Image.Image, kind: str = "PNG", **how: Any) -> bytes:
    stream = BytesIO()
    image.save(stream, kind, **how)
    return stream.getvalue()


def turned() -> bytes:
    marks = Image.Exif()
    marks[0x0112] = 6
    return encoded(scene(300, 200), "JPEG", quality=95, exif=marks)


def views(page: Any, content: bytes, kind: str, how: Preprocessing) -> tuple[Any, Any]:
    """The view of the page and that of headstart."""
    told = {name: getattr(how, name) for name in ("resize", "resolution", "interpolation")}
    sent = base64.b64encode(content).decode()
    found = base64.b64decode(page.evaluate(RUN, [sent, f"image/{kind}", told]))
    image, _ = see_image(content, None, how.resize, Reading())
    wanted = eval_view(image, how)
    return np.frombuffer(found, np.uint8).reshape(wanted.shape).astype(int), wanted.astype(int)


def prepared(resize: int, side: int, how: Interpolation = "bicubic") -> Preprocessing:
    return Preprocessing(side, resize, how, (0, 0, 0), (1, 1, 1))


@pytest.mark.parametrize(
    ("content", "kind", "how"),
    [
        (encoded(scene(301, 207)), "png", prepared(146, 128)),
        (encoded(scene(207, 301)), "png", prepared(64, 64)),
        (encoded(scene(64, 64)), "png", prepared(64, 64)),
        (encoded(scene(40, 33)), "png", prepared(73, 64, "bilinear")),
        (encoded(scene(33, 40)), "png", prepared(73, 64, "bicubic")),
        (encoded(scene(33, 40)), "png", prepared(73, 64, "lanczos")),
        (encoded(scene(33, 40)), "png", prepared(73, 64, "nearest")),
        (encoded(scene(50, 70)), "png", prepared(50, 64)),  # smaller than the view: black around it
        (encoded(scene(900, 120)), "png", prepared(73, 64)),  # cut to three times its height
        (encoded(scene(300, 270, "L")), "png", prepared(73, 64)),
        (encoded(scene(300, 270, "RGBA")), "png", prepared(73, 64)),
    ],
)
def test_the_pixels_are_those_of_headstart(
    page: Any, content: bytes, kind: str, how: Preprocessing
) -> None:
    found, wanted = views(page, content, kind, how)
    assert (found == wanted).all()


@pytest.mark.parametrize("content", [encoded(scene(300, 700), "JPEG", quality=90), turned()])
def test_a_jpeg_is_decoded_alike(page: Any, content: bytes) -> None:
    """Chromium has a decoder of its own: no pixel is off by more than 3 of 255."""
    found, wanted = views(page, content, "jpeg", prepared(146, 128))
    assert np.abs(found - wanted).max() <= 3
    assert np.abs(found - wanted).mean() < 0.2


@pytest.mark.parametrize(("times", "sampling"), [(4, 0), (4, 2), (9, 2), (17, 2)])
def test_a_large_jpeg_is_shrunk_as_its_decoder_does(page: Any, times: int, sampling: int) -> None:
    """Its decoder has other intermediate values: no pixel is off by more than 6 of 255."""
    big = scene(90, 70).resize((90 * times, 70 * times), Image.Resampling.BICUBIC)
    content = encoded(big, "JPEG", quality=92, subsampling=sampling)
    found, wanted = views(page, content, "jpeg", prepared(64, 64))
    assert np.abs(found - wanted).max() <= 6
    assert np.abs(found - wanted).mean() < 0.5


def test_what_is_no_image_is_said(page: Any) -> None:
    from playwright.sync_api import Error

    with pytest.raises(Error, match="cannot read the image"):
        views(page, b"no image", "png", prepared(64, 64))
