"""Damaged files of a run: one line that names the file and the field, and no traceback."""

import errno
import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from pydantic import TypeAdapter, ValidationError
from safetensors import SafetensorError
from safetensors.numpy import save

from headstart.ablation.record import LEDGER, read_ledger
from headstart.artifacts import bundle
from headstart.artifacts.bundle_spec import GALLERY, DistributionSpec, read_gallery, read_spec
from headstart.artifacts.files import read_table, replacing
from headstart.artifacts.journal import TRIALS, read_plan
from headstart.artifacts.run import read_metrics, read_predictions, read_record
from headstart.backbones.catalog import build_backbone
from headstart.errors import DiskFullError, RunError
from headstart.inference.bundle import load_bundle
from headstart.inputs import quantities
from headstart.report.page import write_report
from headstart.search.leaderboard import leaderboard_of

RUN = Path(__file__).parents[1] / "fixtures" / "run_6dddef2" / "finished"
Change = Callable[[Any], object]


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return Path(shutil.copytree(RUN, tmp_path / "run"))


def change(path: Path, how: Change) -> None:
    record = json.loads(path.read_text())
    how(record)
    path.write_text(json.dumps(record))


def refusal(read: Callable[[], object]) -> str:
    with pytest.raises(RunError) as refused:
        read()
    said = str(refused.value)
    assert "\n" not in said and said.endswith("."), said
    return said


RECORDS: dict[str, tuple[str, Callable[[Path], object], Change, str]] = {
    "negative count": ("run.json", read_record, lambda r: r.update(n_train=-1), "n_train"),
    "huge count": ("run.json", read_record, lambda r: r.update(n_test=10**30), "n_test"),
    "no number": ("run.json", read_record, lambda r: r.update(seconds=float("nan")), "seconds"),
    "NUL in a path": ("run.json", read_record, lambda r: r.update(data_root="a\0b"), "data_root"),
    "classes twice": ("run.json", read_record, lambda r: r.update(classes=["a", "a"]), "classes"),
    "lost key": ("metrics.json", read_metrics, lambda r: r.pop("accuracy"), "accuracy"),
    "share above 1": ("metrics.json", read_metrics, lambda r: r.update(ece=7.0), "ece"),
    "no images": ("metrics.json", read_metrics, lambda r: r.update(n=0), "n and correct"),
    "ends exchanged": (
        "metrics.json", read_metrics, lambda r: r["accuracy_interval"].reverse(),
        "accuracy_interval",
    ),
    "short table": ("metrics.json", read_metrics, lambda r: r["confusion"].pop(), "confusion"),
    "no folds": ("plan.json", read_plan, lambda r: r.update(folds=0), "folds"),
}  # fmt: skip


@pytest.mark.parametrize("case", RECORDS)
def test_nonsense_in_a_record_is_refused(case: str, run: Path) -> None:
    name, read, how, field = RECORDS[case]
    change(run / name, how)
    said = refusal(lambda: read(run))
    assert str(run / name) in said and field in said and "Restore it from a copy" in said


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "EOF"),
        ('{"a": ' + "[" * 5000, "recursion limit"),
        ('{"n_train": ' + "9" * 5000 + "}", "number out of range"),
        ("[1, 2]", "should be an object"),
    ],
    ids=["empty", "deep", "digits", "list"],
)
def test_what_is_no_record_is_refused(text: str, why: str, run: Path) -> None:
    (run / "run.json").write_text(text)
    assert why in refusal(lambda: read_record(run))


