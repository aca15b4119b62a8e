"""Stanford Cars: a small devkit in the official MATLAB form."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.io import savemat

from headstart.data.sources import load_dataset
from headstart.errors import DataError
from headstart.recipes.options import SourceOptions

CLASSES = ["AM General Hummer SUV 2000", "Ram C/V Cargo Van Minivan 2012"]
BOX = ("bbox_x1", "bbox_y1", "bbox_x2", "bbox_y2")
DEVKIT = (*BOX, "class", "fname")
ONE_FILE = ("relative_im_path", *BOX, "class", "test")


def struct_array(fields: tuple[str, ...], rows: list[tuple[Any, ...]]) -> Any:
    """MATLAB's 1 x N struct array, its numbers as small as MATLAB stores them (uint8)."""
    array = np.empty((1, len(rows)), dtype=[(field, object) for field in fields])
    for place, row in enumerate(rows):
        values = (np.uint8(v) if isinstance(v, int) and v < 256 else v for v in row)
        array[0, place] = tuple(values)
    return array


def write_devkit(root: Path, test: str | None = "cars_test_annos_withlabels.mat") -> Path:
    devkit = root / "devkit"
    devkit.mkdir()
    names = np.array([CLASSES], dtype=object)
    savemat(devkit / "cars_meta.mat", {"class_names": names})
    train = [(39, 116, 569, 375, 2, "00001.jpg"), (1, 1, 20, 10, 1, "00002.jpg")]
    savemat(devkit / "cars_train_annos.mat", {"annotations": struct_array(DEVKIT, train)})
    labelled = [(30, 52, 246, 147, 1, "00001.jpg")]
    unlabelled = struct_array((*BOX, "fname"), [(30, 52, 246, 147, "00001.jpg")])
    savemat(devkit / "cars_test_annos.mat", {"annotations": unlabelled})
    if test:
        savemat(root / test, {"annotations": struct_array(DEVKIT, labelled)})
    for name in ("cars_train/00001.jpg", "cars_train/00002.jpg", "cars_test/00001.jpg"):
        (root / name).parent.mkdir(exist_ok=True)
        (root / name).touch()
    return root


def refusal(source: Path) -> str:
    with pytest.raises(DataError) as caught:
        load_dataset(source)
    return str(caught.value)


def rewrite_train(root: Path, *rows: tuple[Any, ...]) -> None:
    path = root / "devkit" / "cars_train_annos.mat"
    savemat(path, {"annotations": struct_array(DEVKIT, list(rows))})


def test_devkit(tmp_path: Path) -> None:
    dataset = load_dataset(write_devkit(tmp_path))
    # MATLAB counts pixels from 1 and its box holds both corners: 39..569 is 38..568, so [38, 569).
    assert [(dataset.key(i), x.label, x.split, x.box) for i, x in enumerate(dataset.items)] == [
        ("cars_test/00001.jpg", CLASSES[0], "test", (29, 51, 246, 147)),
        ("cars_train/00001.jpg", CLASSES[1], "train", (38, 115, 569, 375)),
        ("cars_train/00002.jpg", CLASSES[0], "train", (0, 0, 20, 10)),
    ]
    assert dataset.name == "stanford_cars"
    assert dataset.notes == ("Stanford Cars holds a few identical images with conflicting labels.",)


def test_boxes_can_be_kept_in_the_picture(tmp_path: Path) -> None:
    cropped = load_dataset(write_devkit(tmp_path))
    whole = load_dataset(tmp_path, SourceOptions(boxes="keep"))
    assert [item.box for item in whole.items] == [None] * 3
    assert [item.label for item in whole.items] == [item.label for item in cropped.items]
    assert [item.split for item in whole.items] == ["test", "train", "train"]


def test_mat_files_may_lie_beside_the_images(tmp_path: Path) -> None:
    write_devkit(tmp_path)
    for path in (tmp_path / "devkit").iterdir():
        path.rename(tmp_path / path.name)
    assert len(load_dataset(tmp_path).items) == 3


