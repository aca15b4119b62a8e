"""Class folders, and train/val/test folders of class folders."""

import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from headstart.data.formats import HEIF_EXTENSIONS, readable_extensions
from headstart.data.types import Dataset, Item, SplitName
from headstart.errors import DataError

SPLIT_ALIASES: dict[str, SplitName] = {
    "train": "train",
    "training": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "eval": "val",
    "evaluation": "val",
    "test": "test",
    "testing": "test",
}
"""Lower-case names that a split goes by."""

_CLUTTER = frozenset({"thumbs.db", "desktop.ini", "__macosx"})

_Kind = Literal["image", "other", "folder", "outside", "broken", "counted", "unnameable"]


def images_in(paths: Iterable[Path]) -> list[Path]:
    """Returns the paths with each folder among them replaced by the images below it, sorted.

    Raises:
        DataError: If a folder holds no images.
    """
    found: list[Path] = []
    for path in paths:
        if not path.is_dir():
            found.append(path)
            continue
        inside = sorted(
            each
            for each in path.rglob("*")
            if each.suffix.lower() in readable_extensions()
            and each.is_file()
            and not any(part.startswith(".") for part in each.relative_to(path).parts)
        )
        if not inside:
            raise DataError(f"There are no images in the folder {path}.")
        found += inside
    return found


@dataclass(frozen=True)
class _Entry:
    """One thing in a folder. `real` is `path` with every link resolved."""

    kind: _Kind
    path: Path
    real: Path
    is_link: bool = False


def load_folder(folder: Path) -> Dataset:
    """Reads `folder/CLASS/**/IMAGE`, or `folder/{train,val,test}/CLASS/**/IMAGE`.

    Symbolic links are followed where they stay inside the folder. Hidden files are passed over.

    Raises:
        DataError: There are no images in class folders, or the layout is not clear.
    """
    root = folder.resolve()
    top = _list(root, root, root)
    splits = _split_folders(root, top)
    rest = [entry for entry in top if entry.kind != "folder"]
    classes: list[tuple[SplitName | None, _Entry]] = []
    if splits:
        for name, entry in splits.items():
            inside = _list(entry.path, entry.real, root)
            folders = [(name, child) for child in inside if child.kind == "folder"]
            if name == "train" and not folders and any(e.kind == "image" for e in inside):
                raise DataError(_no_classes(entry.path))
            classes += folders
            rest += [child for child in inside if child.kind != "folder"]
    else:
        classes = [(None, entry) for entry in top if entry.kind == "folder"]

    items: list[Item] = []
    empty: list[Path] = []
    for split, entry in classes:
        label = entry.path.name.strip()
        if not label:
            raise DataError(f"A class folder in {root} has a name of spaces only; rename it.")
        inside = list(_walk(entry, root))
        images = [child.path for child in inside if child.kind == "image"]
        items += [Item(path=path, label=label, split=split) for path in images]
        rest += [child for child in inside if child.kind != "image"]
        if not images:
            empty.append(entry.path)
    if not items:
        raise DataError(_no_images(root, rest))
    left_out = [entry for entry in top if entry.kind == "folder"] if splits else []
    unused = [entry.path for entry in left_out if entry not in splits.values()]
    return Dataset(
        name=root.name or "images",
        root=root,
        items=tuple(items),
        notes=tuple(_notes(root, rest, empty, unused)),
        ignored=tuple(sorted(_shown(entry.path, root) for entry in rest if entry.kind == "other")),
    )


def _list(folder: Path, real: Path, root: Path) -> list[_Entry]:
    """Returns what lies directly in `folder`, sorted by name, without hidden files and clutter."""
    try:
        with os.scandir(folder) as scan:
            entries = sorted(scan, key=lambda entry: entry.name)
    except OSError as error:
        raise DataError(f"The folder {folder} cannot be read: {error.strerror}.") from error
    return [
        _classify(entry, folder / entry.name, real / entry.name, root)
        for entry in entries
        if not entry.name.startswith(".") and entry.name.lower() not in _CLUTTER
    ]


def _classify(entry: os.DirEntry[str], path: Path, real: Path, root: Path) -> _Entry:
    try:
        entry.name.encode()
    except UnicodeEncodeError:  # bytes that are not UTF-8: no manifest or report could hold them
        return _Entry("unnameable", path, real)
    is_link = entry.is_symlink()
    if is_link:
        real = Path(os.path.realpath(path))
        if not real.is_relative_to(root):
            return _Entry("outside", path, real, is_link)
        if not os.path.exists(real):  # noqa: PTH110 - Path.exists raises where a name is too long
            return _Entry("broken", path, real, is_link)
        if real in path.parents:
            return _Entry("counted", path, real, is_link)
    if entry.is_dir():
        return _Entry("folder", path, real, is_link)
    # A pipe or socket is never an image: opening it would hang.
    is_image = entry.is_file() and path.suffix.lower() in readable_extensions()
    return _Entry("image" if is_image else "other", path, real, is_link)


