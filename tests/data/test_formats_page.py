"""What docs/formats.md says: each message is provoked and compared, each format is asked for."""

import io
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from headstart.data.audit import audit
from headstart.data.decode import decode_dataset
from headstart.data.formats import has_image_name, readable_formats
from headstart.data.images import load_image
from headstart.data.pixel_notes import PixelKind
from headstart.data.readers import kinds, pillow
from headstart.data.reading import Reading
from headstart.data.sources import load_dataset
from headstart.errors import DataError

PAGE = (Path(__file__).parents[2] / "docs" / "formats.md").read_text(encoding="utf-8")


def rows(heading: str) -> list[list[str]]:
    """The cells of the tables under a heading, without their first two lines."""
    section = PAGE.split(f"## {heading}\n")[1].split("\n## ")[0]
    found = []
    for table in re.findall(r"(?:^\|.*\n)+", section, re.M):
        found += [
            [cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines()[2:]
        ]
    return found


REASONS = [cells[0] for cells in rows("Messages") if len(cells) == 1]
FINDINGS = [cells for cells in rows("Messages") if len(cells) == 2]


def saved(image: Image.Image, format: str, **more: Any) -> bytes:
    stream = io.BytesIO()
    image.save(stream, format, **more)
    return stream.getvalue()


def card(**cards: object) -> bytes:
    first = {"SIMPLE": "T", "BITPIX": 16, "NAXIS": 2, "NAXIS1": 4, "NAXIS2": 4, **cards}
    text = "".join(f"{name:8}= {value!s:>20}".ljust(80) for name, value in first.items())
    return (text + "END".ljust(80)).encode().ljust(2880) + bytes(2880)


def tiff(values: np.ndarray, **more: Any) -> bytes:
    tifffile = pytest.importorskip("tifffile")
    pytest.importorskip("imagecodecs")
    stream = io.BytesIO()
    tifffile.imwrite(stream, values, **more)
    return stream.getvalue()


def dicom(**elements: Any) -> bytes:
    pydicom = pytest.importorskip("pydicom")
    from pydicom.data import get_testdata_file

    found = pydicom.dcmread(get_testdata_file("MR_small.dcm"))
    for name, value in elements.items():
        setattr(found, name, value)
    stream = io.BytesIO()
    found.save_as(stream)
    return stream.getvalue()


def voi_table(bits: int, entries: int) -> Any:
    pydicom = pytest.importorskip("pydicom")
    item = pydicom.Dataset()
    item.LUTDescriptor, item.LUTData = [entries, 0, bits], list(range(10))
    item["LUTDescriptor"].VR = item["LUTData"].VR = "US"
    return pydicom.Sequence([item])


def two_sizes() -> bytes:
    tifffile = pytest.importorskip("tifffile")
    pytest.importorskip("imagecodecs")
    stream = io.BytesIO()
    with tifffile.TiffWriter(stream) as writer:
        writer.write(np.zeros((9, 9, 3), np.uint16), photometric="rgb")
        writer.write(np.zeros((5, 5, 3), np.uint16), photometric="rgb")
    return stream.getvalue()


def compressed_fits() -> bytes:
    empty = "".join(
        f"{name:8}= {value:>20}".ljust(80)
        for name, value in (("SIMPLE", "T"), ("BITPIX", "8"), ("NAXIS", "0"))
    )
    table = "".join(
        f"{name:8}= {value:>20}".ljust(80)
        for name, value in (
            ("XTENSION", "'BINTABLE'"), ("BITPIX", "8"), ("NAXIS", "2"), ("NAXIS1", "8"),
            ("NAXIS2", "4"), ("ZIMAGE", "T"), ("ZCMPTYPE", "'RICE_1  '"),
        )
    )  # fmt: skip
    blocks = [(text + "END".ljust(80)).encode().ljust(2880) for text in (empty, table)]
    return b"".join(blocks) + bytes(2880)


def nifti_of_complex_numbers() -> bytes:
    head = bytearray(352)
    head[0:4] = (348).to_bytes(4, "little")
    head[40:42], head[70:72] = (3).to_bytes(2, "little"), (32).to_bytes(2, "little")
    head[344:348] = b"n+1\0"
    return bytes(head)


PLAIN = Image.new("RGB", (9, 9), "red")

PROVOKED: dict[str, tuple[Callable[[], bytes], Reading, bool]] = {
    "not an image that Pillow": (lambda: b"words", Reading(), True),
    "ends in the middle": (lambda: saved(PLAIN, "BMP")[:-99], Reading(), True),
    "EPS files": (lambda: saved(PLAIN, "EPS"), Reading(), True),
    "compressed FITS": (compressed_fits, Reading(), True),
    "FITS values are scaled": (lambda: card(BZERO=32768), Reading(), True),
    "DICOM file, which": (lambda: bytes(128) + b"DICM" + bytes(99), Reading(), False),
    "TIFF file of a kind": (lambda: tiff(np.zeros((9, 9), np.uint64)), Reading(), False),
    "more than 8 bits a value": (
        lambda: tiff(np.zeros((9, 9, 3), np.uint16), photometric="rgb"),
        Reading(),
        False,
    ),
    "planes of their own": (
        lambda: tiff(
            np.zeros((2, 9, 9), np.uint8),
            photometric="minisblack",
            ome=True,
            metadata={"axes": "CYX"},
        ),
        Reading(),
        False,
    ),
    "signed 8-bit": (lambda: tiff(np.zeros((9, 9), np.int8)), Reading(), False),
    "reading its channel 4": (
        lambda: tiff(np.zeros((9, 9, 5), np.uint8), photometric="rgb", extrasamples=[0, 0]),
        Reading(channels=(4,)),
        False,
    ),
    "has 7 bits": (lambda: dicom(VOILUTSequence=voi_table(7, 10)), Reading(), True),
    "of 4096 entries": (lambda: dicom(VOILUTSequence=voi_table(12, 4096)), Reading(), True),
    "VOI LUT function": (lambda: dicom(VOILUTFunction="CUBIC"), Reading(), True),
    "NIfTI data type": (nifti_of_complex_numbers, Reading(), True),
    "it has 1 page": (lambda: saved(PLAIN, "PNG"), Reading(page=3), True),
    "it has 3 channels": (lambda: saved(PLAIN, "PNG"), Reading(channels=(4,)), True),
    "complex numbers": (lambda: tiff(np.zeros((9, 9), np.complex64)), Reading(), True),
    "different sizes": (two_sizes, Reading(page="max"), True),
    "holds no picture": (
        lambda: bytes(128) + b"DICM\x08\0\x05\0CS\x0a\0ISO_IR 100",
        Reading(),
        True,
    ),
}


@pytest.mark.parametrize("reason", REASONS)
def test_a_file_is_refused_as_the_page_says(
    reason: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if reason == "the file is empty":
        (tmp_path / "empty.png").touch()
        with pytest.raises(DataError, match=re.escape(reason)):
            load_image(tmp_path / "empty.png")
        return
    (key,) = [key for key in PROVOKED if key in reason]
    make, reading, with_extra = PROVOKED[key]
    data = make()
    if not with_extra:
        for module in (kinds, pillow):
            monkeypatch.setattr(module, "has_extra", lambda kind: kind == "NIfTI")
    elif "DICOM" in reason:
        pytest.importorskip("pydicom")
    with pytest.raises(DataError) as refused:
        load_image(data, reading=reading)
    assert str(refused.value) == f"Cannot use the image: {reason}."


def written(folder: Path, make: Callable[[int], tuple[str, bytes]]) -> None:
    for number in range(8):
        ending, data = make(number)
        path = folder / "ab"[number % 2] / f"{number}.{ending}"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)


def noise(number: int, *shape: int) -> np.ndarray:
    return np.random.default_rng(number).integers(0, 256, shape, dtype=np.uint8)


def deep(number: int) -> tuple[str, bytes]:
    values = noise(number, 40, 40).astype(np.uint16) * 16
    return "png", saved(Image.fromarray(values), "PNG")


def mixed(number: int) -> tuple[str, bytes]:
    return (
        deep(number)
        if number < 4
        else ("png", saved(Image.fromarray(noise(number, 40, 40)), "PNG"))
    )


def missing(number: int) -> tuple[str, bytes]:
    values = noise(number, 40, 40).astype(np.float32)
    values[0, 0] = np.nan if number == 3 else 0
    return "tif", saved(Image.fromarray(values), "TIFF")


def pages(number: int) -> tuple[str, bytes]:
    first, *others = [Image.fromarray(noise(10 * number + k, 40, 40, 3)) for k in range(3)]
    more = {"save_all": True, "append_images": others} if number == 3 else {}
    return "tif", saved(first, "TIFF", **more)


def infrared(number: int) -> tuple[str, bytes]:
    return "tif", saved(Image.fromarray(noise(number, 40, 40, 4)), "TIFF")


def five(number: int) -> tuple[str, bytes]:
    return "tif", tiff(noise(number, 40, 40, 5), photometric="rgb", extrasamples=[0, 0])


MADE = {
    "deep values": deep, "mixed depths": mixed, "missing values": missing, "pages left out": pages,
    "8 images whose fourth": infrared, "8 images with channels": five,
}  # fmt: skip


@pytest.mark.parametrize(("kind", "message"), FINDINGS)
def test_a_finding_is_worded_as_the_page_says(
    kind: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if kind == "one patient":
        pydicom = pytest.importorskip("pydicom")
        from pydicom.data import get_testdata_file

        def make(number: int) -> tuple[str, bytes]:
            found = pydicom.dcmread(get_testdata_file("MR_small.dcm"))
            found.PixelData = noise(number, 64, 64).astype(np.int16).tobytes()
            stream = io.BytesIO()
            found.save_as(stream)
            return "dcm", stream.getvalue()
    else:
        make = MADE.get(kind) or next(MADE[key] for key in MADE if message.startswith(key))
    written(tmp_path / "d", make)
    dataset = load_dataset(tmp_path / "d")
    pixels = decode_dataset(dataset.items, 32, tmp_path / "cache", reading=dataset.reading)
    report = audit(dataset, pixels.facts).audit
    found = {each.kind.replace("_", " "): each.message for each in report.findings}
    assert found[kind] == message


def test_every_kind_of_finding_is_on_the_page() -> None:
    named = {kind.replace(" ", "_") for kind, _ in FINDINGS}
    assert named == set(PixelKind.__args__)  # type: ignore[attr-defined]


def test_formats_of_the_page_are_read_and_others_are_not() -> None:
    by_pillow = ["JPEG", "PNG", "GIF", "WEBP", "AVIF", "BMP", "TIFF", "JPEG2000", "PPM", "FITS"]
    assert set(by_pillow) <= set(readable_formats())
    assert not {"EPS", "WMF", "MPEG", "GRIB", "BUFR", "HDF5"} & set(readable_formats())
    for name in ("a.dcm", "a.nii", "a.nii.gz", "a.ome.tif", "a.btf", "a.fits", "a.jp2", "a.avif"):
        assert has_image_name(name)
    assert not has_image_name("a.csv.gz")
    assert rows("Formats")[0][0].startswith("JPEG, PNG, GIF, WebP, AVIF, BMP, TIFF, JPEG 2000, PPM")
