"""One range a data set for deep images, and which channels and pages are taken."""

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from PIL.TiffImagePlugin import ImageFileDirectory_v2

from headstart.data.audit import Audit, audit
from headstart.data.decode import decode_dataset
from headstart.data.images import load_image
from headstart.data.pixels import Pixels, with_range
from headstart.data.ranges import common_range, exposures_differ, own_range, to_8_bits
from headstart.data.reading import EACH, Reading, range_notes, shipped
from headstart.data.sources import load_dataset
from headstart.data.types import Dataset
from headstart.errors import DataError, InputError
from headstart.recipes.keywords import parse_options
from headstart.recipes.options import SourceOptions


def grey(seed: int, side: int = 48) -> np.ndarray:
    """Smooth grey values (H, W) from 0 to 255."""
    coarse = np.random.default_rng(seed).integers(0, 256, (5, 6), dtype=np.uint8)
    return np.asarray(Image.fromarray(coarse).resize((side, side), Image.Resampling.BICUBIC))


def tiff(values: np.ndarray, **tags: object) -> bytes:
    """A TIFF with extra tags, by number: `t262=0` for MINISWHITE."""
    extra = ImageFileDirectory_v2()
    for name, value in tags.items():
        extra[int(name[1:])] = value
    stream = io.BytesIO()
    Image.fromarray(values).save(stream, "TIFF", tiffinfo=extra)
    return stream.getvalue()


def decoded(root: Path, options: SourceOptions | None = None) -> tuple[Dataset, Pixels, Audit]:
    dataset = load_dataset(root, options)
    cache = root.parent / "cache"
    pixels = decode_dataset(dataset.items, 32, cache, reading=dataset.reading)
    return dataset, pixels, audit(dataset, pixels.facts).audit


def write_set(root: Path, files: dict[str, bytes]) -> None:
    for name, data in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)


def png(values: np.ndarray) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(values).save(stream, "PNG")
    return stream.getvalue()


def messages(report: Audit, kind: str) -> list[str]:
    return [finding.message for finding in report.findings if finding.kind == kind]


# The range


@pytest.mark.parametrize("top", [100, 300, 1000, 1023, 4095, 40_000, 65_535])
def test_twelve_bits_at_any_exposure_look_like_eight(top: int, tmp_path: Path) -> None:
    scaled = {n: np.rint(grey(n) * (top / 255)).astype(np.uint16) for n in range(8)}
    write_set(tmp_path / "d", {f"{'ab'[n % 2]}/{n}.png": png(v) for n, v in scaled.items()})
    dataset, pixels, _ = decoded(tmp_path / "d")
    reading = with_range(dataset, pixels.facts, range(len(pixels))).reading
    assert isinstance(reading.range, tuple)
    for number, values in scaled.items():
        seen = np.asarray(load_image(png(values), reading=reading))[..., 0].astype(int)
        # The brightest 0.1% may be clipped, and a white that nearly fills its bits is not moved.
        assert np.abs(seen - grey(number)).mean() < 0.05 * 255


@pytest.mark.parametrize("sample", ["uint16", "int32", "float32"])
def test_every_type_of_values_has_one_range(sample: str, tmp_path: Path) -> None:
    shift = -7 if sample == "int32" else 0
    top = 1.07 if sample == "float32" else 3000
    images = [(grey(n) * (top / 255) + shift).astype(sample) for n in range(8)]
    write_set(tmp_path / "d", {f"{'ab'[n % 2]}/{n}.tif": tiff(v) for n, v in enumerate(images)})
    dataset, pixels, report = decoded(tmp_path / "d")
    assert {facts.learned.sample for facts in pixels.facts} == {sample}
    assert sample in messages(report, "deep_values")[0]
    reading = with_range(dataset, pixels.facts, range(8)).reading
    bright, dark = images[0], (images[0] * 0.5).astype(sample)
    seen = [np.asarray(load_image(tiff(v), reading=reading)).mean() for v in (bright, dark)]
    assert seen[1] == pytest.approx(seen[0] / 2, abs=3)  # not stretched image by image


