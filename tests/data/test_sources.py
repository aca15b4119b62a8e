"""Folders, demo sets and what `load_dataset` refuses."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from headstart.data.formats import readable_extensions, readable_formats
from headstart.data.solar import read_cells
from headstart.data.sources import load_dataset
from headstart.errors import DataError
from headstart.recipes.options import SourceOptions

_NAMED = os.environ.get("HEADSTART_DATA")
SHARED = Path(_NAMED) if _NAMED else Path(__file__).parents[3] / "shared" / "data"


def touch(root: Path, *names: str) -> Path:
    """Writes empty files: sources never open an image."""
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    return root


def found(source: Path) -> dict[str, str]:
    dataset = load_dataset(source)
    return {dataset.key(i): item.label for i, item in enumerate(dataset.items)}


def passed(source: Path, **options: object) -> list[str]:
    """What is passed over, in sentences."""
    dataset = load_dataset(source, SourceOptions.model_validate(options))
    return [each.sentence for each in dataset.passed_over]


def refusal(source: object, **options: object) -> str:
    with pytest.raises(DataError) as caught:
        load_dataset(source, **options)  # type: ignore[arg-type]
    return str(caught.value)


def test_class_folders_count_deeper_images_for_the_top_class(tmp_path: Path) -> None:
    touch(tmp_path, "dog/b.jpg", "cat/z.png", "cat/2020/may/a.JPG", "dog/a.jpg")
    dataset = load_dataset(tmp_path)
    assert found(tmp_path) == {
        "cat/2020/may/a.JPG": "cat",
        "cat/z.png": "cat",
        "dog/a.jpg": "dog",
        "dog/b.jpg": "dog",
    }
    assert [dataset.key(i) for i in range(4)] == sorted(found(tmp_path))
    assert dataset.classes == ("cat", "dog")
    assert (dataset.name, dataset.root) == (tmp_path.name, tmp_path.resolve())
    assert {item.split for item in dataset.items} == {None}
    assert all(item.path.is_absolute() for item in dataset.items)
    assert dataset.notes == dataset.ignored == ()


def test_a_relative_folder_gives_absolute_paths(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    touch(tmp_path, "-data/a/1.jpg", "-data/b/1.jpg")
    monkeypatch.chdir(tmp_path)
    assert load_dataset("-data").items[0].path == tmp_path.resolve() / "-data" / "a" / "1.jpg"


@pytest.mark.parametrize("val", ["val", "valid", "Validation", "eval"])
def test_split_folders(tmp_path: Path, val: str) -> None:
    touch(tmp_path, "TRAIN/a/1.jpg", "TRAIN/b/1.jpg", f"{val}/a/2.jpg", "test/b/deep/3.jpg")
    dataset = load_dataset(tmp_path)
    assert {(item.path.name, item.label, item.split) for item in dataset.items} == {
        ("1.jpg", "a", "train"),
        ("1.jpg", "b", "train"),
        ("2.jpg", "a", "val"),
        ("3.jpg", "b", "test"),
    }


def test_training_and_testing_are_splits_too(tmp_path: Path) -> None:
    touch(tmp_path, "Training/a/1.jpg", "Training/b/1.jpg", "Testing/a/2.jpg")
    dataset = load_dataset(tmp_path)
    assert dataset.classes == ("a", "b")
    assert [item.split for item in dataset.items] == ["test", "train", "train"]


@pytest.mark.parametrize("others", [(), ("test",), ("val",)])
def test_val_and_test_folders_may_be_missing(tmp_path: Path, others: tuple[str, ...]) -> None:
    touch(tmp_path, "train/a/1.jpg", "train/b/1.jpg", *(f"{name}/a/2.jpg" for name in others))
    assert {item.split for item in load_dataset(tmp_path).items} == {"train", *others}


def test_split_folders_without_train_are_refused(tmp_path: Path) -> None:
    touch(tmp_path, "val/a/1.jpg", "test/b/1.jpg")
    assert refusal(tmp_path).endswith("holds 'test', 'val' but no 'train' folder.")


def test_two_folders_of_one_split_are_refused(tmp_path: Path) -> None:
    touch(tmp_path, "train/a/1.jpg", "train/b/1.jpg", "val/a/2.jpg", "valid/a/3.jpg")
    assert "both 'val', 'valid' for one split" in refusal(tmp_path)


def test_a_class_may_be_called_train(tmp_path: Path) -> None:
    touch(tmp_path, "train/1.jpg", "plane/1.jpg")
    assert load_dataset(tmp_path).classes == ("plane", "train")


def test_splits_beside_classes_are_refused_but_folders_without_images_are_not(
    tmp_path: Path,
) -> None:
    touch(tmp_path, "train/a/1.jpg", "train/b/1.jpg", "test/a/2.jpg", "docs/readme.md")
    dataset = load_dataset(tmp_path)
    assert dataset.classes == ("a", "b")
    assert passed(tmp_path) == ["Folders beside those that are read: 'docs'."]
    touch(tmp_path, "docs/picture.jpg")
    assert "holds split folders ('test', 'train') and other folders" in refusal(tmp_path)


def test_a_class_of_test_that_train_lacks_is_named(tmp_path: Path) -> None:
    touch(tmp_path, "train/a/1.jpg", "train/b/1.jpg", "test/a/2.jpg", "test/c/2.jpg")
    assert "The test part has classes that are not in train: 'c'" in refusal(tmp_path)


def test_unlabelled_test_images_are_passed_over_and_named(tmp_path: Path) -> None:
    touch(tmp_path, "train/a/1.jpg", "train/b/1.jpg", "test/9.jpg")
    dataset = load_dataset(tmp_path)
    assert len(dataset.items) == 2
    assert passed(tmp_path) == ["Folders of images without a class: 'test'."]


def test_unlabelled_train_images_are_refused(tmp_path: Path) -> None:
    touch(tmp_path, "train/a.1.jpg", "train/b.1.jpg", "test/a/1.jpg")
    assert "train lie directly in it" in refusal(tmp_path)


def test_hidden_files_and_clutter_are_silent_and_other_files_are_listed(tmp_path: Path) -> None:
    touch(
        tmp_path,
        *("a/1.jpg", "b/1.jpg", "a/.2.jpg", ".cache/1.jpg", "a/Thumbs.db", "b/Desktop.ini"),
        *("__MACOSX/a/1.jpg", "b/__MACOSX/1.jpg", "README.txt", "a/notes", "b/x/labels.xml"),
    )
    dataset = load_dataset(tmp_path)
    assert found(tmp_path) == {"a/1.jpg": "a", "b/1.jpg": "b"}
    assert dataset.ignored == ("README.txt", "a/notes", "b/x/labels.xml")
    assert dataset.notes == ()


def test_names_with_spaces_unicode_and_a_leading_dash(tmp_path: Path) -> None:
    names = {"-x/-rf.jpg": "-x", "été ü/日本 語.png": "été ü", "  padded /a b.webp": "padded"}
    touch(tmp_path, *names)
    assert found(tmp_path) == names


def test_a_name_that_is_not_utf8_is_passed_over_and_named(tmp_path: Path) -> None:
    touch(tmp_path, "a/1.jpg", "b/1.jpg")
    try:
        Path(os.fsdecode(os.fsencode(tmp_path) + b"/a/caf\xe9.jpg")).touch()
    except OSError:
        pytest.skip("this file system wants UTF-8")
    dataset = load_dataset(tmp_path)
    assert len(dataset.items) == 2
    (note,) = passed(tmp_path)
    note.encode()
    assert "not UTF-8" in note
    assert "dce9.jpg" in note


def test_an_image_name_with_other_contents_is_still_an_item(tmp_path: Path) -> None:
    touch(tmp_path, "a/1.jpg", "b/1.jpg")
    (tmp_path / "a" / "page.png").write_text("<html>")
    assert "a/page.png" in found(tmp_path)


def test_a_pipe_is_not_an_image(tmp_path: Path) -> None:
    touch(tmp_path, "a/1.jpg", "b/1.jpg")
    os.mkfifo(tmp_path / "a" / "pipe.jpg")
    assert load_dataset(tmp_path).ignored == ("a/pipe.jpg",)


def test_links_that_stay_inside_work(tmp_path: Path) -> None:
    touch(tmp_path, "a/1.jpg", "b/1.jpg", ".store/2.jpg", ".store/more/3.jpg", ".store/whole/4.jpg")
    (tmp_path / "a" / "2.jpg").symlink_to("../.store/2.jpg")
    (tmp_path / "a" / "more").symlink_to("../.store/more")
    (tmp_path / "c").symlink_to(".store/whole")
    assert found(tmp_path) == {
        "a/1.jpg": "a",
        "a/2.jpg": "a",
        "a/more/3.jpg": "a",
        "b/1.jpg": "b",
        "c/4.jpg": "c",
    }
    assert load_dataset(tmp_path).notes == ()


def test_the_folder_itself_may_be_a_link(tmp_path: Path) -> None:
    touch(tmp_path, "real/a/1.jpg", "real/b/1.jpg")
    (tmp_path / "link").symlink_to("real")
    assert found(tmp_path / "link") == {"a/1.jpg": "a", "b/1.jpg": "b"}


def test_links_that_lead_outside_are_passed_over_and_named(tmp_path: Path) -> None:
    data = touch(tmp_path / "near" / "data", "a/1.jpg", "b/1.jpg")
    touch(tmp_path, "data2/secret.jpg")
    (data / "a" / "2.jpg").symlink_to(tmp_path / "data2" / "secret.jpg")
    (data / "b" / "all").symlink_to("../../../data2")
    (data / "c").symlink_to(tmp_path / "data2")
    dataset = load_dataset(data)
    assert (len(dataset.items), dataset.notes) == (2, ())
    assert passed(data) == [
        "Links that lead outside the folder; use --follow-links to read them: "
        "'a/2.jpg', 'b/all', 'c'."
    ]


def test_a_folder_of_links_to_the_outside_says_so(tmp_path: Path) -> None:
    touch(tmp_path, "store/1.jpg", "near/data/a/x.txt")
    (tmp_path / "near" / "data" / "a" / "1.jpg").symlink_to("../../../store/1.jpg")
    message = refusal(tmp_path / "near" / "data")
    assert "no images" in message
    assert message.endswith(
        "Links that lead outside the folder; use --follow-links to read them: 'a/1.jpg'."
    )


def test_link_cycles_and_dead_links_end(tmp_path: Path) -> None:
    touch(tmp_path, "a/deep/1.jpg", "b/1.jpg")
    (tmp_path / "a" / "deep" / "up").symlink_to("..")
    (tmp_path / "a" / "root").symlink_to(tmp_path)
    (tmp_path / "top").symlink_to(".")
    (tmp_path / "b" / "self").symlink_to("self")
    (tmp_path / "b" / "gone.jpg").symlink_to("nothing.jpg")
    assert found(tmp_path) == {"a/deep/1.jpg": "a", "b/1.jpg": "b"}
    assert passed(tmp_path) == [
        "Links that lead to nothing: 'b/gone.jpg', 'b/self'.",
        "Links to a folder that is read already: 'a/deep/up', 'a/root', 'top'.",
    ]
    assert passed(tmp_path, follow_links=True) == passed(tmp_path)


def test_links_cannot_multiply_the_work(tmp_path: Path) -> None:
    # Ten folders of ten links to the next one: ten thousand million ways, ten folders.
    touch(tmp_path, "a/1.jpg", "b/1.jpg", *(f".store/{n}/x.jpg" for n in range(10)))
    for number in range(9):
        for link in range(10):
            (tmp_path / ".store" / str(number) / f"l{link}").symlink_to(f"../{number + 1}")
    (tmp_path / "a" / "start").symlink_to("../.store/0")
    assert len(load_dataset(tmp_path).items) == 2 + 10


def test_an_empty_class_folder_is_noted(tmp_path: Path) -> None:
    touch(tmp_path, "a/1.jpg", "b/1.jpg", "d/only.txt")
    (tmp_path / "c").mkdir()
    dataset = load_dataset(tmp_path)
    assert dataset.classes == ("a", "b")
    assert passed(tmp_path) == [
        "Class folders without images, only files of other types: 'd'.",
        "Class folders without images, which are empty: 'c'.",
        "Files that are not images by their names: 'd/only.txt'.",
    ]


def test_long_lists_of_names_are_cut_short(tmp_path: Path) -> None:
    touch(tmp_path, "a/1.jpg", "b/1.jpg", *(f"{n}.jpg" for n in range(7)))
    assert passed(tmp_path) == [
        "Images outside every class folder: '0.jpg', '1.jpg', '2.jpg', '3.jpg', '4.jpg' and 2 more."
    ]


def test_no_such_folder(tmp_path: Path) -> None:
    assert refusal(tmp_path / "nope") == (
        f"There is no folder or file {str(tmp_path / 'nope')!r}. Check the path."
    )
    assert refusal("") == "There is no folder or file ''. Check the path."
    assert "There is no folder or file" in refusal("x" * 5000)
    assert "There is no folder or file" in refusal("a\0b")


def test_errors_of_the_data_exit_with_2(tmp_path: Path) -> None:
    with pytest.raises(DataError) as caught:
        load_dataset(tmp_path / "nope")
    assert caught.value.exit_code == 2


def test_no_images_at_all(tmp_path: Path) -> None:
    assert "There are no images in" in refusal(tmp_path)
    touch(tmp_path, "a/notes.txt", "b/page.pdf")
    assert refusal(tmp_path).endswith("only other files: 'a/notes.txt', 'b/page.pdf'.")


def test_images_without_class_folders_say_what_is_wanted(tmp_path: Path) -> None:
    touch(tmp_path, "1.jpg", "2.jpg")
    message = refusal(tmp_path)
    assert "one subfolder per class" in message
    assert "path,label" in message


def test_one_class_is_not_enough(tmp_path: Path) -> None:
    touch(tmp_path, "x/1.jpg", "x/2.jpg")
    assert refusal(tmp_path) == (
        f"At least two classes are needed; found only 'x' in {tmp_path.resolve()}. "
        "Put those of each class into a folder of its own, or name it in a manifest."
    )


def test_one_folder_around_the_classes_is_recognised(tmp_path: Path) -> None:
    touch(tmp_path, "images/a/1.jpg", "images/b/2.jpg")
    assert found(tmp_path) == {"images/a/1.jpg": "a", "images/b/2.jpg": "b"}
    assert load_dataset(tmp_path).layout == "one folder per class, inside 'images'"


def test_a_file_that_is_no_manifest(tmp_path: Path) -> None:
    touch(tmp_path, "labels.xlsx")
    assert "neither a folder nor a manifest" in refusal(tmp_path / "labels.xlsx")


def test_a_source_of_another_type() -> None:
    assert "A float" in refusal(1.5)


def test_labels_beside_a_folder_are_refused(tmp_path: Path) -> None:
    touch(tmp_path, "a/1.jpg", "b/1.jpg")
    assert "labels= is only for a list of paths" in refusal(tmp_path, labels=["a", "b"])


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
def test_a_folder_that_may_not_be_read(tmp_path: Path) -> None:
    touch(tmp_path, "a/1.jpg", "b/1.jpg")
    (tmp_path / "a").chmod(0)
    try:
        assert "cannot be read: Permission denied" in refusal(tmp_path)
    finally:
        (tmp_path / "a").chmod(0o700)


@pytest.mark.parametrize(
    "ending", ["JPEG", "tif", "webp", "bmp", "gif", "ppm", "jp2", "mpo", "tga"]
)
def test_every_format_that_pillow_decodes_is_an_image(tmp_path: Path, ending: str) -> None:
    touch(tmp_path, f"a/1.{ending}", f"b/1.{ending}")
    assert len(load_dataset(tmp_path).items) == 2


def test_every_format_that_is_read_can_be_opened() -> None:
    Image.init()
    assert set(readable_formats()) <= set(Image.OPEN)
    assert {"JPEG", "PNG", "TIFF", "WEBP"} <= set(readable_formats())


def test_what_pillow_only_recognises_is_not_an_image() -> None:
    # Video, data and drawings; EPS would start Ghostscript.
    assert not readable_extensions() & {".mpg", ".h5", ".grib", ".wmf", ".eps", ".ps", ".pdf"}


def test_heif_without_its_plugin_is_named(tmp_path: Path) -> None:
    if ".heic" in readable_extensions():
        pytest.skip("pillow-heif is installed")
    touch(tmp_path, "a/1.jpg", "b/1.jpg", "b/2.HEIC")
    dataset = load_dataset(tmp_path)
    assert dataset.ignored == ("b/2.HEIC",)
    assert "headstart[heif]" in passed(tmp_path)[0]


def test_solar_cells_are_cut_at_one_half(tmp_path: Path) -> None:
    rows = ("0.0", "0.3333333333333333", "0.5", "0.6666666666666666", "1.0")
    touch(tmp_path, *(f"images/{number}.png" for number in range(5)))
    (tmp_path / "labels.csv").write_text(
        "".join(f"images/{n}.png  {p:<20} mono\n" for n, p in enumerate(rows))
    )
    dataset = read_cells(tmp_path)
    assert [item.label for item in dataset.items] == ["functional"] * 2 + ["defective"] * 3
    assert {(item.split, item.group) for item in dataset.items} == {(None, None)}


def test_a_damaged_solar_table_names_its_row(tmp_path: Path) -> None:
    touch(tmp_path, "images/0.png")
    (tmp_path / "labels.csv").write_text("images/0.png 1.0 mono\nimages/1.png high mono\n")
    with pytest.raises(DataError, match=r"'images/1.png high mono' is not .* \(row 2 of"):
        read_cells(tmp_path)


def test_demo_solar() -> None:
    pytest.importorskip("elpv_dataset")
    dataset = load_dataset("demo:solar")
    labels = [item.label for item in dataset.items]
    # Counted in the package's labels.csv: 106 cells at 2/3 and 715 at 1.
    assert (len(labels), labels.count("defective")) == (2624, 821)
    assert dataset.classes == ("defective", "functional")
    assert dataset.name == "solar"
    assert dataset.licence == "CC BY-NC-SA 4.0"
    assert dataset.key(0) == "images/cell0001.png"
    assert labels[0] == "defective"  # cell0001: probability 1.0
    assert labels[3] == "functional"  # cell0004: probability 0.0


def test_demo_solar_without_its_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert "pip install 'headstart[demo]'" in refusal("demo:solar")


def test_unknown_demos() -> None:
    assert refusal("demo:sollar") == "Unknown demo 'sollar'; did you mean 'solar'?"
    assert refusal("demo:zzz") == "Unknown demo 'zzz'; there is solar."


def test_finding_images_imports_nothing_heavy(tmp_path: Path) -> None:
    touch(tmp_path, "a/1.jpg", "b/1.jpg")
    program = (
        "import sys; from headstart.data.sources import load_dataset; load_dataset(sys.argv[1]);"
        "print([m for m in ('torch', 'pandas', 'pyarrow', 'scipy', 'numpy') if m in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path)], capture_output=True, text=True, check=True
    )
    assert done.stdout == "[]\n"


@pytest.mark.skipif(not SHARED.is_dir(), reason="the shared data sets are not here")
@pytest.mark.parametrize(
    ("name", "classes", "images"),
    [("flowers17", 17, 1360), ("neu_steel", 6, 1800), ("stanford_cars_crops", 196, 8144)],
)
def test_shared_class_folders(name: str, classes: int, images: int) -> None:
    dataset = load_dataset(SHARED / name)
    assert (len(dataset.classes), len(dataset.items)) == (classes, images)
    assert dataset.notes == ()


@pytest.mark.skipif(not SHARED.is_dir(), reason="the shared data sets are not here")
def test_shared_split_folders() -> None:
    splits = [item.split for item in load_dataset(SHARED / "hymenoptera").items]
    assert (splits.count("train"), splits.count("test"), len(splits)) == (244, 153, 397)
