"""A run with any number of labels an image, from the table to the predictions."""

import csv
import json
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import headstart
from headstart.artifacts.bundle_spec import read_spec
from headstart.artifacts.run import read_predictions
from headstart.artifacts.set_results import read_set_predictions, write_set_result
from headstart.errors import DataError, InputError, RecipeError, RunError
from headstart.evaluation.label_metrics import SetMetrics
from headstart.inference.bundle import load_bundle
from headstart.inference.run import Run

SMALL: dict[str, Any] = {
    "settings": ("backbone.name=test_efficientnet", "backbone.weights=random"),
    "strategy": "head",
    "progress": False,
}


@pytest.fixture(scope="module")
def quarters(quarters_folder: Path) -> Path:
    return quarters_folder


@pytest.fixture(scope="module")
def run(labels_run: headstart.Run) -> headstart.Run:
    return labels_run


def test_it_learns_each_label_and_says_how_well(run: headstart.Run) -> None:
    metrics = run.metrics
    assert isinstance(metrics, SetMetrics)
    assert metrics.class_names == ("blue", "green", "red")
    assert metrics.mean_average_precision > 0.8
    assert metrics.empty > 0
    again = Run.open(run.folder)
    assert again.metrics == metrics
    assert (again.record.task, again.record.calibration) == ("multilabel", None)
    assert any("held-out images" in note for note in run.record.notes)
    assert any(note.startswith("Recognised as multi-label") for note in run.record.notes)
    predictions = read_set_predictions(run.folder)
    spec = read_spec(run.folder / "bundle")
    assert spec.format == 2
    thresholds = [rule.threshold for rule in spec.labels]
    for each in predictions:
        shares = dict(zip(spec.classes, each.probabilities, strict=True))
        reached = [n for n, t in zip(spec.classes, thresholds, strict=True) if shares[n] >= t]
        assert list(each.given) == reached
        assert {*each.missed, *each.wrong} == {*each.labels} ^ {*each.given}
    right = np.mean([each.labels == each.given for each in predictions])
    assert metrics.exact == pytest.approx(right)


def test_the_same_bytes_again_and_the_split_can_be_reused(
    run: headstart.Run, quarters: Path, shared_cache: Path, tmp_path: Path
) -> None:
    again = headstart.fit(
        quarters / "labels.csv", out=tmp_path / "run", split=run.folder / "split.csv",
        cache_dir=shared_cache, **SMALL,
    )  # fmt: skip
    for name in ("bundle/model.safetensors", "bundle/bundle.json", "predictions.csv", "data.csv"):
        assert (run.folder / name).read_bytes() == (again.folder / name).read_bytes(), name


