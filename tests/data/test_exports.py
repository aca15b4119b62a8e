"""Exports of annotation tools in their several forms, built by hand as the tools write them."""

import csv
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from headstart.data.sources import load_dataset
from headstart.errors import DataError
from headstart.recipes.options import SourceOptions

ANTS, BEES = ("a1.jpg", "a2.jpg"), ("b1.jpg", "b2.jpg")
LABELS = {**dict.fromkeys(ANTS, "ants"), **dict.fromkeys(BEES, "bees")}
Classes = dict[str, dict[str, int]]
BOTH: Classes = {"ants": {"unassigned": 2}, "bees": {"unassigned": 2}}


def written(root: Path, files: dict[str, Any], *images: str) -> Path:
    """Writes empty images, and files of text or JSON."""
    for name in [*images, *files]:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        content = files.get(name, "")
        path.write_text(content if isinstance(content, str) else json.dumps(content), "utf-8")
    return root


def classes(source: Path, **options: Any) -> Classes:
    return load_dataset(source, SourceOptions(**options)).understanding.classes


def refused(source: Path, match: str) -> str:
    with pytest.raises(DataError, match=match) as caught:
        load_dataset(source)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def table(*rows: tuple[object, ...], tabs: bool = False) -> str:
    out = io.StringIO()
    csv.writer(out, delimiter="\t" if tabs else ",").writerows(rows)
    return out.getvalue()


# Label Studio


def task(image: str, *answers: list[str], **fields: Any) -> dict[str, Any]:
    return {
        "id": 1,
        "data": {"image": image},
        "annotations": [
            {
                "was_cancelled": False,
                "result": [
                    {"type": "choices", "from_name": "choice", "value": {"choices": answer}}
                ],
            }
            for answer in answers
        ],
        **fields,
    }


@pytest.mark.parametrize("name", ["result.json", "project-1-at-2026-01-01.json"])
@pytest.mark.parametrize(
    "address",
    [
        "/data/upload/1/0a1b2c3d-{}",
        "/data/local-files/?d=pets%2F{}",
        "s3://bucket/pets/{}",
        "https://x.org/pets/{}?token=1",
        "{}",
    ],
)
def test_label_studio_json(name: str, address: str, tmp_path: Path) -> None:
    tasks = [task(address.format(image), [label]) for image, label in LABELS.items()]
    tasks += [task(address.format("none.jpg")), task(address.format("skip.jpg"), ["ants"])]
    tasks[-1]["annotations"][0]["was_cancelled"] = True
    images = [f"images/{image}" for image in (*LABELS, "none.jpg", "skip.jpg")]
    root = written(tmp_path, {name: tasks}, *images)
    for source in (root, root / name):
        dataset = load_dataset(source)
        assert dataset.understanding.classes == BOTH
        assert dataset.layout == "a JSON export of Label Studio"
        (bare,) = dataset.passed_over
        assert bare.names == ("images/none.jpg", "images/skip.jpg")


@pytest.mark.parametrize("form", ["csv", "tsv", "tabs in a csv", "json"])
def test_label_studio_records(form: str, tmp_path: Path) -> None:
    names = ("annotation_id", "annotator", "choice", "created_at", "id", "image", "lead_time")
    rows = [
        (n, 1, label, "2026-01-01", n, f"/data/upload/1/0a1b2c3d-{image}", 2.0)
        for n, (image, label) in enumerate(LABELS.items())
    ]
    file = "result.json" if form == "json" else f"result.{form[-3:]}"
    records = [dict(zip(names, row, strict=True)) for row in rows]
    text = table(names, *rows, tabs=form.startswith("t"))
    root = written(tmp_path, {file: records if form == "json" else text}, *LABELS)
    assert classes(root) == classes(root / file) == BOTH
    several = json.dumps({"choices": ["ants", "bees"]})
    if form == "json":
        written(root, {file: [*records[:-1], {**records[-1], "choice": json.loads(several)}]})
    else:
        more = (*rows[:-1], (4, 1, several, "", 4, "b2.jpg", 1))
        written(root, {file: table(names, *more, tabs=form.startswith("t"))})
    refused(root, r"multi-label.* has 'ants', 'bees'")


def test_a_manifest_with_an_annotation_id_is_a_manifest(tmp_path: Path) -> None:
    rows = [(image, label, 7, "train") for image, label in LABELS.items()]
    text = table(("path", "label", "annotation_id", "split"), *rows)
    root = written(tmp_path, {"m.csv": text}, *LABELS)
    assert classes(root / "m.csv") == {"ants": {"train": 2}, "bees": {"train": 2}}


def test_label_studio_column_that_is_not_clear(tmp_path: Path) -> None:
    header = ("annotation_id", "annotator", "species", "age", "image", "lead_time")
    root = written(tmp_path, {"r.csv": table(header, (1, 1, "ants", "2", "a1.jpg", 3))}, *LABELS)
    refused(root, r"not clear which field of .* holds the label.*'choice'")


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (task("a1.jpg", ["ants", "bees"]), "multi-label.*task 5"),
        (task("a1.jpg", ["ants"], ["bees"]), "annotators disagree .task 5.*'ants', 'bees'"),
        (task("a1.jpg", ["ants"], data={"text": "x"}), "no image .task 5"),
        (task("gone.jpg", ["ants"]), "There is no file 'gone.jpg'"),
        (task("a1.jpg", ["ants"], data=["a1.jpg"]), "no image .task 5"),
        (task("a1.jpg", ["ants"], data="a1.jpg"), "no image .task 5"),
    ],
)
def test_label_studio_tasks_that_cannot_be_used(
    bad: dict[str, Any], message: str, tmp_path: Path
) -> None:
    tasks = [task(image, [label]) for image, label in LABELS.items()]
    refused(written(tmp_path, {"x.json": [*tasks, bad]}, *LABELS), message)


