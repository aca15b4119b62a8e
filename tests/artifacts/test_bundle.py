import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from headstart.artifacts.bundle import assemble, load_bundle, predict_logits, save_bundle
from headstart.backbones.catalog import Backbone, load_backbone
from headstart.errors import RunError
from headstart.methods.head import Linear

STAGES = ("blocks.4", "blocks.5")


def spec(backbone: Backbone, features: int, taps: tuple[str, ...]) -> dict[str, Any]:
    return {
        "backbone": backbone.name,
        "features": features,
        "taps": taps,
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


@pytest.fixture(scope="module", params=[(), STAGES], ids=["last", "stages"])
def saved(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, torch.nn.Module]:
    taps = request.param
    backbone = load_backbone(resolution=64)
    torch.manual_seed(0)
    features = backbone.features + (112 + 192 if taps else 0)
    head = Linear().build(features, 3)
    folder = tmp_path_factory.mktemp("bundle") / "bundle"
    save_bundle(folder, spec(backbone, features, taps), backbone.model, head)
    return folder, assemble(backbone.model, head, backbone.preprocessing, taps)


def test_reloading_gives_the_same_logits(saved: tuple[Path, torch.nn.Module]) -> None:
    folder, network = saved
    views = torch.randint(0, 255, (3, 64, 64, 3), dtype=torch.uint8)
    with torch.inference_mode():
        assert torch.equal(load_bundle(folder).network(views), network(views))


def test_few_images_and_many_agree(saved: tuple[Path, torch.nn.Module], pictures: Path) -> None:
    bundle = load_bundle(saved[0])
    paths = sorted(pictures.rglob("*.png"))
    few, _ = predict_logits(bundle, paths)  # eager PyTorch
    many, failed = predict_logits(bundle, paths * 3)  # enough for ONNX Runtime to pay
    assert not failed
    assert np.allclose(many[: len(paths)], few, rtol=1e-3, atol=1e-3)
    assert np.array_equal(many[: len(paths)].argmax(1), few.argmax(1))


def test_bytes_and_paths_agree(saved: tuple[Path, torch.nn.Module], pictures: Path) -> None:
    bundle = load_bundle(saved[0])
    path = next(pictures.rglob("*.png"))
    by_path, _ = predict_logits(bundle, [path])
    by_bytes, _ = predict_logits(bundle, [path.read_bytes()])
    assert np.array_equal(by_path, by_bytes)


def test_an_unreadable_image_does_not_stop_the_others(
    saved: tuple[Path, torch.nn.Module], pictures: Path
) -> None:
    bundle = load_bundle(saved[0])
    logits, failed = predict_logits(bundle, [b"no image", next(pictures.rglob("*.png"))])
    assert set(failed) == {0}
    assert np.isnan(logits[0]).all()
    assert np.isfinite(logits[1]).all()


def test_damage_is_noticed(saved: tuple[Path, torch.nn.Module], tmp_path: Path) -> None:
    folder, _ = saved
    weights = (folder / "model.safetensors").read_bytes()
    text = (folder / "bundle.json").read_text()
    cases = {
        "damaged": (weights[:-1] + bytes([weights[-1] ^ 1]), text),
        "has format 99": (weights, json.dumps({**json.loads(text), "format": 99})),
        "cannot read the bundle": (weights, "{}"),
    }
    for message, (changed, changed_text) in cases.items():
        (tmp_path / "model.safetensors").write_bytes(changed)
        (tmp_path / "bundle.json").write_text(changed_text)
        with pytest.raises(RunError, match=message):
            load_bundle(tmp_path)
    with pytest.raises(RunError, match="no bundle"):
        load_bundle(tmp_path / "nowhere")
