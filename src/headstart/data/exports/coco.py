"""COCO files in which every image has one category."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, TypeAlias

from headstart.data.exports.export import Export, Place, marked, splits_of
from headstart.data.table_row import TableRow
from headstart.errors import DataError

_Id: TypeAlias = int | float | str


def is_coco(content: Any) -> bool:
    """Whether the content of a JSON file is COCO's, with categories."""
    if not isinstance(content, dict):
        return False
    return all(
        isinstance(content.get(name), list) for name in ("images", "annotations", "categories")
    )


def read_coco(files: Sequence[tuple[Path, Any]], place: Place) -> Export:
    """Reads COCO files, one for all images or one for each split.

    Args:
        files: The files with their contents.
        place: Folder of the images.

    Raises:
        DataError: A file is damaged, or two label the same split.
    """
    labelled = [(path, content) for path, content in files if content["annotations"]]
    if not labelled:
        raise DataError(f"No image in {files[0][0]} has a category.")
    # Roboflow calls all of them `_annotations.coco.json`, in the folders of the splits.
    folders = {path.parent for path, _ in labelled}
    by_folder = len(folders) == len(labelled) and place.root not in folders
    said = {path: path.parent.name if by_folder else path.name for path, _ in labelled}
    splits = splits_of(said.values())
    if len(labelled) > 1 and None in splits.values():
        names = ", ".join(repr(place.shown(path)) for path, _ in labelled)
        raise DataError(f"{place.root} holds several COCO files: {names}. Give one as the source.")
    rows: list[TableRow] = []
    boxes = astray = 0
    for path, content in labelled:
        name = place.shown(path)
        near = place.shown(path.parent) if by_folder else splits[said[path]] or ""
        split = splits[said[path]] if len(labelled) > 1 else None
        boxes += sum(bool(_get(each, "bbox") or _get(each, "segmentation"))
                     for each in content["annotations"])  # fmt: skip
        images = _by_id(content, "images", "file_name", name)
        astray += sum(_id(each, "image_id") not in images for each in content["annotations"])
        rows += _rows(content, name, near, split, place)
    notes = {
        "Boxes and outlines that are not used, as whole images are classified": boxes,
        "Annotations of images that their file does not list": astray,
    }
    return Export(
        "COCO with any number of categories an image"
        if any(isinstance(row.label, tuple) and row.label for row in rows)
        else "COCO with one category an image",
        rows,
        tuple(path for path, _ in files),
        tuple(f"{what}: {count:,}." for what, count in notes.items() if count),
    )


def _by_id(content: dict[str, Any], kind: str, field: str, name: str) -> dict[_Id, Any]:
    """Returns a field of each image or category by its id.

    Raises:
        DataError: An id is neither a number nor text, or stands for two things.
    """
    found: dict[_Id, Any] = {}
    for number, each in enumerate(content[kind], start=1):
        key, value = _id(each, "id"), _get(each, field)
        if key == "":
            raise DataError(f"There is no id (entry {number} of {kind} in {name}).")
        if found.setdefault(key, value) != value:
            raise DataError(
                f"The id {key!r} stands for {found[key]!r} and for {value!r} ({kind} in {name}). "
                "Export again, or give each its own id."
            )
    return found


def _get(content: Any, name: str) -> Any:
    return content.get(name) if isinstance(content, dict) else None


def _id(content: Any, name: str) -> _Id:
    """Returns an id; empty if it is neither a number nor text."""
    found = _get(content, name)
    return found if isinstance(found, int | float | str) else ""


def _rows(
    content: dict[str, Any], name: str, near: str, split: str | None, place: Place
) -> Iterator[TableRow]:
    categories = _by_id(content, "categories", "name", name)
    labels: dict[_Id, list[str]] = {}
    for number, each in enumerate(content["annotations"], start=1):
        category = categories.get(_id(each, "category_id"))
        if category is None:
            raise DataError(
                f"There is no category {_get(each, 'category_id')!r} (annotation {number} of "
                f"{name})."
            )
        labels.setdefault(_id(each, "image_id"), []).append(str(category))
    for number, each in enumerate(content["images"], start=1):
        where = f"image {number} of {name}"
        file = _get(each, "file_name")
        if not isinstance(file, str) or not file:
            raise DataError(f"There is no file_name ({where}).")
        found = labels.get(_id(each, "id"), [])
        yield TableRow(where, place.find(file, where, near), marked(found), split)