@pytest.mark.parametrize(
    ("result", "message"),
    [
        ([{"type": "rectanglelabels", "value": {"rectanglelabels": ["ants"]}}], "are boxes"),
        (
            [{"type": "choices", "from_name": n, "value": {"choices": ["x"]}} for n in "ab"],
            "'a', 'b'",
        ),
        ([], "No image in .* has a label"),
    ],
)
def test_label_studio_without_one_answer(result: list[Any], message: str, tmp_path: Path) -> None:
    tasks = [task("a1.jpg", ["x"])]
    tasks[0]["annotations"][0]["result"] = result
    refused(written(tmp_path, {"x.json": tasks}, *LABELS), message)


@pytest.mark.parametrize(
    "annotations", [3, {"result": []}, [3], [{"result": 3}], [{"result": [3]}]]
)
def test_label_studio_answers_of_another_form_are_none(annotations: Any, tmp_path: Path) -> None:
    tasks = [task(image, [label]) for image, label in LABELS.items()]
    root = written(tmp_path, {"x.json": [*tasks, task("c.jpg", annotations=annotations)]}, "c.jpg")
    dataset = load_dataset(written(root, {}, *LABELS))
    assert dataset.understanding.classes == BOTH
    assert [each.names for each in dataset.passed_over] == [("c.jpg",)]


# Google


@pytest.mark.parametrize(
    ("train", "test"), [("TRAIN", "TEST"), ("training", "test"), ("Train", "VALIDATION")]
)
def test_google_import_file(train: str, test: str, tmp_path: Path) -> None:
    use = {"a1.jpg": train, "a2.jpg": test, "b1.jpg": train, "b2.jpg": test}
    rows = [(use[image], f"gs://my-bucket/pets/{image}", label) for image, label in LABELS.items()]
    root = written(tmp_path, {"import.csv": table(*rows)}, *(f"deep/down/{x}" for x in LABELS))
    split = "val" if test == "VALIDATION" else "test"
    for source in (root, root / "import.csv"):
        dataset = load_dataset(source)
        assert dataset.understanding.classes == {
            "ants": {"train": 1, split: 1},
            "bees": {"train": 1, split: 1},
        }
        assert "Google" in dataset.layout
        assert "Images matched by file name: 4" in dataset.notes[0]


@pytest.mark.parametrize("first", [("UNASSIGNED",), ("",), ()])
def test_google_import_without_parts(first: tuple[str, ...], tmp_path: Path) -> None:
    rows = [(*first, f"gs://b/{image}", label) for image, label in LABELS.items()]
    root = written(tmp_path / "in", {"all.csv": table(*rows)})
    written(tmp_path / "other", {}, *LABELS)
    assert classes(root / "all.csv", root=tmp_path / "other") == BOTH
    refused(root / "all.csv", "4 of 4 images .* are missing.*--root FOLDER")


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (("TRAIN", "gs://b/a1.jpg", "ants", "bees"), "multi-label"),
        (("TRAIN", "gs://b/a1.jpg", "ants", "0.1", "0.2", "", "", "0.5", "0.6"), "has a box"),
        (("TRIAN", "gs://b/a1.jpg", "ants"), "'TRIAN' is not a part .row 5"),
        (("TRAIN",), "no image .row 5"),
    ],
)
def test_google_rows_that_cannot_be_used(
    row: tuple[str, ...], message: str, tmp_path: Path
) -> None:
    rows = [("TRAIN", f"gs://b/{image}", label) for image, label in LABELS.items()]
    refused(written(tmp_path, {"i.csv": table(*rows, row)}, *LABELS) / "i.csv", message)


def test_google_json_lines(tmp_path: Path) -> None:
    lines = [
        {
            "imageGcsUri": f"gs://b/{image}",
            "classificationAnnotation": {"displayName": label},
            "dataItemResourceLabels": {"aiplatform.googleapis.com/ml_use": "training"},
        }
        for image, label in LABELS.items()
    ]
    root = written(tmp_path, {"i.jsonl": "\n".join(map(json.dumps, lines))}, *LABELS)
    assert classes(root) == {"ants": {"train": 2}, "bees": {"train": 2}}
    several = {"imageGcsUri": "gs://b/a1.jpg"}
    several |= {"classificationAnnotations": [{"displayName": n} for n in "xy"]}  # type: ignore[dict-item]
    several |= {"dataItemResourceLabels": {"aiplatform.googleapis.com/ml_use": "training"}}  # type: ignore[dict-item]
    written(root, {"i.jsonl": "\n".join(map(json.dumps, [*lines, several]))})
    refused(root, "multi-label")


# COCO


def coco(images: dict[str, list[str]], **more: Any) -> dict[str, Any]:
    names = sorted({label for labels in images.values() for label in labels})
    return {
        "images": [{"id": n, "file_name": name} for n, name in enumerate(images)],
        "categories": [{"id": n + 1, "name": name} for n, name in enumerate(names)],
        "annotations": [
            {"id": 0, "image_id": n, "category_id": names.index(label) + 1, **more}
            for n, labels in enumerate(images.values())
            for label in labels
        ],
    }


ONE = {name: [label] for name, label in LABELS.items()}


@pytest.mark.parametrize(
    ("file", "folder"),
    [
        ("annotations/instances_default.json", "images"),
        ("_annotations.coco.json", "."),
        ("labels.json", "data"),
    ],
)
def test_coco_with_one_category(file: str, folder: str, tmp_path: Path) -> None:
    root = written(tmp_path, {file: coco(ONE)}, *(f"{folder}/{name}" for name in LABELS))
    assert classes(root) == classes(root / file) == BOTH
    boxes = written(root, {file: coco({**ONE, "a1.jpg": ["ants", "ants"]}, bbox=[0, 0, 1, 1])})
    dataset = load_dataset(boxes)
    assert dataset.understanding.classes == BOTH
    assert dataset.notes == (
        "Boxes and outlines that are not used, as whole images are classified: 5.",
    )


