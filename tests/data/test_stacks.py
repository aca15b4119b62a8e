"""OME and ImageJ stacks: channels are channels, times and depths are pages."""

import io
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from headstart.data.audit import audit
from headstart.data.decode import decode_dataset
from headstart.data.images import load_image, read_image
from headstart.data.reading import EACH, Page, Reading
from headstart.data.sources import load_dataset
from headstart.errors import DataError

tifffile: Any = pytest.importorskip("tifffile")
pytest.importorskip("imagecodecs")

SIZES = {"T": 2, "Z": 3, "C": 4, "Y": 9, "X": 8}
FULL = (0.0, 65535.0)


def stack(axes: str, how: str, sample: str = "uint16", **sizes: int) -> tuple[bytes, np.ndarray]:
    """A stack in which each plane has a value of its own, and these values."""
    shape = [{**SIZES, **sizes}[axis] for axis in axes]
    planes = np.arange(math.prod(shape[:-2])).reshape(shape[:-2])
    values = np.broadcast_to((planes * 7 + 1)[..., None, None], shape).astype(sample)
    stream = io.BytesIO()
    tifffile.imwrite(
        stream, values, photometric="minisblack", metadata={"axes": axes}, **{how: True}
    )
    return stream.getvalue(), planes * 7 + 1


def seen(data: bytes, page: Page | None, *channels: int) -> list[int]:
    """The first pixel as red, green, blue."""
    reading = Reading(page=page, channels=channels or None, range=(0.0, 255.0))
    return np.asarray(load_image(data, reading=reading))[0, 0].tolist()


def learned(data: bytes, folder: Path) -> Any:
    (folder / "a.tif").write_bytes(data)
    return read_image(folder / "a.tif", None, 100, EACH)[2]


@pytest.mark.parametrize("sample", ["uint8", "uint16"])
@pytest.mark.parametrize(
    ("axes", "how"),
    [("TCZYX", "ome"), ("TZCYX", "ome"), ("CTZYX", "ome"), ("TZCYX", "imagej")],
)
def test_pages_are_times_and_depths(axes: str, how: str, sample: str, tmp_path: Path) -> None:
    data, planes = stack(axes, how, sample)
    by_page = np.moveaxis(planes, axes.index("C"), -1).reshape(6, 4)  # (T, Z), as all have it
    for page in range(6):
        assert seen(data, page) == by_page[page, :3].tolist()
        assert seen(data, page, 3, 0, 2) == by_page[page, [3, 0, 2]].tolist()
    assert seen(data, None) == by_page[0, :3].tolist()
    assert seen(data, "middle", 3) == [by_page[3, 3]] * 3
    assert seen(data, "max", 1) == [by_page[:, 1].max()] * 3
    found = learned(data, tmp_path)
    assert (found.pages, found.unused, found.sample) == (6, 1, sample)
    with pytest.raises(DataError, match="6 pages, numbered from 0, and page 6"):
        seen(data, 6)
    with pytest.raises(DataError, match="4 channels, numbered from 0, and channel 4"):
        seen(data, 0, 4)


@pytest.mark.parametrize("how", ["ome", "imagej"])
@pytest.mark.parametrize(("channels", "expected"), [(2, [1, 1, 1]), (3, [1, 8, 15])])
def test_channels_alone(how: str, channels: int, expected: list[int], tmp_path: Path) -> None:
    data, _ = stack("CYX", how, "uint8", C=channels)
    assert seen(data, None) == expected
    assert seen(data, 0, 1) == [8, 8, 8]
    found = learned(data, tmp_path)
    assert (found.pages, found.unused) == (1, 1 if channels == 2 else 0)


@pytest.mark.parametrize(("axes", "pages"), [("ZYX", 3), ("TYX", 2), ("TZYX", 6)])
@pytest.mark.parametrize("how", ["ome", "imagej"])
def test_without_channels_all_planes_are_pages(
    axes: str, pages: int, how: str, tmp_path: Path
) -> None:
    data, planes = stack(axes, how)
    assert [seen(data, page)[0] for page in range(pages)] == planes.ravel().tolist()
    assert learned(data, tmp_path).pages == pages