def test_an_outlier_does_not_turn_an_image_black() -> None:
    values = (grey(0) / 255).astype(np.float32)
    reading = Reading(range=common_range([own_range(values)]))
    values[0, 0] = 50.0
    seen = np.asarray(load_image(tiff(values), reading=reading))
    assert np.abs(seen[1:, :, 0].astype(int) - grey(0)[1:].astype(int)).mean() < 2


def test_the_range_comes_from_the_images_that_are_named(tmp_path: Path) -> None:
    files = {f"{'ab'[n % 2]}/{n}.png": png(grey(n).astype(np.uint16) * 4) for n in range(6)}
    files["a/9.png"] = png(grey(9).astype(np.uint16) * 200)
    write_set(tmp_path / "d", files)
    dataset, pixels, _ = decoded(tmp_path / "d")
    keys = [dataset.key(row) for row in range(len(pixels))]
    training = [row for row, key in enumerate(keys) if key != "a/9.png"]
    assert with_range(dataset, pixels.facts, training).reading.range == (0.0, 1023.0)
    assert with_range(dataset, pixels.facts, range(len(keys))).reading.range[1] > 40_000


def test_a_broken_image_does_not_change_the_range() -> None:
    ordinary = [(0.0, 3900.0)] * 60
    assert common_range([*ordinary, (0.0, 65535.0)]) == (0.0, 4095.0)
    assert common_range([*ordinary, (-30000.0, 3900.0)]) == (0.0, 4095.0)


def test_eight_bit_sets_have_no_range(tmp_path: Path) -> None:
    write_set(tmp_path / "d", {f"{'ab'[n % 2]}/{n}.png": png(grey(n)) for n in range(8)})
    dataset, pixels, report = decoded(tmp_path / "d")
    assert with_range(dataset, pixels.facts, range(8)) == dataset
    assert shipped(dataset.reading) == Reading()
    assert not messages(report, "deep_values")


@pytest.mark.parametrize("missing", [np.nan, np.inf, -np.inf])
def test_missing_values_are_black_and_said(missing: float, tmp_path: Path) -> None:
    images = [(grey(n) / 255).astype(np.float32) for n in range(8)]
    images[3][5:9, 5:9] = missing
    write_set(tmp_path / "d", {f"{'ab'[n % 2]}/{n}.tif": tiff(v) for n, v in enumerate(images)})
    dataset, pixels, report = decoded(tmp_path / "d")
    assert "1 image with missing values" in messages(report, "missing_values")[0]
    reading = with_range(dataset, pixels.facts, range(8)).reading
    assert reading.range == (0.0, 1.0)
    assert np.asarray(load_image(tiff(images[3]), reading=reading))[6, 6].tolist() == [0, 0, 0]


def test_nodata_of_gdal_is_missing() -> None:
    values = grey(1).astype(np.int32) * 2
    values[:4] = -9999
    data = tiff(values, t42113="-9999")
    seen = np.asarray(load_image(data, reading=EACH))
    assert seen[:4].max() == 0
    assert np.abs(seen[4:, :, 0].astype(int) - grey(1)[4:].astype(int)).mean() < 8
    old = np.asarray(load_image(data, reading=None))  # stretched from -9999, as it was
    assert old[4:].min() > 200


def test_negatives_of_16_bits_are_inverted_as_those_of_8() -> None:
    values = grey(2).astype(np.uint16) * 257
    positive = np.asarray(load_image(tiff(values)))
    negative = np.asarray(load_image(tiff(values, t262=0)))
    assert np.array_equal(negative, 255 - positive)
    old = np.asarray(load_image(tiff(values, t262=0), reading=None))
    assert np.array_equal(old, positive)  # as bundles of before were trained


def test_a_mix_of_depths_is_a_finding(tmp_path: Path) -> None:
    files = {f"a/{n}.png": png(grey(n)) for n in range(4)}
    files |= {f"b/{n}.png": png(grey(n + 9).astype(np.uint16) * 16) for n in range(4)}
    write_set(tmp_path / "d", files)
    _, _, report = decoded(tmp_path / "d")
    (message,) = messages(report, "mixed_depths")
    assert "uint16 (4) and uint8 (4)" in message