@pytest.mark.parametrize(
    ("files", "folders"),
    [
        (("annotations/instances_train2017.json", "annotations/instances_val2017.json"),
         ("train2017", "val2017")),
        (("train/_annotations.coco.json", "valid/_annotations.coco.json"), ("train", "valid")),
        (("annotations/labels_train.json", "annotations/labels_val.json"),
         ("images/train", "images/val")),
        (("train.json", "val.json"), ("train", "val")),
    ],
)  # fmt: skip
def test_coco_with_splits(files: tuple[str, str], folders: tuple[str, str], tmp_path: Path) -> None:
    images = [f"{folder}/{name}" for folder in folders for name in LABELS]  # the same names
    contents = {file: coco(ONE) for file in files}
    empty = {"annotations/image_info_train.json": {**coco(ONE), "annotations": []}}
    root = written(tmp_path, contents | empty, *images)
    both = {"train": 2, "val": 2}
    assert classes(root) == {"ants": both, "bees": both}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (coco({**ONE, "a1.jpg": ["ants", "bees"]}), "multi-label.* has 'ants', 'bees'"),
        ({**coco(ONE), "categories": []}, "There is no category 1 .annotation 1"),
        ({**coco(ONE), "annotations": []}, "No image in .* has a category"),
        ({**coco(ONE), "images": [{"id": 0}]}, "no file_name .image 1"),
        (coco({**ONE, "gone.jpg": ["ants"]}), "There is no file 'gone.jpg'"),
        ({**coco(ONE), "images": [{"id": 0, "file_name": name} for name in ONE]},
         "The id 0 stands for 'a1.jpg' and for 'a2.jpg' .images"),
        ({**coco(ONE), "categories": [{"id": 1, "name": "ants"}, {"id": 1, "name": "bees"}]},
         "The id 1 stands for 'ants' and for 'bees' .categories"),
        ({**coco(ONE), "images": [{"id": [0], "file_name": "a1.jpg"}]}, "no id .entry 1 of images"),
        ({**coco(ONE), "annotations": [{"image_id": 0, "category_id": [1]}]}, r"no category \[1\]"),
        ('{"images": [', "is not JSON"),
    ],
)  # fmt: skip
def test_coco_that_cannot_be_used(content: Any, message: str, tmp_path: Path) -> None:
    root = written(tmp_path, {"annotations/x.json": content}, *LABELS)
    refused(root, message)
    refused(root / "annotations" / "x.json", message)


def test_coco_annotations_of_images_that_are_not_listed(tmp_path: Path) -> None:
    content = coco(ONE)
    content["annotations"] += [{"image_id": n, "category_id": 1} for n in (77, "0", [0])]
    dataset = load_dataset(written(tmp_path, {"x.json": content}, *LABELS))
    assert dataset.understanding.classes == BOTH
    assert dataset.notes == ("Annotations of images that their file does not list: 3.",)


# Edge Impulse and Teachable Machine


def info(images: dict[str, Any], category: str = "training") -> dict[str, Any]:
    files = [
        {"path": path, "category": category, "label": {"type": "label", "label": label}}
        for path, label in images.items()
    ]
    return {"version": 1, "files": files}


@pytest.mark.parametrize("where", ["", "training/"])
def test_edge_impulse_info(where: str, tmp_path: Path) -> None:
    parts = {"training": ("ants", "bees"), "testing": ("ants", "bees")}
    names = {p: {f"{label}.{p}{n}.jpg": label for label in parts[p] for n in "12"} for p in parts}
    if where:
        files = {f"{part}/info.labels": info(names[part], part) for part in parts}
    else:
        whole = [
            each
            for part in parts
            for each in info({f"{part}/{n}": v for n, v in names[part].items()}, part)["files"]
        ]
        whole.append({"path": "training/hum.wav", "category": "training", "label": "x"})
        files = {"info.labels": {"version": 1, "files": whole}}
    images = [f"{part}/{name}" for part in parts for name in names[part]]
    root = written(tmp_path, files, *images)
    both = {"train": 2, "test": 2}
    assert classes(root) == {"ants": both, "bees": both}
    assert load_dataset(root).layout == "an export of Edge Impulse (info.labels)"


@pytest.mark.parametrize(
    ("last", "message"),
    [
        ({"label": {"type": "multi-label", "labels": [{"label": "a"}, {"label": "b"}]}},
         "multi-label.* has 'a', 'ants', 'b'"),
        ({"label": {"type": "unlabeled"}, "boundingBoxes": [{"label": "a"}]}, "are boxes"),
        ({"path": None}, "no path .file 5"),
    ],
)  # fmt: skip
def test_edge_impulse_info_that_cannot_be_used(
    last: dict[str, Any], message: str, tmp_path: Path
) -> None:
    content = info(LABELS)
    content["files"].append({"path": "a1.jpg", "category": "training", **last})
    refused(written(tmp_path, {"info.labels": content}, *LABELS), message)


def test_edge_impulse_info_without_label(tmp_path: Path) -> None:
    content = info(LABELS, "split")
    content["files"].append({"path": "c.jpg", "label": {"type": "unlabeled"}})
    root = written(tmp_path, {"info.labels": content}, *LABELS, "c.jpg")
    assert classes(root) == BOTH
    assert load_dataset(root).passed_over[0].names == ("c.jpg",)
    written(root, {"info.labels": "{"})
    refused(root, "is not JSON")
    (root / "info.labels").rename(root / "bounding_boxes.labels")
    refused(root, "holds boxes of Edge Impulse")


@pytest.mark.parametrize(
    "names",
    [
        ("ants.2k3j4.jpg", "ants.9d8f7.ingestion-7c.jpg", "bees.1.png", "bees.2.png"),
        ("ants-!-0.jpg", "ants-!-1.jpg", "bees-!-0.webp", "bees-!-1.webp"),
        ("red ants.1.jpg", "red ants.2.jpg", "bees_2.x.jpg", "bees_2.y.jpg"),
        ("photo.1.jpg", "photo.2.jpg", "drawing.1.jpg", "drawing.2.jpg"),
    ],
)
@pytest.mark.parametrize("around", ["", "train/", "pets/", "train/train/"])
def test_labels_in_file_names(names: tuple[str, ...], around: str, tmp_path: Path) -> None:
    extra = ("test1/1.jpg", "test1/2.jpg") if around.startswith("train") else ()
    dataset = load_dataset(written(tmp_path, {}, *(around + name for name in names), *extra))
    assert len(dataset.classes) == 2
    assert all(counts == {"unassigned": 2} for counts in dataset.understanding.classes.values())
    assert dataset.layout.startswith("names of ")
    assert [each.names for each in dataset.passed_over] == ([("test1",)] if extra else [])


