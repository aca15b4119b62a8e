"""Several labels an image: every form is recognised, said, and overridden by --task."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from headstart.data.audit import Audit, examine
from headstart.data.pixels import Facts
from headstart.data.sources import load_dataset
from headstart.data.types import Dataset
from headstart.errors import DataError
from headstart.recipes.options import SourceOptions, Task


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    for name in "abcd":
        (tmp_path / f"{name}.jpg").touch()
    return tmp_path


def load(source: Any, task: Task | None = None, **more: Any) -> Dataset:
    return load_dataset(source, SourceOptions(task=task), multilabel=True, **more)


def sets(dataset: Dataset) -> dict[str, tuple[str, ...] | None]:
    return {item.path.stem: item.labels for item in dataset.items}


def table(folder: Path, text: str, name: str = "set.csv") -> Path:
    (folder / name).write_text(text)
    return folder / name


BOTH = {"a": ("ant",), "b": ("ant", "bee"), "c": ("bee",)}

FORMS = {
    "semicolons": "path,label\na.jpg,ant\nb.jpg,bee; ant\nc.jpg,bee\n",
    "bars": "path,label\na.jpg,ant\nb.jpg,ant|bee|ant\nc.jpg,bee\n",
    "rows": "path,label\na.jpg,ant\nb.jpg,bee\nc.jpg,bee\nb.jpg,ant\n",
    "commas": 'path,label\na.jpg,ant\nb.jpg,"bee, ant"\nc.jpg,bee\n',
    "columns": "path,ant,bee,fold\na.jpg,1,0,1\nb.jpg,1,1,0\nc.jpg,0,1,1\n",
}


@pytest.mark.parametrize("text", FORMS.values(), ids=FORMS)
def test_forms_of_a_table(photos: Path, text: str) -> None:
    dataset = load(table(photos, text))
    assert sets(dataset) == BOTH
    assert dataset.multilabel
    assert dataset.classes == ("ant", "bee")
    assert dataset.notes[0].startswith("Recognised as multi-label: 1 of 3 images has several")
    assert dataset.understanding.lines()[:2] == [
        f"understood: {dataset.layout}; 2 labels, 3 images",
        "labels: 'ant' (2), 'bee' (2)",
    ]


def test_roboflow_label_studio_and_coco(photos: Path) -> None:
    (photos / "_classes.csv").write_text(
        "filename, ant, bee\na.jpg, 1, 0\nb.jpg, 1, 1\nc.jpg, 0, 0\n"
    )
    dataset = load(photos)
    assert sets(dataset) == {"a": ("ant",), "b": ("ant", "bee"), "c": ()}
    assert "1 image with none of the labels" in dataset.notes[0]
    assert [each.names for each in dataset.passed_over] == [("d.jpg",)]
    (photos / "_classes.csv").unlink()

    def task(name: str, *choices: str, looked_at: bool = True) -> dict[str, Any]:
        result = [{"type": "choices", "value": {"choices": choices}}] if choices else []
        given = [{"result": result}] if looked_at else []
        return {"data": {"image": name}, "annotations": given}

    tasks = [task("a.jpg", "ant"), task("b.jpg", "ant", "bee"), task("c.jpg"),
             task("d.jpg", looked_at=False)]  # fmt: skip
    (photos / "tasks.json").write_text(json.dumps(tasks))
    dataset = load(photos)
    assert sets(dataset) == {"a": ("ant",), "b": ("ant", "bee"), "c": ()}
    assert dataset.passed_over[0].names == ("d.jpg",)  # nobody looked at it
    coco = {
        "images": [{"id": n, "file_name": f"{name}.jpg"} for n, name in enumerate("abc")],
        "categories": [{"id": 1, "name": "ant"}, {"id": 2, "name": "bee"}],
        "annotations": [{"image_id": 0, "category_id": 1}, {"image_id": 1, "category_id": 2},
                        {"image_id": 1, "category_id": 1}],
    }  # fmt: skip
    (photos / "tasks.json").write_text(json.dumps(coco))
    assert sets(load(photos)) == {"a": ("ant",), "b": ("ant", "bee"), "c": ()}


def test_python_objects(photos: Path) -> None:
    pandas = pytest.importorskip("pandas")
    paths = [str(photos / f"{name}.jpg") for name in "abc"]
    labels = [["ant"], ("bee", "ant"), {"bee"}]
    assert sets(load(paths, labels=labels)) == BOTH
    assert sets(load(pandas.DataFrame({"path": paths, "label": labels}))) == BOTH
    marks = pandas.DataFrame({"path": paths, "ant": [1, 1, 0], "bee": [False, True, True]})
    assert sets(load(marks)) == BOTH


def test_a_few_are_asked_about(photos: Path) -> None:
    names = [f"{n}.jpg" for n in range(40)]
    for name in names:
        (photos / name).touch()
    rows = [f"{name},ant" for name in names[:-1]] + [f"{names[-1]},ant;bee"]
    path = table(photos, "path,label\n" + "\n".join(rows))
    with pytest.raises(DataError, match=r"1 of 40 images in set.csv has several.*39.jpg.*--task"):
        load(path)
    assert load(path, "multilabel").classes == ("ant", "bee")
    assert load(path, "single").classes == ("ant", "ant;bee")


def test_two_separators_are_asked_about(photos: Path) -> None:
    """One of them was taken before, and the names between the other one became a new label."""
    path = table(photos, "path,label\na.jpg,ant;bee\nb.jpg,ant|bee\nc.jpg,bee\n")
    for task in (None, "multilabel"):
        with pytest.raises(DataError, match=r"hold ';' in 1 row and '\|' in 1 row.*JSON Lines"):
            load(path, task)
    assert "ant|bee" in load(path, "single").classes
    lines = '{"path": "a.jpg", "label": ["ant;x", "b|c"]}\n{"path": "b.jpg", "label": "b|c"}\n'
    assert load(table(photos, lines, "set.jsonl"), "multilabel").classes


def test_asked_for(photos: Path) -> None:
    one = table(photos, "path,label\na.jpg,ant\nb.jpg,bee\nc.jpg,\n")
    with pytest.raises(DataError, match="label is empty"):
        load(one)
    assert sets(load(one, "multilabel")) == {"a": ("ant",), "b": ("bee",), "c": ()}
    for label in ("ant", "bee"):
        (photos / "folders" / label).mkdir(parents=True)
        (photos / "folders" / label / "1.jpg").touch()
    with pytest.raises(DataError, match="--task multilabel needs a table"):
        load(photos / "folders", "multilabel")
    with pytest.raises(DataError, match=r"multi-label.*This needs one label"):
        load_dataset(table(photos, FORMS["rows"]))
    lonely = table(photos, "path,label\na.jpg,ant;ant\nb.jpg,\n")
    with pytest.raises(DataError, match="At least two labels are needed; found only ant"):
        load(lonely, "multilabel")


def test_rows_of_an_image_must_agree_on_the_split(photos: Path) -> None:
    path = table(photos, "path,label,split\na.jpg,ant,train\na.jpg,bee,test\n")
    with pytest.raises(DataError, match="one split or group in row 2"):
        load(path)


def test_a_label_without_training_images(photos: Path) -> None:
    text = "path,label,split\na.jpg,ant;bee,train\nb.jpg,ant,val\nc.jpg,ant;wasp,test\n"
    with pytest.raises(DataError, match="test part has classes that are not in train: 'wasp'"):
        load(table(photos, text))


def examined(photos: Path, labels: list[str], pixels: list[str]) -> Audit:
    for number in range(len(labels)):
        (photos / f"{number}.jpg").touch()
    rows = "".join(f"{number}.jpg,{label}\n" for number, label in enumerate(labels))
    dataset = load(table(photos, f"path,label\n{rows}"), "multilabel")
    noise = np.random.default_rng(0).integers(0, 255, (len(labels), 4096), np.uint8)
    facts = [
        Facts("ok", width=64, height=64, pixels=each, thumbnail=noise[row].tobytes())
        for row, each in enumerate(pixels)
    ]
    return examine(dataset, facts).audit


def test_the_audit_counts_labels_and_keeps_the_images(photos: Path) -> None:
    labels = ["ant;bee", "ant", "bee", "ant;wasp", "ant;bee", "", "all;bee", "ant"]
    labels = [f"{label};all" if label else "all" for label in labels]
    audit = examined(photos, labels, [f"p{n}" for n in range(len(labels))])
    assert audit.classes == {"ant": 5, "bee": 4}
    assert audit.n_usable == len(labels)
    said = [each.message for each in audit.findings]
    assert any("Label 'all' is on all usable images" in message for message in said)
    assert any("Label 'wasp' is on 1 of 8 usable images" in message for message in said)


def test_copies_with_other_labels_are_left_out(photos: Path) -> None:
    labels = ["ant;bee", "ant", "bee;ant", *["ant", "bee"] * 4]
    pixels = ["same", "same", "twin", *[f"p{n}" for n in range(8)]]
    audit = examined(photos, labels, pixels)
    assert audit.n_usable == 9
    (found,) = [each for each in audit.findings if each.kind == "conflicting_labels"]
    assert "labelled 'ant' and 'ant; bee'" in found.message


def rows_of(labels: list[str]) -> str:
    return "path\tlabel\n" + "".join(f"{n}.jpg\t{label}\n" for n, label in enumerate(labels))


LISTS = {
    "colours and shapes": ["red, round", "red", "blue, round", "blue, square", "red, square"],
    "in any order": ["round,red", "red,square", "square,blue", "blue,round"],
    "of several lengths": ["a, b", "b, c, a", "c, a", "a, b, c, d", "d, c"],
}
NAMES = {
    "with synonyms": ["tench, Tinca tinca", "goldfish, Carassius auratus", "crane", "crane, bird"],
    "of people": ["Ash, Ann", "Birch, Bob", "Cedar, Cy", "Doe, Dan"],
    "with decimals": ["0,5", "1,5", "0,1", "1,1"],
}


@pytest.mark.parametrize("labels", LISTS.values(), ids=LISTS)
def test_commas_between_labels_are_recognised_and_said(photos: Path, labels: list[str]) -> None:
    for number in range(len(labels)):
        (photos / f"{number}.jpg").touch()
    path = table(photos, rows_of(labels), "set.tsv")
    dataset = load(path)
    wanted = {str(n): tuple(sorted(label.replace(" ", "").split(",")))
              for n, label in enumerate(labels)}  # fmt: skip
    assert sets(dataset) == wanted
    assert "in one cell, with ',' between them" in dataset.notes[0]
    assert "--task single" in dataset.notes[0]
    one = load(path, "single")
    assert not one.multilabel and set(one.classes) == set(labels)


@pytest.mark.parametrize("labels", NAMES.values(), ids=NAMES)
def test_commas_in_names_stay(photos: Path, labels: list[str]) -> None:
    for number in range(len(labels)):
        (photos / f"{number}.jpg").touch()
    dataset = load(table(photos, rows_of(labels), "set.tsv"))
    assert not dataset.multilabel and set(dataset.classes) == set(labels)
    assert not [note for note in dataset.notes if "comma" in note]


def test_commas_that_may_be_either_are_said(photos: Path) -> None:
    labels = ["Paris, France", "Lyon, France", "Paris, Texas", "Lyon, Texas"]
    for number in range(len(labels)):
        (photos / f"{number}.jpg").touch()
    path = table(photos, rows_of(labels), "set.tsv")
    dataset = load(path)
    assert set(dataset.classes) == set(labels)
    assert "'Paris, France', and each is taken as one name. --task multilabel" in dataset.notes[0]
    assert load(path, "multilabel").classes == ("France", "Lyon", "Paris", "Texas")
    assert not load(path, "single").notes


def test_a_few_commas_are_asked_about(photos: Path) -> None:
    labels = ["ant"] * 30 + ["bee"] * 29 + ["ant, bee"]
    for number in range(len(labels)):
        (photos / f"{number}.jpg").touch()
    path = table(photos, rows_of(labels), "set.tsv")
    with pytest.raises(DataError, match=r"59.jpg.*with ',' between them.*--task single"):
        load(path)
    assert load(path, "single").classes == ("ant", "ant, bee", "bee")
