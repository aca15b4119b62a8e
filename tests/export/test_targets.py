"""Each target, run by its own runtime, answers as the run did; what cannot be held is refused."""

import csv
import json
import logging
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from headstart import export
from headstart.errors import InputError
from headstart.export.int8 import quantized_nodes
from headstart.export.timm import data_config
from headstart.inference.run import Run

Command = Callable[..., subprocess.CompletedProcess[str]]

PLAIN_TIMM = """
import json, sys
import timm, torch
from PIL import Image
folder, *images = sys.argv[1:]
model = timm.create_model(f"local-dir:{folder}", pretrained=True).eval()
config = timm.data.resolve_model_data_config(model)
transform = timm.data.create_transform(**config, is_training=False)
views = torch.stack([transform(Image.open(path).convert("RGB")) for path in images])
with torch.inference_mode():
    probabilities = model(views).softmax(1)
assert not [name for name in sys.modules if name.startswith("headstart")]
names = json.load(open(f"{folder}/config.json"))["label_names"]
print(json.dumps([dict(zip(names, row.tolist())) for row in probabilities]))
"""


@pytest.fixture(scope="module")
def linear(pictures: Path, shared_cache: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run whose head is linear on the last features."""
    from headstart.api.fit import fit

    settings = ["backbone.resolution=64", "head.features=last", "head.normalize=none"]
    folder = tmp_path_factory.mktemp("linear") / "run"
    fit(pictures, strategy="head", epochs=0, settings=settings, out=folder, cache_dir=shared_cache)
    return folder


@pytest.fixture
def mirrored(linear: Path, tmp_path: Path) -> Path:
    """The run with test-time flips, which timm cannot hold."""
    run = shutil.copytree(linear, tmp_path / "run")
    spec = json.loads((run / "bundle" / "bundle.json").read_text())
    spec |= {"test_time_flip": True, "onnx_sha256": ""}
    (run / "bundle" / "model.onnx").unlink()
    (run / "bundle" / "bundle.json").write_text(json.dumps(spec))
    return run


def recorded(run: Path) -> list[dict[str, str]]:
    with (run / "predictions.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def test_plain_timm_loads_the_hub_folder_and_gives_the_recorded_probabilities(
    linear: Path, pictures: Path, tmp_path: Path
) -> None:
    done = export(linear, to="hub", out=tmp_path / "hub", progress=False)
    assert done.parity.largest_difference < 1e-4
    assert done.own_preprocessing is not None
    assert done.own_preprocessing.largest_difference < 1e-4
    rows = recorded(linear)[:4]
    images = [str(pictures / row["path"]) for row in rows]
    command = [sys.executable, "-c", PLAIN_TIMM, str(tmp_path / "hub"), *images]
    said = subprocess.run(command, capture_output=True, text=True, check=True, cwd=tmp_path)
    for row, found in zip(rows, json.loads(said.stdout), strict=True):
        assert max(found, key=found.__getitem__) == row["prediction"]
        assert abs(found[row["prediction"]] - float(row["probability"])) < 1e-4
    config = json.loads((tmp_path / "hub" / "config.json").read_text())
    assert "model_args" not in config  # transformers would pass the number of classes twice
    card = (tmp_path / "hub" / "README.md").read_text()
    assert 'library_name: "timm"' in card
    assert "timm.create_model" in card
    assert (tmp_path / "hub" / "preprocessor_config.json").is_file()


def test_the_lines_of_the_readme_load_the_hub_folder(
    linear: Path, pictures: Path, tmp_path: Path
) -> None:
    page = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")
    (lines,) = re.findall(r"```python\n([^`]*local-dir[^`]*)```", page)
    export(linear, to="hub", out=tmp_path / "hub", progress=False)
    row = recorded(linear)[0]
    command = [sys.executable, "-c", lines, tmp_path / "hub", pictures / row["path"]]
    said = subprocess.run(command, capture_output=True, text=True, check=True, cwd=tmp_path).stdout
    found = dict(line.split(": ") for line in said.splitlines())
    assert len(found) == 3
    assert abs(float(found[row["prediction"]]) - float(row["probability"])) < 2e-4


def test_timm_loads_the_weights_with_the_stated_arguments(linear: Path, tmp_path: Path) -> None:
    done = export(linear, to="timm", out=tmp_path / "timm", progress=False)
    assert done.parity.largest_difference < 1e-4
    known = json.loads((tmp_path / "timm" / "model.json").read_text())
    assert known["create_model"]["num_classes"] == len(known["classes"]) == 3


def test_what_timm_cannot_hold_is_said_and_the_hub_gets_the_graph(
    mirrored: Path, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match=r"cannot be held by timm: it also looks at"):
        export(mirrored, to="timm", progress=False)
    assert not list((mirrored / "export").iterdir())
    done = export(mirrored, to="hub", out=tmp_path / "hub", max_loss=1, progress=False)
    assert sorted(done.files) == ["README.md", "model.onnx"]
    assert "it also looks at the mirror image" in done.notes[0]
    assert "it also looks at the mirror image" in (tmp_path / "hub" / "README.md").read_text()


def test_int8_is_small_and_as_good(linear: Path, tmp_path: Path) -> None:
    done = export(linear, to="int8", out=tmp_path / "int8", progress=False)
    assert done.parity.agreement >= 0.9
    assert done.parity.loss <= 1 / done.parity.images
    assert done.files["model.onnx"] < (linear / "bundle" / "model.onnx").stat().st_size / 2.5
    assert done.notes[0] == "It is calibrated on 30 training images."
    model = onnx.load(tmp_path / "int8" / "model.onnx")
    facts = {each.key: each.value for each in model.metadata_props}
    assert json.loads(facts["classes"]) == ["checks", "rings", "stripes"]
    kinds = [node.op_type for node in model.graph.node]
    quantized = {node.input[0] for node in model.graph.node if node.op_type == "QuantizeLinear"}
    arithmetic = {
        name
        for node in model.graph.node
        if node.op_type in {"Shape", "Ceil", "Div", "Concat", "Unsqueeze"}
        for name in node.output
    }
    assert kinds.count("QuantizeLinear") > 20
    assert not quantized & arithmetic
    assert logging.root.manager.disable == 0


def test_only_layers_with_weights_before_the_last_are_quantized() -> None:
    nodes = [
        helper.make_node("Conv", ["input", "w"], ["a"], name="first"),
        helper.make_node("Relu", ["a"], ["b"], name="relu"),
        helper.make_node("Div", ["b", "w"], ["c"], name="arithmetic"),
        helper.make_node("MatMul", ["c", "b"], ["d"], name="covariance"),
        helper.make_node("Relu", ["d"], ["e"], name="other relu"),
        helper.make_node("Gemm", ["e", "w"], ["f"], name="hidden"),
        helper.make_node("Gemm", ["f", "w"], ["logits"], name="last"),
    ]
    value = helper.make_tensor_value_info("input", TensorProto.FLOAT, [1])
    out = helper.make_tensor_value_info("logits", TensorProto.FLOAT, [1])
    weight = helper.make_tensor("w", TensorProto.FLOAT, [1], [1.0])
    model = helper.make_model(helper.make_graph(nodes, "g", [value], [out], [weight]))
    assert quantized_nodes(model) == ["first", "hidden", "relu"]
    alone = helper.make_model(helper.make_graph(nodes[-1:], "g", [value], [out], [weight]))
    with pytest.raises(InputError, match="no layers"):
        quantized_nodes(alone)


@pytest.mark.parametrize("target", ["openvino", "torch-export"])
def test_other_runtimes_answer_alike_and_print_nothing(
    target: str, linear: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    if target == "openvino":
        pytest.importorskip("openvino")
    done = export(linear, to=target, out=tmp_path / "out", progress=False)
    assert done.parity.agreement == 1
    assert done.parity.largest_difference < 1e-4
    assert done.runtime.startswith(target.partition("-")[0])
    assert capfd.readouterr().out == ""


@pytest.mark.parametrize("resolution", [64, 96, 128, 224, 260, 384])
def test_timm_resizes_to_the_side_that_headstart_does(head_run: Run, resolution: int) -> None:
    spec = head_run.bundle.spec
    for resize in range(resolution, 2 * resolution, 7):
        how = spec.preprocessing.__class__(
            resolution, resize, "bicubic", spec.preprocessing.mean, spec.preprocessing.std
        )
        config = data_config(spec.model_copy(update={"preprocessing": how}))
        assert int(np.floor(resolution / config["crop_pct"])) == resize  # type: ignore[operator]
