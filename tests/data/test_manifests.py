"""CSV, Parquet, DataFrames and lists of paths."""

from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from headstart.data.sources import load_dataset
from headstart.errors import DataError
from headstart.recipes.options import SourceOptions


def touch(root: Path, *names: str) -> Path:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    return root


def manifest(folder: Path, *rows: str, header: str = "path,label") -> Path:
    path = folder / "set.csv"
    path.write_text("\n".join([header, *rows]) + "\n", encoding="utf-8")
    return path


def parquet(folder: Path, **columns: Any) -> Path:
    pyarrow = pytest.importorskip("pyarrow")
    pytest.importorskip("pyarrow.parquet").write_table(
        pyarrow.table(columns), folder / "set.parquet"
    )
    return folder / "set.parquet"


def refusal(source: Any, **options: Any) -> str:
    with pytest.raises(DataError) as caught:
        load_dataset(source, **options)
    return str(caught.value)


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """A folder `data` with a few images, one image beside it, and one further away."""
    touch(tmp_path, "near/data/a.jpg", "near/data/b.jpg", "near/data/sub/c.png")
    touch(tmp_path, "near/beside.jpg", "outside.jpg")
    return tmp_path / "near" / "data"


def test_csv_with_split_and_group(photos: Path) -> None:
    rows = ("sub/c.png,dog,test,p2,0.3", "a.jpg, cat ,train,p1,0.1", "b.jpg,dog,Valid,,0.2")
    path = manifest(photos, *rows, "sub/../d.jpg,dog,train,,", header="path,label,split,group,x")
    touch(photos, "d.jpg")
    dataset = load_dataset(path)
    assert [(dataset.key(i), x.label, x.split, x.group) for i, x in enumerate(dataset.items)] == [
        ("a.jpg", "cat", "train", "p1"),
        ("b.jpg", "dog", "val", None),
        ("d.jpg", "dog", "train", None),
        ("sub/c.png", "dog", "test", "p2"),
    ]
    assert (dataset.name, dataset.root) == ("set", photos.resolve())


def test_csv_with_byte_order_mark_quotes_blank_lines_and_odd_header(photos: Path) -> None:
    touch(photos, "é, ü.jpg", "-x.jpg")
    path = photos / "set.csv"
    path.write_bytes('\ufeffLabel, Path\r\n"Dodge, Ram","é, ü.jpg"\r\n\r\n日本,-x.jpg\r\n'.encode())
    assert {item.path.name: item.label for item in load_dataset(path).items} == {
        "é, ü.jpg": "Dodge, Ram",
        "-x.jpg": "日本",
    }


def test_parquet(photos: Path) -> None:
    path = parquet(
        photos, path=["b.jpg", "a.jpg"], label=[1, 0], split=["train", "train"], group=["g", None]
    )
    items = load_dataset(path).items
    assert [(x.path.name, x.label, x.split, x.group) for x in items] == [
        ("a.jpg", "0", "train", None),
        ("b.jpg", "1", "train", "g"),
    ]


def test_parquet_without_pyarrow(photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    touch(photos, "set.parquet")
    monkeypatch.setitem(__import__("sys").modules, "pyarrow", None)
    assert refusal(photos / "set.parquet") == (
        "Parquet manifests need pyarrow: pip install 'headstart[tables]'."
    )


def test_a_damaged_parquet_file(photos: Path) -> None:
    pytest.importorskip("pyarrow")
    (photos / "set.parquet").write_bytes(b"PAR1 and then nothing")
    assert "cannot be read as a Parquet file" in refusal(photos / "set.parquet")


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("../../outside.jpg", "is outside"),
        ("sub/../../../outside.jpg", "is outside"),
        ("/etc/hostname", "is outside"),
        ("link.jpg", "is outside"),
        ("gone.jpg", "There is no file"),
        ("sub", "There is no file"),
        ("x" * 3000, "There is no file"),
        ("nul\0.jpg", "There is no file"),
    ],
)
def test_rows_that_point_outside_or_at_nothing(
    photos: Path, suffix: str, name: str, reason: str
) -> None:
    (photos / "link.jpg").symlink_to("../../outside.jpg")
    if suffix == "csv":
        path = manifest(photos, "a.jpg,cat", f"{name},dog")
        row = "row 3 of set.csv"  # the header is row 1
    else:
        path = parquet(photos, path=["a.jpg", name], label=["cat", "dog"])
        row = "row 2 of set.parquet"
    message = refusal(path)
    assert reason in message
    assert row in message


