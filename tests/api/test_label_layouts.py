"""Exports of several labels an image as their tools write them, from the folder to predictions."""

import csv
import json
import shutil
from pathlib import Path
from typing import Any

import pytest

import headstart
from headstart.evaluation.label_metrics import SetMetrics

SMALL: dict[str, Any] = {
    "settings": ("backbone.name=test_efficientnet", "backbone.weights=random",
                 "backbone.resolution=64"),
    "strategy": "head", "progress": False,
}  # fmt: skip


@pytest.fixture(scope="module")
def known(quarters_folder: Path) -> dict[Path, list[str]]:
    """The labels of each picture."""
    with (quarters_folder / "labels.csv").open() as file:
        rows = list(csv.reader(file))[1:]
    return {quarters_folder / name: [*filter(None, labels.split(";"))] for name, labels in rows}


def check(run: headstart.Run, images: int, known: dict[Path, list[str]]) -> None:
    record, metrics = run.record, run.metrics
    assert record.task == "multilabel" and record.classes == ("blue", "green", "red")
    assert record.n_train + record.n_val + record.n_test == images
    assert isinstance(metrics, SetMetrics) and metrics.mean_average_precision > 0.7
    some = dict(list(known.items())[:12])
    found = run.predict([*some])
    right = [set(each.labels or ()) == set(names)
             for each, names in zip(found, some.values(), strict=True)]  # fmt: skip
    assert sum(right) >= 6


def test_a_roboflow_export_for_several_labels(
    known: dict[Path, list[str]], shared_cache: Path, tmp_path: Path
) -> None:
    root, names = tmp_path / "Quarters.v1i.multiclass", ("blue", "green", "red")
    parts = {"train": 44, "valid": 12, "test": 16}
    pictures = iter(known.items())
    for part, count in parts.items():
        (root / part).mkdir(parents=True)
        lines = ["filename, " + ", ".join(names)]
        for _ in range(count):
            picture, labels = next(pictures)
            name = f"{picture.stem}_png.rf.{int(picture.stem) * 7919:032x}.png"
            shutil.copy(picture, root / part / name)
            lines.append(", ".join([name, *(str(int(each in labels)) for each in names)]))
        (root / part / "_classes.csv").write_text("\n".join(lines) + "\n")
    (root / "README.roboflow.txt").write_text("Quarters - v1\n")
    (root / "README.dataset.txt").write_text("# Quarters\n")
    run = headstart.fit(root, out=tmp_path / "run", cache_dir=shared_cache, **SMALL)
    record = run.record
    assert (record.n_train, record.n_val, record.n_test) == (44, 12, 16)
    assert any("with none of the labels" in note for note in record.notes)
    check(run, 72, known)


def answer(number: int, labels: list[str]) -> dict[str, Any]:
    """An annotation as Label Studio exports it; of no choice if there is no label."""
    chosen = {
        "value": {"choices": labels}, "id": f"a{number:09d}", "from_name": "choice",
        "to_name": "image", "type": "choices", "origin": "manual",
    }  # fmt: skip
    return {
        "id": number, "completed_by": 1, "result": [chosen] if labels else [],
        "was_cancelled": False, "ground_truth": False, "created_at": "2026-01-05T10:00:00.000000Z",
        "updated_at": "2026-01-05T10:00:00.000000Z", "draft_created_at": None, "lead_time": 4.2,
        "prediction": {}, "result_count": len(labels), "unique_id": f"{number:032x}",
        "import_id": None, "last_action": None, "project": 1, "task": number, "updated_by": 1,
        "parent_prediction": None, "parent_annotation": None, "last_created_by": None,
    }  # fmt: skip


def test_a_json_export_of_label_studio(
    known: dict[Path, list[str]], shared_cache: Path, tmp_path: Path
) -> None:
    root = tmp_path / "project"
    root.mkdir()
    tasks = []
    for number, (picture, labels) in enumerate(known.items(), start=1):
        upload = f"{number * 7919:08x}-{picture.name}"
        shutil.copy(picture, root / upload)
        tasks.append({
            "id": number, "annotations": [answer(number, labels)], "file_upload": upload,
            "drafts": [], "predictions": [], "data": {"image": f"/data/upload/1/{upload}"},
            "meta": {}, "created_at": "2026-01-05T09:00:00.000000Z", "inner_id": number,
            "total_annotations": 1, "cancelled_annotations": 0, "project": 1,
        })  # fmt: skip
    tasks[0]["annotations"][0] |= {"was_cancelled": True, "result": []}  # skipped: nobody knows
    (root / "project-1-at-2026-01-05-10-30-1a2b3c4d.json").write_text(json.dumps(tasks))
    run = headstart.fit(root, out=tmp_path / "run", cache_dir=shared_cache, **SMALL)
    check(run, 71, known)


def test_a_csv_export_of_label_studio(
    known: dict[Path, list[str]], shared_cache: Path, tmp_path: Path
) -> None:
    root = tmp_path / "project"
    root.mkdir()
    header = ["image", "id", "choice", "annotator", "annotation_id", "created_at", "updated_at",
              "lead_time"]  # fmt: skip
    time = "2026-01-05T10:00:00.000000Z"
    with (root / "project-1-at-2026-01-05-10-30-1a2b3c4d.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(header)
        for number, (picture, labels) in enumerate(known.items(), start=1):
            upload = f"{number * 7919:08x}-{picture.name}"
            shutil.copy(picture, root / upload)
            several = json.dumps({"choices": labels}) if len(labels) > 1 else "".join(labels)
            row = [f"/data/upload/1/{upload}", number, several, 1, number, time, time, 4.2]
            writer.writerow(row)
    run = headstart.fit(root, out=tmp_path / "run", cache_dir=shared_cache, **SMALL)
    assert any("with none of the labels" in note for note in run.record.notes)
    check(run, 72, known)
