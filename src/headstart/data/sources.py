"""Data sets from folders, manifests, tables and published sets.

Images are found here but not opened.
"""

import os
import sys
import unicodedata
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, TypeAlias, cast

from headstart.data.annotations import (
    load_annotation_file,
    load_annotations,
    unread_table,
    why_no_labels,
)
from headstart.data.archives import archives_alone, stem, unpack
from headstart.data.cache_dir import default_cache_dir
from headstart.data.file_names import MANIFEST_EXTENSIONS, is_archive, other_archive
from headstart.data.folders import load_folder
from headstart.data.manifests import (
    load_frame,
    load_manifest,
    load_pairs,
)
from headstart.data.reading import Page, Reading
from headstart.data.solar import load_solar
from headstart.data.stanford_cars import is_stanford_cars, load_stanford_cars
from headstart.data.surroundings import surroundings
from headstart.data.types import Dataset, Item
from headstart.data.understanding import PassedOver
from headstart.errors import DataError, did_you_mean
from headstart.progress import Progress
from headstart.recipes.options import SourceOptions
from headstart.text import listed

if TYPE_CHECKING:
    from pandas import DataFrame

Source: TypeAlias = "str | os.PathLike[str] | DataFrame | Iterable[object]"

DEMOS: dict[str, Callable[[], Dataset]] = {"solar": load_solar}
"""Data sets from installed packages, by the name after `demo:`."""


_MAY_BE_A_CLASS = frozenset({"empty_class", "link_outside", "unlabelled", "beside_splits"})
"""Reasons for skipping that may explain a missing class."""


def load_dataset(
    source: Source,
    options: SourceOptions | None = None,
    *,
    labels: Iterable[object] | None = None,
    cache_dir: Path | None = None,
    multilabel: bool = False,
) -> Dataset:
    """Finds the labelled images of `source`, sorted by path, without opening them.

    Args:
        source: One of
            a folder with one subfolder per class, or with folders of splits or groups (patients,
            days) that hold these, see `layouts`;
            a folder with Stanford Cars in an official form;
            a folder or file that an annotation tool exported, see `annotations`;
            a `.csv`, `.tsv`, `.json`, `.jsonl` or `.parquet` file with the columns
            `path,label[,split,group]`;
            a ZIP or tar archive of any of these, which is unpacked into the cache;
            `"demo:solar"`;
            a pandas DataFrame with the same columns;
            a list of paths, with `labels`, or of `(path, label)` pairs.
        options: Options for reading the source; defaults if None.
        labels: Label of each path if `source` is a list of paths; several in a tuple.
        cache_dir: Cache folder for archives; the user's by default.
        multilabel: Whether the caller knows what to do with several labels an image.

    Raises:
        DataError: If the source is not usable for training; the message says why and where.
    """
    options = options or SourceOptions()
    dataset = _load(source, options, labels, cache_dir)
    if options.layout is not None and not _is_folder(source):
        raise DataError(f"--layout {options.layout} needs a folder as source.")
    _check_task(dataset, options, multilabel)
    named = [_in_one_form(item) for item in dataset.items]
    dataset = replace(dataset, items=tuple(named))
    _check_splits(dataset)
    _check_classes(dataset)
    items = sorted(dataset.items, key=lambda item: item.path.as_posix())
    return replace(
        dataset,
        items=tuple(items),
        layout=dataset.layout or _described(source),
        reading=asked_reading(options),
    )


def say_understood(dataset: Dataset, progress: Progress) -> None:
    """Shows how a source was read, before anything is computed from it."""
    for line in dataset.understanding.lines():
        progress.say(line)


def _is_folder(source: Source) -> bool:
    """Whether a source is a folder, or an archive of one."""
    if not isinstance(source, str | os.PathLike):
        return False
    return os.path.isdir(source) or is_archive(Path(source))  # noqa: PTH112


def _load(
    source: Source,
    options: SourceOptions,
    labels: Iterable[object] | None,
    cache_dir: Path | None,
) -> Dataset:
    pandas = sys.modules.get("pandas")  # who has a DataFrame has imported it
    is_frame = pandas is not None and isinstance(source, pandas.DataFrame)
    if labels is not None and (is_frame or isinstance(source, str | os.PathLike)):
        raise DataError("labels= is only for a list of paths. Other sources contain their labels.")
    if is_frame:
        return load_frame(cast("DataFrame", source), options.task)
    if isinstance(source, str | os.PathLike):
        return _load_place(os.fspath(source), options, cache_dir)
    if isinstance(source, Iterable):
        return load_pairs(source, labels, options.task)
    raise DataError(
        f"A {type(source).__name__} is not a source of images. Give the path of a folder."
    )


def _load_place(source: str, options: SourceOptions, cache_dir: Path | None) -> Dataset:
    if source.startswith("demo:"):
        return _load_demo(source.removeprefix("demo:"))
    path = Path(source)
    # os.path's tests say False where Path's raise: a NUL in the name, or a name too long.
    if source and os.path.isdir(source):  # noqa: PTH112
        around = surroundings(path.resolve())
        archives, others = archives_alone(path, around)
        if archives:
            return _load_archives(path, archives, others, options, cache_dir)
        return _load_folder(path, options, around)
    if not os.path.isfile(source):  # noqa: PTH113
        raise DataError(f"There is no folder or file {source!r}. Check the path.")
    if is_archive(path):
        return _load_archives(path, [path], [], options, cache_dir)
    if path.suffix.lower() not in MANIFEST_EXTENSIONS:
        raise DataError(
            other_archive(path)
            or f"{source!r} is neither a folder nor a manifest nor an archive. "
            f"The name of a manifest ends in {listed(MANIFEST_EXTENSIONS, 'or')}, and that of an "
            "archive in .zip or .tar.gz."
        )
    return load_annotation_file(path, options) or load_manifest(path, options)


