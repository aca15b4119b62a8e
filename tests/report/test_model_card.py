"""The model card: metadata that parses whatever people call things, and figures that agree."""

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from headstart.artifacts.bundle_spec import BundleSpec, DistributionSpec, SetSpec
from headstart.artifacts.records import PlanStep, RunRecord, TestPrediction
from headstart.artifacts.run import write_result
from headstart.artifacts.run_start import write_start
from headstart.backbones.preprocessing import Preprocessing
from headstart.data.audit import Audit
from headstart.errors import RunError
from headstart.evaluation.metrics import Metrics, compute_metrics
from headstart.methods.activation import Keep
from headstart.methods.head import Linear
from headstart.recipes.recipe import Recipe
from headstart.report.model_card import fenced, text, write_model_card

HOSTILE = (
    "a | b",
    "line\nbreak\r\n# heading",
    "quote\" ' : - {x} [y] &z *w !v %u @t",
    "---\n...\n<script>alert(1)</script>",
    "\x85\u2028\ufeff\x7f\ud800 \U0001f41d",
    "{{ record.command }} {% raw %}",
    "~~``` \\ yes: null",
)


def make_run(folder: Path, classes: tuple[str, ...] = ("ant", "bee"), **changes: Any) -> Metrics:
    """A run in which the first class is taken for the second on three of four images."""
    fields: dict[str, Any] = {
        "command": "headstart fit insects --budget 5m", "started_at": "2025-03-04T05:06:07+00:00",
        "seconds": 75.0, "data_name": "insects", "data_root": "/insects", "licence": "CC0",
        "n_train": 30, "n_val": 6, "n_test": 8, "classes": classes, "boundary": "blocks.4",
        "backbone": "tf_efficientnet_lite0", "backbone_source": "a package", "epochs": 3,
        "views": 4, "chosen": "fine-tuned", "notes": ["one note"], "machine": "2 x processor",
        "versions": {"torch": "2.8", "headstart": "0.1"},
    }  # fmt: skip
    record = RunRecord.model_validate(fields | changes)
    folder.mkdir()
    write_start(folder, record, Recipe(), Audit(
        n_images=9, n_usable=9, classes={}, dropped={}, findings=()))  # fmt: skip
    labels = np.array([0, 0, 0, 0, 1, 1, 1, 1])
    answers = np.array([0, 1, 1, 1, 1, 1, 1, 1])
    logits = np.full((8, len(classes)), -9.0)
    logits[:, :2] = 0
    logits[np.arange(8), answers] = 3
    metrics = compute_metrics(logits, labels, classes, 1.0)
    write_result(folder, metrics, [
        TestPrediction(path=f"{row}.png", label="", prediction="", probability=1,
                       probability_of_label=1) for row in range(8)
    ])  # fmt: skip
    spec = BundleSpec(
        backbone="tf_efficientnet_lite0", features=8, boundary="blocks.4", taps=(), head=Linear(),
        activation=Keep(), test_time_flip=False,
        classes=tuple(name.replace("\ud800", "?") for name in classes),
        preprocessing=Preprocessing(
            resolution=64, resize=72, mean=(0.5,) * 3, std=(0.5,) * 3, interpolation="bicubic"
        ),
        temperature=1.25, recipe=Recipe().model_dump(mode="json"), weights_sha256="",
        pretrained_sha256="", licence=str(changes.get("weights_licence", "apache-2.0")),
        data_sha256="", versions={},
        sets=(SetSpec(coverage=0.9, threshold=0.4, images=36),),
        distribution=DistributionSpec(
            k=3, threshold=0.3, false_alarm=0.05, calibrated_on="36 images"
        ),
    )  # fmt: skip
    (folder / "bundle").mkdir()
    (folder / "bundle" / "bundle.json").write_text(spec.model_dump_json(), encoding="utf-8")
    return metrics


