"""Readers of DICOM, NIfTI and TIFF, on files that the packages themselves ship and on made ones."""

import gzip
import importlib.util
import io
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from headstart.data.audit import Audit, audit
from headstart.data.decode import decode_dataset
from headstart.data.images import BadImageError, load_image, read_image
from headstart.data.readers import kinds, pillow
from headstart.data.reading import EACH, Reading
from headstart.data.sources import load_dataset
from headstart.errors import DataError


def shipped(package: str, folder: str) -> list[Path]:
    """Files in a package; none where it is not installed."""
    found = importlib.util.find_spec(package)
    places = (found.submodule_search_locations or ()) if found else ()
    return [path for place in places for path in sorted(Path(place, folder).iterdir())]


DICOM = [path for path in shipped("pydicom", "data/test_files") if path.suffix == ".dcm"]
SKIMAGE = [
    path for path in shipped("skimage", "data") if path.suffix in {".png", ".jpg", ".tif", ".gif"}
]

# What holds a picture that is not read, and by which words it is refused.
REFUSED = {
    "JPEG2000-embedded-sequence-delimiter.dcm": "the file is damaged",
    "MR_truncated.dcm": "less than expected",
    "badVR.dcm": "the file is damaged",
    "no_meta.dcm": "not an image",
}
WITHOUT_PICTURE = {
    "ExplVR_BigEndNoMeta.dcm", "ExplVR_LitEndNoMeta.dcm", "UN_sequence.dcm",
    "empty_charset_LEI.dcm", "meta_missing_tsyntax.dcm", "nested_priv_SQ.dcm",
    "no_meta_group_length.dcm", "priv_SQ.dcm", "reportsi.dcm",
    "reportsi_with_empty_number_tags.dcm", "rtplan.dcm", "rtplan_truncated.dcm", "rtstruct.dcm",
    "test-SR.dcm", "waveform_ecg.dcm",
}  # fmt: skip


def needs(*packages: str) -> None:
    for package in packages:
        pytest.importorskip(package)


def named(name: str) -> Path:
    return next(path for path in DICOM if path.name == name)


def grey(seed: int, width: int = 40, height: int = 30) -> np.ndarray:
    coarse = np.random.default_rng(seed).integers(0, 256, (5, 6), dtype=np.uint8)
    return np.asarray(Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC))


def tiff(values: np.ndarray, **more: Any) -> bytes:
    tifffile: Any = importlib.import_module("tifffile")
    stream = io.BytesIO()
    tifffile.imwrite(stream, values, **more)
    return stream.getvalue()


# Every file that a package ships is read or refused with the reason


@pytest.mark.parametrize("path", DICOM, ids=lambda path: path.name)
def test_every_dicom_file_of_pydicom(path: Path) -> None:
    needs("pydicom", "imagecodecs")
    why = "holds no picture" if path.name in WITHOUT_PICTURE else REFUSED.get(path.name)
    if why is not None:
        with pytest.raises(BadImageError, match=why):
            read_image(path, None, 64, EACH)
        return
    image, header, learned = read_image(path, None, 64, EACH)
    assert header.format == "DICOM"
    assert np.asarray(image).max() > np.asarray(image).min()  # something is seen
    assert (learned.range is None) == (learned.sample in {"uint8", "bool"})


@pytest.mark.parametrize("path", SKIMAGE, ids=lambda path: path.name)
def test_every_image_of_scikit_image(path: Path) -> None:
    needs("imagecodecs", "tifffile")
    import imagecodecs
    import tifffile

    image, _, learned = read_image(path, None, 2000, EACH)
    seen = np.asarray(image).astype(float)
    read = tifffile.imread if path.suffix == ".tif" else imagecodecs.imread
    expected = np.squeeze(read(path))
    if learned.pages > 1:
        expected = expected[0]
    if expected.shape[0] == 3:  # one plane a colour
        expected = np.moveaxis(expected, 0, 2)
    if expected.ndim == 2:
        expected = np.dstack([expected] * 3)
    if learned.range is not None:
        low, high = learned.range
        expected = np.clip((expected.astype(float) - low) / (high - low), 0, 1) * 255
    if expected.shape[2] == 4:
        opacity = expected[..., 3:] / 255
        expected = expected[..., :3] * opacity + 255 * (1 - opacity)
    assert np.abs(seen - expected).mean() < 1


