"""What folders mean; every example of docs/layouts.md is built and read."""

import re
import shlex
import shutil
import unicodedata
from dataclasses import dataclass
from pathlib import Path

import pytest

from headstart.data.sources import load_dataset
from headstart.data.tree import SYSTEM_FOLDERS
from headstart.errors import DataError
from headstart.recipes.options import SourceOptions

PAGE = Path(__file__).parents[2] / "docs" / "layouts.md"


@dataclass(frozen=True)
class Example:
    """A folder of the page, the options, and what is printed."""

    paths: tuple[str, ...]
    flags: tuple[str, ...]
    printed: str


def examples() -> list[Example]:
    found = re.findall(r"```tree\n(.*?)```\n```text\n(.*?)```", PAGE.read_text("utf-8"), re.S)
    built = []
    for tree, printed in found:
        lines = tree.splitlines()
        flags = [part for line in lines if line.startswith("--") for part in shlex.split(line)]
        paths = tuple(line for line in lines if not line.startswith("--"))
        built.append(Example(paths, tuple(flags), printed.rstrip("\n")))
    return built


def build(root: Path, paths: tuple[str, ...]) -> Path:
    """Writes empty files, as sources never open an image; `NAME << A / B` has the lines A and B."""
    work = root / "work"
    places = {"DISK": root, "BESIDE": work}
    for name, parent in places.items():
        for label in ("ants", "bees"):
            for number in range(1, 4):
                place = parent / name / label / f"{number}.jpg"
                place.parent.mkdir(parents=True, exist_ok=True)
                place.touch()
    folder = work / "FOLDER"
    for path in paths:
        name, _, content = path.partition(" << ")
        if content:
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_text(content.replace(" / ", "\n"))
            continue
        name, _, target = path.partition(" -> ")
        if target:
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            inside = places.get(target.partition("/")[0], folder)
            (folder / name).symlink_to(inside / target)
            continue
        if name.endswith("/"):
            (folder / name).mkdir(parents=True)
            continue
        several = re.search(r"\{(\d+)-(\d+)\}", name)
        numbers = range(int(several[1]), int(several[2]) + 1) if several else [0]
        for number in numbers:
            each = folder / (name.replace(several[0], str(number)) if several else name)
            each.parent.mkdir(parents=True, exist_ok=True)
            each.touch()
    return folder


def printed(folder: Path, flags: tuple[str, ...] = ()) -> str:
    values = dict(zip(flags[::2], flags[1::2], strict=True)) if "--layout" in flags else {}
    options = SourceOptions.model_validate(
        {"layout": values.get("--layout"), "follow_links": "--follow-links" in flags}
    )
    try:
        return "\n".join(load_dataset(folder, options, multilabel=True).understanding.lines())
    except DataError as error:
        return f"error: {error}".replace(str(folder.resolve()), "FOLDER")


def test_the_page_has_its_examples() -> None:
    assert PAGE.read_text("utf-8").count("```tree") == len(examples()) > 20


@pytest.mark.parametrize("example", examples(), ids=lambda each: " ".join(each.paths[:2])[:60])
def test_an_example_of_the_page(example: Example, tmp_path: Path) -> None:
    assert printed(build(tmp_path, example.paths), example.flags) == example.printed


def tree(*folders: str, images: int = 2) -> tuple[str, ...]:
    """Paths of folders with images; a name with an ending stands for itself."""
    return tuple(
        name if re.search(r"\.| -> |/$", name) else f"{name}/{{1-{images}}}.jpg" for name in folders
    )


@pytest.mark.parametrize(
    ("train", "other", "split"),
    [
        ("images_train", "images_val", "val"),
        ("TrainSet", "TestSet", "test"),
        ("train2017", "val2017", "val"),
        ("Train_1", "Test_1", "test"),
        ("train_data", "val_data", "val"),
        ("trainval", "test", "test"),
        ("train", "hold-out", "test"),
        ("train", "dev", "val"),
        ("Training", "Evaluation", "val"),
        ("seg_train/seg_train", "seg_test/seg_test", "test"),
        ("train/train_images", "test/test_images", "test"),
    ],
)
def test_names_of_splits(train: str, other: str, split: str, tmp_path: Path) -> None:
    folder = build(tmp_path, tree(*(f"{part}/{c}" for part in (train, other) for c in "ab")))
    assert load_dataset(folder).understanding.classes == {
        "a": {"train": 2, split: 2},
        "b": {"train": 2, split: 2},
    }