def test_labels_in_file_names_with_splits(tmp_path: Path) -> None:
    images = [f"{p}/{c}.{n}.jpg" for p in ("training", "testing") for c in "xy" for n in "12"]
    both = {"train": 2, "test": 2}
    assert classes(written(tmp_path, {}, *images)) == {"x": both, "y": both}


@pytest.mark.parametrize(
    "names",
    [
        ("2024.01.05.jpg", "2024.02.05.jpg", "2025.01.05.jpg", "2025.02.05.jpg"),  # dates
        ("photo.1.jpg", "photo.2.jpg", "photo.3.jpg", "photo.4.jpg"),  # one label
        ("IMG.1.jpg", "IMG.2.jpg", "DSC.1.jpg", "DSC.2.jpg"),  # cameras
        ("IMG_0001.1.jpg", "IMG_0001.2.jpg", "ants.1.jpg", "ants.2.jpg"),
        ("IMG-20240111-WA0001.a.jpg", "IMG-20240111-WA0001.b.jpg", "x.1.jpg", "x.2.jpg"),
        ("2024-01.1.jpg", "2024-01.2.jpg", "2024-02.1.jpg", "2024-02.2.jpg"),
        ("photo.1.jpg", "photo.2.jpg", "scan 2.1.jpg", "scan 2.2.jpg"),
        *[tuple(f"Screenshot 2024-01-{day} at 10.{minute}.png" for day in "12" for minute in "34")],
        ("a.1.jpg", "b.2.jpg", "c.3.jpg", "d.4.jpg"),  # one image each
        ("a.1.jpg", "a.2.jpg", "b.1.jpg", "b.2.jpg", "other.jpg"),
        ("1.jpg", "2.jpg", "3.jpg"),
    ],
)
def test_file_names_without_labels(names: tuple[str, ...], tmp_path: Path) -> None:
    refused(written(tmp_path, {}, *names), "lie directly in it")


@pytest.mark.parametrize(
    "missing",
    ["/data/upload/1/0a1b2c3d-gone.jpg", "s3://bucket/gone.jpg", "https://x.org/gone.jpg"],
)
def test_images_of_addresses_that_are_missing_are_counted(missing: str, tmp_path: Path) -> None:
    tasks = [task(image, [label]) for image, label in LABELS.items()]
    tasks += [task(missing, ["ants"]), task(missing.replace("gone", "lost"), ["bees"])]
    root = written(tmp_path, {"export.json": tasks}, *LABELS)
    message = refused(root, "2 of 6 images in .* are missing")
    assert "gone.jpg' (task 5 of export.json)" in message
    assert "outside" not in message


# Competitions


@pytest.mark.parametrize(
    ("file", "header", "folder"),
    [
        ("train.csv", ("id", "label"), "train"),
        ("train.csv", ("image_id", "label"), "train_images"),
        ("trainLabels.csv", ("image", "level"), "train"),
        ("labels.csv", ("id", "breed"), "train"),
        ("train.csv", ("Image", "Id"), "images/train"),
        ("train.csv", ("id_code", "diagnosis"), "train/train"),
    ],
)
@pytest.mark.parametrize("ending", ["", ".jpg"])
def test_competition(
    file: str, header: tuple[str, str], folder: str, ending: str, tmp_path: Path
) -> None:
    rows = [(Path(image).stem + ending, label) for image, label in LABELS.items()]
    files = {
        file: table(header, *rows),
        "test.csv": table(header[:1], ("t1",), ("t2",)),
        "sample_submission.csv": table(header, ("t1", "ants"), ("t2", "ants")),
    }
    images = [f"{folder}/{image}" for image in LABELS]
    root = written(tmp_path, files, *images, "test/t1.jpg", "test/t2.jpg")
    dataset = load_dataset(root)
    assert dataset.understanding.classes == BOTH
    assert f"table '{file}', with '{header[0]}' as path and '{header[1]}'" in dataset.layout
    passed = {each.reason: each.names for each in dataset.passed_over}
    assert passed == {
        "unlabelled": ("test",),
        "unknown_extension": ("sample_submission.csv", "test.csv"),
    }


def test_competition_with_the_same_names_in_train_and_test(tmp_path: Path) -> None:
    rows = [(Path(image).stem, label) for image, label in LABELS.items()]
    images = [f"{part}/{image}" for part in ("train", "test") for image in LABELS]
    root = written(tmp_path, {"train.csv": table(("id", "label"), *rows)}, *images)
    dataset = load_dataset(root)
    assert {dataset.key(n) for n in range(4)} == {f"train/{image}" for image in LABELS}


def test_competition_with_a_column_for_each_class(tmp_path: Path) -> None:
    rows = [(image, int(label == "ants"), int(label == "bees")) for image, label in LABELS.items()]
    header = ("image_id", "ants", "bees")
    images = [f"images/{image}" for image in LABELS]
    root = written(tmp_path, {"train.csv": table(header, *rows)}, *images)
    assert classes(root) == BOTH
    written(root, {"train.csv": table(header, *rows, ("b2.jpg", 1, 1))})
    refused(root, "multi-label.*row 6 of train.csv. has 'ants', 'bees'")


def test_tables_of_splits(tmp_path: Path) -> None:
    rows = {n: [(f"{n}_{image}", label) for image, label in LABELS.items()] for n in "tv"}
    files = {
        "train.csv": table(("path", "label"), *rows["t"]),
        "valid.csv": table(("path", "label"), *rows["v"]),
    }
    root = written(tmp_path, files, *(f"images/{r[0]}" for part in rows.values() for r in part))
    assert classes(root) == {"ants": {"train": 2, "val": 2}, "bees": {"train": 2, "val": 2}}
    (root / "valid.csv").rename(root / "more.csv")
    refused(root, "holds several tables of labels: 'more.csv', 'train.csv'")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (table(("id", "age", "weight"), ("a1", 3, 4), ("b1", 5, 6)), "'age', 'weight'.*'label'"),
        (
            table(("id", "label"), ("a1", "ants"), ("b1", "bees"), ("zz", "ants")),
            "no file '(train/)?zz'",
        ),
        (table(("id", "label"), ("a1", "ants", "x")), "3 cells but 2 columns"),
        (table(("id", "label"), ("x1", "a1"), ("x2", "b1")), "None of the images that train.csv"),
    ],
)
@pytest.mark.parametrize("folder", ["train", "train_images"])
def test_competition_that_cannot_be_used(
    text: str, message: str, folder: str, tmp_path: Path
) -> None:
    images = [f"{folder}/{image}" for image in LABELS]
    refused(written(tmp_path, {"train.csv": text}, *images, "test/t.jpg"), message)