def parse(card: str) -> tuple[dict[str, Any], str]:
    """Returns the metadata and the Markdown; every string must be JSON, with PyYAML or without."""
    _, front, body = re.split(r"^---\n", card, maxsplit=2, flags=re.MULTILINE)
    for line in front.splitlines():
        key, colon, value = line.lstrip(" -").partition(":")
        written = value.strip() if colon and not key.startswith('"') else line.lstrip(" -")
        if written:
            json.loads(written)
    yaml = pytest.importorskip("yaml")
    return yaml.safe_load(front), body


def card_of(folder: Path) -> tuple[dict[str, Any], str]:
    path = write_model_card(folder)
    assert path == folder / "bundle" / "MODEL_CARD.md"
    return parse(path.read_text(encoding="utf-8"))


def test_what_the_example_imports_exists(tmp_path: Path) -> None:
    make_run(tmp_path / "run")
    _, body = card_of(tmp_path / "run")
    imports = re.findall(r"^from headstart.*$", body, flags=re.MULTILINE)
    assert len(imports) == 2
    exec("\n".join(imports), {})


def test_it_says_how_the_graph_is_used_if_there_is_one(tmp_path: Path) -> None:
    make_run(tmp_path / "run")
    assert "model.onnx" not in card_of(tmp_path / "run")[1]
    path = tmp_path / "run" / "bundle" / "bundle.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "onnx_sha256": "f" * 64}))
    body = card_of(tmp_path / "run")[1]
    assert "(N, 64, 64, 3)" in body and "resized to 72 pixels" in body
    assert "`probabilities` (N, 2)" in body


def test_the_metadata_is_what_the_hub_reads(tmp_path: Path) -> None:
    metrics = make_run(tmp_path / "run")
    front, _ = card_of(tmp_path / "run")
    assert front["license"] == "apache-2.0"
    assert front["library_name"] == "headstart"
    assert front["pipeline_tag"] == "image-classification"
    assert front["base_model"] == "timm/tf_efficientnet_lite0.in1k"
    assert "image-classification" in front["tags"]
    (model,) = front["model-index"]
    (result,) = model["results"]
    assert result["task"]["type"] == "image-classification"
    assert result["dataset"] == {"type": "imagefolder", "name": "insects", "split": "test"}
    values = {each["type"]: each["value"] for each in result["metrics"]}
    assert list(values) == front["metrics"]
    assert values == {
        "accuracy": metrics.accuracy,
        "balanced_accuracy": metrics.balanced_accuracy,
        "f1": metrics.macro_f1,
    }


def test_figures_agree_with_the_metrics(tmp_path: Path) -> None:
    metrics = make_run(tmp_path / "run")
    _, body = card_of(tmp_path / "run")
    assert metrics.accuracy == 5 / 8
    low, high = metrics.accuracy_interval
    assert f"| Accuracy | 62.5% | {100 * low:.1f}% to {100 * high:.1f}% |" in body
    assert f"| Log loss | {metrics.log_loss:.3f} |" in body
    # The ant is right on 1 of 4; the bee on all, so that it is not weak.
    low, high = metrics.classes[0].recall_interval
    assert f"| ant | 4 | 25.0% | {100 * low:.1f}% to {100 * high:.1f}% |" in body
    assert "| bee |" not in body
    assert "- 3 × ant predicted as bee" in body


def test_it_says_what_the_probabilities_stand_on(tmp_path: Path) -> None:
    calibration = {"temperature": 1.25, "images": 54, "source": "a | b"}
    metrics = make_run(tmp_path / "run", calibration=calibration, alarms=["It is *wrong*."])
    path = tmp_path / "run" / "metrics.json"
    tempered = {"temperature": 1.25, "log_loss_uncalibrated": 0.987}
    path.write_text(metrics.model_copy(update=tempered).model_dump_json())
    _, body = card_of(tmp_path / "run")
    assert "- Temperature: 1.25, from 54 images (a \\| b)\n" in body
    assert "\nWithout the temperature, the log loss is 0.987 and the calibration error " in body
    assert "\n\n**Alarm:** It is \\*wrong\\*.\n" in body
    make_run(tmp_path / "plain")
    _, body = card_of(tmp_path / "plain")
    assert not re.search(r"Alarm|Temperature:|[Ww]ithout the temperature", body)