@pytest.mark.parametrize(
    ("train", "test"), [("train", "test"), ("Training", "Testing"), ("train_images", "test_images")]
)
def test_splits_inside_classes(train: str, test: str, tmp_path: Path) -> None:
    paths = tree(*(f"{c}/{part}" for c in "ab" for part in (train, test)), "c/" + train)
    dataset = load_dataset(build(tmp_path, paths))
    both = {"train": 2, "test": 2}
    assert dataset.understanding.classes == {"a": both, "b": both, "c": {"train": 2}}


@pytest.mark.parametrize(
    "folders",
    [
        ("train", "plane"),  # a class may be called train
        ("test_tube", "train_station"),
        ("ants/2023", "ants/2024", "bees/images"),
        ("dog/poodle", "dog/other", "cat/siamese", "cat/other"),
        ("n01/images", "n02/images", "n03/images"),
        ("ants/left", "ants/right", "bees"),
        ("dev", "ops"),
        ("site_1", "site_2"),
        ("train_station/north", "airport/south"),
    ],
)
def test_top_folders_are_classes(folders: tuple[str, ...], tmp_path: Path) -> None:
    dataset = load_dataset(build(tmp_path, tree(*folders)))
    assert dataset.classes == tuple(sorted({name.split("/")[0] for name in folders}))
    assert dataset.layout == "one folder per class"


@pytest.mark.parametrize(
    "groups",
    [
        ("patient_1", "patient_2"),
        ("subj01", "subj02", "subj03"),
        ("Day 1", "Day 2"),
        ("camera-a", "camera-b"),
        ("P01", "P02"),
        ("Site A", "Site B"),
    ],
)
def test_names_of_groups(groups: tuple[str, ...], tmp_path: Path) -> None:
    folder = build(tmp_path, tree(*(f"{group}/{c}" for group in groups for c in "xy")))
    dataset = load_dataset(folder)
    assert dataset.classes == ("x", "y")
    assert {item.group for item in dataset.items} == set(groups)
    assert {item.split for item in dataset.items} == {None}


@pytest.mark.parametrize(
    "folders",
    [
        ("8863/0", "8863/1", "8864/0", "8864/1"),
        ("dog/2023", "dog/2024", "cat/2023", "cat/2024"),
        ("color/a", "color/b", "grey/a", "grey/b", "masked/a", "masked/b"),
        ("x1/a", "x2/a", "x3/b", "x4/b"),
        ("train/a", "train/b", "extra/a", "extra/b", "test/a"),
    ],
)
def test_what_is_not_clear_is_asked(folders: tuple[str, ...], tmp_path: Path) -> None:
    folder = build(tmp_path, tree(*folders))
    with pytest.raises(
        DataError, match=r"--layout groups if .*, or --layout classes if "
    ) as caught:
        load_dataset(folder)
    for name in {name.split("/")[0] for name in folders}:
        assert repr(name) in str(caught.value)
    asked = load_dataset(folder, SourceOptions(layout="classes"))
    assert asked.classes == tuple(sorted({name.split("/")[0] for name in folders}))
    if "train/a" not in folders:
        grouped = load_dataset(folder, SourceOptions(layout="groups"))
        assert grouped.classes == tuple(sorted({name.split("/")[1] for name in folders}))


@pytest.mark.parametrize(
    "other",
    ["test", "test/unknown", "test/images", "test_set/test_set", "pred", "unlabelled", "Unlabeled"],
)
def test_images_without_labels(other: str, tmp_path: Path) -> None:
    folder = build(tmp_path, tree("train/a", "train/b", other))
    dataset = load_dataset(folder)
    assert dataset.understanding.classes == {"a": {"train": 2}, "b": {"train": 2}}
    (passed,) = dataset.passed_over
    assert (passed.reason, passed.names) == ("unlabelled", (other.split("/", maxsplit=1)[0],))


def test_unlabelled_images_beside_classes_are_no_class(tmp_path: Path) -> None:
    folder = build(tmp_path, tree("ants", "bees", "unlabeled"))
    assert load_dataset(folder).classes == ("ants", "bees")
    taken = load_dataset(folder, SourceOptions(layout="classes"))
    assert taken.classes == ("ants", "bees", "unlabeled")
    other = build(tmp_path / "other", tree("pred", "prey"))
    assert load_dataset(other).classes == ("pred", "prey")


