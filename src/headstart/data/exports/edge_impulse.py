"""Labels in file names, as Edge Impulse and Teachable Machine write them, and `info.labels`."""

import re
from collections import Counter
from collections.abc import Collection, Iterator
from pathlib import Path, PurePosixPath
from typing import Any

from headstart.data.exports.export import Export, Place, dicts_in, json_of, only
from headstart.data.folder_names import is_unlabelled
from headstart.data.formats import has_image_name
from headstart.data.split_names import split_of
from headstart.data.table_row import TableRow
from headstart.errors import DataError

INFO = "info.labels"
_BOXES = "bounding_boxes.labels"
_CATEGORIES = {"training": "train", "testing": "test", "validation": "val"}
_NAMES = (
    ("names of Teachable Machine (LABEL-!-NUMBER.jpg)", re.compile(r"(.+)-!-\d+\.\w+")),
    ("names of Edge Impulse (LABEL.REST.jpg)", re.compile(r"([A-Za-z0-9 _-]+)\..+\.\w+")),
)
"""Forms of names with labels, each with its label as the first group."""

_CAMERAS = frozenset(
    {"cimg", "dcim", "dji", "dsc", "dscf", "dscn", "gopr", "img", "imgp", "mvimg", "pict", "pxl"}
    | {"screenshot", "vid", "whatsapp"}
)
"""Words that devices and programs begin the names of their files with."""

_NAMELESS = _CAMERAS | {
    *("am", "at", "copy", "frame", "image", "mov", "photo", "pic", "picture", "pm", "scan"),
    *("shot", "snap", "wa"),
}
"""Words that may stand for any image."""


def read_info(place: Place) -> Export | None:
    """Reads `info.labels` in the root or in folders of splits; None if there is none.

    Raises:
        DataError: It is damaged, or labels boxes rather than images.
    """
    files = place.files(INFO)
    if not files:
        if place.files(_BOXES):
            raise DataError(
                f"{place.root} holds boxes of Edge Impulse ({_BOXES}). headstart classifies whole "
                "images; export a project with one label for each image."
            )
        return None
    top = [path for path in files if path.parent == place.root]
    rows = [row for path in top or files for row in _info_rows(path, place)]
    return Export(f"an export of Edge Impulse ({INFO})", rows, tuple(files))


def _info_rows(path: Path, place: Place) -> Iterator[TableRow]:
    content = json_of(path)
    listed = content.get("files") if isinstance(content, dict) else None
    if not isinstance(listed, list):
        raise DataError(f"{path} has no list of files.")
    name = place.shown(path)
    for number, each in enumerate(listed, start=1):
        where = f"file {number} of {name}"
        file = each.get("path") if isinstance(each, dict) else None
        if not isinstance(file, str):
            raise DataError(f"There is no path ({where}).")
        if not has_image_name(file):
            continue  # a sound or a series of numbers
        split = _CATEGORIES.get(str(each.get("category")).lower())
        near = place.shown(path.parent) if path.parent != place.root else split or ""
        yield TableRow(where, place.find(file, where, near), only(_labels(each, where)), split)


def _labels(each: dict[str, Any], where: str) -> list[str]:
    label = each.get("label")
    if isinstance(label, str):
        return [label]
    if not isinstance(label, dict) or label.get("type") == "unlabeled":
        if each.get("boundingBoxes"):
            raise DataError(
                f"The labels are boxes ({where}). headstart classifies whole images; export a "
                "project with one label for each image."
            )
        return []
    if label.get("type") == "multi-label":
        return [str(part.get("label")) for part in dicts_in(label.get("labels"))]
    return [str(label["label"])] if label.get("label") not in (None, "") else []


def read_names(place: Place) -> Export | None:
    """Reads labels from the names of images that lie in no class folder; None if they say none.

    All images lie in the folder itself or in folders of splits. Every label has two images or
    more. Names of Edge Impulse do not begin as cameras name files, and not all of their labels
    are numbers, dates, or words that stand for any image.
    """
    if not place.is_flat:
        return None
    paths = [PurePosixPath(each) for each in place.images.paths]
    labelled = [path for path in paths if not _has_no_label(path)]
    if not labelled or any(not _is_flat(path) for path in labelled):
        return None
    for form, pattern in _NAMES:
        found = [(path, pattern.fullmatch(path.name)) for path in labelled]
        if not all(match for _, match in found):
            continue
        labels = [match[1].strip() for _, match in found if match]
        counts = Counter(labels)
        not_labels = form.startswith("names of Edge") and _say_nothing(counts)
        if len(counts) < 2 or min(counts.values()) < 2 or not_labels:
            continue
        rows = [
            TableRow(str(path), str(path), label, _split(path))
            for path, label in zip(labelled, labels, strict=True)
        ]
        if not any(row.split == "train" for row in rows) or {row.split for row in rows} == {
            "train"
        }:
            rows = [TableRow(row.where, row.path, row.label) for row in rows]
        return Export(form, rows)
    return None


def _say_nothing(labels: Collection[str]) -> bool:
    """Whether labels are what cameras, scanners and clocks call any image.

    Example:
        >>> _say_nothing(["IMG", "ants"]), _say_nothing(["2024-01", "2024-02"])
        (True, True)
        >>> _say_nothing(["photo", "scan 2"]), _say_nothing(["photo", "drawing"])
        (True, False)
    """
    words = [re.findall("[a-z]+", label.lower()) for label in labels]
    camera = any(each and each[0] in _CAMERAS for each in words)
    return camera or (len(labels) > 1 and all(_NAMELESS.issuperset(each) for each in words))


def _folders(path: PurePosixPath) -> tuple[str, ...]:
    return path.parts[:-1]


def _is_flat(path: PurePosixPath) -> bool:
    """Whether an image lies in the root, or in folders that are all named like one split."""
    splits = {split_of(folder) for folder in _folders(path)}
    return not splits or (len(splits) == 1 and None not in splits)


def _split(path: PurePosixPath) -> str | None:
    return split_of(path.parts[0]) if _folders(path) else None


def _has_no_label(path: PurePosixPath) -> bool:
    """Whether an image is of a test set without labels, by its folder and a name without dots."""
    folders = _folders(path)
    if not folders:
        return False
    bare = "." not in path.stem and "-!-" not in path.stem
    return is_unlabelled(folders[0]) or (split_of(folders[0]) in {"test", "val"} and bare)