def test_links_and_absolute_paths_that_stay_inside(photos: Path) -> None:
    (photos / "link.jpg").symlink_to("sub/c.png")
    dataset = load_dataset(manifest(photos, f"{photos.resolve() / 'a.jpg'},cat", "link.jpg,dog"))
    assert [dataset.key(i) for i in range(2)] == ["a.jpg", "link.jpg"]


def test_a_manifest_seen_through_a_link_to_its_folder(photos: Path) -> None:
    manifest(photos, f"{photos.parent / 'alias' / 'a.jpg'},cat", "b.jpg,dog")
    (photos.parent / "alias").symlink_to("data")
    dataset = load_dataset(photos.parent / "alias" / "set.csv")
    assert [dataset.key(i) for i in range(2)] == ["a.jpg", "b.jpg"]


@pytest.mark.parametrize("label", ["cat;dog", "cat|dog", "cat; dog"])
def test_several_labels_in_one_cell(photos: Path, label: str) -> None:
    message = refusal(manifest(photos, "a.jpg,cat", f"b.jpg,{label}"))
    assert "multi-label" in message
    assert "row 3 of set.csv" in message


def test_a_list_of_labels_in_one_cell(photos: Path) -> None:
    pandas = pytest.importorskip("pandas")
    path = parquet(photos, path=["a.jpg", "b.jpg"], label=[["cat"], ["cat", "dog"]])
    assert "multi-label" in refusal(path)
    paths = [str(photos / "a.jpg"), str(photos / "b.jpg")]
    assert "multi-label" in refusal(
        pandas.DataFrame({"path": paths, "label": ["cat", ["cat", "dog"]]})
    )
    assert "multi-label" in refusal(paths, labels=["cat", {"dog", "cat"}])


def test_unknown_splits(photos: Path) -> None:
    path = manifest(photos, "a.jpg,cat,train", "b.jpg,dog,trian", header="path,label,split")
    assert refusal(path) == "Unknown split 'trian' (row 3 of set.csv); did you mean 'train'?"
    path = manifest(photos, "a.jpg,cat,7", header="path,label,split")
    assert refusal(path) == "Unknown split '7' (row 2 of set.csv); wanted is train, val or test."


def test_missing_and_repeated_columns(photos: Path) -> None:
    assert "no column 'label'" in refusal(manifest(photos, "a.jpg", header="path"))
    message = refusal(manifest(photos, "a.jpg;cat", header="Pfad;Klasse"))
    assert "no column 'path' and no column 'label'" in message
    assert "found 'Pfad, Klasse'" in message
    path = manifest(photos, "a.jpg,cat,dog", header="path,label,Label")
    assert "more than one column 'label'" in refusal(path)
    assert "no column 'path'" in refusal(parquet(photos, picture=["a.jpg"], label=["cat"]))


@pytest.mark.parametrize("row", ["b.jpg,", "b.jpg,  ", "b.jpg"])
def test_an_empty_label(photos: Path, row: str) -> None:
    said = refusal(manifest(photos, "a.jpg,cat", row))
    assert said.startswith("The label is empty (row 3 of set.csv). Give the image one or remove")
    assert "--task multilabel" in said


def test_an_empty_path(photos: Path) -> None:
    assert refusal(manifest(photos, ",cat")) == "The path is empty (row 2 of set.csv)."