def test_predictions_are_sets_of_labels(run: headstart.Run, quarters: Path, tmp_path: Path) -> None:
    found = run.predict([quarters / f"{n:02}.png" for n in range(20)])
    with (quarters / "labels.csv").open() as file:
        known = {name: sorted(filter(None, labels.split(";"))) for name, labels in csv.reader(file)}
    same = [sorted(each.labels or ()) == known[Path(each.image).name] for each in found]
    assert np.mean(same) > 0.6
    for each in found:
        assert each.labels is not None
        assert each.label == ("; ".join(each.labels) or "no label")
        assert [*each.labels] == sorted(each.labels, key=lambda name: -each.probabilities[name])
    out = tmp_path / "found.csv"
    done = headstart.predict(run.folder, quarters, out=out, progress=False)
    assert done.images == 72
    with out.open() as file:
        rows = list(csv.DictReader(file))
    by_name = {Path(row["image"]).name: row for row in rows}
    for each in found:
        row = by_name[Path(each.image).name]
        assert tuple(json.loads(row["labels"])) == each.labels
        assert float(row["probability_red"]) == pytest.approx(each.probabilities["red"], abs=1e-6)
    half = out.read_bytes()[: len(out.read_bytes()) // 2]
    whole = out.read_bytes()
    out.write_bytes(half)
    headstart.predict(run.folder, quarters, out=out, resume=True, progress=False)
    assert out.read_bytes() == whole
    with pytest.raises(InputError, match="Prediction sets are for one label"):
        run.predict(quarters / "00.png", set_coverage=0.9)


def test_the_graph_gives_the_same_probabilities(run: headstart.Run, quarters: Path) -> None:
    onnxruntime = pytest.importorskip("onnxruntime")
    session = onnxruntime.InferenceSession(run.folder / "bundle" / "model.onnx")
    side = run.bundle.spec.preprocessing.resolution
    view = np.zeros((1, side, side, 3), np.uint8)
    (told,) = session.run(["probabilities"], {"input": view})
    (alone,) = run.predict([view[0]])
    assert told[0] == pytest.approx([*alone.probabilities.values()], abs=1e-5)
    facts = session.get_modelmeta().custom_metadata_map
    assert json.loads(facts["thresholds"]) == [rule.threshold for rule in run.bundle.spec.labels]


def test_embeddings_and_similar_images(run: headstart.Run, quarters: Path) -> None:
    image = quarters / "00.png"
    vectors = headstart.embed(run.folder, image, progress=False)
    assert vectors.shape == (1, run.bundle.embedding)
    near = headstart.similar(run.folder, image, k=3)
    assert all(each.label == "no label" or set(each.label.split("; ")) <= {"red", "green", "blue"}
               for each in near)  # fmt: skip


def test_a_precision_can_be_asked_for(
    quarters: Path, shared_cache: Path, tmp_path: Path, run: headstart.Run
) -> None:
    strict = headstart.fit(quarters / "labels.csv", out=tmp_path / "run", precision=0.99,
                           cache_dir=shared_cache, **SMALL)  # fmt: skip
    assert strict.record.precision == 0.99
    thresholds = [
        [rule.threshold for rule in read_spec(each.folder / "bundle").labels]
        for each in (run, strict)
    ]
    assert all(low <= high for low, high in zip(*thresholds, strict=True))
    assert "precision of at least 99%" in (strict.folder / "bundle/MODEL_CARD.md").read_text()


def test_the_pages_say_what_was_found(run: headstart.Run) -> None:
    page = (run.folder / "report.html").read_text()
    for words in ("Mean average precision of", "Labels that come together", "Worst images",
                  "data:image/jpeg", "micro-averaged", "blue and red"):  # fmt: skip
        assert words in page, words
    headstart.report(run.folder)
    again = (run.folder / "report.html").read_text()
    took = re.compile(r"<dd>\d+ s</dd>")  # until the record was saved last
    assert took.sub("", again) == took.sub("", page)
    card = (run.folder / "bundle/MODEL_CARD.md").read_text()
    assert "any number of labels" in card
    assert "mean average precision" in run._repr_html_()


def test_the_report_names_what_the_audit_found_and_what_has_no_picture(
    run: headstart.Run, tmp_path: Path
) -> None:
    folder = tmp_path / "run"
    shutil.copytree(run.folder, folder)
    shutil.rmtree(folder / "pictures")
    audit = json.loads((folder / "audit.json").read_text())
    audit["findings"] = [
        {"kind": "truncated", "severity": "warning", "files": [f"{n}.png"], "message": "It ends."}
        for n in range(60)
    ]
    (folder / "audit.json").write_text(json.dumps(audit))
    headstart.report(folder)
    page = (folder / "report.html").read_text()
    assert "have no picture: the run keeps no copy." in page
    assert "<summary>58 more</summary>" in page
    assert '<span class="path">49.png</span>' in page
    assert "The other 10 are in audit.json." in page
    shown = re.findall(r'<a href="#(\w+)">', page)
    assert shown == re.findall(r'<h2 id="(\w+)">', page)
    assert "training" not in shown  # a head alone has no epochs


def test_what_needs_one_label_says_so(run: headstart.Run, quarters: Path, tmp_path: Path) -> None:
    table = quarters / "labels.csv"
    with pytest.raises(DataError, match="compare both runs with `headstart diff`"):
        headstart.benefit(table, out=tmp_path / "certificate", progress=False)
    assert not (tmp_path / "certificate").exists()
    with pytest.raises(RunError, match="multi-label"):
        read_predictions(run.folder)
    with pytest.raises(RunError, match="multi-label"):
        load_bundle(run.folder / "bundle")


def test_precision_is_for_several_labels(pictures: Path, tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="one label each"):
        headstart.fit(pictures, precision=0.9, out=tmp_path / "run", **SMALL)


def test_fine_tuning_is_compared_with_the_head(
    quarters: Path, shared_cache: Path, tmp_path: Path
) -> None:
    tuned = headstart.fit(
        quarters / "labels.csv", out=tmp_path / "run", epochs=1, cache_dir=shared_cache,
        settings=(*SMALL["settings"], "batch_mixing=mixup", "views=1"), progress=False,
    )  # fmt: skip
    acted = {each.family: each for each in tuned.record.acted}
    assert (acted["criterion"].method, acted["criterion"].state) == ("bce", "acted")
    assert tuned.record.chosen in {"probe", "fine-tuned"}
    assert "validation mAP" in next(s.happened for s in tuned.record.plan if s.stage == "training")
    assert isinstance(tuned.metrics, SetMetrics)
    assert tuned.metrics.mean_average_precision > 0.7
    page = (tuned.folder / "report.html").read_text()
    assert "Table of all epochs" in page
    assert '<th scope="col" class="number">Validation mAP</th>' in page
    assert "<dt>Trained part</dt>" in page
    assert "validation mAP, %" in page
    assert "Accuracy on training images" not in page


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"settings": ("criterion=focal",)}, "softmax lets one class win; use bce"),
        ({"settings": ("metric_loss=arcface",)}, "use metric_loss = none"),
        ({"settings": ("head=cosine",)}, "use head = linear or mlp"),
    ],
)
def test_what_makes_no_sense_is_refused(
    quarters: Path, tmp_path: Path, given: dict[str, Any], message: str
) -> None:
    with pytest.raises(RecipeError, match=message):
        headstart.fit(
            quarters / "labels.csv", out=tmp_path / "run", progress=False, epochs=1, **given
        )


