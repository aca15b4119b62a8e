"""Colours of more than 8 bits in PNG and JPEG 2000, of which Pillow reads the upper 8 bits."""

from typing import Any

import numpy as np
import pytest

from headstart.data.images import load_image, read_header
from headstart.data.readers import jpeg2000, kinds, pillow
from headstart.data.reading import Reading
from headstart.errors import DataError

imagecodecs: Any = pytest.importorskip("imagecodecs")

COLOURS = np.random.default_rng(0).integers(0, 4096, (30, 40, 3)).astype(np.uint16)


def j2k(values: np.ndarray, bits: int, codec: str) -> bytes:
    data = imagecodecs.jpeg2k_encode(
        values, level=0, reversible=True, bitspersample=bits, codecformat=codec
    )
    return bytes(data)


@pytest.mark.parametrize("codec", ["jp2", "j2k"])
@pytest.mark.parametrize(("bits", "top"), [(12, 4095), (16, 65535)])
def test_jpeg_2000_is_read_in_full_depth(codec: str, bits: int, top: int, tmp_path: Any) -> None:
    values = COLOURS * (16 if bits == 16 else 1)
    path = tmp_path / "a.jp2"
    path.write_bytes(j2k(values, bits, codec))
    header = read_header(path)
    assert (header.width, header.height, header.format) == (40, 30, "JPEG2000")
    seen = np.asarray(load_image(path, reading=Reading(range=(0, top // 8))))  # dark
    expected = np.rint(np.clip(values / (top // 8) * 255, 0, 255))
    assert np.array_equal(seen, expected)
    assert len(np.unique(seen)) > 200  # the upper 8 bits alone would be 32 levels


@pytest.mark.parametrize(("bits", "top"), [(12, 4095), (16, 65535)])
def test_opacity_lies_over_white(bits: int, top: int) -> None:
    opacity = np.where(np.arange(40) < 20, 0, top)[None, :, None].repeat(30, 0)
    data = j2k(np.concatenate([COLOURS, opacity.astype(np.uint16)], 2), bits, "jp2")
    seen = np.asarray(load_image(data, reading=Reading(range=(0, 4095))))
    assert (seen[:, :20] == 255).all()
    assert np.array_equal(seen[:, 20:], np.rint(COLOURS[:, 20:] / 4095 * 255))


@pytest.mark.parametrize("codec", ["jp2", "j2k"])
def test_8_bits_stay_with_pillow(codec: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jpeg2000, "read", None)
    values = (COLOURS // 16).astype(np.uint8)
    assert np.array_equal(np.asarray(load_image(j2k(values, 8, codec))), values)


@pytest.mark.parametrize(
    "data",
    [j2k(COLOURS, 12, "jp2"), j2k(COLOURS, 16, "j2k"), bytes(imagecodecs.png_encode(COLOURS))],
    ids=["12 bits", "16 bits", "PNG"],
)
def test_without_the_extra_they_are_refused(data: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (kinds, pillow):
        monkeypatch.setattr(module, "has_extra", lambda kind: kind == "NIfTI")
    with pytest.raises(DataError) as refused:
        load_image(data)
    assert str(refused.value) == (
        "Cannot use the image: its colours have more than 8 bits a value, which needs pip install "
        "'headstart[scientific]'."
    )
    load_image(data, reading=None)  # as the first version did


def test_what_is_cut_is_refused() -> None:
    data = j2k(COLOURS, 12, "jp2")
    for size in (60, 90, 120, len(data) // 2):
        with pytest.raises(DataError):
            load_image(data[:size])
