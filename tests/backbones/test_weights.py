import hashlib
import os
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from torch import nn

from headstart.backbones.catalog import build_backbone, load_backbone
from headstart.backbones.weights import (
    PACKAGES,
    _timm_name,
    hash_weights,
    load_state,
    packaged_file,
    read_weights,
)
from headstart.errors import BackboneError

DATA = Path(os.environ.get("HEADSTART_DATA", Path(__file__).parents[3] / "shared" / "data"))


def state() -> dict[str, torch.Tensor]:
    return {"a.weight": torch.arange(4.0), "a.bias": torch.ones(2)}


def same(found: dict[str, torch.Tensor]) -> bool:
    expected = state()
    return found.keys() == expected.keys() and all(
        torch.equal(found[name], expected[name]) for name in found
    )


def test_safetensors_and_pytorch_files_are_read(tmp_path: Path) -> None:
    save_file(state(), tmp_path / "a.safetensors")
    torch.save(state(), tmp_path / "a.pth")
    assert same(read_weights(tmp_path / "a.safetensors"))
    assert same(read_weights(tmp_path / "a.pth"))


@pytest.mark.parametrize("prefix", ["module.", "model.", "_orig_mod.module."])
def test_wrappers_are_taken_off(tmp_path: Path, prefix: str) -> None:
    wrapped = {f"{prefix}{name}": value for name, value in state().items()}
    torch.save({"epoch": 3, "state_dict": wrapped}, tmp_path / "a.pth")
    assert same(read_weights(tmp_path / "a.pth"))


def test_averaged_weights_come_first(tmp_path: Path) -> None:
    raw = {name: value + 1 for name, value in state().items()}
    torch.save({"state_dict": raw, "state_dict_ema": state()}, tmp_path / "a.pth")
    assert same(read_weights(tmp_path / "a.pth"))


