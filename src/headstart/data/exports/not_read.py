"""Forms that tools write and that are not read, with what to export instead."""

from collections.abc import Sequence
from pathlib import Path

from headstart.data.exports.export import Place
from headstart.data.manifests import PARQUET_IMAGES
from headstart.inputs.regular_files import open_regular

_SHEETS = frozenset({".xlsx", ".xls", ".ods"})
_BOXES = "headstart classifies whole images, so give each image one label"


def why_not_read(place: Place) -> str:
    """Returns what a folder holds that is known but not read, after a space; else nothing."""
    others = [each.path for each in place.entries if each.kind == "other"]
    for path in others:
        if path.suffix.lower() == ".xml":
            try:
                with open_regular(path) as file:
                    start = file.read(4096)
            except OSError:
                continue
            if b"<annotations>" in start:
                return (
                    f" {place.shown(path)} is an export in the form 'CVAT for images', which is "
                    "not read. Export the task as ImageNet or COCO."
                )
            if b"<annotation" in start:
                return f" {place.shown(path)} holds boxes in the form of Pascal VOC: {_BOXES}."
    for path, content in place.json_files:
        if isinstance(content, dict) and "dm_format_version" in content:
            return (
                f" {place.shown(path)} is an export in the form of Datumaro, which is not read. "
                "Export it as imagenet, imagenet_txt or COCO."
            )
    return _boxes(place, others) or _tables(place, others)


def _boxes(place: Place, others: Sequence[Path]) -> str:
    images = {path.rpartition(".")[0].replace("images/", "labels/") for path in place.images.paths}
    texts = [place.shown(path) for path in others if path.suffix.lower() == ".txt"]
    boxes = [name for name in texts if name.removesuffix(".txt") in images]
    if boxes and "labels/" in boxes[0]:
        return f" {boxes[0]} holds boxes in the form of YOLO: {_BOXES}."
    return ""


def _tables(place: Place, others: Sequence[Path]) -> str:
    parquet = [place.shown(path) for path in others if path.suffix.lower() == ".parquet"]
    if parquet and not place.images.paths:
        return f" {parquet[0]} {PARQUET_IMAGES}."
    sheets = [place.shown(path) for path in others if path.suffix.lower() in _SHEETS]
    if sheets:
        return f" {sheets[0]} is a spreadsheet, which is not read. Save it as CSV in UTF-8."
    return ""