def test_values_beyond_the_range_are_clipped() -> None:
    assert to_8_bits(np.array([-9999, 0, 60, 100, 5000]), 0, 100).tolist() == [0, 0, 153, 255, 255]


# Pages


def animation(format: str) -> bytes:
    frames = [Image.new("RGB", (40, 30), colour) for colour in ("red", "lime", "blue")]
    stream = io.BytesIO()
    more = {"lossless": True} if format == "WEBP" else {}
    frames[0].save(stream, format, save_all=True, append_images=frames[1:], **more)
    return stream.getvalue()


@pytest.mark.parametrize("format", ["TIFF", "GIF", "WEBP", "PNG"])
def test_pages_are_chosen(format: str) -> None:
    data = animation(format)

    def seen(page: object) -> list[int]:
        pixels = np.asarray(load_image(data, reading=Reading(page=page)))  # type: ignore[arg-type]
        return pixels[15, 20].tolist()

    assert seen(None) == seen(0) == [255, 0, 0]
    assert seen("middle") == seen(1) == [0, 255, 0]
    assert seen(2) == [0, 0, 255]
    assert seen("max") == [255, 255, 255]
    with pytest.raises(DataError, match="3 pages, numbered from 0, and page 3 was asked for"):
        load_image(data, reading=Reading(page=3))


@pytest.mark.parametrize(("format", "ending"), [("TIFF", "tif"), ("GIF", "gif"), ("WEBP", "webp")])
def test_pages_that_are_left_out_are_a_finding(format: str, ending: str, tmp_path: Path) -> None:
    files = {f"{'ab'[n % 2]}/{n}.png": png(grey(n)) for n in range(8)}
    files[f"a/moving.{ending}"] = animation(format)
    write_set(tmp_path / "d", files)
    (message,) = messages(decoded(tmp_path / "d")[2], "pages_left_out")
    assert message.startswith("1 image with several pages, frames or slices (up to 3)")
    report = decoded(tmp_path / "d", SourceOptions(page="0"))[2]
    assert not messages(report, "pages_left_out")


def test_the_largest_value_over_16_bit_pages() -> None:
    pages = [Image.fromarray(grey(n).astype(np.uint16) * 16) for n in range(3)]
    stream = io.BytesIO()
    pages[0].save(stream, "TIFF", save_all=True, append_images=pages[1:])
    reading = Reading(page="max", range=(0, 4080))
    seen = np.asarray(load_image(stream.getvalue(), reading=reading))[..., 0]
    assert np.array_equal(seen, np.maximum.reduce([grey(0), grey(1), grey(2)]))


# Channels


def test_channels_are_chosen() -> None:
    colours = np.dstack([grey(1), grey(2), grey(3)])
    swapped = np.asarray(load_image(png(colours), reading=Reading(channels=(2, 1, 0))))
    assert np.array_equal(swapped, colours[..., ::-1])
    one = np.asarray(load_image(png(colours), reading=Reading(channels=(1,))))
    assert np.array_equal(one, np.dstack([grey(2)] * 3))
    two = np.asarray(load_image(png(colours), reading=Reading(channels=(2, 0))))
    assert np.array_equal(two, np.dstack([grey(3), grey(1), np.zeros_like(grey(1))]))
    with pytest.raises(DataError, match="3 channels, numbered from 0, and channel 3 was asked"):
        load_image(png(colours), reading=Reading(channels=(3,)))


def test_near_infrared_is_not_opacity(tmp_path: Path) -> None:
    bands = np.dstack([grey(1), grey(2), grey(3), grey(4)])  # GDAL calls the fourth one alpha
    assert np.array_equal(np.asarray(load_image(tiff(bands))), bands[..., :3])
    infrared = np.asarray(load_image(tiff(bands), reading=Reading(channels=(3, 0, 1))))
    assert np.array_equal(infrared, bands[..., [3, 0, 1]])
    write_set(
        tmp_path / "d",
        {
            f"{'ab'[n % 2]}/{n}.tif": tiff(np.dstack([grey(n + k) for k in range(4)]))
            for n in range(8)
        },
    )
    (message,) = messages(decoded(tmp_path / "d")[2], "channels_left_out")
    assert "marked as opacity and looks like data" in message