@pytest.mark.parametrize(
    ("header", "between"),
    [("id;label", ";"), ("sep=;\nDateiname;Klasse", ";"), ("id|label", "|"), ("id\tlabel", "\t")],
)
@pytest.mark.parametrize("folder", ["", "train/", "images/"])
def test_tables_as_spreadsheets_write_them(
    header: str, between: str, folder: str, tmp_path: Path
) -> None:
    lines = [header, *(between.join(row) for row in LABELS.items())]
    text = "\ufeff" + "\r\n".join([*lines, ""])
    assert classes(written(tmp_path, {"train.csv": text}, *(folder + each for each in LABELS))) == (
        BOTH
    )


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("train.csv", "not a CSV file in UTF-8.*Save it in UTF-8"),
        ("metadata.jsonl", "not a JSON file in UTF-8"),
        ("info.labels", "not text in UTF-8"),
        ("annotations/a.json", "not text in UTF-8"),
        ("_annotations.coco.json", "not text in UTF-8"),
        ("_classes.csv", "not a CSV file in UTF-8"),
    ],
)
def test_files_that_are_not_utf8(name: str, message: str, tmp_path: Path) -> None:
    written(tmp_path, {name: ""}, *(f"train/{image}" for image in LABELS))
    (tmp_path / name).write_bytes("id,label\na1,caf\xe9\n".encode("latin-1"))
    refused(tmp_path, message)


@pytest.mark.parametrize(
    ("parts", "header"),
    [
        (("HAM10000_images_part_1", "HAM10000_images_part_2"), ("image_id", "dx", "age")),
        (("images1", "images2"), ("id_code", "diagnosis", "age")),
        (("batch-a", "batch-b"), ("file", "label", "age")),
        (("images/part1", "images/part2"), ("image", "kind")),
    ],
)
@pytest.mark.parametrize("source", ["", "table.csv"])
def test_parts_of_a_download_are_not_classes(
    parts: tuple[str, str], header: tuple[str, ...], source: str, tmp_path: Path
) -> None:
    images = [f"{parts[n % 2]}/{image}" for n, image in enumerate(LABELS)]
    rows = [(Path(image).stem, label, 7)[: len(header)] for image, label in LABELS.items()]
    root = written(tmp_path, {"table.csv": table(header, *rows)}, *images)
    if source and {"id_code", "kind"} & set(header):  # names that only a folder explains
        refused(root / source, "no column '(path|label)'")
        return
    dataset = load_dataset(root / source)
    assert dataset.understanding.classes == BOTH
    ignored = [each.names for each in dataset.passed_over if each.reason == "ignored_column"]
    assert ignored == ([("age",)] if len(header) == 3 else [])


@pytest.mark.parametrize("parts", ["part_{}", "images{}", "HAM10000_images_part_{}"])
def test_parts_of_a_download_with_a_table_whose_label_is_not_clear(
    parts: str, tmp_path: Path
) -> None:
    images = [f"{parts.format(n)}/{image}" for n, image in enumerate(LABELS)]
    rows = [(Path(image).stem, label, "left") for image, label in LABELS.items()]
    files = {"metadata.csv": table(("image_id", "finding", "side"), *rows)}
    root = written(tmp_path, files, *images)
    refused(
        root, "not clear which of its columns is the label: 'finding', 'side'.*--layout classes"
    )
    assert len(load_dataset(root, SourceOptions(layout="classes")).classes) == 4


@pytest.mark.parametrize("folders", [("x", "y"), ("class_1", "class_2"), ("0", "1")])
def test_a_table_whose_label_is_not_clear_is_noted(
    folders: tuple[str, str], tmp_path: Path
) -> None:
    images = [f"{folders[n % 2]}/{image}" for n, image in enumerate(LABELS)]
    rows = [(Path(image).stem, label, "left") for image, label in LABELS.items()]
    files = {"metadata.csv": table(("image_id", "finding", "side"), *rows)}
    dataset = load_dataset(written(tmp_path, files, *images))
    assert dataset.classes == folders
    (note,) = dataset.notes
    assert note == (
        "metadata.csv names the images, but it is not clear which of its columns is the label: "
        "'finding', 'side'. Call it 'label'."
    )


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("annotations.xml", "<?xml?><annotations></annotations>", "'CVAT for images'.*ImageNet"),
        ("annotations/x.json", {"dm_format_version": "1.0", "items": []}, "Datumaro.*imagenet_txt"),
        ("labels/a1.txt", "0 0.5 0.5 0.1 0.1", "boxes in the form of YOLO"),
        ("Annotations/a1.xml", "<annotation><object/></annotation>", "boxes .* Pascal VOC"),
        ("labels.xlsx", "PK", "labels.xlsx is a spreadsheet.*Save it as CSV in UTF-8"),
    ],
)
def test_forms_that_are_not_read(file: str, content: Any, message: str, tmp_path: Path) -> None:
    images = [f"images/{image}" for image in LABELS]
    refused(written(tmp_path, {file: content}, *images), message)


def test_class_folders_come_before_a_table_that_says_the_same(tmp_path: Path) -> None:
    images = [f"train_images/{label}/{image}" for image, label in LABELS.items()]
    rows = [(image, label, "x") for image, label in LABELS.items()]
    root = written(tmp_path, {"train.csv": table(("image_id", "label", "variety"), *rows)}, *images)
    dataset = load_dataset(root)
    assert dataset.layout.startswith("one folder per class")
    assert dataset.ignored == ("train.csv",)


