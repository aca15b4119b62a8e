import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch

from headstart.artifacts.bundle import Classifier, Member, assemble, load_network, save_bundle
from headstart.artifacts.bundle_export import export_graph
from headstart.artifacts.bundle_graph import OUTPUTS, open_graph
from headstart.artifacts.bundle_spec import BundleSpec, read_spec
from headstart.backbones.catalog import PretrainedBackbone, load_backbone
from headstart.errors import RunError
from headstart.methods.activation import ActivationUnion, Keep, Mish
from headstart.methods.head import Linear, NearestNeighbours

STAGES = ("blocks.4", "blocks.5")


def spec(
    backbone: PretrainedBackbone,
    features: int,
    taps: tuple[str, ...],
    activation: ActivationUnion | None = None,
    flip: bool = False,
) -> dict[str, Any]:
    return {
        "backbone": backbone.name,
        "features": features,
        "boundary": "blocks.4",
        "taps": taps,
        "activation": activation or Keep(),
        "test_time_flip": flip,
        "head": Linear(),
        "classes": ("checks", "rings", "stripes"),
        "preprocessing": backbone.preprocessing,
        "temperature": 1.5,
        "recipe": {},
        "pretrained_sha256": backbone.weights_hash,
        "licence": backbone.licence,
        "data_sha256": "",
        "versions": {},
    }


COVARIANCE = ("blocks.6:covariance", *STAGES)
TAPS: dict[tuple[str, ...], tuple[int, ...]] = {
    (): (), STAGES: (112, 192), COVARIANCE: (2080, 112, 192)
}  # fmt: skip
UNIT = Linear(normalize="unit")
CASES = {
    "last": ((), Keep(), False, Linear()),
    "stages": (STAGES, Keep(), False, Linear()),
    "mish": ((), Mish(), False, Linear()),
    "flip": (STAGES, Mish(), True, Linear()),
    "covariance": (COVARIANCE, Keep(), False, UNIT),
    "flipped covariance": (COVARIANCE, Mish(), True, UNIT),
}


@pytest.fixture(scope="module", params=CASES.values(), ids=CASES)
def saved(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, Classifier]:
    taps, activation, flip, method = request.param
    backbone = load_backbone(resolution=64)
    torch.manual_seed(0)
    widths = (*TAPS[taps], backbone.features)
    head = method.build(widths, 3, activation.build())
    folder = tmp_path_factory.mktemp("bundle") / "bundle"
    fields = spec(backbone, sum(widths), taps, activation, flip)
    fields |= {"parts": widths, "head": method}
    checked = save_bundle(folder, fields, [Member(backbone.model, head)])
    return folder, assemble([Member(backbone.model, head)], checked)


def test_reloading_gives_the_same_logits(saved: tuple[Path, Classifier]) -> None:
    folder, network = saved
    views = torch.randint(0, 255, (3, 64, 64, 3), dtype=torch.uint8)
    with torch.inference_mode():
        assert torch.equal(load_network(folder)(views), network(views))