@pytest.mark.parametrize(
    ("how", "field"),
    [
        (lambda trial: trial.update(recipe={"optimizer": ["adamw"]}), "line 1: recipe"),
        (lambda trial: trial.update(recipe=None), "line 1: recipe"),
        (lambda trial: trial.update(val_bits="0120"), "line 1: val_bits"),
        (lambda trial: trial.update(val_right=10**6), "val_images and val_right"),
        (lambda trial: trial.update(val_loss=None), "needs val_loss"),
        (lambda trial: trial.update(temperature=0), "line 1: temperature"),
        (lambda trial: trial.update(calibration={"temperature": 0}), "line 1: calibration.temp"),
    ],
    ids=[
        "lists for names",
        "no recipe",
        "no bits",
        "more right than images",
        "no loss",
        "cold",
        "cold today",
    ],
)
def test_nonsense_in_a_journal_is_refused(how: Change, field: str, run: Path) -> None:
    path = run / "trials.jsonl"
    first, *others = path.read_text().splitlines(keepends=True)
    trial = json.loads(first)
    how(trial)
    path.write_text(json.dumps(trial) + "\n" + "".join(others))
    for read in (TRIALS.read, leaderboard_of, write_report):
        assert field in refusal(lambda read=read: read(run))  # type: ignore[misc]


@pytest.mark.parametrize(
    ("table", "why"),
    [
        ("path,label\na,b\n", "lacks prediction, probability and probability_of_label"),
        ("path,label,prediction,probability,probability_of_label\na,b,c,2,0.5\n", "probability"),
        ("path,label,prediction,probability,probability_of_label\na,b,c,nan,0.5\n", "row 1"),
        ("path,label,prediction,probability,probability_of_label\na,b,c\n", "line 2"),
        ('path,label,prediction,probability,probability_of_label\n"a,b,c\n', "unexpected end"),
    ],
    ids=["columns", "range", "nan", "cells", "quotes"],
)
def test_nonsense_in_a_table_is_refused(table: str, why: str, run: Path) -> None:
    (run / "predictions.csv").write_text(table)
    assert why in refusal(lambda: read_predictions(run))