def test_a_table_that_contradicts_the_folders_is_asked_about(tmp_path: Path) -> None:
    images = [f"{label}/{image}" for image, label in LABELS.items()]
    rows = [(image, "bees" if image == "a2.jpg" else label) for image, label in LABELS.items()]
    root = written(tmp_path, {"labels.csv": table(("path", "label"), *rows)}, *images)
    refused(root, "'ants', 'bees'.*different classes for 1 of 4 images.*--layout classes")
    assert classes(root, layout="classes") == BOTH


@pytest.mark.parametrize(
    ("file", "header", "said"),
    [
        ("table.csv", "path,camera", "table.csv .'camera'. say different classes for 4 of 4"),
        ("table.csv", "path,label", "table.csv .'label'. say different"),
        ("metadata.csv", "file_name,camera", "metadata.csv .'camera'. say different"),
    ],
)
def test_a_column_that_divides_class_folders_otherwise_is_asked_about(
    file: str, header: str, said: str, tmp_path: Path
) -> None:
    images = [f"{label}/{image}" for image, label in LABELS.items()]
    rows = [(image, "nikon" if "1" in image else "canon") for image in images]
    root = written(tmp_path, {file: table(tuple(header.split(",")), *rows)}, *images)
    refused(root, said)
    assert classes(root, layout="classes") == BOTH


@pytest.mark.parametrize("names", [("0", "1"), ("Ant", "Bee"), ("Ameise", "Biene")])
def test_class_folders_under_other_names(names: tuple[str, str], tmp_path: Path) -> None:
    images = [f"{label}/{image}" for image, label in LABELS.items()]
    rows = [(image, names[image.startswith("bees")]) for image in images]
    root = written(tmp_path, {"table.csv": table(("path", "label"), *rows)}, *images)
    assert classes(root) == BOTH


@pytest.mark.parametrize("name", ["train.csv", "table.csv", "labels.tsv"])
@pytest.mark.parametrize("ending", [".jpg", ""])
@pytest.mark.parametrize("folder", ["", "images/"])
def test_a_table_without_a_header(name: str, ending: str, folder: str, tmp_path: Path) -> None:
    rows = [(f"{n}{ending}", "ants" if n % 2 else "bees") for n in range(10, 16)]
    files = {name: table(*rows, tabs=name.endswith("tsv"))}
    written(tmp_path, files, *(f"{folder}{n}.jpg" for n in range(10, 16)))
    refused(tmp_path, f"{name} has no header: its first row names the image '10{ending}'")


@pytest.mark.parametrize("header", ["id", "id,width,height", "id;width;height"])
@pytest.mark.parametrize("folder", ["test", "test1", "valid"])
def test_a_table_of_test_images_without_labels_beside_class_folders(
    header: str, folder: str, tmp_path: Path
) -> None:
    separator = ";" if ";" in header else ","
    row = separator.join(["{}", "5", "6"][: len(header.split(separator))])
    files = {"test.csv": "\n".join([header, *(row.format(n) for n in range(3))])}
    images = [f"train/{label}/{image}" for image, label in LABELS.items()]
    root = written(tmp_path, files, *images, *(f"{folder}/{n}.jpg" for n in range(3)))
    dataset = load_dataset(root)
    assert dataset.understanding.classes == {"ants": {"train": 2}, "bees": {"train": 2}}


@pytest.mark.parametrize("folder", ["test", "testing", "val"])
@pytest.mark.parametrize("name", ["test.csv", "labels.csv"])
def test_the_labels_of_a_test_set_are_not_trained_on(
    folder: str, name: str, tmp_path: Path
) -> None:
    rows = [(n, "ants" if n % 2 else "bees") for n in range(4)]
    images = [f"train/{label}/{image}" for image, label in LABELS.items()]
    files = {name: table(("id", "label"), *rows)}
    root = written(tmp_path, files, *images, *(f"{folder}/{n}.jpg" for n in range(4)))
    refused(root, f"{name}' labels only images of a test or validation folder.*--layout splits")
    assert classes(root, layout="splits") == {"ants": {"train": 2}, "bees": {"train": 2}}


def test_captions_are_not_labels(tmp_path: Path) -> None:
    images = [f"{label}/{n}.jpg" for n in range(12) for label in ("ants", "bees")]
    rows = [(image, f"picture {n}") for n, image in enumerate(images)]
    files = {"metadata.csv": table(("file_name", "caption"), *rows)}
    assert set(classes(written(tmp_path, files, *images))) == {"ants", "bees"}


@pytest.mark.parametrize(
    ("column", "values", "counts"),
    [
        ("split", ("train", "train", "test"), {"train": 2, "test": 1}),
        ("is_valid", ("0", "0", "1"), {"train": 2, "val": 1}),
        ("group", ("p1", "p2", "p2"), {"unassigned": 3}),
    ],
)
@pytest.mark.parametrize("inside", ["ants bees", "", "images"])
def test_splits_and_groups_of_a_table(
    column: str, values: tuple[str, ...], counts: dict[str, int], inside: str, tmp_path: Path
) -> None:
    rows = [
        (f"{label if ' ' in inside else inside}/{label}{n}.jpg".lstrip("/"), label, value)
        for label in ("ants", "bees")
        for n, value in enumerate(values)
    ]
    files = {"table.csv": table(("path", "label", column), *rows)}
    dataset = load_dataset(written(tmp_path, files, *(row[0] for row in rows)))
    assert dataset.understanding.classes == {"ants": counts, "bees": counts}
    groups = [item.group for item in dataset.items]
    assert groups == ([*values, *values] if column == "group" else [None] * 6)


def test_a_table_that_divides_some_images_is_noted(tmp_path: Path) -> None:
    images = [f"{label}/{image}" for image, label in LABELS.items()]
    rows = [(image, Path(image).parent.name, "test") for image in images[::2]]
    files = {"table.csv": table(("path", "label", "split"), *rows)}
    dataset = load_dataset(written(tmp_path, files, *images))
    assert dataset.understanding.classes == BOTH
    assert "the columns 'split' of table.csv are not used" in " ".join(dataset.notes)


