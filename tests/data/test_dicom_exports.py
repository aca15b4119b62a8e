"""DICOM files without an extension, as media from hospitals have them."""

import io
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from headstart.data import formats
from headstart.data.audit import audit
from headstart.data.decode import decode_dataset
from headstart.data.images_in import images_in
from headstart.data.sources import load_dataset
from headstart.data.types import Dataset
from headstart.inference.image_inputs import image_inputs

pydicom = pytest.importorskip("pydicom")


def scan(number: int) -> bytes:
    """A picture of patient `number // 4`."""
    from pydicom.data import get_testdata_file

    found = pydicom.dcmread(get_testdata_file("MR_small.dcm"))
    values = np.random.default_rng(number).integers(0, 2000, (64, 64)).astype(np.int16)
    found.PixelData, found.PatientID = values.tobytes(), f"P{number // 4}"
    stream = io.BytesIO()
    found.save_as(stream)
    return stream.getvalue()


def export(root: Path, name: str, count: int = 16) -> Path:
    for number in range(count):
        path = root / "ab"[number % 2] / name.format(number)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(scan(number))
    return root


def groups_of_patients(dataset: Dataset, cache: Path) -> list[tuple[int, int]]:
    """Each pair of a patient and a group, once."""
    pixels = decode_dataset(dataset.items, 32, cache, reading=dataset.reading)
    result = audit(dataset, pixels.facts)
    patients = [int(dataset.items[row].path.name[-2:]) // 4 for row in result.kept.tolist()]
    return sorted(set(zip(patients, result.groups.tolist(), strict=True)))


@pytest.mark.parametrize("name", ["IM0000{:02}", "1.2.840.113619.2.{:02}", "MR.1.2.840.{:02}"])
def test_a_folder_is_read_with_its_patients(name: str, tmp_path: Path) -> None:
    dataset = load_dataset(export(tmp_path / "d", name))
    assert Counter(item.label for item in dataset.items) == {"a": 8, "b": 8}
    pairs = groups_of_patients(dataset, tmp_path / "cache")
    assert [patient for patient, _ in pairs] == [0, 1, 2, 3]
    assert len({group for _, group in pairs}) == 4


def test_a_manifest_is_read_with_its_patients(tmp_path: Path) -> None:
    export(tmp_path / "d", "IM0000{:02}")
    rows = [f"{'ab'[n % 2]}/IM0000{n:02},{'ab'[n % 2]}" for n in range(16)]
    (tmp_path / "d" / "list.csv").write_text("\n".join(["path,label", *rows]))
    dataset = load_dataset(tmp_path / "d" / "list.csv")
    assert Counter(item.label for item in dataset.items) == {"a": 8, "b": 8}
    pairs = groups_of_patients(dataset, tmp_path / "cache")
    assert [patient for patient, _ in pairs] == [0, 1, 2, 3]
    assert len({group for _, group in pairs}) == 4


def test_other_files_without_extension_are_named(tmp_path: Path) -> None:
    root = export(tmp_path / "d", "IM0000{:02}", 4)
    (root / "a" / "README").write_text("words")
    (root / "a" / "empty").touch()
    (root / "a" / "part.001").write_bytes(bytes(500))
    (root / "b" / "DICOMDIR").write_bytes(scan(0))  # the index of the medium
    (root / "b" / "scan.txt").write_bytes(scan(0))  # another extension is believed
    dataset = load_dataset(root)
    assert Counter(item.label for item in dataset.items) == {"a": 2, "b": 2}
    (passed,) = dataset.passed_over
    assert passed.reason == "unknown_extension"
    assert passed.names == ("a/README", "a/empty", "a/part.001", "b/DICOMDIR", "b/scan.txt")


def test_predict_finds_them_in_folders_and_by_patterns(tmp_path: Path) -> None:
    root = export(tmp_path / "d", "IM0000{:02}", 2)
    (root / "a" / "README").write_text("words")
    expected = [root / "a" / "IM000000", root / "b" / "IM000001"]
    assert images_in([root]) == expected
    assert [each.source for each in image_inputs(str(root / "*" / "*"))] == expected


def test_132_bytes_tell_and_only_without_an_extension(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[str] = []
    sizes: list[int] = []
    open_, read = formats.os.open, formats.os.read

    def counted(path: Path, flags: int) -> int:
        opened.append(Path(path).name)
        return open_(path, flags)

    def measured(descriptor: int, size: int) -> bytes:
        sizes.append(size)
        return read(descriptor, size)

    for name in ("IM000001", "a.png", "b.txt", "1.2.3", "DICOMDIR", "c.dcm"):
        (tmp_path / name).write_bytes(scan(0))
    monkeypatch.setattr(formats.os, "open", counted)
    monkeypatch.setattr(formats.os, "read", measured)
    names = [path.name for path in sorted(tmp_path.iterdir()) if formats.is_image_file(path)]
    assert names == ["1.2.3", "IM000001", "a.png", "c.dcm"]
    assert opened == ["1.2.3", "IM000001"]
    assert sizes == [132, 132]


def test_what_cannot_be_opened_is_no_image(tmp_path: Path) -> None:
    assert not formats.is_image_file(tmp_path / "IM000001")
    (tmp_path / "folder").mkdir()
    assert not formats.is_image_file(tmp_path / "folder")