# DICOM


def test_one_picture_in_every_transfer_syntax() -> None:
    needs("pydicom", "imagecodecs")
    names = [path for path in DICOM if path.name.startswith("MR_small")]
    first, *others = [np.asarray(load_image(path, reading=EACH)) for path in names]
    assert len(others) >= 6
    assert all(np.array_equal(first, other) for other in others)
    coloured = [path for path in DICOM if path.name.startswith(("SC_rgb_dcmtk", "SC_rgb_rle"))]
    reference = np.asarray(load_image(named("SC_rgb_rle.dcm"), reading=EACH)).astype(int)
    for path in coloured:
        seen = np.asarray(load_image(path, reading=EACH)).astype(int)
        assert np.abs(seen - reference).mean() < 3, path.name


def test_dicom_is_rescaled_and_windowed() -> None:
    needs("pydicom")
    _, _, plain = read_image(named("CT_small.dcm"), None, 128, EACH)
    assert plain.range is not None and plain.range[0] < -800  # Hounsfield units, not stored values
    _, _, windowed = read_image(named("693_J2KI.dcm"), None, 512, EACH)
    assert windowed.range == (-10.0, 89.0)  # centre 40, width 100
    air = np.asarray(load_image(named("CT_small.dcm"), reading=Reading(range=(0, 1000))))
    wide = np.asarray(load_image(named("CT_small.dcm"), reading=Reading(range=(-1000, 1000))))
    assert air.mean() < wide.mean()


def test_monochrome1_is_inverted() -> None:
    pydicom = pytest.importorskip("pydicom")
    found = pydicom.dcmread(named("MR_small.dcm"))
    found.PhotometricInterpretation = "MONOCHROME1"
    stream = io.BytesIO()
    found.save_as(stream)
    reading = Reading(range=(0, 1000))
    upright = np.asarray(load_image(named("MR_small.dcm"), reading=reading))
    assert np.array_equal(np.asarray(load_image(stream.getvalue(), reading=reading)), 255 - upright)


def test_frames_are_pages() -> None:
    needs("pydicom")
    path = named("rtdose.dcm")
    _, _, learned = read_image(path, None, 10, EACH)
    assert learned.pages == 15
    reading = Reading(page="max", range=(0, 1_300_000))
    largest = np.asarray(load_image(path, reading=reading))
    frames = [
        np.asarray(load_image(path, reading=Reading(page=number, range=(0, 1_300_000))))
        for number in range(15)
    ]
    assert np.array_equal(largest, np.maximum.reduce(frames))
    with pytest.raises(DataError, match="15 pages"):
        load_image(path, reading=Reading(page=15))