def test_all_planes_behind_one_page(tmp_path: Path) -> None:
    data, planes = stack("ZCYX", "imagej", C=2)
    whole = tifffile.TiffFile(io.BytesIO(data))
    first = whole.pages[0]
    description = first.description.encode()
    stream = io.BytesIO()
    tifffile.imwrite(
        stream, whole.series[0].asarray()[0, 0], description=description, metadata=None
    )
    bare = bytearray(stream.getvalue())
    offset = tifffile.TiffFile(io.BytesIO(bare)).pages[0].dataoffsets[0]
    rest = whole.series[0].asarray().reshape(-1, 9, 8)[1:].tobytes()
    assert offset + 9 * 8 * 2 == len(bare)
    data = bytes(bare) + rest
    assert len(tifffile.TiffFile(io.BytesIO(data)).pages) == 1
    assert [seen(data, page, 1)[0] for page in range(3)] == planes[:, 1].tolist()
    assert learned(data, tmp_path).pages == 3


def test_images_of_one_file_follow_one_another(tmp_path: Path) -> None:
    stream = io.BytesIO()
    with tifffile.TiffWriter(stream, ome=True) as writer:
        for value in (10, 100):
            planes = np.stack([np.full((9, 8), value + n, np.uint8) for n in range(2)])
            writer.write(planes, photometric="minisblack", metadata={"axes": "CYX"})
        writer.write(np.zeros((4, 4), np.uint8), photometric="minisblack")
    data = stream.getvalue()
    assert [seen(data, 0, 1), seen(data, 1, 1)] == [[11] * 3, [101] * 3]
    assert learned(data, tmp_path).pages == 3
    with pytest.raises(DataError, match="its pages have different sizes"):
        seen(data, 2)


def test_planes_in_other_files_are_not_looked_for(tmp_path: Path) -> None:
    data, _ = stack("CYX", "ome", "uint8", C=2)
    text = tifffile.TiffFile(io.BytesIO(data)).pages[0].description
    uuid = "urn:uuid:00000000-0000-0000-0000-00000000000"
    there = "".join(
        f'<TiffData IFD="0" FirstC="{n}" PlaneCount="1"><UUID FileName="{n}.ome.tif">{uuid}{n}'
        "</UUID></TiffData>"
        for n in range(2)
    )
    text = text.replace('<TiffData IFD="0" PlaneCount="2"/>', there)
    assert there in text
    for n in range(2):
        tifffile.imwrite(
            tmp_path / f"{n}.ome.tif", np.full((9, 8), 5 + n, np.uint8),
            description=text.encode(), metadata=None,
        )  # fmt: skip
    for n in range(2):
        image, _, found = read_image(tmp_path / f"{n}.ome.tif", None, 100, Reading(range=FULL))
        assert np.asarray(image)[0, 0].tolist() == [5 + n] * 3
        assert found.pages == 1


def test_findings_say_what_was_taken(tmp_path: Path) -> None:
    for number in range(8):
        path = tmp_path / "d" / "ab"[number % 2] / f"{number}.ome.tif"
        path.parent.mkdir(parents=True, exist_ok=True)
        noise = np.random.default_rng(number).integers(0, 255, (3, 4, 40, 40), dtype=np.uint8)
        tifffile.imwrite(path, noise, photometric="minisblack", metadata={"axes": "ZCYX"})
    dataset = load_dataset(tmp_path / "d")
    pixels = decode_dataset(dataset.items, 32, tmp_path / "cache", reading=dataset.reading)
    found = {each.kind: each.message for each in audit(dataset, pixels.facts).audit.findings}
    assert "8 images with several pages, frames or slices (up to 3)" in found["pages_left_out"]
    assert "8 images with channels that are not used" in found["channels_left_out"]