def test_one_class_is_refused_with_what_may_be_the_other(tmp_path: Path) -> None:
    folder = build(tmp_path, (*tree("ants", "unlabeled"), "bees -> DISK/bees", "moths/"))
    with pytest.raises(DataError, match="found only 'ants'") as caught:
        load_dataset(folder)
    for name, option in (("bees", "--follow-links"), ("moths", "empty"), ("unlabeled", "class")):
        assert re.search(f"{option}[^.]*: {name!r}", str(caught.value))


def test_a_layout_belongs_to_a_folder(tmp_path: Path) -> None:
    table = build(tmp_path, tree("a", "b")) / "m.csv"
    table.write_text("path,label\na/1.jpg,a\nb/1.jpg,b\n")
    for source in (table, [(table.parent / "a" / "1.jpg", "a")], "demo:solar"):
        with pytest.raises(DataError, match=r"^--layout groups needs a folder"):
            load_dataset(source, SourceOptions(layout="groups"))


def test_groups_may_be_asked_for_inside_splits(tmp_path: Path) -> None:
    folder = build(tmp_path, tree("train/al/x", "train/bo/y", "test/cy/x", "test/cy/y"))
    dataset = load_dataset(folder, SourceOptions(layout="groups"))
    assert {(item.split, item.group, item.label) for item in dataset.items} == {
        ("train", "al", "x"),
        ("train", "bo", "y"),
        ("test", "cy", "x"),
        ("test", "cy", "y"),
    }


@pytest.mark.parametrize("name", sorted(SYSTEM_FOLDERS))
def test_system_folders(name: str, tmp_path: Path) -> None:
    paths = (f"{name}/{{1-2}}.jpg", f"ants/{name.upper()}/deep/1.jpg")
    folder = build(tmp_path, (*tree("ants", "bees"), *paths))
    dataset = load_dataset(folder)
    assert dataset.understanding.classes == {"ants": {"unassigned": 2}, "bees": {"unassigned": 2}}
    (passed,) = dataset.passed_over
    assert passed.reason == "system_folder"
    assert set(passed.names) == {name, f"ants/{name.upper()}"}


def test_what_headstart_wrote_is_no_class(tmp_path: Path) -> None:
    from headstart.ablation.record import LEDGER, MEASURED
    from headstart.certificate.record import ASKED, CERTIFICATE

    folder = build(tmp_path, tree("ants", "bees"))
    runs = Path(__file__).parents[1] / "fixtures" / "run_6dddef2"
    shutil.copytree(runs / "finished", folder / "runs" / "a")
    shutil.copytree(runs / "stopped", folder / "ants" / "stopped")
    written = {
        "benefit": (ASKED, "audit.json", "curve.png"),
        "certificate": (CERTIFICATE, "certificate.html", "certificate.png"),
        "compared": (MEASURED.name, LEDGER, "chart.png"),
        "pictures": ("augmentations.png", "mixing.png", "schedules.png", "activations.png"),
    }
    for place, names in written.items():
        (folder / place).mkdir()
        for name in names:
            (folder / place / name).touch()
    dataset = load_dataset(folder)
    assert dataset.classes == ("ants", "bees")
    (passed,) = dataset.passed_over
    assert passed.names == ("ants/stopped", *sorted(written), "runs/a")


@pytest.mark.parametrize("name", ["café", "강아지", "Ångström"])
def test_one_class_in_two_unicode_forms(name: str, tmp_path: Path) -> None:
    composed, decomposed = (unicodedata.normalize(form, name) for form in ("NFC", "NFD"))
    assert composed != decomposed
    whole = build(tmp_path / "one", tree(composed, decomposed, "b"))
    if len(list(whole.iterdir())) == 2:
        pytest.skip("this file system knows one form")
    dataset = load_dataset(whole)
    assert dataset.understanding.classes == {"b": {"unassigned": 2}, composed: {"unassigned": 4}}
    assert dataset.notes == (
        f"Folder names that write one class in two Unicode forms: {composed!r}.",
    )
    parts = ("train_1/" + composed, "train_1/b", "test_1/" + decomposed)
    split = load_dataset(build(tmp_path / "two", tree(*parts)))
    assert split.understanding.classes[composed] == {"train": 2, "test": 2}
    table = whole / "m.csv"
    table.write_text(f"path,label\nb/1.jpg,b\n{composed}/1.jpg,{composed}\nb/2.jpg,{decomposed}\n")
    assert load_dataset(table).classes == ("b", composed)