def test_an_unquoted_comma_does_not_cut_a_label_short(photos: Path) -> None:
    message = refusal(manifest(photos, "a.jpg,Dodge, Ram", "b.jpg,Audi"))
    assert message.startswith("There are 3 cells but 2 columns (row 2 of set.csv)")


@pytest.mark.parametrize(
    ("header", "rows"),
    [
        ("path;label;weight", ("a.jpg;cat;1,5", "b.jpg;Dodge, Ram;2,5")),
        ("SEP=;\npath;label", ("a.jpg;cat", "b.jpg;Dodge, Ram")),
        ('"path";"weight, kg";"label"', ("a.jpg;1;cat", "b.jpg;2;Dodge, Ram")),
        ("path|label", ("a.jpg|cat", "b.jpg|Dodge, Ram")),
        ("path\tlabel", ("a.jpg\tcat", "b.jpg\tDodge, Ram")),
        ("path,label,a;b", ("a.jpg,cat,1", 'b.jpg,"Dodge, Ram",2')),
    ],
)
def test_other_separators(photos: Path, header: str, rows: tuple[str, ...]) -> None:
    dataset = load_dataset(manifest(photos, *rows, header=header))
    assert [item.label for item in dataset.items] == ["cat", "Dodge, Ram"]


def test_several_labels_between_semicolons_are_still_several(photos: Path) -> None:
    path = manifest(photos, 'a.jpg;"cat;dog"', "b.jpg;dog", header="path;label")
    assert "multi-label" in refusal(path)


def test_repeated_rows(photos: Path) -> None:
    dataset = load_dataset(manifest(photos, "a.jpg,cat", "b.jpg,dog", "./a.jpg,cat"))
    assert [item.path.name for item in dataset.items] == ["a.jpg", "b.jpg"]
    assert dataset.notes == (
        "Rows that repeat an image and were left out: 1, first row 4 of set.csv.",
    )
    message = refusal(manifest(photos, "a.jpg,cat", "b.jpg,dog", "sub/../a.jpg,dog"))
    assert "is 'cat' in row 2 of set.csv and 'dog' in row 4 of set.csv" in message
    assert "--task multilabel" in message


def test_a_repeated_row_must_not_leak_between_splits(photos: Path) -> None:
    rows = ("a.jpg,cat,train", "b.jpg,dog,train", "a.jpg,cat,test")
    assert "one split or group in row 2" in refusal(
        manifest(photos, *rows, header="path,label,split")
    )


def test_splits_need_train_and_all_classes_in_it(photos: Path) -> None:
    rows = ("a.jpg,cat,test", "b.jpg,dog,val")
    path = manifest(photos, *rows, header="path,label,split")
    assert "is in train. Add training images" in refusal(path)
    rows = ("a.jpg,cat,train", "b.jpg,dog,train", "sub/c.png,cow,val")
    path = manifest(photos, *rows, header="path,label,split")
    assert "The val part has classes that are not in train: 'cow'" in refusal(path)


def test_one_class_in_a_manifest(photos: Path) -> None:
    assert "found only 'cat'" in refusal(manifest(photos, "a.jpg,cat", "sub/c.png,cat"))


def test_empty_and_damaged_csv_files(photos: Path) -> None:
    assert "has no rows" in refusal(manifest(photos))
    (photos / "set.csv").write_bytes(b"")
    assert "no column 'path'" in refusal(photos / "set.csv")
    (photos / "set.csv").write_bytes(b"path,label\ncaf\xe9.jpg,cat\n")
    assert "is not a CSV file in UTF-8" in refusal(photos / "set.csv")
    (photos / "set.csv").write_text("path,label\n" + "x" * 200_000 + ",cat\n")
    assert "is not a CSV file in UTF-8: field larger" in refusal(photos / "set.csv")