class Trap:
    """Touches a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> object:
        return Path.touch, (self.path,)


def test_code_in_a_file_is_not_run(tmp_path: Path) -> None:
    trap = tmp_path / "trapped"
    torch.save({"a": torch.ones(1), "b": Trap(trap)}, tmp_path / "a.pth")
    (tmp_path / "b.pth").write_bytes(pickle.dumps(Trap(trap)))
    for name in ("a.pth", "b.pth"):
        with pytest.raises(BackboneError, match="could run code"):
            read_weights(tmp_path / name)
    assert not trap.exists()


@pytest.mark.parametrize("name", ["a.pth", "a.safetensors", "a.bin"])
@pytest.mark.parametrize("content", [b"", b"no weights at all", b"PK\x03\x04broken"])
def test_broken_files_are_refused(tmp_path: Path, name: str, content: bytes) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(BackboneError, match=name):
        read_weights(tmp_path / name)


def test_missing_and_empty_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(BackboneError, match="no weights file"):
        read_weights(tmp_path / "none.pth")
    torch.save({"lr": 0.1}, tmp_path / "empty.pth")
    with pytest.raises(BackboneError, match="no named tensors"):
        read_weights(tmp_path / "empty.pth")


def load(model: nn.Module, tensors: dict[str, torch.Tensor]) -> None:
    load_state(model, tensors, Path("given.pth"), "fc")


def test_only_fitting_weights_are_loaded() -> None:
    given = build_backbone("resnet18", seed=1).state_dict()
    model = build_backbone("resnet18", seed=2)
    extra = {"fc.weight": torch.ones(9, 512), "aux.weight": torch.ones(1)}
    load(model, {**given, **extra})
    assert hash_weights(model) == hash_weights(build_backbone("resnet18", seed=1))

    before = hash_weights(model)
    lacking = {name: value for name, value in given.items() if name != "layer2.0.conv1.weight"}
    with pytest.raises(BackboneError, match=r"given\.pth .* lacks 'layer2\.0\.conv1\.weight'\."):
        load(model, lacking)
    with pytest.raises(BackboneError, match=r"'conv1\.weight' has another shape .*\(1,\)"):
        load(model, {**given, "conv1.weight": torch.ones(1)})
    message = r"has 'layer4\.2\.bn1\.bias', which the backbone does not have"
    with pytest.raises(BackboneError, match=message):
        load(model, {**given, "layer4.2.bn1.bias": torch.ones(1)})
    assert hash_weights(model) == before


def test_names_of_the_original_authors_are_converted_by_timm() -> None:
    model = build_backbone("vit_tiny_patch16_224", resolution=32, seed=2)
    given = build_backbone("vit_tiny_patch16_224", resolution=64, seed=1).state_dict()
    # 4x4 and 2x2 patches with one class token: timm resizes the position embedding.
    assert given["pos_embed"].shape == (1, 17, 192)
    load(model, given)
    assert model.pos_embed.shape == (1, 5, 192)
    assert torch.equal(model.blocks[3].mlp.fc1.weight, given["blocks.3.mlp.fc1.weight"])


def test_hash_is_that_of_names_types_shapes_and_bytes() -> None:
    model = nn.Linear(2, 1)
    with torch.no_grad():
        model.weight.copy_(torch.tensor([[1.0, 2.0]]))
        model.bias.fill_(3.0)
    expected = hashlib.sha256()
    expected.update(b"bias torch.float32 (1,)\n" + np.float32(3).tobytes())
    expected.update(b"weight torch.float32 (1, 2)\n" + np.float32([1, 2]).tobytes())
    assert hash_weights(model) == expected.hexdigest()
    with torch.no_grad():
        model.bias.fill_(np.nextafter(np.float32(3), np.float32(4)))
    assert hash_weights(model) != expected.hexdigest()


@pytest.mark.parametrize(
    ("original", "renamed"),
    [
        ("_conv_stem.weight", "conv_stem.weight"),
        ("_bn1.running_mean", "bn2.running_mean"),
        ("_fc.bias", "classifier.bias"),
        ("_blocks.0._project_conv.weight", "blocks.0.0.conv_pw.weight"),
        ("_blocks.0._bn2.bias", "blocks.0.0.bn2.bias"),
        ("_blocks.2._bn2.bias", "blocks.1.1.bn3.bias"),
        ("_blocks.3._expand_conv.weight", "blocks.2.0.conv_pw.weight"),
    ],
)
def test_names_in_the_packages(original: str, renamed: str) -> None:
    assert _timm_name(original, [1, 2, 2]) == renamed


@pytest.mark.parametrize("name", PACKAGES)
def test_packaged_weights_are_loaded_whole(name: str) -> None:
    backbone = load_backbone(name)
    path = packaged_file(name)
    assert path is not None
    original = read_weights(path)
    own = backbone.model.state_dict()
    assert len(own) == len(original) - 2  # all but the classifier's weight and bias
    assert torch.equal(own["conv_head.weight"], original["_conv_head.weight"])
    assert torch.equal(own["bn2.running_var"], original["_bn1.running_var"])
    assert backbone.pretrained
    assert backbone.licence == "apache-2.0"


@pytest.mark.slow
def test_packaged_weights_tell_ants_from_bees() -> None:
    files = sorted((DATA / "hymenoptera").rglob("*.jpg"))[::4]
    if not files:
        pytest.skip("needs the hymenoptera images")
    backbone = load_backbone()
    path = packaged_file("tf_efficientnet_lite0")
    assert path is not None
    weights = read_weights(path)
    preprocessing = backbone.preprocessing
    right = 0
    for file in files:
        image = Image.open(file).convert("RGB")
        scale = preprocessing.resize / min(image.size)
        size = (round(image.width * scale), round(image.height * scale))
        resized = np.asarray(image.resize(size, Image.Resampling.BICUBIC), np.float32) / 255
        top, left = (
            (size[1] - preprocessing.resolution) // 2,
            (size[0] - preprocessing.resolution) // 2,
        )
        crop = resized[top : top + preprocessing.resolution, left : left + preprocessing.resolution]
        batch = (
            torch.from_numpy((crop - preprocessing.mean) / preprocessing.std)
            .permute(2, 0, 1)[None]
            .float()
        )
        with torch.inference_mode():
            logits = backbone.model(batch) @ weights["_fc.weight"].T + weights["_fc.bias"]
        # ImageNet's class 309 is the bee, 310 the ant.
        right += ("bee" if logits[0, 309] > logits[0, 310] else "ant") in file.parent.name
    assert len(files) > 80
    assert right / len(files) > 0.9