def _load_folder(path: Path, options: SourceOptions, around: Path | None) -> Dataset:
    if options.layout is None and is_stanford_cars(path):
        return load_stanford_cars(path, boxes=options.boxes)
    if options.layout is not None:
        return load_folder(path, options, around)
    if found := load_annotations(path, options, around):
        return found
    try:
        dataset = load_folder(path, options, around)
        _check_classes(dataset)
    except DataError as error:
        raise DataError(f"{error}{why_no_labels(path, options, around)}") from None
    unread = unread_table(path, options, around)
    return replace(dataset, notes=(*dataset.notes, unread)) if unread else dataset


def _load_archives(
    path: Path,
    archives: Sequence[Path],
    others: Sequence[Path],
    options: SourceOptions,
    cache_dir: Path | None,
) -> Dataset:
    """Reads an archive, or a folder of archives, and those in them once more."""
    cache = (cache_dir or default_cache_dir()).resolve()
    place = unpack(archives, cache, others)
    left_out = place.left_out
    try:
        inner, beside = archives_alone(place.folder)
        if inner:
            place = unpack(inner, cache, beside)
            left_out += place.left_out
        dataset = _load_folder(place.folder, options, around=None)  # a stranger's: nothing beside
    except DataError as error:
        # Who gave an archive knows its name, not its place in the cache.
        raise DataError(str(error).replace(str(place.folder), str(path))) from None
    links = PassedOver(
        reason="link_outside",
        what="Links and devices in the archive",
        names=tuple(sorted(left_out)),
    )
    layout = dataset.layout or "a data set as it was published"
    return replace(
        dataset,
        name=stem(path) if path.is_file() else path.resolve().name,
        layout=f"{layout}, unpacked from {listed([each.name for each in archives])} to "
        f"{place.folder}",
        passed_over=(*dataset.passed_over, *([links] if left_out else [])),
    )


def _load_demo(name: str) -> Dataset:
    if name not in DEMOS:
        hint = did_you_mean(name, DEMOS) or f"; there is {', '.join(DEMOS)}."
        raise DataError(f"Unknown demo {name!r}{hint}")
    return DEMOS[name]()


def _described(source: Source) -> str:
    """Returns a description of a source that is not a folder of class folders."""
    if not isinstance(source, str | os.PathLike):
        return "a table" if hasattr(source, "columns") else "a list of paths"
    name = os.fspath(source)
    if name.startswith("demo:") or Path(name).is_dir():
        return "a data set as it was published"
    return f"the table {Path(name).name}"


def _in_one_form(item: Item) -> Item:
    """Returns an item whose label is in Unicode normal form C: macOS writes accents in another."""
    label = unicodedata.normalize("NFC", item.label)
    if label == item.label:
        return item
    names = {unicodedata.normalize("NFC", name) for name in item.labels or ()}
    return replace(item, label=label, labels=None if item.labels is None else tuple(sorted(names)))


def _check_task(dataset: Dataset, options: SourceOptions, multilabel: bool) -> None:
    """Refuses several labels an image where they cannot be used, and a task that does not fit."""
    if dataset.multilabel and not multilabel:
        raise DataError(
            f"{dataset.notes[0]} This needs one label an image; `check`, `fit`, `suspects` and "
            "`compare` take any number."
        )
    if options.task == "multilabel" and not dataset.multilabel:
        raise DataError(
            "--task multilabel needs a table or an export that can give an image several labels, "
            f"and {dataset.root} gives each image one. docs/multilabel.md shows the forms."
        )


def _check_splits(dataset: Dataset) -> None:
    """Checks that every class in val and test is also in train."""
    # `splits.make_split` checks a split that covers only some images.
    kept = [item for item in dataset.items if item.split in ("train", None)]
    train = {name for item in kept for name in item.names}
    if not kept:
        raise DataError(f"No image of {dataset.root} is in train. Add training images.")
    for split in ("val", "test"):
        missing = sorted(
            {
                name for item in dataset.items if item.split == split for name in item.names
            }.difference(train)
        )
        if missing:
            raise DataError(
                f"The {split} part has classes that are not in train: "
                f"{', '.join(map(repr, missing))}. Add images of them to train, or remove them."
            )


def _check_classes(dataset: Dataset) -> None:
    if len(dataset.classes) > 1:
        return
    if dataset.multilabel:
        raise DataError(
            f"At least two labels are needed; found only {', '.join(dataset.classes) or 'none'} in "
            f"{dataset.root}. For one label, name what the other images show and give each one."
        )
    message = (
        f"At least two classes are needed; found only {dataset.classes[0]!r} in {dataset.root}."
    )
    parts = [PurePosixPath(dataset.key(i)).parts for i in range(len(dataset.items))]
    deeper = {part[1] for part in parts if len(part) > 2 and part[0] == dataset.classes[0]}
    if len(deeper) > 1:
        message += f" If its subfolders are the classes, give {dataset.root / parts[0][0]}."
    unused = [each for each in dataset.passed_over if each.reason in _MAY_BE_A_CLASS]
    message += "".join(f" {each.sentence}" for each in unused)
    if len(deeper) < 2 and not unused:
        message += " Put those of each class into a folder of its own, or name it in a manifest."
    raise DataError(message)


def asked_reading(options: SourceOptions) -> Reading:
    """Returns the reading of files before their value range is known.

    Example:
        >>> asked_reading(SourceOptions(channels="3,2,1", page="max"))
        Reading(channels=(3, 2, 1), page='max', range='each')
    """
    channels, page = options.channels, options.page
    return Reading(
        None if channels is None else tuple(map(int, channels.split(","))),
        cast("Page", page) if page in (None, "middle", "max") else int(page),
        "each",
    )
