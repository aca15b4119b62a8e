import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from headstart.artifacts.bundle import (
    BundleSpec,
    Classifier,
    Member,
    assemble,
    load_bundle,
    save_bundle,
)
from headstart.backbones.catalog import PretrainedBackbone, load_backbone
from headstart.errors import RunError
from headstart.inference.run_bundle import run_bundle
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


CASES = {
    "last": ((), Keep(), False),
    "stages": (STAGES, Keep(), False),
    "mish": ((), Mish(), False),
    "flip": (STAGES, Mish(), True),
}


@pytest.fixture(scope="module", params=CASES.values(), ids=CASES)
def saved(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, Classifier]:
    taps, activation, flip = request.param
    backbone = load_backbone(resolution=64)
    torch.manual_seed(0)
    features = backbone.features + (112 + 192 if taps else 0)
    head = Linear().build(features, 3, activation.build())
    folder = tmp_path_factory.mktemp("bundle") / "bundle"
    fields = spec(backbone, features, taps, activation, flip)
    checked = save_bundle(folder, fields, [Member(backbone.model, head)])
    return folder, assemble([Member(backbone.model, head)], checked)


def test_reloading_gives_the_same_logits(saved: tuple[Path, Classifier]) -> None:
    folder, network = saved
    views = torch.randint(0, 255, (3, 64, 64, 3), dtype=torch.uint8)
    with torch.inference_mode():
        assert torch.equal(load_bundle(folder).network(views), network(views))


def test_few_images_and_many_agree(saved: tuple[Path, Classifier], pictures: Path) -> None:
    bundle = load_bundle(saved[0])
    paths = sorted(pictures.rglob("*.png"))
    few = run_bundle(bundle, paths).logits  # eager PyTorch
    outputs = run_bundle(bundle, paths * 3)  # enough for ONNX Runtime to pay
    many = outputs.logits
    assert not outputs.failed
    assert np.allclose(many[: len(paths)], few, rtol=1e-3, atol=1e-3)
    assert np.array_equal(many[: len(paths)].argmax(1), few.argmax(1))


def test_bytes_and_paths_agree(saved: tuple[Path, Classifier], pictures: Path) -> None:
    bundle = load_bundle(saved[0])
    path = next(pictures.rglob("*.png"))
    by_path, by_bytes = run_bundle(bundle, [path]), run_bundle(bundle, [path.read_bytes()])
    assert np.array_equal(by_path.logits, by_bytes.logits)
    assert np.array_equal(by_path.embeddings, by_bytes.embeddings)


def test_an_unreadable_image_does_not_stop_the_others(
    saved: tuple[Path, Classifier], pictures: Path
) -> None:
    bundle = load_bundle(saved[0])
    outputs = run_bundle(bundle, [b"no image", next(pictures.rglob("*.png"))])
    assert set(outputs.failed) == {0}
    assert np.isnan(outputs.logits[0]).all()
    assert np.isfinite(outputs.logits[1]).all()
    assert np.isfinite(outputs.embeddings[1]).all()


def test_a_flipped_classifier_does_not_tell_left_from_right() -> None:
    backbone = load_backbone(resolution=64)
    head = Linear().build(backbone.features, 3, torch.nn.ReLU())
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
    head = method.build(backbone.features, 3, torch.nn.ReLU())
    features = torch.randn(12, backbone.features)
    method.start(head, features, torch.arange(12) % 3, lambda _: (features, features))
    fields = {**spec(backbone, backbone.features, ()), "head": method}
    save_bundle(tmp_path / "bundle", fields, [Member(backbone.model, head)])
    (again,) = load_bundle(tmp_path / "bundle").network.heads
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
        head = Linear().build(backbone.features, 3, torch.nn.ReLU())
        members.append(Member(backbone.model, head))
    fields = {**spec(backbone, backbone.features, ()), "boundary": boundary}
    save_bundle(tmp_path / "all", fields, members)
    views = torch.randint(0, 255, (3, 64, 64, 3), dtype=torch.uint8)
    alone = []
    with torch.inference_mode():
        for number, member in enumerate(members):
            save_bundle(tmp_path / f"{number}", fields, [member])
            alone.append(load_bundle(tmp_path / f"{number}").network(views))
        together = load_bundle(tmp_path / "all").network(views)
    torch.testing.assert_close(together[:, :3], torch.stack(alone)[:, :, :3].mean(0))
    torch.testing.assert_close(together[:, 3:], alone[0][:, 3:])
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
            load_bundle(tmp_path)
    with pytest.raises(RunError, match="no bundle"):
        load_bundle(tmp_path / "nowhere")