def test_it_says_what_it_is_made_of(tmp_path: Path) -> None:
    make_run(tmp_path / "run")
    _, body = card_of(tmp_path / "run")
    for part in (
        "Intended use", "How to use", "Training data", "Training procedure", "Results", "Limits",
        "Licences", "How it was made",
    ):  # fmt: skip
        assert f"\n## {part}\n" in body
    assert "```sh\nheadstart fit insects --budget 5m\n```" in body
    assert "everything after blocks.4" in body
    assert "Training images: CC0" in body
    assert "on 36 held-out images" in body
    assert "torch 2.8, headstart 0.1" in body
    assert "- one note" in body
    assert "\n\n\n" not in body


def test_it_says_what_is_shipped_and_how_often_the_test_was_opened(tmp_path: Path) -> None:
    step = PlanStep(stage="search", planned="3 recipes")
    make_run(tmp_path / "run", chosen="probe", test_opened_before=["earlier"], plan=[step])
    _, body = card_of(tmp_path / "run")
    assert "Trained: the head only" in body
    assert "Kept: probe\n" in body, "what was trained and not kept is no property of it"
    assert "opened 2 times, because the run was stopped during the test" in body
    assert "Found by a search" in body
    make_run(tmp_path / "other")
    _, body = card_of(tmp_path / "other")
    assert "Kept: fine-tuned, after 3 epochs" in body
    assert "opened once" in body
    assert "Found by a search" not in body


def test_hostile_names_stay_names(tmp_path: Path) -> None:
    odd = HOSTILE[2]
    # A lone surrogate stands for a file name that is not UTF-8; pydantic's JSON refuses it.
    classes = tuple(name.replace("\ud800", "") for name in HOSTILE)
    make_run(
        tmp_path / "run", classes, data_name=odd, command="headstart fit 'a```b\n---\n'",
        licence="\n## Not a heading | x", notes=["<b>"], weights_licence="odd: 'one'\n---",
    )  # fmt: skip
    front, body = card_of(tmp_path / "run")
    assert front["license"] == "other"
    assert front["license_name"] == "odd: 'one'\n---"
    assert front["model-index"][0]["results"][0]["dataset"]["name"] == odd
    headings = [line for line in body.splitlines() if line.startswith("#")]
    assert len(headings) == 9
    assert "<script>" not in body
    assert "<b>" not in body.replace("\\<b\\>", "")
    row = next(line for line in body.splitlines() if line.startswith("| a "))
    assert len(re.findall(r"(?<!\\)\|", row)) == 5
    assert "````sh\nheadstart fit 'a```b\n---\n'\n````" in body


def test_lone_surrogates_are_no_text() -> None:
    assert text("a\ud800\n\x85b|") == "a b\\|"
    assert text("tf_net_ (a) __b__ *c*") == "tf_net\\_ (a) \\_\\_b\\_\\_ \\*c\\*"
    fenced("\ud800").encode()


def test_a_random_network_has_no_base_model(tmp_path: Path) -> None:
    make_run(tmp_path / "run")
    path = tmp_path / "run" / "bundle" / "bundle.json"
    spec = json.loads(path.read_text())
    spec["recipe"]["backbone"]["weights"] = "random"
    spec["licence"] = "none (random weights)"
    path.write_text(json.dumps(spec))
    front, _ = card_of(tmp_path / "run")
    assert "base_model" not in front
    assert front["license"] == "other"


def test_an_unfinished_run_has_no_card(tmp_path: Path) -> None:
    make_run(tmp_path / "run")
    (tmp_path / "run" / "metrics.json").unlink()
    with pytest.raises(RunError, match=r"has no metrics\.json"):
        write_model_card(tmp_path / "run")