def views_of(count: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(count)
    return torch.randint(0, 256, (count, 64, 64, 3), dtype=torch.uint8, generator=generator)


def check_graph(folder: Path, network: Classifier) -> None:
    """Exports a bundle of 64 pixels and three classes, and compares the file with the network."""
    assert export_graph(folder, network) == ""
    graph = open_graph(folder, read_spec(folder))
    temperature = read_spec(folder).temperature
    for count in (1, 2, 5):
        views = views_of(count)
        with torch.inference_mode():
            expected = network(views)
        logits, embeddings = graph.run(views.numpy())
        torch.testing.assert_close(torch.from_numpy(logits), expected[:, :3], rtol=0, atol=1e-3)
        assert embeddings.shape == (count, graph.embedding) == tuple(expected[:, 3:].shape)
        assert np.allclose(embeddings, expected[:, 3:], rtol=1e-3, atol=1e-3)
        all_three = graph.session.run(list(OUTPUTS), {"input": views.numpy()})
        assert np.array_equal(all_three[0], logits)
        shares = (expected[:, :3] / temperature).softmax(1)
        assert np.allclose(all_three[2], shares, rtol=0, atol=1e-4)


def test_the_graph_gives_what_the_network_gives(saved: tuple[Path, Classifier]) -> None:
    folder, network = saved
    before = read_spec(folder)
    check_graph(folder, network)
    after = read_spec(folder)
    assert after.onnx_sha256
    assert after.model_copy(update={"onnx_sha256": ""}) == before


def test_a_graph_can_be_used_alone(small: Path) -> None:
    known = read_spec(small)
    stated = open_graph(small, known).session.get_modelmeta().custom_metadata_map
    assert json.loads(stated["classes"]) == ["checks", "rings", "stripes"]
    assert float(stated["temperature"]) == 1.5
    assert stated["backbone"] == known.backbone and stated["licence"] == known.licence
    preprocessing = json.loads(stated["preprocessing"])
    assert preprocessing["resolution"] == 64
    assert preprocessing["mean"] == list(known.preprocessing.mean)


def test_a_flipped_classifier_does_not_tell_left_from_right() -> None:
    backbone = load_backbone(resolution=64)
    head = Linear().build((backbone.features,), 3, torch.nn.ReLU())
    views = torch.randint(0, 255, (2, 64, 64, 3), dtype=torch.uint8)

    def logits(flip: bool, batch: torch.Tensor) -> torch.Tensor:
        fields = {**spec(backbone, backbone.features, (), flip=flip), "weights_sha256": ""}
        network = assemble([Member(backbone.model, head)], BundleSpec.model_validate(fields))
        with torch.inference_mode():
            return network(batch)[:, :3]

    both = (logits(False, views) + logits(False, views.flip(2))) / 2
    torch.testing.assert_close(logits(True, views), both)
    torch.testing.assert_close(logits(True, views.flip(2)), both)


def test_a_head_that_remembers_images_comes_back_with_them(tmp_path: Path) -> None:
    backbone = load_backbone(resolution=64)
    method = NearestNeighbours(k=3)
    head = method.build((backbone.features,), 3, torch.nn.ReLU())
    features = torch.randn(12, backbone.features)
    method.start(head, features, torch.arange(12) % 3, lambda _: (features, features))
    fields = {**spec(backbone, backbone.features, ()), "head": method}
    save_bundle(tmp_path / "bundle", fields, [Member(backbone.model, head)])
    check_graph(tmp_path / "bundle", load_network(tmp_path / "bundle"))
    (again,) = load_network(tmp_path / "bundle").heads
    torch.testing.assert_close(again(features), head(features))


@pytest.mark.parametrize("boundary", ["blocks.4", "features", "input"])
def test_an_ensemble_is_the_mean_of_its_members_and_shares_what_is_frozen(
    tmp_path: Path, boundary: str
) -> None:
    members = []
    for seed in range(3):
        torch.manual_seed(seed)
        backbone = load_backbone(resolution=64)
        if boundary != "features":
            with torch.no_grad():
                backbone.model.conv_head.weight.mul_(1 + seed / 10)  # type: ignore[operator,union-attr]
        head = Linear().build((backbone.features,), 3, torch.nn.ReLU())
        members.append(Member(backbone.model, head))
    fields = {**spec(backbone, backbone.features, ()), "boundary": boundary}
    save_bundle(tmp_path / "all", fields, members)
    views = torch.randint(0, 255, (3, 64, 64, 3), dtype=torch.uint8)
    alone = []
    with torch.inference_mode():
        for number, member in enumerate(members):
            save_bundle(tmp_path / f"{number}", fields, [member])
            alone.append(load_network(tmp_path / f"{number}")(views))
        together = load_network(tmp_path / "all")(views)
    torch.testing.assert_close(together[:, :3], torch.stack(alone)[:, :, :3].mean(0))
    torch.testing.assert_close(together[:, 3:], alone[0][:, 3:])
    if boundary == "blocks.4":
        check_graph(tmp_path / "all", load_network(tmp_path / "all"))
    sizes = [(tmp_path / name / "model.safetensors").stat().st_size for name in ("all", "0")]
    assert sizes[0] < 1.4 * sizes[1], "what all members share is stored once"


def test_damage_is_noticed(saved: tuple[Path, Classifier], tmp_path: Path) -> None:
    folder, _ = saved
    weights = (folder / "model.safetensors").read_bytes()
    text = (folder / "bundle.json").read_text()
    cases = {
        "damaged": (weights[:-1] + bytes([weights[-1] ^ 1]), text),
        "has format 99": (weights, json.dumps({**json.loads(text), "format": 99})),
        r"bundle\.json is damaged": (weights, "{}"),
    }
    for message, (changed, changed_text) in cases.items():
        (tmp_path / "model.safetensors").write_bytes(changed)
        (tmp_path / "bundle.json").write_text(changed_text)
        with pytest.raises(RunError, match=message):
            load_network(tmp_path)
    with pytest.raises(RunError, match="no bundle"):
        load_network(tmp_path / "nowhere")


def test_a_graph_has_the_same_bytes_each_time(small: Path, tmp_path: Path) -> None:
    first = (small / "model.onnx").read_bytes()
    again = shutil.copytree(small, tmp_path / "elsewhere")
    export_graph(again, load_network(again))
    assert (again / "model.onnx").read_bytes() == first
    assert (again / "bundle.json").read_bytes() == (small / "bundle.json").read_bytes()
    for path in (str(Path.cwd()), str(small), str(Path(torch.__file__).parent)):
        assert path.encode() not in first


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle with its graph: linear, on the last features."""
    backbone = load_backbone(resolution=64)
    torch.manual_seed(0)
    head = Linear().build((backbone.features,), 3, torch.nn.ReLU())
    folder = tmp_path_factory.mktemp("small") / "bundle"
    save_bundle(folder, spec(backbone, backbone.features, ()), [Member(backbone.model, head)])
    assert export_graph(folder, load_network(folder)) == ""
    return folder


def tampered(how: Callable[[dict[str, Any]], object]) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        known = json.loads((folder / "bundle.json").read_text())
        how(known)
        (folder / "bundle.json").write_text(json.dumps(known))

    return change


def flipped(folder: Path) -> None:
    content = bytearray((folder / "model.onnx").read_bytes())
    content[len(content) // 2] ^= 1
    (folder / "model.onnx").write_bytes(content)


def forged(content: bytes) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        (folder / "model.onnx").write_bytes(content)
        known = hashlib.sha256(content).hexdigest()
        tampered(lambda spec: spec.update(onnx_sha256=known))(folder)

    return change


DAMAGE: dict[str, tuple[Callable[[Path], None], str]] = {
    "a bit": (flipped, r"model\.onnx is damaged: its hash"),
    "no file": (lambda folder: (folder / "model.onnx").unlink(), r"it has no model\.onnx"),
    "no graph": (forged(b"no graph"), r"model\.onnx cannot be used"),
    "an empty file": (forged(b""), r"model\.onnx cannot be used"),
    "the mean": (
        tampered(lambda spec: spec["preprocessing"].update(mean=[0.4, 0.5, 0.5])),
        r"bundle\.json is not the description that model\.onnx was made with",
    ),
    "the resize": (
        tampered(lambda spec: spec["preprocessing"].update(resize=80)), r"is not the description"
    ),
    "the classes": (
        tampered(lambda spec: spec["classes"].reverse()), r"is not the description"
    ),
    "the temperature": (tampered(lambda spec: spec.update(temperature=1.6)), "is not the descr"),
}  # fmt: skip


@pytest.mark.parametrize("case", DAMAGE)
def test_a_graph_that_is_not_the_one_that_was_tested_is_refused(
    case: str, small: Path, tmp_path: Path
) -> None:
    damage, message = DAMAGE[case]
    folder = shutil.copytree(small, tmp_path / "bundle")
    open_graph(folder, read_spec(folder))
    damage(folder)
    with pytest.raises(RunError, match=message) as refused:
        open_graph(folder, read_spec(folder))
    assert "\n" not in str(refused.value)


def test_a_graph_whose_outputs_are_no_numbers_is_refused(small: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(small, tmp_path / "bundle")
    model = onnx.load(folder / "model.onnx")
    (weight,) = (each for each in model.graph.initializer if tuple(each.dims) == (3, 1280))
    values = np.full((3, 1280), np.nan, np.float32)
    weight.CopyFrom(onnx.numpy_helper.from_array(values, weight.name))
    forged(model.SerializeToString())(folder)
    graph = open_graph(folder, read_spec(folder))
    with pytest.raises(RunError, match="values that are not finite"):
        graph.run(views_of(1).numpy())


def test_a_network_that_cannot_be_exported_is_shipped_without_a_graph(tmp_path: Path) -> None:
    class Undecided(torch.nn.Module):
        def forward(self, views: torch.Tensor) -> torch.Tensor:
            means = views.float().mean((1, 2)).repeat(1, 2)
            return means if means.min() > 0 else -means

    backbone = load_backbone(resolution=64)
    head = Linear().build((backbone.features,), 3, torch.nn.ReLU())
    save_bundle(tmp_path, spec(backbone, backbone.features, ()), [Member(backbone.model, head)])
    before = (tmp_path / "bundle.json").read_bytes()
    assert "differs from PyTorch" in export_graph(tmp_path, Undecided())  # type: ignore[arg-type]
    assert not (tmp_path / "model.onnx").exists()
    assert (tmp_path / "bundle.json").read_bytes() == before