def test_links_are_followed_where_they_are_asked_for(tmp_path: Path) -> None:
    links = ("ants/1.jpg -> DISK/ants/1.jpg", "bees -> DISK/bees", "bugs/in/deep -> DISK/ants")
    folder = build(tmp_path, links)
    dataset = load_dataset(folder, SourceOptions(follow_links=True))
    assert dataset.understanding.classes == {
        "ants": {"unassigned": 1},
        "bees": {"unassigned": 3},
        "bugs": {"unassigned": 3},
    }
    assert dataset.key(0) == "ants/1.jpg"
    assert all(item.path.is_relative_to(folder.resolve()) for item in dataset.items)


def test_circles_of_links_outside_end(tmp_path: Path) -> None:
    folder = build(tmp_path, ("ants -> DISK/ants", "bees -> DISK/bees"))
    disk = tmp_path / "DISK"
    (disk / "ants" / "back").symlink_to(folder)
    (disk / "ants" / "self").symlink_to(disk / "ants")
    (disk / "bees" / "up").symlink_to(disk)
    dataset = load_dataset(folder, SourceOptions(follow_links=True))
    assert {item.label for item in dataset.items if item.path.parent.name == "ants"} == {"ants"}
    (passed,) = [each for each in dataset.passed_over if each.reason == "repeated_link"]
    assert {"ants/self", "ants/back"} <= set(passed.names)


@pytest.mark.parametrize("below", ["", "/data", "/a/b"])
def test_a_snapshot_of_the_hub_leads_to_its_blobs(below: str, tmp_path: Path) -> None:
    hub = tmp_path / "hub" / "datasets--x"
    other = tmp_path / "hub" / "datasets--y" / "blobs" / "2"
    for blob in (hub / "blobs" / "1", other):
        blob.parent.mkdir(parents=True)
        blob.touch()
    root = Path(f"{hub}/snapshots/abc{below}")
    for label in "ab":
        (root / label).mkdir(parents=True)
        (root / label / "1.jpg").symlink_to(hub / "blobs" / "1")
        (root / label / "2.jpg").symlink_to(other)
    dataset = load_dataset(root)
    assert [dataset.key(row) for row in range(2)] == ["a/1.jpg", "b/1.jpg"]
    assert dataset.passed_over[0].names == ("a/2.jpg", "b/2.jpg")


@pytest.mark.parametrize("links", [(".s/A/a -> .s/B", ".s/B/a -> .s/A", "x -> .s/A"), ("x -> .",)])
def test_circles_around_no_image_end(links: tuple[str, ...], tmp_path: Path) -> None:
    with pytest.raises(DataError, match="There are no images"):
        load_dataset(build(tmp_path, links))


@pytest.mark.parametrize(
    ("folders", "inside"),
    [
        (("images/a", "images/b", "meta/list.txt", "labels/list.txt"), "images"),
        (("x/y/a", "x/y/b", "x/readme.md"), "x/y"),
        (("Images/a", "Images/b", "Annotation/a/1", "Annotation/b/1"), "Images"),
        (("data/Images/a", "data/Images/b", "data/docs/x.txt"), "data/Images"),
    ],
)
def test_folders_around_the_classes(folders: tuple[str, ...], inside: str, tmp_path: Path) -> None:
    paths = [name for name in folders if re.fullmatch(r".*/[ab]", name)]
    files = [name for name in folders if name not in paths]
    dataset = load_dataset(build(tmp_path, (*tree(*paths), *files)))
    assert dataset.classes == ("a", "b")
    assert dataset.layout == f"one folder per class, inside {inside!r}"


@pytest.mark.parametrize(
    "folders",
    [
        ("cats/persian", "cats/siamese", "dogs/list.txt"),  # the dogs were not downloaded
        ("cats/persian", "cats/siamese", "dogs -> DISK/nowhere"),
        ("cats/persian", "cats/siamese", "dogs -> DISK/bees"),
    ],
)
def test_a_class_whose_sister_is_empty_is_not_opened(
    folders: tuple[str, ...], tmp_path: Path
) -> None:
    with pytest.raises(DataError, match="found only 'cats'"):
        load_dataset(build(tmp_path, tree(*folders)))


@pytest.mark.parametrize("copy", ["brain", "all/all", "copy/images"])
def test_a_second_copy_is_refused(copy: str, tmp_path: Path) -> None:
    folder = build(tmp_path, tree("yes", "no", f"{copy}/yes", f"{copy}/no"))
    with pytest.raises(DataError, match=r"\('no', 'yes'\), so it may be a copy"):
        load_dataset(folder)