def test_without_test_labels_only_train_is_used(tmp_path: Path) -> None:
    dataset = load_dataset(write_devkit(tmp_path, test=None))
    assert [item.split for item in dataset.items] == ["train", "train"]
    assert dataset.notes[1] == (
        "The official test set is not used: cars_test_annos_withlabels.mat is not in the folder."
    )


def test_without_test_images_only_train_is_used(tmp_path: Path) -> None:
    write_devkit(tmp_path)
    (tmp_path / "cars_test" / "00001.jpg").unlink()
    (tmp_path / "cars_test").rmdir()
    dataset = load_dataset(tmp_path)
    assert len(dataset.items) == 2
    assert "cars_test/ is not in the folder" in dataset.notes[1]


def test_the_one_file_form(tmp_path: Path) -> None:
    rows = [
        ("car_ims/000001.jpg", 112, 7, 853, 717, 1, 0),
        ("car_ims/000002.jpg", 48, 24, 441, 202, 2, 0),
        ("car_ims/000003.jpg", 7, 4, 277, 180, 2, 1),
    ]
    contents = {
        "annotations": struct_array(ONE_FILE, rows),
        "class_names": np.array([CLASSES], dtype=object),
    }
    savemat(tmp_path / "cars_annos.mat", contents)
    (tmp_path / "car_ims").mkdir()
    for name, *_ in rows:
        (tmp_path / name).touch()
    dataset = load_dataset(tmp_path)
    assert [(dataset.key(i), x.label, x.split, x.box) for i, x in enumerate(dataset.items)] == [
        ("car_ims/000001.jpg", CLASSES[0], "train", (111, 6, 853, 717)),
        ("car_ims/000002.jpg", CLASSES[1], "train", (47, 23, 441, 202)),
        ("car_ims/000003.jpg", CLASSES[1], "test", (6, 3, 277, 180)),
    ]


def test_missing_images(tmp_path: Path) -> None:
    write_devkit(tmp_path)
    (tmp_path / "cars_train" / "00002.jpg").unlink()
    assert "There is no file '00002.jpg'" in refusal(tmp_path)
    (tmp_path / "cars_train").rename(tmp_path / "elsewhere")
    assert "The images of Stanford Cars are missing" in refusal(tmp_path)


def test_annotations_cannot_point_outside(tmp_path: Path) -> None:
    (tmp_path / "outside.jpg").touch()
    (tmp_path / "cars").mkdir()
    write_devkit(tmp_path / "cars")
    rewrite_train(tmp_path / "cars", (1, 1, 9, 9, 1, "../../outside.jpg"))
    message = refusal(tmp_path / "cars")
    assert "is outside" in message
    assert "annotation 1 of cars_train_annos.mat" in message


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ((1, 1, 9, 9, 3, "00001.jpg"), "no class 3 among 2"),
        ((1, 1, 9, 9, 0, "00001.jpg"), "no class 0 among 2"),
        ((9, 1, 8, 9, 1, "00001.jpg"), "holds no pixel"),
        (("x", 1, 8, 9, 1, "00001.jpg"), "not a number"),
    ],
)
def test_annotations_that_cannot_be_right(
    tmp_path: Path, row: tuple[Any, ...], reason: str
) -> None:
    write_devkit(tmp_path)
    rewrite_train(tmp_path, row)
    assert reason in refusal(tmp_path)


def test_damaged_and_incomplete_devkits(tmp_path: Path) -> None:
    write_devkit(tmp_path)
    (tmp_path / "cars_test_annos_withlabels.mat").unlink()
    savemat(tmp_path / "devkit" / "cars_train_annos.mat", {"something": 1})
    assert "have no bbox_x1, " in refusal(tmp_path)
    (tmp_path / "devkit" / "cars_train_annos.mat").write_bytes(b"no MATLAB file")
    assert "cannot be read as a MATLAB file" in refusal(tmp_path)
    (tmp_path / "devkit" / "cars_meta.mat").unlink()
    assert "cars_meta.mat is missing" in refusal(tmp_path)
