"""The HTTP interface: its answers are those of `predict`; the rest is refused in words."""

import json
import runpy
import subprocess
import sys
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from PIL import Image

if TYPE_CHECKING:
    from headstart.inference.run import Run

HELPERS = runpy.run_path(str(Path(__file__).parent / "conftest.py"))
form = HELPERS["form"]


@pytest.fixture
def image(pictures: Path) -> bytes:
    return (pictures / "rings" / "003.png").read_bytes()


def same(found: dict[str, Any], wanted: Any) -> bool:
    names = {"label", "error", "classes", "coverage", "out_of_distribution", "depth", "warning"}
    known = json.loads(wanted.model_dump_json())
    close = np.allclose(
        list(found["probabilities"].values()), list(known["probabilities"].values()), atol=1e-5
    )
    return close and {k: found[k] for k in names} == {k: known[k] for k in names}


def test_one_image_is_answered_as_predict_does(service: Any, head_run: "Run", image: bytes) -> None:
    answer = service.predict(image)
    assert answer.status == 200
    (found,) = answer.data["predictions"]
    assert found["image"] == "image"
    assert same(found, head_run.predict(image)[0])


def test_several_images_keep_their_order_and_unreadable_ones_are_rows(
    service: Any, head_run: "Run", pictures: Path
) -> None:
    files = [pictures / "rings" / "001.png", pictures / "checks" / "002.png"]
    contents = [file.read_bytes() for file in files]
    body, headers = form(("a.png", contents[0]), ("bad.png", b"no image"), ("b.png", contents[1]))
    answer = service.ask("/v1/predict?set_coverage=0.9", body, headers)
    assert answer.status == 200
    first, bad, second = answer.data["predictions"]
    wanted = head_run.predict(files, set_coverage=0.9)
    assert same(first, wanted[0]) and same(second, wanted[1])
    assert (first["image"], second["image"]) == ("a.png", "b.png")
    assert bad["image"] == "bad.png" and bad["label"] == ""
    assert "not an image" in bad["error"]


def test_an_explanation_has_a_heat_map_and_similar_images(
    service: Any, head_run: "Run", image: bytes
) -> None:
    answer = service.ask("/v1/explain", image, {"Content-Type": "image/png"})
    assert answer.status == 200
    found = answer.data
    assert same(found["prediction"], head_run.predict(image)[0])
    assert np.shape(found["heat"]["values"]) == (7, 7)
    assert found["heat"]["label"] == found["prediction"]["label"]
    assert found["heat"]["view"].startswith("data:image/png;base64,")
    wanted = head_run.similar(image, k=5)
    assert [each["image"] for each in found["similar"]] == [each.image for each in wanted]
    assert any(each["picture"].startswith("data:image/jpeg;base64,") for each in found["similar"])


def test_it_tells_what_it_is(service: Any, head_run: "Run") -> None:
    facts = service.ask("/v1/model").data
    assert facts["classes"] == ["checks", "rings", "stripes"]
    assert facts["resolution"] == 64
    assert facts["test"]["accuracy"] == head_run.metrics.accuracy
    assert facts["limits"] == {"images": 3, "bytes": 500_000, "pixels": 1_000_000, "seconds": 30.0}
    assert service.ask("/healthz").data == {"status": "ok"}


def test_a_bundle_alone_is_served_without_training_images(
    start: Callable[..., Any], head_run: "Run", image: bytes
) -> None:
    alone = start(head_run.folder / "bundle")
    facts = alone.ask("/v1/model").data
    assert facts["test"] is None and not facts["shows_training_images"]
    explained = alone.ask("/v1/explain", image, {"Content-Type": "image/png"}).data
    assert explained["similar"] == []
    assert same(explained["prediction"], head_run.predict(image)[0])


def test_training_images_can_be_hidden(start: Callable[..., Any], image: bytes) -> None:
    private = start(hide_training_images=True)
    assert not private.ask("/v1/model").data["shows_training_images"]
    answer = private.ask("/v1/explain", image, {"Content-Type": "image/png"})
    assert answer.data["similar"] == []


def test_figures_count_what_was_asked(start: Callable[..., Any], image: bytes) -> None:
    own = start()
    own.predict(image)
    own.predict(b"no image")
    text = own.ask("/metrics").body.decode()
    assert 'headstart_requests_total{path="/v1/predict",status="200"} 1.0' in text
    assert 'headstart_requests_total{path="/v1/predict",status="422"} 1.0' in text
    assert 'headstart_images_total{result="unreadable"} 1.0' in text
    assert "headstart_batch_images_sum 1.0" in text
    assert "process_resident_memory_bytes" in text
    assert own.ask("/no/such/path").status == 404
    assert 'path="other",status="404"' in own.ask("/metrics").body.decode()


