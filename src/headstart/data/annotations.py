"""Exports of annotation tools: which one a folder or a file is, and the data set that it is."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path, PurePosixPath

from headstart.data.exports import coco, edge_impulse, google, label_studio, tables
from headstart.data.exports.export import Export, Place, json_of
from headstart.data.exports.imagenet_txt import read_synsets
from headstart.data.exports.not_read import why_not_read
from headstart.data.exports.roboflow import read_one_hot
from headstart.data.folder_names import is_split_word
from headstart.data.label_sets import notes_on, recognise
from headstart.data.manifests import check_size, find_near, raw_rows, read_json
from headstart.data.rows import read_rows
from headstart.data.surroundings import surroundings
from headstart.data.tree import Tree
from headstart.data.types import Dataset, Item
from headstart.data.understanding import PassedOver, Reason
from headstart.errors import DataError
from headstart.inputs.regular_files import open_regular
from headstart.recipes.options import SourceOptions


def load_annotations(folder: Path, options: SourceOptions, around: Path | None) -> Dataset | None:
    """Reads a folder that an annotation tool or a competition wrote; None for any other folder.

    Args:
        folder: The folder.
        options: Options for reading it.
        around: Folder that its links and rows may lead to, see `surroundings`.

    Raises:
        DataError: A row cannot be used, or has several labels.
    """
    place = Place(_inner(folder.resolve()), options.follow_links, around)
    try:
        found = _read(place, options)
    except DataError as error:
        tops = {PurePosixPath(path).parts[0] for path in place.images.paths}
        if place.is_flat or len(tops) < 2 or "--layout" in str(error):
            raise
        hint = " Use --layout classes if the folders beside it are the classes."
        raise DataError(f"{error}{hint}") from None
    if found is None:
        return None
    name = folder.resolve().name or "images"
    return replace(found, name=name)


def _read(place: Place, options: SourceOptions) -> Dataset | None:
    export = (
        read_one_hot(place)
        or read_synsets(place)
        or edge_impulse.read_info(place)
        or _json_export(place)
        or _bucket_export(place)
        or tables.read_tables(place)
        or edge_impulse.read_names(place)
    )
    if export is None:
        return None
    known = frozenset(place.images.paths)
    none = known.isdisjoint(str(row.path) for row in export.rows)
    if none and known and not place.is_flat and options.root is None:
        return None  # class folders, and labels of other images
    dataset = _dataset(export, place, Path(place.root.name or "labels"), options)
    unused = _not_used(place, dataset.items, export)
    return replace(dataset, passed_over=(*dataset.passed_over, *unused))


def load_annotation_file(path: Path, options: SourceOptions) -> Dataset | None:
    """Reads a file that an annotation tool wrote; None for a plain manifest.

    Raises:
        DataError: The file is damaged, a row cannot be used, or it has several labels.
    """
    check_size(path)
    around = surroundings(path.parent.resolve())
    root = find_near(path, options, around).inside[0]
    if options.root is None and root.name.lower() in {"annotations", "labels"}:
        root = root.parent
    place = Place(root, options.follow_links, around)
    export = _file_export(path.resolve(), place)
    if export is None:
        return None
    return replace(_dataset(export, place, path, options), name=path.stem)


def unread_table(folder: Path, options: SourceOptions, around: Path | None) -> str:
    """Returns why a table that names the images was not read, as a sentence; else nothing."""
    return tables.why_not(Place(_inner(folder.resolve()), options.follow_links, around)).strip()


def why_no_labels(folder: Path, options: SourceOptions, around: Path | None) -> str:
    """Returns what a folder holds in place of class folders, after a space; else nothing."""
    place = Place(_inner(folder.resolve()), options.follow_links, around)
    return tables.why_not(place) or why_not_read(place)


def _inner(root: Path) -> Path:
    """Returns the folder that the only folder in another leads to."""
    seen = set[Path]()
    while root not in seen:
        seen.add(root)
        tree = Tree(root)
        inside = [each for each in tree.entries(tree.start) if each.kind != "system"]
        alone = len(inside) == 1 and inside[0].kind == "folder" and not inside[0].is_link
        if alone and not is_split_word(inside[0].path.name):
            root = inside[0].path
    return root


def _json_export(place: Place) -> Export | None:
    found = [(path, content) for path, content in place.json_files if coco.is_coco(content)]
    if found:
        return coco.read_coco(found, place)
    tasks = [
        (path, content) for path, content in place.json_files if label_studio.is_tasks(content)
    ]
    if len(tasks) > 1:
        names = ", ".join(repr(place.shown(path)) for path, _ in tasks)
        raise DataError(f"{place.root} holds several exports: {names}. Give one as the source.")
    return label_studio.read_tasks(*tasks[0], place) if tasks else None


def _bucket_export(place: Place) -> Export | None:
    """Reads a table whose own form says what wrote it."""
    for ending in ("csv", "tsv", "jsonl"):
        for path in sorted(place.root.glob(f"*.{ending}")):
            try:
                known = _table_kind(path)
            except DataError:
                continue
            if known is not None:
                return _file_export(path, place)
    return None


def _table_kind(path: Path) -> str | None:
    check_size(path)
    if path.suffix.lower() == ".jsonl":
        try:
            with open_regular(path) as file:
                line = file.readline(2**20).decode("utf-8-sig", errors="replace")
        except OSError as error:
            raise DataError(f"{path} cannot be read: {error.strerror}.") from error
        is_line = '"imageGcsUri"' in line and google.is_import_line(read_json(path, line, "line 1"))
        return "lines" if is_line else None
    first = next(raw_rows(path), [])
    if google.is_import(first):
        return "import"
    return "records" if label_studio.is_records(first) else None


def _file_export(path: Path, place: Place) -> Export | None:
    if path.suffix.lower() == ".json":
        content = json_of(path)
        if coco.is_coco(content):
            return coco.read_coco([(path, content)], place)
        tasks = label_studio.is_tasks(content)
        return label_studio.read_tasks(path, content, place) if tasks else None
    kind = _table_kind(path) if path.suffix.lower() in {".csv", ".tsv", ".jsonl"} else None
    if kind == "lines":
        return google.read_import_lines(path, place)
    if kind == "import":
        return google.read_import(path, place)
    return label_studio.read_table(path, place) if kind == "records" else None


def _dataset(export: Export, place: Place, table: Path, options: SourceOptions) -> Dataset:
    seen = [row for row in export.rows if row.label is not None]
    if not any(row.label for row in seen):
        raise DataError(f"No image in {place.root} has a label.")
    several = recognise(seen, options.task, table.name)
    labelled = seen if several else [row for row in seen if row.label != ()]
    bare = _bare(export) if several else _bare(export, ())
    finder = find_near(place.root / table.name, options, place.around)
    items, notes = read_rows(labelled, finder, table.name, several)
    passed = PassedOver(reason="unlabelled", what="Images without a label", names=bare)
    notes = (*notes_on(several, seen, options.task), *export.notes, *place.notes, *notes)
    passed_over = (*([passed] if bare else []), *export.unused)
    root = place.root if options.root else finder.root_of(item.path for item in items)
    return Dataset("", root, items, None, notes, export.form, passed_over)


def _bare(export: Export, *also: object) -> tuple[str, ...]:
    """Returns the images without a label, sorted."""
    return tuple(sorted(str(row.path) for row in export.rows if row.label in (None, *also)))


def _not_used(place: Place, items: Sequence[Item], export: Export) -> Iterator[PassedOver]:
    """Yields what else lies in the folder of an export."""
    used = {item.path for item in items} | set(export.files)
    bare = set(_bare(export, ()))
    shown = {place.shown(item.path) for item in items if item.path.is_relative_to(place.root)}
    filled = {PurePosixPath(path).parts[0] for path in shown}
    rest: dict[Reason, set[str]] = {"unlabelled": set(), "unknown_extension": set()}
    for entry in place.entries:
        name = place.shown(entry.path)
        if entry.path in used or name in bare:
            continue
        top = PurePosixPath(name).parts[0]
        if entry.kind == "image":
            rest["unlabelled"].add(name if top in filled else top)
        elif entry.kind == "other":
            rest["unknown_extension"].add(name)
    what: dict[Reason, str] = {
        "unlabelled": "Images, or folders of images, that no row names",
        "unknown_extension": "Files that are not images by their names",
    }
    for reason, names in rest.items():
        if names:
            yield PassedOver(reason=reason, what=what[reason], names=tuple(sorted(names)))
