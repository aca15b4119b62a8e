"""The HTTP interface of a classifier that gives an image any number of labels."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

if TYPE_CHECKING:
    from headstart.inference.run import Run

IMAGE = {"Content-Type": "image/png"}


@pytest.fixture(scope="module")
def service(start: Callable[..., Any], labels_run: "Run") -> Any:
    return start(labels_run.folder)


def test_every_label_has_its_probability_its_threshold_and_the_decision(
    service: Any, labels_run: "Run", quarters_folder: Path
) -> None:
    files = [quarters_folder / f"{number:02}.png" for number in range(12)]
    thresholds = service.ask("/v1/model").data["thresholds"]
    for file, wanted in zip(files, labels_run.predict(files), strict=True):
        (found,) = service.predict(file.read_bytes()).data["predictions"]
        assert found["labels"] == list(wanted.labels or ())
        assert {each["label"] for each in found["decisions"]} == {"blue", "green", "red"}
        shares = [each["probability"] for each in found["decisions"]]
        assert shares == sorted(shares, reverse=True)
        for each in found["decisions"]:
            assert each["probability"] == pytest.approx(wanted.probabilities[each["label"]])
            assert each["threshold"] == thresholds[each["label"]]
            assert each["given"] == (each["label"] in found["labels"])
            assert each["given"] == (each["probability"] >= each["threshold"])
        assert not {"label", "probability", "classes"} & set(found)


def test_an_unreadable_image_has_no_decision(service: Any, quarters_folder: Path) -> None:
    cut = '--cut\r\nContent-Disposition: form-data; name="images"; filename="{}"\r\n\r\n'
    good = (quarters_folder / "00.png").read_bytes()
    body = (
        cut.format("a").encode() + good + b"\r\n" + cut.format("b").encode() + b"x\r\n--cut--\r\n"
    )
    kind = {"Content-Type": "multipart/form-data; boundary=cut"}
    first, bad = service.ask("/v1/predict", body, kind).data["predictions"]
    assert first["decisions"] and not first["error"]
    assert bad["decisions"] == [] and "not an image" in bad["error"]


def test_each_given_label_is_explained(
    service: Any, labels_run: "Run", quarters_folder: Path
) -> None:
    found: dict[int, Any] = {}
    files = [quarters_folder / f"{number:02}.png" for number in range(30)]
    for file, each in zip(files, labels_run.predict(files), strict=True):
        found.setdefault(len(each.labels or ()), file)
    for number in (0, 2):
        answer = service.ask("/v1/explain", found[number].read_bytes(), IMAGE).data
        labels = answer["prediction"]["labels"]
        assert len(labels) == number
        best = answer["prediction"]["decisions"][0]["label"]
        assert [each["label"] for each in answer["heats"]] == (labels or [best])
        assert all(np.shape(each["values"]) == (7, 7) for each in answer["heats"])
        assert answer["view"].startswith("data:image/png;base64,")
        assert len(answer["similar"]) == 5


def test_the_description_has_the_types_of_labels_alone(service: Any, labels_run: "Run") -> None:
    told = service.ask("/openapi.json").data
    schemas = told["components"]["schemas"]
    assert {"LabelPredictions", "ImageLabels", "LabelDecision", "LabelExplanation"} <= set(schemas)
    assert not {"Prediction", "Predictions", "Explanation"} & set(schemas)
    assert set(schemas["LabelDecision"]["required"]) == {
        "label", "probability", "threshold", "given"
    }  # fmt: skip
    assert "parameters" not in told["paths"]["/v1/predict"]["post"]
    facts = service.ask("/v1/model").data
    assert list(facts["thresholds"]) == facts["classes"] == ["blue", "green", "red"]
    metrics: Any = labels_run.metrics
    assert facts["test"]["mean_average_precision"] == metrics.mean_average_precision
    assert "accuracy" not in facts["test"]


def test_a_coverage_is_refused_and_a_bundle_alone_is_served(
    service: Any, start: Callable[..., Any], labels_run: "Run", quarters_folder: Path
) -> None:
    image = (quarters_folder / "00.png").read_bytes()
    answer = service.ask("/v1/predict?set_coverage=0.9", image, IMAGE)
    assert answer.status == 422 and "one label an image" in answer.data["detail"]
    alone = start(labels_run.folder / "bundle")
    assert alone.ask("/v1/model").data["test"] is None
    assert alone.ask("/v1/explain", image, IMAGE).data["similar"] == []
