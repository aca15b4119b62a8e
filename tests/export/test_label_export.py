"""Exports of a classifier of any number of labels decide as their run did, or are refused."""

import csv
import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from headstart import export
from headstart.artifacts.bundle_spec import BundleSpec, read_spec
from headstart.artifacts.set_results import SetPrediction, read_set_predictions
from headstart.errors import ExportError, InputError
from headstart.evaluation.label_rules import LabelRule
from headstart.export.parity import EXACT, Limits
from headstart.export.set_parity import SetParity, measure_sets, set_failures
from headstart.export.tracking import logged_of
from headstart.inference.run import Run

Command = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="module")
def linear(
    quarters_folder: Path, shared_cache: Path, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """A run whose head is linear on the last features, as timm can hold it."""
    from headstart.api.fit import fit

    settings = ("backbone.name=test_efficientnet", "backbone.weights=random",
                "head.features=last", "head.normalize=none")  # fmt: skip
    folder = tmp_path_factory.mktemp("linear") / "run"
    fit(quarters_folder / "labels.csv", strategy="head", settings=settings, out=folder,
        cache_dir=shared_cache, progress=False)  # fmt: skip
    return folder


def spec_of(*thresholds: float) -> BundleSpec:
    rules = tuple(LabelRule(threshold=each) for each in thresholds)
    return BundleSpec.model_construct(classes=("ant", "bee"), labels=rules)


def predicted(name: str, labels: str, ant: float, bee: float) -> SetPrediction:
    given = tuple(n for n, p in (("ant", ant), ("bee", bee)) if p >= 0.5)
    return SetPrediction(
        path=name, labels=tuple(labels.split()), given=given, log_loss=0.1,
        group=ord(name), probabilities=(ant, bee),
    )  # fmt: skip


RECORDED = [
    predicted("a", "ant", 0.9, 0.2),
    predicted("b", "ant bee", 0.8, 0.502),
    predicted("c", "", 0.3, 0.1),
    predicted("d", "bee", 0.6, 0.7),
]
SAME = np.array([each.probabilities for each in RECORDED])
SPEC = spec_of(0.5, 0.5)


def test_the_same_probabilities_are_the_same_sets() -> None:
    parity = measure_sets(RECORDED, SAME, SPEC)
    assert (parity.images, parity.agreement, parity.agreement_aside) == (4, 1.0, 1.0)
    assert (parity.differing, parity.decisions, parity.near_ties) == ((), 0, 0)
    assert parity.largest_difference == 0
    # 4 of 5 labels given are right and all 4 are found: F1 = 8 / 9. All ants rank first, and bees.
    assert parity.micro_f1 == parity.recorded_micro_f1 == pytest.approx(8 / 9)
    assert parity.mean_average_precision == parity.recorded_mean_average_precision == 1
    assert (parity.loss, parity.loss_interval) == (0, (0, 0))
    assert set_failures(parity, EXACT, 0.01) == []


def test_a_near_tie_may_turn_and_is_listed() -> None:
    told = SAME.copy()
    told[1, 1] = 0.498
    parity = measure_sets(RECORDED, told, SPEC)
    assert (parity.differing, parity.decisions, parity.near_ties) == (("b",), 1, 1)
    assert parity.agreement == pytest.approx(8 / 9) and parity.agreement_aside == 1
    assert parity.micro_f1 == pytest.approx(6 / 8)
    assert parity.loss == pytest.approx(8 / 9 - 6 / 8)
    assert parity.loss_interval[0] <= parity.loss <= parity.loss_interval[1]
    assert set_failures(parity, EXACT, 0.01) == []  # the share of one image is always allowed


def test_other_labels_a_difference_and_a_loss_are_refused() -> None:
    told = SAME.copy()
    told[0] = 0.2, 0.9
    told[3] = 0.6, 0.1
    parity = measure_sets(RECORDED, told, SPEC)
    assert parity.differing == ("a", "d") and parity.decisions == 3 and parity.near_ties == 0
    # 3 labels remain of 5 before and 4 after.
    assert parity.agreement == pytest.approx(2 * 3 / 9)
    why = "; ".join(set_failures(parity, EXACT, 0.01))
    assert "a probability differs by 0.7" in why
    assert "2 images of 4 get other labels than in the run (F1 of the labels 66.7%" in why
    assert "points of micro F1" in why and "points of mean average precision" in why
    assert not set_failures(parity, Limits(None, 0.6), 1)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_what_is_no_number_is_refused(value: float) -> None:
    told = SAME.copy()
    told[0, 0] = value
    parity = measure_sets(RECORDED, told, SPEC)
    assert parity.differing == ("a",) and parity.largest_difference == pytest.approx(0.9)
    assert set_failures(parity, EXACT, 1)


def test_the_threshold_of_each_label_decides() -> None:
    parity = measure_sets(RECORDED, SAME, spec_of(0.85, 0.5))
    assert parity.differing == ("b", "d")  # ants of 0.8 and 0.6 are not given any more
    assert parity.near_ties == 0


@pytest.mark.parametrize(
    "target", ["onnx", "openvino", pytest.param("torch-export", marks=pytest.mark.slow)]
)
def test_whole_classifiers_answer_as_the_run(
    target: str, labels_run: Run, tmp_path: Path, headstart: Command
) -> None:
    if target == "openvino":
        pytest.importorskip("openvino")
    done = headstart("export", labels_run.folder, "--to", target, "--out", tmp_path / "out")
    assert done.returncode == 0, done.stderr
    assert "100% get the labels that the run gave them" in done.stdout
    assert "mean average precision" in done.stdout and "accuracy" not in done.stdout
    kept = json.loads((tmp_path / "out" / "export.json").read_text())
    assert kept["parity"]["agreement"] == 1 and kept["parity"]["largest_difference"] < 1e-4
    metrics: Any = labels_run.metrics
    assert kept["parity"]["mean_average_precision"] == metrics.mean_average_precision
    assert kept["thresholds"] == [each.threshold for each in metrics.labels]


def test_int8_keeps_to_its_limits(labels_run: Run, tmp_path: Path) -> None:
    done = export(labels_run.folder, to="int8", out=tmp_path / "out", max_loss=0.2, progress=False)
    assert isinstance(done.parity, SetParity)
    assert done.parity.agreement_aside >= 0.9
    assert done.parity.largest_difference > 0


def test_thresholds_that_changed_are_refused_and_nothing_is_left(
    labels_run: Run, tmp_path: Path
) -> None:
    run = shutil.copytree(labels_run.folder, tmp_path / "run")
    spec = json.loads((run / "bundle" / "bundle.json").read_text())
    for rule in spec["labels"]:
        rule["threshold"] = 1.0
    (run / "bundle" / "bundle.json").write_text(json.dumps(spec))
    with pytest.raises(ExportError, match="points of micro F1"):
        export(run, to="onnx", progress=False)
    assert list((run / "export").iterdir()) == []


def test_plain_timm_gives_the_recorded_probabilities_and_labels(
    linear: Path, quarters_folder: Path, tmp_path: Path
) -> None:
    done = export(linear, to="hub", out=tmp_path / "hub", progress=False)
    assert done.parity.agreement == 1 and done.parity.largest_difference < 1e-4
    assert done.own_preprocessing is not None and done.own_preprocessing.agreement == 1
    config = json.loads((tmp_path / "hub" / "config.json").read_text())
    spec = read_spec(linear / "bundle")
    assert config["thresholds"] == [rule.threshold for rule in spec.labels]
    assert config["problem_type"] == "multi_label_classification"
    row = read_set_predictions(linear)[0]
    card = (tmp_path / "hub" / "README.md").read_text()
    lines = card.rpartition("```python\n")[2].split("```")[0]
    lines = lines.replace('"."', repr(str(tmp_path / "hub")))
    command = [sys.executable, "-c", lines, str(quarters_folder / row.path)]
    told = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
    found = [float(line.split(": ")[1].split()[0]) for line in told]
    assert found == pytest.approx(row.probabilities, abs=2e-4)
    given = [line.split(":")[0] for line in told if line.endswith("(given)")]
    assert given == [*row.given]


def test_timm_holds_what_it_can_and_says_what_it_cannot(
    linear: Path, labels_run: Run, tmp_path: Path
) -> None:
    done = export(linear, to="timm", out=tmp_path / "timm", progress=False)
    assert done.parity.agreement == 1
    known = json.loads((tmp_path / "timm" / "model.json").read_text())
    assert len(known["thresholds"]) == known["create_model"]["num_classes"] == 3
    if read_spec(labels_run.folder / "bundle").taps:
        with pytest.raises(InputError, match="cannot be held by timm"):
            export(labels_run.folder, to="timm", out=tmp_path / "no", progress=False)


def test_what_is_logged_are_the_figures_of_labels(labels_run: Run) -> None:
    logged = logged_of(labels_run.folder)
    metrics: Any = labels_run.metrics
    assert logged.result["test/mean_average_precision"] == metrics.mean_average_precision
    assert not any("accuracy" in name for name in logged.result)


def test_the_recorded_rows_are_those_of_the_test(labels_run: Run) -> None:
    with (labels_run.folder / "predictions.csv").open(newline="") as file:
        assert len(list(csv.DictReader(file))) == len(read_set_predictions(labels_run.folder))