def test_a_giant_manifest_is_refused_unread(photos: Path) -> None:
    path = manifest(photos, "a.jpg,cat")
    with path.open("r+b") as file:
        file.truncate(257 * 2**20)  # a hole, not bytes on the disk
    assert "larger than 256 MB" in refusal(path)


def test_a_parquet_file_of_too_many_rows_is_refused(photos: Path) -> None:
    pyarrow = pytest.importorskip("pyarrow")
    nothing = pyarrow.nulls(10_000_001)
    path = parquet(photos, path=nothing, label=nothing)
    assert path.stat().st_size < 2**20
    assert "has more than 10,000,000 rows" in refusal(path)


def test_dataframe(photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pandas = pytest.importorskip("pandas")
    monkeypatch.chdir(photos)
    frame = pandas.DataFrame(
        {
            "label": [1, 0, 1],
            "path": ["sub/c.png", photos.parent / "beside.jpg", "b.jpg"],
            "group": ["g", None, float("nan")],
            "split": pandas.Categorical(["test", "train", "train"]),
        },
        index=[7, 7, 9],
    )
    dataset = load_dataset(frame)
    assert dataset.root == photos.parent.resolve()
    assert [(dataset.key(i), x.label, x.split, x.group) for i, x in enumerate(dataset.items)] == [
        ("beside.jpg", "0", "train", None),
        ("data/b.jpg", "1", "train", None),
        ("data/sub/c.png", "1", "test", "g"),
    ]


def test_dataframe_rows_are_named(photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pandas = pytest.importorskip("pandas")
    monkeypatch.chdir(photos)
    frame = pandas.DataFrame({"path": ["a.jpg", "b.jpg"], "label": ["cat", pandas.NA]})
    assert refusal(frame).startswith("The label is empty (row 1 of the DataFrame).")
    assert "labels= is only for a list" in refusal(frame, labels=["a", "b"])
    assert "no column 'path'" in refusal(frame.rename(columns={"path": 3}))
    assert "empty" in refusal(frame.iloc[:0])
    frame["path"] = [["a.jpg"], "b.jpg"]
    assert refusal(frame) == "The path is not a text but a list (row 0 of the DataFrame)."


def test_paths_with_labels_may_lie_anywhere(photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    np = pytest.importorskip("numpy")
    monkeypatch.chdir(photos)
    paths = ["sub/../../../outside.jpg", photos / "a.jpg"]
    dataset = load_dataset(paths, labels=np.array([3, 4]))
    assert [(dataset.key(i), item.label) for i, item in enumerate(dataset.items)] == [
        ("near/data/a.jpg", "4"),
        ("outside.jpg", "3"),
    ]
    paths = np.array([str(photos / "a.jpg"), str(photos / "b.jpg")])
    assert [x.label for x in load_dataset(paths, labels=["x", "y"]).items] == ["x", "y"]


def test_pairs(photos: Path) -> None:
    dataset = load_dataset([(photos / "b.jpg", "y"), (photos / "a.jpg", "x")])
    assert [item.label for item in dataset.items] == ["x", "y"]


def test_lists_that_do_not_fit(photos: Path) -> None:
    assert "There are 1 paths but 2 labels." in refusal([photos / "a.jpg"], labels=["x", "y"])
    assert "needs as many labels=" in refusal([photos / "a.jpg"])
    assert "empty" in refusal([])
    assert "(paths[1])" in refusal([photos / "a.jpg", photos / "none.jpg"], labels=["x", "y"])
    missing = pytest.importorskip("pandas").NA
    said = refusal([photos / "a.jpg"], labels=[missing])
    assert said.startswith("The label is empty (paths[0]).")
    assert "not valid Unicode (paths[0])" in refusal(["caf\udce9.jpg"], labels=["x"])


@pytest.mark.parametrize("path", ["id", "image_id", "image", "filename", "file_name", "filepath"])
@pytest.mark.parametrize("label", ["class", "Category", "target"])
def test_columns_by_the_names_that_tools_use(photos: Path, path: str, label: str) -> None:
    dataset = load_dataset(manifest(photos, "1,a.jpg,x", "2,b.jpg,y", header=f"n,{path},{label}"))
    assert [(item.path.name, item.label) for item in dataset.items] == [
        ("a.jpg", "x"),
        ("b.jpg", "y"),
    ]
    assert dataset.layout == f"the table set.csv, with {path!r} as path and {label!r} as label"
    assert [(each.reason, each.names) for each in dataset.passed_over] == [
        ("ignored_column", ("n",))
    ]


def test_a_path_goes_before_an_id(photos: Path) -> None:
    rows = ("a.jpg,x,7", "b.jpg,y,8")
    dataset = load_dataset(manifest(photos, *rows, header="path,label,id"))
    assert [item.path.name for item in dataset.items] == ["a.jpg", "b.jpg"]
    assert dataset.passed_over[0].names == ("id",)


@pytest.mark.parametrize(("yes", "no"), [("True", "False"), ("1", "0"), ("yes", "no")])
def test_is_valid_is_a_split(photos: Path, yes: str, no: str) -> None:
    rows = (f"a.jpg,x,{no}", f"b.jpg,y,{no}", f"sub/c.png,y,{yes}")
    dataset = load_dataset(manifest(photos, *rows, header="path,label,is_valid"))
    assert [item.split for item in dataset.items] == ["train", "train", "val"]
    assert "'is_valid' as split" in dataset.layout
    message = refusal(manifest(photos, "a.jpg,x,maybe", header="path,label,is_valid"))
    assert "is_valid is 'maybe' (row 2 of set.csv)" in message


@pytest.mark.parametrize("name", ["fold", "Subset", "phase"])
def test_an_ignored_column_that_looks_like_a_split(photos: Path, name: str) -> None:
    path = manifest(photos, "a.jpg,x,1,5", "b.jpg,y,2,6", header=f"path,label,{name},age")
    split, other = load_dataset(path).passed_over
    assert (split.names, other.names) == ((name,), ("age",))
    assert "look like a split" in split.sentence


@pytest.mark.parametrize(
    ("written", "slips"),
    [
        ("sub\\c.png", ["backslashes"]),
        ("sub/c", ["extension"]),
        ("SUB/C.PNG", ["upper and lower case"]),
        (".\\Sub\\C", ["backslashes", "upper and lower case", "extension"]),
        ("sub/..\\Sub/c", ["backslashes", "upper and lower case", "extension"]),
    ],
)
def test_names_that_differ_a_little_from_the_file(
    photos: Path, written: str, slips: list[str]
) -> None:
    dataset = load_dataset(manifest(photos, "a.jpg,x", f"{written},y"))
    assert [dataset.key(row) for row in range(2)] == ["a.jpg", "sub/c.png"]
    assert len(dataset.notes) == len(slips)
    assert all(slip in note for slip, note in zip(slips, dataset.notes, strict=True))
    assert all(f"1, first {written!r}" in note for note in dataset.notes)


@pytest.mark.parametrize("written", [" a.jpg", "a.jpg ", " A"])
def test_spaces_around_a_path(photos: Path, written: str) -> None:
    dataset = load_dataset(manifest(photos, f"cat,{written}", "dog,b.jpg", header="label, path"))
    assert [item.path.name for item in dataset.items] == ["a.jpg", "b.jpg"]
    assert "with spaces around them: 1, first" in " ".join(dataset.notes)
    touch(photos, f"{written}.png", written)
    (item, _) = load_dataset(
        manifest(photos, f"cat,{written}", "dog,b.jpg", header="label, path")
    ).items
    assert item.path.name == written, "a file of that very name comes first"


@pytest.mark.parametrize("written", ["c.png", "c", "C.PNG"])
def test_a_bare_name_is_found_in_folders_below(photos: Path, written: str) -> None:
    dataset = load_dataset(manifest(photos, f"{written},dog", "a.jpg,cat"))
    assert [dataset.key(number) for number in range(2)] == ["a.jpg", "sub/c.png"]
    assert "without the folder of the file: 1, first" in " ".join(dataset.notes)
    touch(photos, "more/c.png")
    message = refusal(manifest(photos, f"{written},dog", "a.jpg,cat"))
    assert message.endswith("It may mean 'more/c.png' or 'sub/c.png'.")


@pytest.mark.parametrize("name", ["patient_id", "lesion_id", "Subject"])
def test_an_ignored_column_that_looks_like_a_group(photos: Path, name: str) -> None:
    path = manifest(photos, "a.jpg,x,1,5", "b.jpg,y,2,6", header=f"path,label,{name},age")
    group, other = load_dataset(path).passed_over
    assert (group.names, other.names) == ((name,), ("age",))
    assert "look like groups" in group.sentence


def test_a_name_that_fits_several_files_is_not_guessed(photos: Path) -> None:
    touch(photos, "sub/c.jpg")
    message = refusal(manifest(photos, "a.jpg,x", "sub/c,y"))
    assert message.startswith("There is no file 'sub/c'")
    assert message.endswith("(row 3 of set.csv). It may mean 'c.jpg' or 'c.png'.")


@pytest.mark.parametrize("written", ["..\\..\\outside.jpg", "../../OUTSIDE.jpg", "..\\../OUTSIDE"])
def test_a_name_that_differs_does_not_lead_outside(photos: Path, written: str) -> None:
    assert "is outside" in refusal(manifest(photos, "a.jpg,x", f"{written},y"))


def test_all_missing_images_are_counted(photos: Path) -> None:
    message = refusal(manifest(photos, "a.jpg,x", *(f"no{n}.jpg,y" for n in range(13))))
    assert message.startswith("13 of 14 images in set.csv are missing.")
    assert "'no0.jpg' (row 3 of set.csv)" in message
    assert "'no9.jpg' (row 12 of set.csv) and 3 more." in message
    assert "no10" not in message


def test_root_is_where_the_images_are(photos: Path) -> None:
    top = photos.parents[1]
    touch(top, "disk/d.jpg", "disk/e.jpg")
    path = manifest(photos, "d.jpg,x", f"{top}/disk/e.jpg,y", "a.jpg,x")
    disk = SourceOptions(root=top / "disk")
    dataset = load_dataset(path, disk)
    assert {item.path.name for item in dataset.items} == {"a.jpg", "d.jpg", "e.jpg"}
    assert (dataset.root, dataset.notes) == ((top / "disk").resolve(), ())
    everything = SourceOptions(root=Path("/"))
    absolute = manifest(photos, f"{top}/outside.jpg,x", "../../disk/e.jpg,y")
    assert "--root FOLDER" in refusal(absolute, options=disk)
    assert len(load_dataset(absolute, everything).items) == 2
    assert "no folder" in refusal(path, options=SourceOptions(root=photos / "none"))


def test_links_out_of_the_folder_are_followed_if_asked(photos: Path) -> None:
    (photos / "link.jpg").symlink_to("../../outside.jpg")
    path = manifest(photos, "a.jpg,x", "link.jpg,y")
    dataset = load_dataset(path, SourceOptions(follow_links=True))
    assert [dataset.key(row) for row in range(2)] == ["a.jpg", "link.jpg"]
    astray = manifest(photos, "a.jpg,x", "../../outside.jpg,y")
    assert "is outside" in refusal(astray, options=SourceOptions(follow_links=True))


def test_tsv(photos: Path) -> None:
    touch(photos, "b, c.jpg")
    (photos / "set.tsv").write_text('path\tlabel\na.jpg\tx\nb, c.jpg\t"y"\n')
    assert [item.path.name for item in load_dataset(photos / "set.tsv").items] == [
        "a.jpg",
        "b, c.jpg",
    ]
    (photos / "set.tsv").write_text("path,label\na.jpg,x\n")
    assert "no column 'path'" in refusal(photos / "set.tsv")


def test_json_lines(photos: Path) -> None:
    path = photos / "set.jsonl"
    path.write_text(
        '{"file_name": "a.jpg", "label": 0}\n\n'
        '{"label": 1, "file_name": "b.jpg", "split": "val", "text": "a bee"}\n'
        '{"label": 1, "file_name": "sub/c.png", "split": null}\n'
    )
    dataset = load_dataset(path)
    assert [(item.path.name, item.label, item.split) for item in dataset.items] == [
        ("a.jpg", "0", None),
        ("b.jpg", "1", "val"),
        ("c.png", "1", None),
    ]
    assert dataset.passed_over[0].names == ("text",)
    path.write_text('{"path": "a.jpg", "label": ["x", "y"]}\n')
    assert "multi-label" in refusal(path)
    path.write_text('{"path": "a.jpg", "label": "x"}\n[1]\n')
    assert refusal(path).startswith("Line 2 of ")
    path.write_text('{"path": "a.jpg"\n')
    assert "is not JSON (line 1)" in refusal(path)


@pytest.mark.parametrize(
    ("labels", "refused"),
    [
        ([f"{n / 7:.3f}" for n in range(24)], True),
        ([str(n) for n in range(11)] * 2, False),
        ([str(n) for n in range(24)], True),
        ([f"{n / 7:.2f}" for n in range(22)] * 3, True),
        (["0.0", "0.5", "1.0"] * 8, False),
        ([f"model {n}" for n in range(24)], False),
    ],
    ids=["fractions", "numbers twice", "numbers once", "fractions often", "few", "words"],
)
def test_a_continuous_target(photos: Path, labels: list[str], refused: bool) -> None:
    touch(photos, *(f"{n}.png" for n in range(len(labels))))
    path = manifest(photos, *(f"{n}.png,{label}" for n, label in enumerate(labels)))
    if refused:
        column = f"The column 'label' of {path.name} looks like a continuous target"
        assert refusal(path).startswith(f"{column}: {len(set(labels))} different numbers")
    else:
        assert len(load_dataset(path).classes) == len(set(labels))


def test_a_continuous_target_is_refused_by_the_name_of_its_column(photos: Path) -> None:
    touch(photos, *(f"{n}.png" for n in range(24)))
    path = photos / "ages.csv"
    rows = (f"{n}.png,{n / 7:.2f}\n" for n in range(24))
    path.write_text("image,Target\n" + "".join(rows))
    assert refusal(path).startswith("The column 'Target' of ages.csv looks like a continuous")


@pytest.mark.parametrize("linked", ["file", "folder", "folder of folders"])
def test_a_link_that_leads_outside_is_refused_with_the_option_that_follows_it(
    linked: str, tmp_path: Path
) -> None:
    disk, table = tmp_path / "disk", tmp_path / "work" / "csv" / "m.csv"
    table.parent.mkdir(parents=True)
    rows = []
    for label in ("ants", "bees"):
        (disk / label).mkdir(parents=True)
        for number in range(2):
            Image.new("RGB", (8, 8)).save(disk / label / f"{number}.png")
            rows.append(f"images/{label}/{number}.png,{label}")
    images = table.parent / "images"
    if linked == "folder of folders":
        images.symlink_to(disk)
    else:
        images.mkdir()
        for label in ("ants", "bees"):
            if linked == "folder":
                (images / label).symlink_to(disk / label)
                continue
            (images / label).mkdir()
            for number in range(2):
                (images / label / f"{number}.png").symlink_to(disk / label / f"{number}.png")
    table.write_text("\n".join(["path,label", *rows]))
    with pytest.raises(DataError, match=r"a link leads to .*disk/ants/0.png. Use --follow-links"):
        load_dataset(table)
    found = load_dataset(table, SourceOptions(follow_links=True))
    assert [item.label for item in found.items] == ["ants", "ants", "bees", "bees"]