def test_the_description_is_typed_and_names_the_refusals(service: Any) -> None:
    told = service.ask("/openapi.json").data
    predict = told["paths"]["/v1/predict"]["post"]
    wanted = {"200", "400", "403", "408", "413", "415", "421", "422", "429", "503"}
    assert set(predict["responses"]) == wanted
    assert set(predict["responses"]["429"]["headers"]) == {"Retry-After"}
    assert "securitySchemes" not in told["components"]
    assert "multipart/form-data" in predict["requestBody"]["content"]
    (coverage,) = predict["parameters"]
    assert coverage["schema"]["enum"] == [0.8, 0.9, 0.95, 0.99]
    fields = told["components"]["schemas"]["Prediction"]["properties"]
    assert {"label", "probabilities", "out_of_distribution"} <= set(fields)


def test_the_description_says_what_needs_the_key(start: Callable[..., Any]) -> None:
    told = start(key="a-key-of-24-characters-x").ask("/openapi.json").data
    (scheme,) = told["components"]["securitySchemes"].values()
    assert (scheme["type"], scheme["scheme"]) == ("http", "bearer")
    operations = [each for path in told["paths"].values() for each in path.values()]
    guarded = [each for each in operations if "401" in each["responses"]]
    assert len(guarded) == len(operations) - 1
    assert all(each["security"] == [{"HTTPBearer": []}] for each in guarded)
    assert "security" not in told["paths"]["/healthz"]["get"]


def test_it_does_without_pytorch(head_run: "Run") -> None:
    code = f"""
import sys
from headstart.serving.app import make_app
from headstart.serving.options import ServeOptions
make_app({str(head_run.folder)!r}, ServeOptions())
print({{"torch", "torchvision", "timm"}} & set(sys.modules))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


def encoded(side: tuple[int, int], kind: str = "PNG") -> bytes:
    stream = BytesIO()
    Image.new("RGB", side, (200, 30, 90)).save(stream, kind)
    return stream.getvalue()


@pytest.mark.parametrize(
    ("content", "kind", "status", "what"),
    [
        (b"", "image/png", 422, "empty"),
        (b"no image", "image/png", 422, "not an image"),
        (b"GIF89a", "application/octet-stream", 422, "image"),
        (b"{}", "application/json", 415, "multipart/form-data"),
        (b"x", "text/plain", 415, "multipart/form-data"),
        (b"x", "", 415, "multipart/form-data"),
        (b"x", "multipart/form-data", 400, "boundary"),
        (b"x", "multipart/form-data; boundary=cut", 400, "form"),
        (b"--cut--\r\n", "multipart/form-data; boundary=cut", 422, "no file"),
        (encoded((1001, 1000)), "image/png", 422, "1,000,000"),
        (b"x" * 500_001, "image/png", 413, "500,000 bytes"),
    ],
)
def test_what_cannot_be_used_is_refused_in_words(
    service: Any, content: bytes, kind: str, status: int, what: str
) -> None:
    answer = service.predict(content, **{"Content-Type": kind})
    assert answer.status == status
    assert what in answer.data["detail"]


def test_images_beyond_the_number_and_other_fields_are_refused(service: Any, image: bytes) -> None:
    answer = service.ask("/v1/predict", *form(*[(f"{n}.png", image) for n in range(4)]))
    assert answer.status == 400 and "3" in answer.data["detail"]
    answer = service.ask("/v1/explain", *form(("a.png", image), ("b.png", image)))
    assert answer.status == 400
    answer = service.ask("/v1/predict", *form(("a.png", image), field="files"))
    assert answer.status == 422 and "'files'" in answer.data["detail"]


@pytest.mark.parametrize("value", ["0.5", "nan", "inf", "2", "-1", "x", ""])
def test_a_coverage_that_is_not_calibrated_is_refused(
    service: Any, image: bytes, value: str
) -> None:
    kind = {"Content-Type": "image/png"}
    answer = service.ask(f"/v1/predict?set_coverage={value}", image, kind)
    assert answer.status == 422
    assert isinstance(answer.data["detail"], str)


@pytest.mark.parametrize(
    "name", ["../../etc/passwd", "/etc/passwd", "a\x1b[31m.png", "%2e%2e%2f", "x" * 4000, "🌹.png"]
)
def test_a_name_stays_a_name(service: Any, image: bytes, name: str) -> None:
    answer = service.ask("/v1/predict", *form((name, image)))
    assert answer.status == 200
    (found,) = answer.data["predictions"]
    assert found["label"] and len(found["image"]) <= 200
    assert "\x1b" not in found["image"]


@pytest.mark.parametrize(
    "path", ["/../etc/passwd", "/..%2f..%2fetc/passwd", "/v1/predict/../../x", "//x", "/%00", "/v1"]
)
def test_a_path_leads_nowhere(service: Any, path: str) -> None:
    assert service.ask(path).status == 404


def test_other_methods_are_refused(service: Any) -> None:
    assert service.ask("/v1/predict").status == 405
    assert service.ask("/healthz", b"x").status == 405