def test_images_of_no_class_are_rejected(
    quarters: Path, shared_cache: Path, tmp_path: Path
) -> None:
    """The end of the fit opened a bundle for one label an image, after the training."""
    (tmp_path / "others").mkdir()
    for seed in range(12):
        tile = np.random.default_rng(seed).integers(0, 256, (4, 4, 3)).astype(np.uint8)
        image = Image.fromarray(tile).resize((64, 64), Image.Resampling.NEAREST)
        image.save(tmp_path / "others" / f"{seed}.png")
    run = headstart.fit(
        quarters / "labels.csv", background=tmp_path / "others", out=tmp_path / "run",
        cache_dir=shared_cache, **SMALL,
    )  # fmt: skip
    background = read_spec(run.folder / "bundle").background
    assert background is not None and background.images == 12
    found = headstart.predict(
        run.folder, tmp_path / "others", out=tmp_path / "found.csv", reject=True
    )
    with (tmp_path / "found.csv").open() as file:
        unknown = [row for row in csv.DictReader(file) if row["label"] == "unknown"]
    assert len(unknown) == found.out_of_distribution >= 6
    assert all(json.loads(row["labels"]) == [] for row in unknown)


def test_images_to_label_next_are_those_whose_decisions_are_unsure(
    run: headstart.Run, quarters: Path, tmp_path: Path
) -> None:
    new = tmp_path / "new"
    new.mkdir()
    random = np.random.default_rng(9)
    for number in range(8):
        noise = random.normal(128, 60, (64, 64, 3)).clip(0, 255).astype(np.uint8)
        Image.fromarray(noise).save(new / f"{number}.png")
    found = headstart.label_next(run.folder, new, count=4)
    assert len(found.images) == 4 and found.candidates == 8
    for each, said in zip(found.images, run.predict([e.image for e in found.images]), strict=True):
        p = np.array([*said.probabilities.values()])
        bits = -(p * np.log2(p) + (1 - p) * np.log2(1 - p)).mean()
        assert each.margin == pytest.approx(1 - bits, abs=1e-5)
        assert each.prediction == said.label
        assert each.probability == pytest.approx(said.probability, abs=1e-6)
    with pytest.raises(InputError, match="--page gives an image one class"):
        headstart.label_next(run.folder, new, page=True)


def test_two_runs_are_compared_by_their_labels(
    run: headstart.Run, quarters: Path, shared_cache: Path, tmp_path: Path
) -> None:
    same = headstart.diff(run.folder, run.folder)
    precision = same.accuracy.mean_average_precision
    assert precision is not None and isinstance(run.metrics, SetMetrics)
    assert precision.a == precision.b == pytest.approx(run.metrics.mean_average_precision)
    assert (precision.difference, precision.interval) == (0, (0, 0))
    assert same.accuracy.right_a / same.accuracy.shared == pytest.approx(run.metrics.exact)
    assert "with exactly their labels" in same.accuracy.verdict
    worse = shutil.copytree(run.folder, tmp_path / "worse")
    found = read_set_predictions(run.folder)
    turned = [each.model_copy(update={"given": (), "probabilities": each.probabilities[::-1]})
              for each in found]  # fmt: skip
    write_set_result(worse, run.metrics, turned)
    told = headstart.diff(worse, run.folder).accuracy
    assert told.mean_average_precision is not None
    assert told.mean_average_precision.difference > 0.1
    assert told.only_b == sum(bool(p.labels) and set(p.labels) == set(p.given) for p in found)
    assert "Mean average precision over 3 labels that both know" in told.verdict


def test_a_run_of_one_class_is_not_compared_with_one_of_several_labels(
    run: headstart.Run, tmp_path: Path
) -> None:
    single = shutil.copytree(run.folder, tmp_path / "single")
    record = json.loads((single / "run.json").read_text())
    del record["task"]
    (single / "run.json").write_text(json.dumps(record))
    with pytest.raises(RunError, match="gives it one class, so they cannot be compared"):
        headstart.diff(run.folder, single)