def test_names_that_are_not_utf_8_are_read(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_bytes(b"path\n\xff.png\n")
    assert read_table(tmp_path / "t.csv", ["path"]) == [{"path": "\udcff.png"}]
    assert read_table(tmp_path / "none.csv", ["path"]) is None


def test_a_ledger_and_a_certificate_are_checked(run: Path) -> None:
    (run / LEDGER).write_text('{"epochs": 1, "seeds": 1, "folds": 1, "rows": [{"part": "other"}]}')
    assert "rows.0.part" in refusal(lambda: read_ledger(run))
    (run / LEDGER).unlink()
    (run / "certificate").mkdir()
    (run / "certificate" / "certificate.json").write_text('{"fractions": []}')
    assert "more problems" in refusal(lambda: write_report(run))


SPECS: dict[str, tuple[Change, str]] = {
    "no members": (lambda spec: spec.update(members=0), "members"),
    "cold": (lambda spec: spec.update(temperature=0), "temperature"),
    "negative temperature": (lambda spec: spec.update(temperature=-1.5), "temperature"),
    "classes twice": (lambda spec: spec.update(classes=["a", "a", "b"]), "classes"),
    "one class": (lambda spec: spec.update(classes=["a"]), "classes"),
    "a billion features": (lambda spec: spec.update(features=10**9), "features"),
    "no backbone": (lambda spec: spec.update(backbone=""), "backbone"),
    "a novel": (lambda spec: spec.update(backbone="resnet18" * 10**6), "backbone"),
    "large images": (lambda spec: spec["preprocessing"].update(resolution=10**6), "resolution"),
    "no spread": (lambda spec: spec["preprocessing"].update(std=[0, 1, 1]), "std"),
}


@pytest.mark.parametrize("case", SPECS)
def test_nonsense_in_a_bundle_is_refused_before_anything_is_built(case: str, run: Path) -> None:
    how, field = SPECS[case]
    change(run / "bundle" / "bundle.json", how)
    assert field in refusal(lambda: read_spec(run / "bundle"))


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("vit_gigantic_patch14_clip_224", "the tensor"),  # 1.8 billion weights, 7 GB
        ("resnet18", "the tensor"),
        ("../../etc/passwd", "Unknown backbone"),
        ("local-dir:/etc", "Unknown backbone"),
        ("hf_hub:someone/theirs", "Unknown backbone"),
    ],
)
def test_a_backbone_without_its_weights_takes_no_memory(
    name: str, why: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(RUN / "bundle", tmp_path, dirs_exist_ok=True)
    made: list[str] = []

    def build(name: str, **options: Any) -> Any:
        network = build_backbone(name, **options)
        made.extend({tensor.device.type for tensor in network.parameters()})
        return network

    monkeypatch.setattr(bundle, "build_backbone", build)
    change(tmp_path / "bundle.json", lambda spec: spec.update(backbone=name))
    assert why in refusal(lambda: load_bundle(tmp_path))
    assert set(made) <= {"meta"}


def test_a_full_disk_is_the_same_for_every_library(tmp_path: Path) -> None:
    # safetensors 0.8 on a tmpfs of 64 kB says this, and has no errno.
    said = "Error while serializing: I/O error: No space left on device (os error 28)"
    for full in (SafetensorError(said), OSError(errno.ENOSPC, ""), OSError(errno.EDQUOT, "")):
        with (
            pytest.raises(DiskFullError, match="There is no space left"),
            replacing(tmp_path / "a.safetensors"),
        ):
            raise full
    with pytest.raises(SafetensorError), replacing(tmp_path / "a.safetensors"):
        raise SafetensorError("Error while serializing: another")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("kind", "good", "bad"),
    [
        (quantities.Share, (0, 1.0, 1 + 1e-9), (-0.1, 1.1, float("nan"), "a")),
        (quantities.Difference, (-1, 0.5), (-1.1, float("inf"))),
        (quantities.Positive, (1e-9, 5), (0, -1, float("inf"))),
        (quantities.Size, (0, 1e9), (-1e-9, 1e13)),
        (quantities.Count, (0, 10**12), (-1, 10**13, 0.5)),
        (quantities.ShareRange, ((0, 1), (0.5, 0.5)), ((1, 0), (0.5,), (0, 2))),
        (quantities.Bits, ("", "0110"), ("2", "01\n")),
        (quantities.PathText, ("", "a/b", "\udcff"), ("a\0",)),
        (quantities.Names, (("a", "b"),), (("a", "a"), ("",))),
    ],
)
def test_ranges(kind: Any, good: tuple[Any, ...], bad: tuple[Any, ...]) -> None:
    adapter = TypeAdapter(kind)
    for value in good:
        assert adapter.validate_python(value) == value
    for value in bad:
        with pytest.raises(ValidationError):
            adapter.validate_python(value)


def gallery(folder: Path, rows: object) -> NDArray[np.float32]:
    """Writes a gallery with its right hash and reads it as a bundle does."""
    content = save({"gallery": np.asarray(rows)})
    (folder / GALLERY).write_bytes(content)
    known = DistributionSpec(
        k=1,
        threshold=1,
        false_alarm=0.05,
        calibrated_on="validation",
        sha256=hashlib.sha256(content).hexdigest(),
    )
    return read_gallery(folder, known)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("kind", [np.float16, np.float32])
def test_a_gallery_with_values_that_are_not_finite_is_refused(
    bad: float, kind: type[np.floating], tmp_path: Path
) -> None:
    assert gallery(tmp_path, np.array([[3.0, 4.0], [0.0, 0.0]], kind)).tolist() == [
        [pytest.approx(0.6), pytest.approx(0.8)],
        [0, 0],
    ]
    with pytest.raises(RunError, match="values that are not finite numbers"):
        gallery(tmp_path, np.array([[1.0, 0.0], [bad, 1.0]], kind))


def test_a_gallery_of_whole_numbers_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="values that are not finite numbers"):
        gallery(tmp_path, np.ones((2, 2), np.int64))