def test_images_of_a_patient_stay_together(tmp_path: Path) -> None:
    pydicom = pytest.importorskip("pydicom")
    for number in range(16):
        found = pydicom.dcmread(named("MR_small.dcm"))
        values = (np.random.default_rng(number).integers(0, 2000, (64, 64))).astype(np.int16)
        found.PixelData, found.PatientID = values.tobytes(), f"P{number // 4}"
        path = tmp_path / "d" / "ab"[number % 2] / f"{number:02}.dcm"
        path.parent.mkdir(parents=True, exist_ok=True)
        found.save_as(path)
    dataset = load_dataset(tmp_path / "d")
    pixels = decode_dataset(dataset.items, 32, tmp_path / "cache", reading=dataset.reading)
    result = audit(dataset, pixels.facts)
    patients = [int(dataset.items[int(row)].path.stem) // 4 for row in result.kept]
    assert len(set(zip(patients, result.groups.tolist(), strict=True))) == 4
    assert "P0" not in str([facts.patient for facts in pixels.facts])


# NIfTI


def nifti(volume: np.ndarray, slope: float = 0, base: float = 0, version: int = 1) -> bytes:
    """A volume (X, Y, Z) as NIfTI."""
    codes = {"uint8": 2, "int16": 4, "float32": 16, "uint16": 512}
    code, bits = codes[volume.dtype.name], 8 * volume.dtype.itemsize
    dims = [3, *volume.shape, 1, 1, 1, 1]
    if version == 1:
        head = bytearray(352)
        struct.pack_into("<i", head, 0, 348)
        struct.pack_into("<8h", head, 40, *dims)
        struct.pack_into("<2h", head, 70, code, bits)
        struct.pack_into("<3f", head, 108, 352, slope, base)
        head[344:348] = b"n+1\0"
    else:
        head = bytearray(544)
        struct.pack_into("<i", head, 0, 540)
        head[4:12] = b"n+2\0\r\n\x1a\n"
        struct.pack_into("<2h", head, 12, code, bits)
        struct.pack_into("<8q", head, 16, *dims)
        struct.pack_into("<q2d", head, 168, 544, slope, base)
    return bytes(head) + volume.tobytes(order="F")


@pytest.mark.parametrize("version", [1, 2])
@pytest.mark.parametrize("packed", [False, True])
def test_a_volume_shows_its_middle_slice(version: int, packed: bool) -> None:
    slices = [grey(n) for n in range(5)]
    volume = np.stack([each[::-1].T for each in slices], 2)  # x to the right, y upwards
    data = nifti(volume, version=version)
    data = gzip.compress(data) if packed else data
    assert np.array_equal(np.asarray(load_image(data))[..., 0], slices[2])
    first = np.asarray(load_image(data, reading=Reading(page=0)))
    assert np.array_equal(first[..., 0], slices[0])
    largest = np.asarray(load_image(data, reading=Reading(page="max")))
    assert np.array_equal(largest[..., 0], np.maximum.reduce(slices))


def test_a_volume_is_rescaled() -> None:
    volume = np.stack([grey(1).astype(np.int16)] * 3, 2)
    data = nifti(volume, slope=2, base=-100)
    seen = np.asarray(load_image(data, reading=Reading(range=(-100, 410))))
    assert np.array_equal(seen[..., 0], volume[..., 1].T[::-1])


def test_a_volume_agrees_with_nibabel(tmp_path: Path) -> None:
    nibabel = pytest.importorskip("nibabel")
    volume = np.random.default_rng(0).normal(size=(6, 7, 4)).astype(np.float32)
    nibabel.save(nibabel.Nifti1Image(volume, np.eye(4)), tmp_path / "a.nii")
    seen = np.asarray(load_image(tmp_path / "a.nii", reading=Reading(page=3, range=(-3, 3))))
    expected = np.clip((volume[..., 3].T[::-1] + 3) / 6 * 255, 0, 255)
    assert np.abs(seen[..., 0] - expected).max() <= 0.51


# TIFF and PNG


def test_colours_of_16_bits_are_read_in_full_depth() -> None:
    needs("tifffile", "imagecodecs")
    import imagecodecs

    colours = np.dstack([grey(1), grey(2), grey(3)]).astype(np.uint16) * 16  # 12 bits
    reading = Reading(range=(0, 4080))
    for data in (
        tiff(colours, photometric="rgb"),
        tiff(np.moveaxis(colours, 2, 0), photometric="rgb", planarconfig="separate"),
        tiff(colours, photometric="rgb", bigtiff=True, compression="lzw"),
        imagecodecs.png_encode(colours),
    ):
        assert np.array_equal(np.asarray(load_image(data, reading=reading)), colours // 16)


@pytest.mark.parametrize(
    ("sample", "low", "high"),
    [("int8", -90, 90), ("int16", -100, 2000), ("uint32", 0, 2**32 - 1), ("uint64", 0, 1e9),
     ("float16", 0, 1), ("float64", -1, 1)],
)  # fmt: skip
def test_types_of_values(sample: str, low: float, high: float) -> None:
    needs("tifffile", "imagecodecs")
    values = (low + grey(1) / 255 * (high - low)).astype(sample)
    seen = np.asarray(load_image(tiff(values), reading=Reading(range=(low, high))))[..., 0]
    assert np.abs(seen.astype(int) - grey(1)).max() <= (2 if sample == "int8" else 1)


@pytest.mark.parametrize("bands", [2, 4, 5, 8])
@pytest.mark.parametrize("sample", ["uint8", "uint16"])
@pytest.mark.parametrize("planar", ["contig", "separate"])
def test_more_channels_than_colours(bands: int, sample: str, planar: str) -> None:
    needs("tifffile", "imagecodecs")
    stack = np.stack([grey(n) for n in range(bands)]).astype(sample)
    values = stack if planar == "separate" else np.moveaxis(stack, 0, 2)
    data = tiff(values, photometric="minisblack", planarconfig=planar)
    range_ = (0.0, 255.0)
    plain, _, learned = read_image_of(data, Reading(range=range_))
    expected = stack[:3] if bands > 2 else stack[[0, 0, 0]]
    assert np.array_equal(np.asarray(plain), np.moveaxis(expected, 0, 2))
    assert learned.unused == bands - (3 if bands > 2 else 1)
    last = read_image_of(data, Reading(channels=(bands - 1,), range=range_))[0]
    assert np.array_equal(np.asarray(last)[..., 1], stack[-1])


def read_image_of(data: bytes, reading: Reading) -> Any:
    path = Path(importlib.import_module("tempfile").mkdtemp()) / "image.tif"
    path.write_bytes(data)
    return read_image(path, None, 1000, reading)


@pytest.mark.parametrize("how", ["imagej", "ome", "plain"])
def test_stacks_are_pages(how: str) -> None:
    needs("tifffile", "imagecodecs")
    stack = np.stack([grey(n).astype(np.uint16) for n in range(4)])
    more = {
        "imagej": {"imagej": True, "metadata": {"axes": "ZYX"}},
        "ome": {"ome": True, "metadata": {"axes": "ZYX"}},
        "plain": {},
    }
    data = tiff(stack, photometric="minisblack", **more[how])
    _, _, learned = read_image_of(data, EACH)
    assert learned.pages == 4
    seen = load_image(data, reading=Reading(page="middle", range=(0, 255)))
    assert np.array_equal(np.asarray(seen)[..., 0], grey(2))


def test_overviews_are_no_pages() -> None:
    tifffile = pytest.importorskip("tifffile")
    stream = io.BytesIO()
    with tifffile.TiffWriter(stream) as writer:
        writer.write(grey(1, 64, 64), subfiletype=0)
        writer.write(grey(1, 32, 32), subfiletype=1)
    _, _, learned = read_image_of(stream.getvalue(), EACH)
    assert learned.pages == 1


def test_complex_numbers_are_refused() -> None:
    needs("tifffile", "imagecodecs")
    with pytest.raises(DataError, match="complex numbers"):
        load_image(tiff(grey(1).astype(np.complex64)))


# Without the extra


@pytest.fixture
def bare(monkeypatch: pytest.MonkeyPatch) -> None:
    """No package of the extra is installed."""
    monkeypatch.setattr(kinds, "has_extra", lambda kind: kind == "NIfTI")
    monkeypatch.setattr(pillow, "has_extra", lambda kind: kind == "NIfTI")


@pytest.mark.usefixtures("bare")
def test_dicom_beside_jpegs_names_the_extra(tmp_path: Path) -> None:
    for number in range(8):
        path = tmp_path / "d" / "ab"[number % 2] / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(grey(number)).save(path)
    (tmp_path / "d" / "a" / "scan.dcm").write_bytes(bytes(128) + b"DICM" + bytes(300))
    (message,) = messages_of(tmp_path / "d", "needs_extra")
    assert message == (
        "a/scan.dcm is left out: it is a DICOM file, which needs pip install "
        "'headstart[scientific]'."
    )


@pytest.mark.usefixtures("bare")
def test_channels_that_pillow_leaves_out_name_the_extra() -> None:
    needs("tifffile")
    bands = np.dstack([grey(n) for n in range(5)])
    data = tiff(bands, photometric="rgb", extrasamples=["unspecified"] * 2)
    assert np.array_equal(np.asarray(load_image(data)), bands[..., :3])
    with pytest.raises(DataError, match=r"channel 4 needs pip install 'headstart\[scientific\]'"):
        load_image(data, reading=Reading(channels=(4,)))


def messages_of(root: Path, kind: str) -> list[str]:
    dataset = load_dataset(root)
    pixels = decode_dataset(dataset.items, 32, root.parent / "cache", reading=dataset.reading)
    report: Audit = audit(dataset, pixels.facts).audit
    return [finding.message for finding in report.findings if finding.kind == kind]
