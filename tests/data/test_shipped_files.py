"""Every file in the data folders of other packages is read, or refused in one line.

pydicom brings scans, directories of media, palettes and texts; scikit-learn, matplotlib and (where
it is installed) scikit-image bring photographs, tables and arrays. Nothing is downloaded.
"""

import importlib.util
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from headstart.data.formats import is_image_file
from headstart.data.images import BadImageError, Header, Learned, read_image
from headstart.data.reading import EACH

NO_PICTURE = {
    "this DICOM file holds no picture (no SOP class)",
    "this DICOM file holds no picture (CT Image Storage)",
}

PLACES = {
    "pydicom": "data",
    "matplotlib": "mpl-data",
    "scipy": "datasets",
    "skimage": "data",
    "sklearn": "datasets",
    "tifffile": ".",
}


def shipped(package: str, folder: str) -> list[Path]:
    """Files below a folder of a package; none where it is not installed."""
    found = importlib.util.find_spec(package)
    places = (found.submodule_search_locations or ()) if found else ()
    files = [path for place in places for path in Path(place, folder).rglob("*")]
    return sorted(path for path in files if path.is_file() and path.suffix not in {".py", ".pyc"})


FILES = {package: shipped(package, folder) for package, folder in PLACES.items()}


def read(path: Path) -> tuple[np.ndarray, Header, Learned] | str:
    """What is read, or the reason for which it is not."""
    try:
        image, header, learned = read_image(path, None, 10_000, EACH)
    except BadImageError as bad:
        return bad.reason
    return np.asarray(image), header, learned


@pytest.mark.parametrize("package", FILES)
def test_every_file_is_read_or_refused_in_one_line(package: str) -> None:
    pytest.importorskip("pydicom")
    pytest.importorskip("imagecodecs")
    for path in FILES[package]:
        got = read(path)
        if isinstance(got, str):
            assert got and "\n" not in got, path
            assert "Traceback" not in got and "expected str" not in got, path
            assert len(got) < 250, path
        else:
            assert got[0].ndim == 3 and got[0].dtype == np.uint8, path
            assert is_image_file(path) or path.suffix in {".gz", ".fits"}, path


def test_the_files_are_there() -> None:
    pytest.importorskip("pydicom")
    counts = {package: len(files) for package, files in FILES.items()}
    assert counts["pydicom"] > 150
    assert counts["sklearn"] >= 2 and counts["matplotlib"] >= 3


def test_scans_without_extension_on_a_medium_are_images() -> None:
    pytest.importorskip("pydicom")
    medium = [path for path in FILES["pydicom"] if "dicomdirtests" in path.parts]
    scans = [path for path in medium if is_image_file(path)]
    assert len(scans) >= 70
    indexes = [path for path in medium if path.name.startswith("DICOMDIR") and not path.suffix]
    assert len(indexes) >= 5 and not set(indexes) & set(scans)
    without = [path for path in scans if isinstance(read(path), str)]
    assert {read(path) for path in without} <= NO_PICTURE
    assert len(scans) - len(without) >= 20


def expected_of(path: Path, learned: Learned) -> np.ndarray:
    """What pydicom says of the first frame, from 0 to 255; NaN where it is padding."""
    import pydicom
    from pydicom.pixels import apply_color_lut, apply_modality_lut, apply_voi, pixel_array

    found: Any = pydicom.dcmread(path, force=True)
    stored = pixel_array(found, index=0)
    if found.PhotometricInterpretation == "PALETTE COLOR":
        coloured = apply_color_lut(stored, found)
        return (coloured >> 8 if coloured.dtype.itemsize > 1 else coloured).astype(float)
    values = stored.astype(float)
    if found.SamplesPerPixel == 1:
        values = np.asarray(apply_voi(apply_modality_lut(stored, found), found)).astype(float)
    if found.BitsAllocated == 1:
        values = values * 255
    if learned.range is not None:
        low, high = learned.range
        values = np.clip((values - low) / max(high - low, 1e-12) * 255, 0, 255)
    if found.PhotometricInterpretation == "MONOCHROME1":
        values = 255 - values
    return values if values.ndim == 3 else np.dstack([values] * 3)


@pytest.mark.filterwarnings("ignore::UserWarning")  # pydicom tells of damage
def test_values_are_those_that_pydicom_reads() -> None:
    pytest.importorskip("pydicom")
    pytest.importorskip("imagecodecs")
    compared = 0
    for path in FILES["pydicom"]:
        got = read(path) if path.suffix in {".dcm", ""} else ""
        if isinstance(got, str):
            continue
        seen, _, learned = got
        expected = expected_of(path, learned)
        if max(expected.shape[:2]) > 3 * min(expected.shape[:2]):
            continue  # cut to three times its shorter side
        away = np.abs(seen.astype(float) - expected)
        padding = (seen == 0) & (learned.missing > 0)
        assert away[~padding].max() <= 0.51, path
        compared += 1
    assert compared >= 90


@pytest.mark.parametrize("package", ["sklearn", "matplotlib", "skimage"])
def test_values_are_those_that_other_libraries_read(package: str) -> None:
    imagecodecs = pytest.importorskip("imagecodecs")
    names = {".png": imagecodecs.png_decode, ".jpg": imagecodecs.jpeg_decode}
    paths = [path for path in FILES[package] if path.suffix in names]
    if not paths:
        pytest.skip(f"{package} is not installed")
    for path in paths:
        got = read(path)
        assert not isinstance(got, str), path
        values = np.asarray(names[path.suffix](path.read_bytes())).astype(float)
        values = values[..., None] if values.ndim == 2 else values
        if got[2].range is not None:
            low, high = got[2].range
            values = np.clip((values - low) / (high - low), 0, 1) * 255
        if values.shape[2] in (2, 4):
            opacity = values[..., -1:] / 255
            values = values[..., :-1] * opacity + 255 * (1 - opacity)
        if max(values.shape[:2]) <= 3 * min(values.shape[:2]):
            assert np.abs(got[0] - values).mean() < 1, path
