"""Exports of annotation tools, built by hand."""

from pathlib import Path

import pytest

from headstart.data.sources import load_dataset
from headstart.errors import DataError


def export(root: Path, tables: dict[str, str], *images: str) -> Path:
    for name in [*images, *tables]:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(tables.get(name, ""))
    return root


def found(root: Path) -> list[tuple[str, str, str | None]]:
    dataset = load_dataset(root)
    return [(dataset.key(n), item.label, item.split) for n, item in enumerate(dataset.items)]


@pytest.mark.parametrize(("val", "split"), [("valid", "val"), ("test", "test")])
def test_roboflow_one_hot(tmp_path: Path, val: str, split: str) -> None:
    tables = {
        "train/_classes.csv": "filename, ants, bees\na.jpg, 1, 0\nb.jpg, 0, 1\nc.jpg, 0, 0\n",
        f"{val}/_classes.csv": "filename, ants, bees\nd.jpg, 0, 1\n",
    }
    names = ("train/a.jpg", "train/b.jpg", "train/c.jpg", f"{val}/d.jpg")
    root = export(tmp_path, tables, *names)
    assert sorted(found(root)) == sorted(
        [
            ("train/a.jpg", "ants", "train"),
            ("train/b.jpg", "bees", "train"),
            (f"{val}/d.jpg", "bees", split),
        ]
    )
    assert load_dataset(root).passed_over[0].names == ("train/c.jpg",)


def test_roboflow_one_hot_with_several_labels(tmp_path: Path) -> None:
    table = "filename, ants, bees\na.jpg, 1, 1\n"
    root = export(tmp_path, {"train/_classes.csv": table}, "train/a.jpg")
    with pytest.raises(DataError, match=r"multi-label.*row 2 of train/_classes.csv"):
        load_dataset(root)


@pytest.mark.parametrize("ending", ["", ".jpg"])
@pytest.mark.parametrize(("table", "split"), [("train", "train"), ("default", None)])
def test_imagenet_txt(tmp_path: Path, ending: str, table: str, split: str | None) -> None:
    tables = {"synsets.txt": "ants\nbees\n", f"{table}.txt": f"a{ending} 0\nb{ending} 1\n"}
    root = export(tmp_path, tables, "images/a.jpg", "images/b.jpg")
    assert found(root) == [("images/a.jpg", "ants", split), ("images/b.jpg", "bees", split)]
    (root / f"{table}.txt").write_text("a.jpg 0 1\n")
    with pytest.raises(DataError, match="multi-label"):
        load_dataset(root)