def _walk(start: _Entry, root: Path) -> Iterator[_Entry]:
    """Yields everything but folders under `start`, each real folder once.

    A link to a folder waits until the plain folders have been read, and counts only where it leads
    to one that has not been read and does not hold itself, so that circles end.
    """
    seen = {start.real, *start.real.parents, *start.path.parents}
    plain, linked = [start], list[_Entry]()
    while plain or linked:
        folder = plain.pop() if plain else linked.pop(0)
        if folder is not start:
            if folder.real in seen:
                yield _Entry("counted", folder.path, folder.real, folder.is_link)
                continue
            seen.add(folder.real)
        for entry in _list(folder.path, folder.real, root):
            if entry.kind != "folder":
                yield entry
            elif entry.is_link:
                linked.append(entry)
            else:
                plain.append(entry)


def _split_folders(root: Path, top: Sequence[_Entry]) -> dict[SplitName, _Entry]:
    """Returns the folder of each split, or nothing where the subfolders are classes."""
    folders = [entry for entry in top if entry.kind == "folder"]
    named = [entry for entry in folders if entry.path.name.lower() in SPLIT_ALIASES]
    others = [entry for entry in folders if entry not in named]
    splits: dict[SplitName, _Entry] = {}
    twins: list[str] = []
    for entry in named:
        split = SPLIT_ALIASES[entry.path.name.lower()]
        if split in splits:
            twins = [splits[split].path.name, entry.path.name]
        splits.setdefault(split, entry)
    if others and not ("train" in splits and len(splits) > 1):
        return {}  # a class may be called "train" or "test"
    filled = [entry.path.name for entry in others if _has_image(entry, root)]
    if filled:
        raise DataError(
            f"{root} holds split folders ({_names(entry.path.name for entry in named)}) and other "
            f"folders with images ({_names(filled)}); keep either the splits or the classes there."
        )
    if twins:
        raise DataError(f"{root} holds both {_names(twins)} for one split; keep one of them.")
    if splits and "train" not in splits:
        raise DataError(f"{root} holds {_names(e.path.name for e in named)} but no 'train' folder.")
    return splits


def _has_image(folder: _Entry, root: Path) -> bool:
    return any(entry.kind == "image" for entry in _walk(folder, root))


def _no_classes(folder: Path) -> str:
    return (
        f"The images in {folder} lie directly in it, so that their classes are not known; put them "
        f"into one subfolder a class ({folder.name}/CLASS/IMAGE.jpg), or give a CSV file with the "
        "columns path,label."
    )


def _no_images(root: Path, rest: Sequence[_Entry]) -> str:
    if any(entry.kind == "image" and entry.path.parent == root for entry in rest):
        return _no_classes(root)
    message = f"There are no images in {root}; one subfolder a class is wanted."
    if passed := list(_notes(root, rest, [], [])):
        return f"{message} {passed[0]}"
    if other := [_shown(entry.path, root) for entry in rest]:
        return f"{message} It holds only other files: {_names(other)}."
    return message


def _notes(
    root: Path, rest: Sequence[_Entry], empty: Sequence[Path], unused: Sequence[Path]
) -> Iterator[str]:
    def of(kind: _Kind) -> list[Path]:
        return [entry.path for entry in rest if entry.kind == kind]

    heif = [path for path in of("other") if path.suffix.lower() in HEIF_EXTENSIONS]
    for paths, text in (
        (empty, "Class folders without images"),
        (unused, "Folders beside the splits that were passed over"),
        (of("image"), "Images outside every class folder, which were passed over"),
        (of("outside"), "Symbolic links that lead outside the folder and were passed over"),
        (of("broken"), "Symbolic links that lead to nothing"),
        (of("counted"), "Symbolic links to a folder that is counted already"),
        (of("unnameable"), "Names that are not UTF-8 and were passed over"),
        (heif, "HEIF images that need pip install 'headstart[heif]' and were passed over"),
    ):
        if paths:
            yield f"{text}: {_names(_shown(path, root) for path in paths)}."


def _shown(path: Path, root: Path) -> str:
    name = path.relative_to(root).as_posix()
    # Names are written to UTF-8 files.
    return name.encode(errors="backslashreplace").decode()


def _names(names: Iterable[str]) -> str:
    """Returns up to five quoted names, and how many more there are."""
    every = sorted(names)
    more = f" and {len(every) - 5} more" if len(every) > 5 else ""
    return ", ".join(repr(name) for name in every[:5]) + more
