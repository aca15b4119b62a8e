"""Stanford Cars in its official forms, with its MATLAB annotations.

Krause, Stark, Deng, Fei-Fei: 3D Object Representations for Fine-Grained Categorization, 3dRR 2013.
Field names are those of the devkit's README.
"""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

from headstart.data.locate import locate
from headstart.data.types import Box, Dataset, Item, SplitName
from headstart.errors import DataError

MAX_MAT_BYTES = 64 * 2**20
_BOX_FIELDS = ("bbox_x1", "bbox_y1", "bbox_x2", "bbox_y2")
_CONFLICTS = "Stanford Cars holds a few identical images with conflicting labels."


def is_stanford_cars(folder: Path) -> bool:
    """Returns whether `folder` holds the annotations of Stanford Cars, itself or in `devkit/`."""
    return any(_mat(folder, name) for name in ("cars_train_annos.mat", "cars_annos.mat"))


def load_stanford_cars(folder: Path, *, boxes: Literal["crop", "keep"]) -> Dataset:
    """Reads the devkit (`cars_train/`, `cars_test/`) or the one-file form (`car_ims/`).

    Args:
        folder: Folder with the images; the `.mat` files are in it or in its `devkit/`.
        boxes: "crop" cuts each image to its official box; "keep" leaves it whole.

    Raises:
        DataError: If a file is missing or damaged, or an annotation is invalid.
    """
    root = folder.resolve()
    train = _mat(root, "cars_train_annos.mat")
    every = _mat(root, "cars_annos.mat")
    notes = [_CONFLICTS]
    if every and ((root / "car_ims").is_dir() or not train):
        items = list(_read_one_file(root, every))
    elif train:
        classes = _class_names(_read_mat(_need(root, "cars_meta.mat")))
        items = list(_read_half(root, train, classes, "train"))
        test = _mat(root, "cars_test_annos_withlabels.mat")
        if test and (root / "cars_test").is_dir():
            items += _read_half(root, test, classes, "test")
        else:
            lacking = "cars_test/" if test else "cars_test_annos_withlabels.mat"
            notes.append(f"The official test set is not used: {lacking} is not in the folder.")
    else:
        raise DataError(f"{root} holds no annotations of Stanford Cars.")
    if boxes == "keep":
        items = [replace(item, box=None) for item in items]
    return Dataset(name="stanford_cars", root=root, items=tuple(items), notes=tuple(notes))


def _mat(folder: Path, name: str) -> Path | None:
    places = (folder / name, folder / "devkit" / name)
    return next((place for place in places if place.is_file()), None)


def _need(root: Path, name: str) -> Path:
    if (path := _mat(root, name)) is None:
        raise DataError(f"{name} is missing in {root} and in its devkit folder.")
    return path


def _read_mat(path: Path) -> dict[str, Any]:
    from scipy.io import loadmat  # noqa: PLC0415 - 0.3 s that few need

    if path.stat().st_size > MAX_MAT_BYTES:
        raise DataError(
            f"{path} is larger than {MAX_MAT_BYTES >> 20} MB, too large for annotations."
        )
    try:
        contents: dict[str, Any] = loadmat(path, squeeze_me=True)
    except Exception as error:  # scipy's reader answers damage with almost any exception
        raise DataError(f"{path} cannot be read as a MATLAB file: {error}.") from error
    return contents


def _class_names(contents: dict[str, Any]) -> list[str]:
    import numpy as np  # noqa: PLC0415

    names = [str(name).strip() for name in np.atleast_1d(contents.get("class_names", []))]
    if not names:
        raise DataError("The annotations of Stanford Cars hold no class_names.")
    return names


def _annotations(path: Path, contents: dict[str, Any], fields: set[str]) -> Iterator[Any]:
    import numpy as np  # noqa: PLC0415

    annotations = np.atleast_1d(contents.get("annotations", []))
    missing = fields - set(annotations.dtype.names or ())
    if missing:
        raise DataError(f"The annotations in {path} have no {', '.join(sorted(missing))}.")
    return iter(annotations)


def _read_half(root: Path, path: Path, classes: list[str], split: SplitName) -> Iterator[Item]:
    images = root / f"cars_{split}"
    if not images.is_dir():
        raise DataError(f"The images of Stanford Cars are missing: there is no {images}.")
    rows = _annotations(path, _read_mat(path), {*_BOX_FIELDS, "class", "fname"})
    for number, row in enumerate(rows, start=1):
        where = f"annotation {number} of {path.name}"
        image, _ = locate(str(row["fname"]), images, where, inside=root)
        label, box = _label_and_box(row, classes, where)
        yield Item(path=image, label=label, split=split, box=box)


def _read_one_file(root: Path, path: Path) -> Iterator[Item]:
    contents = _read_mat(path)
    names_from = contents if "class_names" in contents else _read_mat(_need(root, "cars_meta.mat"))
    classes = _class_names(names_from)
    fields = {*_BOX_FIELDS, "class", "test", "relative_im_path"}
    for number, row in enumerate(_annotations(path, contents, fields), start=1):
        where = f"annotation {number} of {path.name}"
        image, _ = locate(str(row["relative_im_path"]), root, where, inside=root)
        label, box = _label_and_box(row, classes, where)
        yield Item(path=image, label=label, split="test" if row["test"] else "train", box=box)


def _label_and_box(row: Any, classes: list[str], where: str) -> tuple[str, Box]:
    """Looks the class up and turns MATLAB's corners (from 1, both inside the box) into ours."""
    try:
        number = int(row["class"])
        x1, y1, x2, y2 = (int(row[field]) for field in _BOX_FIELDS)
    except (TypeError, ValueError) as error:
        raise DataError(f"The class or box is not a number ({where}).") from error
    if not 1 <= number <= len(classes):
        raise DataError(f"There is no class {number} among {len(classes)} ({where}).")
    if x2 < max(x1, 1) or y2 < max(y1, 1):
        raise DataError(f"The box {x1},{y1},{x2},{y2} holds no pixel ({where}).")
    return classes[number - 1], (max(x1 - 1, 0), max(y1 - 1, 0), x2, y2)