# Hugging Face


@pytest.mark.parametrize("form", ["csv", "jsonl"])
@pytest.mark.parametrize("folder", ["", "data/"])
@pytest.mark.parametrize("label", ["label", "animal"])
def test_hugging_face_metadata(form: str, folder: str, label: str, tmp_path: Path) -> None:
    rows = [{"file_name": f"{folder}{image}", label: name} for image, name in LABELS.items()]
    header = tuple(rows[0])
    text = table(header, *(tuple(row.values()) for row in rows))
    lines = "\n".join(map(json.dumps, rows))
    files = {f"metadata.{form}": text if form == "csv" else lines}
    root = written(tmp_path, files, *(f"{folder}{image}" for image in LABELS))
    assert classes(root) == BOTH


@pytest.mark.parametrize(
    ("name", "folder", "values"),
    [
        ("metadata.parquet", "", ("ants", "bees")),
        ("train.parquet", "train/", ("ants", "bees")),
        ("metadata.parquet", "images/", (0, 1)),
    ],
)
def test_tables_in_parquet(
    name: str, folder: str, values: tuple[object, object], tmp_path: Path
) -> None:
    pyarrow = pytest.importorskip("pyarrow")
    labels = [values[label == "bees"] for label in LABELS.values()]
    columns = {"file_name": list(LABELS), "label": labels, "thumb": [b"x"] * 4}
    written(tmp_path, {}, *(folder + image for image in LABELS))
    parquet = pytest.importorskip("pyarrow.parquet")
    parquet.write_table(pyarrow.table(columns), tmp_path / name)
    assert list(classes(tmp_path)) == [str(value) for value in values]
    (tmp_path / name).write_bytes(b"PAR1")
    refused(tmp_path, "cannot be read as a Parquet file")


@pytest.mark.parametrize("source", ["", "data", "data/train-00000-of-00001.parquet"])
def test_parquet_files_that_hold_the_images(source: str, tmp_path: Path) -> None:
    pyarrow = pytest.importorskip("pyarrow")
    images = [{"bytes": b"x", "path": f"{n}.jpg"} for n in range(4)]
    path = tmp_path / "data" / "train-00000-of-00001.parquet"
    path.parent.mkdir()
    parquet = pytest.importorskip("pyarrow.parquet")
    parquet.write_table(pyarrow.table({"image": images, "label": [0, 1, 0, 1]}), path)
    refused(tmp_path / source, "train-00000-of-00001.parquet holds the images themselves")


@pytest.mark.parametrize("place", ["root", "splits"])
def test_hugging_face_metadata_with_splits(place: str, tmp_path: Path) -> None:
    parts = ("train", "test")
    images = [f"{part}/{image}" for part in parts for image in LABELS]
    if place == "root":
        rows = [(path, LABELS[Path(path).name]) for path in images]
        files = {"metadata.csv": table(("file_name", "label"), *rows)}
    else:
        rows = list(LABELS.items())
        files = {f"{part}/metadata.csv": table(("file_name", "label"), *rows) for part in parts}
    both = {"train": 2, "test": 2}
    assert classes(written(tmp_path, files, *images)) == {"ants": both, "bees": both}


def test_hugging_face_metadata_without_labels(tmp_path: Path) -> None:
    images = [f"{label}/{image}" for image, label in LABELS.items()]
    rows = [(path, "a picture", "x") for path in images]
    files = {"metadata.csv": table(("file_name", "caption", "author"), *rows)}
    assert load_dataset(written(tmp_path, files, *images)).layout == "one folder per class"


def test_hugging_face_metadata_with_several_labels(tmp_path: Path) -> None:
    lines = [{"file_name": image, "label": [label]} for image, label in LABELS.items()]
    text = "\n".join(map(json.dumps, lines))
    root = written(tmp_path, {"metadata.jsonl": text}, *LABELS)
    assert classes(root) == BOTH
    more = json.dumps({"file_name": "a1.jpg", "label": ["ants", "bees"]})
    refused(written(root, {"metadata.jsonl": f"{text}\n{more}"}), "multi-label")


# Datumaro, CVAT, Roboflow folders


@pytest.mark.parametrize(
    ("parts", "split"),
    [(("train", "valid"), "val"), (("train", "val"), "val"), (("train", "test"), "test")],
)
def test_class_folders_in_splits(parts: tuple[str, str], split: str, tmp_path: Path) -> None:
    images = [f"{part}/{label}/{image}" for part in parts for image, label in LABELS.items()]
    root = written(tmp_path, {"README.roboflow.txt": "x", "README.dataset.txt": "y"}, *images)
    assert classes(root) == {"ants": {"train": 2, split: 2}, "bees": {"train": 2, split: 2}}


def test_cvat_imagenet(tmp_path: Path) -> None:
    images = [f"{label}/{label}_{image}" for image, label in LABELS.items()]
    assert classes(written(tmp_path, {}, *images, "no_label/c.jpg")) == BOTH


def test_cvat_imagenet_without_images(tmp_path: Path) -> None:
    files = {"synsets.txt": "ants\nbees\n", "default.txt": "a1 0\nb1 1\n"}
    refused(written(tmp_path, files), "no images. Export again with the images")


@pytest.mark.parametrize(
    ("line", "message"),
    [("a1.jpg 0 1", "multi-label"), ("a1.jpg 7", "numbers of classes"), ("a b c", "numbers of")],
)
def test_imagenet_txt_lines_that_cannot_be_used(line: str, message: str, tmp_path: Path) -> None:
    files = {"synsets.txt": "ants\nbees\n", "train.txt": f"a2.jpg 0\n{line}\n"}
    refused(written(tmp_path, files, *(f"images/{image}" for image in LABELS)), message)


def test_imagenet_txt_with_spaces_in_names(tmp_path: Path) -> None:
    files = {
        "synsets.txt": "ants\nbees\n",
        "train.txt": 'a 1.jpg 0\nb 1 0.jpg 1\n"c 1.jpg" 0\n"d 1 0.jpg"  1\n',
    }
    root = written(tmp_path, files, *(f"images/{n}.jpg" for n in ("a 1", "b 1 0", "c 1", "d 1 0")))
    assert classes(root) == {"ants": {"train": 2}, "bees": {"train": 2}}