def test_opacity_of_a_tiff_is_laid_over_white() -> None:
    cut = np.dstack([grey(1), grey(2), grey(3), np.where(grey(4) > 128, 255, 0).astype(np.uint8)])
    seen = np.asarray(load_image(tiff(cut)))
    assert (seen[grey(4) <= 128] == 255).all()


def test_options_that_cannot_be_read_are_refused() -> None:
    for wrong in ({"channels": "red"}, {"channels": "0,1,2,3"}, {"page": "last"}, {"page": "-1"}):
        with pytest.raises(InputError, match="cannot be read"):
            parse_options(SourceOptions, wrong)
    known = parse_options(SourceOptions, {"channels": (0, 2), "page": 3})
    assert known.flags == ["--channels", "0,2", "--page", "3"]


# FITS


def fits(values: np.ndarray, **cards: object) -> bytes:
    bits = {"uint8": 8, "int16": 16, "float32": -32}[values.dtype.name]
    header: dict[str, object] = {"SIMPLE": "T", "BITPIX": bits, "NAXIS": 2}
    header |= {"NAXIS1": values.shape[1], "NAXIS2": values.shape[0], **cards}
    text = "".join(f"{name:8}= {value!s:>20}".ljust(80) for name, value in header.items())
    text = (text + "END".ljust(80)).encode()
    data = values.astype(values.dtype.newbyteorder(">")).tobytes()
    return text.ljust(-(-len(text) // 2880) * 2880) + data.ljust(
        -(-len(data) // 2880) * 2880, b"\0"
    )


def test_fits_is_signed() -> None:
    values = grey(3).astype(np.int16) - 100
    seen = np.asarray(load_image(fits(values), reading=Reading(range=(-100, 155))))
    assert np.array_equal(seen[::-1, :, 0], grey(3))


@pytest.mark.parametrize("cards", [{"BZERO": 32768}, {"BSCALE": 0.5}])
def test_scaled_fits_is_refused(cards: dict[str, object]) -> None:
    with pytest.raises(DataError, match="FITS values are scaled"):
        load_image(fits(grey(3).astype(np.int16), **cards))


@pytest.mark.parametrize(
    ("whites", "differ"),
    [
        ([100.0, 1000.0] * 9, True),
        ([0.07, 1.0, 0.5] * 9, True),  # floats
        ([1500.0, 2000.0, 3900.0] * 9, False),  # contents explain it
        ([4000.0] * 99 + [100.0], False),  # one dark image
    ],
)
def test_exposures_differ_where_one_range_leaves_dark_images_few_levels(
    whites: list[float], differ: bool
) -> None:
    assert exposures_differ([(0.0, white) for white in whites]) is differ


def test_values_that_do_not_start_at_zero_have_one_range() -> None:
    assert not exposures_differ([(-1000.0, 100.0), (-1000.0, 3000.0)] * 9)
    assert not exposures_differ([(1900.0, 2000.0), (1900.0, 7000.0)] * 9)


def test_images_of_different_exposures_are_read_by_their_own_ranges(tmp_path: Path) -> None:
    files = {
        f"{name}/{number}.png": png(np.rint(grey(number) * (white / 255)).astype(np.uint16))
        for number in range(6)
        for name, white in (("dark", 120), ("bright", 4000))
    }
    write_set(tmp_path / "set", files)
    dataset, pixels, report = decoded(tmp_path / "set")
    (finding,) = messages(report, "deep_values")
    assert "Their exposures differ" in finding
    reading = with_range(dataset, pixels.facts, range(len(pixels))).reading
    assert reading.range == "own"
    assert shipped(reading) == reading  # predict uses the same
    assert "its own white" in range_notes(reading)[0]
    for number in range(6):
        dark, bright = (
            np.asarray(load_image(tmp_path / "set" / name / f"{number}.png", None, 48, reading))
            for name in ("dark", "bright")
        )
        assert dark.max() == bright.max() == 255
        assert np.abs(dark.astype(int) - bright.astype(int)).max() <= 4  # a step of 120 levels
