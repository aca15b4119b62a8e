"""Folders of images: which are the classes, what is read, and what is passed over."""

import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from headstart.data.formats import HEIF_EXTENSIONS
from headstart.data.layouts import Plan, no_classes, plan_folders
from headstart.data.surroundings import outside_notes
from headstart.data.tree import Entry, Kind, Tree
from headstart.data.types import Dataset, Item
from headstart.data.understanding import PassedOver, Reason, quoted
from headstart.errors import DataError
from headstart.recipes.options import SourceOptions

_HEIF = "HEIF images that need pip install 'headstart[heif]'"

_TELLING: tuple[Reason, ...] = (
    "link_outside", "needs_extra", "broken_link", "unlabelled", "own_output", "system_folder",
    "repeated_link", "not_utf8",
)  # fmt: skip
"""Reasons for which there may be no image, the most likely first."""


def load_folder(folder: Path, options: SourceOptions, around: Path | None) -> Dataset:
    """Reads folders of classes, of splits with classes, or of groups with classes.

    `layouts` says which. Symbolic links are followed where they stay inside the folder or
    `around` it, or wherever they lead with `follow_links`. Hidden files are passed over.

    Raises:
        DataError: There are no images in class folders, or the layout is not clear.
    """
    tree = Tree(folder.resolve(), options.follow_links, around)
    plan = plan_folders(tree, options.layout)
    items: list[Item] = []
    real: list[Path] = []
    rest = list(plan.rest)
    empty: dict[str, list[Path]] = {}
    for each in plan.classes:
        label = unicodedata.normalize("NFC", each.label.strip())
        if not label:
            raise DataError(f"A class folder in {tree.root} has a name of spaces only. Rename it.")
        inside = list(tree.walk(each.entry))
        images = [child for child in inside if child.kind == "image"]
        items += [Item(child.path, label, each.split, each.group) for child in images]
        real += [child.real for child in images]
        others = [child for child in inside if child.kind != "image"]
        rest += others
        if not images and (why := _why_empty(others)):
            empty.setdefault(why, []).append(each.entry.path)
    passed = tuple(_passed_over(tree, plan, rest, empty))
    if not items:
        raise DataError(_no_images(tree, rest, passed))
    return Dataset(
        name=tree.root.name or "images",
        root=tree.root,
        items=tuple(items),
        notes=(*_spellings(plan), *outside_notes(real, tree.own)),
        layout=plan.layout,
        passed_over=passed,
    )


def _why_empty(others: Sequence[Entry]) -> str:
    """Returns what a class folder without images is; empty if headstart's output fills it."""
    kinds = {entry.kind for entry in others}
    if "own" in kinds:
        return ""
    if kinds & {"outside", "broken"}:
        return "Class folders that hold only links, which are not followed"
    if "other" not in kinds:
        return "Class folders without images, which are empty"
    if all(e.path.suffix.lower() in HEIF_EXTENSIONS for e in others if e.kind == "other"):
        return f"Class folders without images that can be read, only {_HEIF}"
    return "Class folders without images, only files of other types"


def _spellings(plan: Plan) -> Iterator[str]:
    """Yields the class names that are written in two Unicode forms."""
    written: dict[str, set[str]] = {}
    for each in plan.classes:
        written.setdefault(unicodedata.normalize("NFC", each.label.strip()), set()).add(each.label)
    twice = [name for name, forms in written.items() if len(forms) > 1]
    if twice:
        yield f"Folder names that write one class in two Unicode forms: {quoted(twice)}."


def _no_images(tree: Tree, rest: Sequence[Entry], passed: Sequence[PassedOver]) -> str:
    if any(entry.kind == "image" and entry.path.parent == tree.root for entry in rest):
        return no_classes(tree.root)
    message = f"There are no images in {tree.root}. Put them into one subfolder per class."
    # What the user can do something about comes first.
    telling = [each for each in passed if each.reason in _TELLING]
    if telling:
        return f"{message} {min(telling, key=lambda each: _TELLING.index(each.reason)).sentence}"
    if other := [tree.shown(entry.path) for entry in rest]:
        return f"{message} It holds only other files: {quoted(other)}."
    return message


def _passed_over(
    tree: Tree, plan: Plan, rest: Sequence[Entry], empty: dict[str, list[Path]]
) -> Iterator[PassedOver]:
    def of(kind: Kind) -> list[Path]:
        return [entry.path for entry in rest if entry.kind == kind]

    def paths(entries: Iterable[Entry]) -> list[Path]:
        return [entry.path for entry in entries]

    other = of("other")
    heif = [path for path in other if path.suffix.lower() in HEIF_EXTENSIONS]
    groups: list[tuple[Reason, str, list[Path]]] = [
        *(("empty_class", what, found) for what, found in sorted(empty.items())),
        ("link_outside", "Links that lead outside the folder; use --follow-links to read them",
         of("outside")),
        ("broken_link", "Links that lead to nothing", of("broken")),
        ("repeated_link", "Links to a folder that is read already", of("counted")),
        ("needs_extra", _HEIF, heif),
        ("unknown_extension", "Files that are not images by their names",
         [path for path in other if path not in set(heif)]),
        ("loose_image", "Images outside every class folder", of("image")),
        ("unlabelled", "Folders of images without a class", paths(plan.unlabelled)),
        ("beside_splits", "Folders beside those that are read", paths(plan.beside)),
        ("system_folder", "Folders of the system or of a tool", of("system")),
        ("own_output", "Folders that headstart wrote", of("own")),
        ("not_utf8", "Names that are not UTF-8", of("unnameable")),
    ]  # fmt: skip
    for reason, what, found in groups:
        if found:
            names = tuple(sorted(tree.shown(path) for path in found))
            yield PassedOver(reason=reason, what=what, names=names)