# A name that several folders may hold


FOLDERS = ("part_1/1.jpg", "part_1/2.jpg", "part_2/3.jpg", "part_2/4.jpg")


@pytest.mark.parametrize(
    "form",
    [
        lambda rows: {"labels.csv": table(("path", "label"), *rows)},
        lambda rows: {"x.json": coco({path: [label] for path, label in rows})},
        lambda rows: {"x.json": [task(f"s3://bucket/{path}", [label]) for path, label in rows]},
        lambda rows: {"i.csv": table(*(("", f"gs://b/{path}", label) for path, label in rows))},
    ],
)
def test_a_file_that_is_missing_in_its_folder_is_not_one_of_another_folder(
    form: Callable[[Any], dict[str, Any]], tmp_path: Path
) -> None:
    """`part_1/4.jpg` is gone: `part_2/4.jpg` is another image, with a label that is not said."""
    names = ("part_1/1.jpg", "part_1/2.jpg", "part_2/3.jpg", "part_1/4.jpg")
    rows = list(zip(names, ("ants", "bees", "bees", "ants"), strict=True))
    refused(written(tmp_path, form(rows), *FOLDERS), "There is no file '.*part_1/4.jpg'")


@pytest.mark.parametrize("folder", ["train", "valid"])
def test_a_file_of_one_split_is_not_one_of_another(folder: str, tmp_path: Path) -> None:
    name = "_annotations.coco.json"
    files = {"train": coco({**ONE, "4.jpg": ["ants"]}), "valid": coco({"5.jpg": ["ants"]})}
    images = [*(f"train/{image}" for image in LABELS), "valid/4.jpg", "valid/5.jpg"]
    root = written(tmp_path, {f"{part}/{name}": each for part, each in files.items()}, *images)
    refused(
        root if folder == "train" else root / "train" / name, r"There is no file '(train/)?4.jpg'"
    )


@pytest.mark.parametrize(
    ("before", "noted"), [("other/", True), ("", False), ("pets/", False), ("bucket/pets/", True)]
)
def test_rows_that_name_images_by_another_path_are_noted(
    before: str, noted: bool, tmp_path: Path
) -> None:
    rows = [(before + image, label) for image, label in LABELS.items()]
    content = {"train.csv": table(("path", "label"), *rows)}
    dataset = load_dataset(written(tmp_path, content, *(f"in/pets/{image}" for image in LABELS)))
    assert dataset.understanding.classes == BOTH
    assert dataset.notes == (
        (f"Images matched by file name: 4, first '{before}a1.jpg' is 'in/pets/a1.jpg'.",)
        if noted
        else ()
    )


# Any of them


def test_a_json_list_is_a_manifest(tmp_path: Path) -> None:
    rows = [{"file": image, "class": label} for image, label in LABELS.items()]
    root = written(tmp_path, {"list.json": rows}, *LABELS)
    assert classes(root / "list.json") == BOTH
    for content, message in (
        ({"a": 1}, "is not a list of images"),
        ([1], "Item 1 of .* is not a JSON object"),
        ("[", "is not JSON"),
        ([], "has no"),
    ):
        refused(written(root, {"list.json": content}) / "list.json", message)


@pytest.mark.parametrize("kind", ["json", "coco", "google", "kaggle", "names"])
def test_exports_in_a_zip(kind: str, tmp_path: Path) -> None:
    import shutil

    rows = [("TRAIN", f"gs://b/{image}", label) for image, label in LABELS.items()]
    files: dict[str, dict[str, Any]] = {
        "json": {"x.json": [task(image, [label]) for image, label in LABELS.items()]},
        "coco": {"x.json": coco(ONE)},
        "google": {"x.csv": table(*rows)},
        "kaggle": {"train.csv": table(("id", "label"), *LABELS.items())},
        "names": {},
    }
    images = [f"{label}.{image}" for image, label in LABELS.items()] if kind == "names" else LABELS
    written(tmp_path / "in" / "top", files[kind], *images)
    shutil.make_archive(str(tmp_path / "pets"), "zip", tmp_path / "in")
    dataset = load_dataset(tmp_path / "pets.zip", cache_dir=tmp_path / "cache")
    assert len(dataset.items) == 4
    assert dataset.classes == ("ants", "bees")
    assert ", unpacked from pets.zip to " in dataset.layout


@pytest.mark.parametrize(
    "files",
    [
        {"annotations/other.json": coco(ONE)},
        {"tasks.json": [task("/data/upload/1/0a1b2c3d-z.jpg", ["ants"])]},
        {"bucket.csv": table(("TRAIN", "gs://b/z.jpg", "ants"))},
        {"train.csv": table(("id", "label"), ("z", "ants"))},
    ],
)
def test_labels_of_other_images_beside_class_folders(files: dict[str, Any], tmp_path: Path) -> None:
    images = [f"{label}/other_{image}" for image, label in LABELS.items()]
    dataset = load_dataset(written(tmp_path, files, *images))
    assert dataset.layout == "one folder per class"
    assert dataset.ignored == tuple(files) or "annotations" in dataset.passed_over[0].names[0]


def test_labels_that_cannot_be_used_beside_class_folders(tmp_path: Path) -> None:
    content = coco({**ONE, "gone.jpg": ["ants"]})
    images = [f"{label}/{image}" for image, label in LABELS.items()]
    root = written(tmp_path, {"x.json": content}, *images)
    refused(root, r"Use --layout classes if the folders beside it are the classes\.")
    assert classes(root, layout="classes") == BOTH


def test_an_unrelated_json_file_changes_nothing(tmp_path: Path) -> None:
    images = [f"{label}/{image}" for image, label in LABELS.items()]
    files = {"notes.json": {"a": 1}, "broken.json": "{", "list.csv": "x,y\n1,2\n"}
    dataset = load_dataset(written(tmp_path, files, *images))
    assert dataset.layout == "one folder per class"
    assert dataset.ignored == ("broken.json", "list.csv", "notes.json")
