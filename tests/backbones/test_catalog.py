import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from headstart.backbones.catalog import build_backbone, load_backbone, resolve_name
from headstart.backbones.weights import PACKAGES, hash_weights
from headstart.errors import BackboneError

AddToCache = Callable[[Path, str, dict[str, torch.Tensor]], Path]


def classifier(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    """The state of a model, and a classifier as timm's files have it."""
    return {**model.state_dict(), "fc.weight": torch.ones(1000, 512), "fc.bias": torch.ones(1000)}


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("resnet5", r"Unknown backbone 'resnet5'; did you mean 'resnet50'\?"),
        ("tf_efficientnet_lite9", r"did you mean 'tf_efficientnet_lite\d'\?"),
        ("", r"Unknown backbone ''\. "),
        ("resnet18.a9_in1k", r"no weights 'a9_in1k'; choose from: .*a1_in1k"),
    ],
)
def test_unknown_names_are_refused(name: str, message: str) -> None:
    for use in (resolve_name, build_backbone, load_backbone):
        with pytest.raises(BackboneError, match=message):
            use(name)


@pytest.mark.parametrize(
    "given", ["resnet18", "timm/resnet18", "hf_hub:timm/resnet18", " resnet18"]
)
def test_prefixes_are_tolerated(given: str) -> None:
    assert resolve_name(given) == "resnet18"
    assert resolve_name(f"{given}.a1_in1k") == "resnet18.a1_in1k"


@pytest.mark.parametrize(
    ("name", "resolution", "resize"),
    # 224 / 0.875, 240 / 0.882, 260 / 0.890, rounded down.
    [
        ("tf_efficientnet_lite0", 224, 256),
        ("tf_efficientnet_lite1", 240, 272),
        ("tf_efficientnet_lite2", 260, 292),
    ],
)
def test_preprocessing_is_the_models_own(name: str, resolution: int, resize: int) -> None:
    preprocessing = load_backbone(name).preprocessing
    assert (preprocessing.resolution, preprocessing.resize, preprocessing.interpolation) == (
        resolution,
        resize,
        "bicubic",
    )
    assert preprocessing.mean == preprocessing.std == (0.5, 0.5, 0.5)


def test_preprocessing_of_others_is_imagenets() -> None:
    backbone = load_backbone("resnet18", weights="random", resolution=96)
    preprocessing = backbone.preprocessing
    # 96 / 0.95 = 101.05
    assert (preprocessing.resolution, preprocessing.resize, preprocessing.interpolation) == (
        96,
        101,
        "bicubic",
    )
    assert preprocessing.mean == (0.485, 0.456, 0.406)
    assert preprocessing.std == (0.229, 0.224, 0.225)
    assert backbone.features == 512
    assert backbone.model(torch.zeros(2, 3, 96, 96)).shape == (2, 512)
    assert not backbone.pretrained
    assert not backbone.model.training


def test_random_weights_depend_on_their_seed_alone() -> None:
    torch.manual_seed(7)
    expected = torch.rand(3)
    torch.manual_seed(7)
    first = load_backbone("resnet18", weights="random", seed=1)
    assert torch.equal(torch.rand(3), expected)
    again = load_backbone("resnet18", weights="random", seed=1)
    other = load_backbone("resnet18", weights="random", seed=2)
    assert first.weights_hash == again.weights_hash != other.weights_hash


def test_transformers_are_built_for_other_resolutions() -> None:
    model = build_backbone("vit_tiny_patch16_224", resolution=96)
    assert model(torch.zeros(1, 3, 96, 96)).shape == (1, 192)
    with pytest.raises(BackboneError, match=r"'vit_tiny_patch16_224'.* 10 pixels"):
        load_backbone("vit_tiny_patch16_224", weights="random", resolution=10)


def test_drop_path_is_built_in_or_refused() -> None:
    model = build_backbone("convnext_atto", drop_path=0.25)
    assert max(getattr(each, "drop_prob", 0.0) for each in model.modules()) == pytest.approx(0.25)
    with pytest.raises(BackboneError, match=r"'vgg11' cannot be built with drop_path=0\.25"):
        build_backbone("vgg11", drop_path=0.25)


def test_a_rebuilt_backbone_takes_its_own_state() -> None:
    backbone = load_backbone("resnet18", weights="random", seed=4)
    twin = build_backbone("resnet18")
    twin.load_state_dict(backbone.model.state_dict())
    assert hash_weights(twin) == backbone.weights_hash


def test_a_local_file_is_loaded(tmp_path: Path) -> None:
    given = build_backbone("resnet18", seed=3)
    save_file(classifier(given), tmp_path / "own.safetensors")
    backbone = load_backbone("resnet18", weights=tmp_path / "own.safetensors")
    assert backbone.weights_hash == hash_weights(given)
    assert backbone.source == str(tmp_path / "own.safetensors")
    assert backbone.pretrained
    with pytest.raises(BackboneError, match=r"own\.safetensors does not fit"):
        load_backbone("resnet26", weights=tmp_path / "own.safetensors")


def test_a_hugging_face_cache_is_read(hub_cache: Path, add_to_cache: AddToCache) -> None:
    given = build_backbone("resnet18", seed=3)
    add_to_cache(hub_cache, "timm/resnet18.a1_in1k", classifier(given))
    for name in ("resnet18", "timm/resnet18.a1_in1k"):
        backbone = load_backbone(name)
        assert backbone.weights_hash == hash_weights(given)
        assert backbone.source == "huggingface.co/timm/resnet18.a1_in1k"
        assert backbone.licence == "apache-2.0"


@pytest.mark.parametrize(
    ("lost", "told"),
    [
        (["layer3.0.conv1.weight"], "1 tensor of 'resnet18.*such as 'layer3.0.conv1.weight'"),
        (["bn1.weight", "bn1.bias"], "2 tensors of 'resnet18.*such as 'bn1.bias'"),
        (None, "60 tensors of 'resnet18"),
    ],
)
def test_weights_of_the_hub_that_lack_layers_are_refused(
    lost: list[str] | None, told: str, hub_cache: Path, add_to_cache: AddToCache
) -> None:
    """timm leaves such layers at random without a warning."""
    state = classifier(build_backbone("resnet18", seed=3))
    kept = (
        {"a": torch.ones(1)} if lost is None else {k: v for k, v in state.items() if k not in lost}
    )
    add_to_cache(hub_cache, "timm/resnet18.a1_in1k", kept)
    with pytest.raises(BackboneError, match=f"is not whole: it lacks {told}"):
        load_backbone("resnet18")


def test_statistics_that_a_network_can_do_without_may_be_absent(
    hub_cache: Path, add_to_cache: AddToCache
) -> None:
    given = build_backbone("resnet18", seed=3)
    state = {k: v for k, v in classifier(given).items() if "num_batches" not in k}
    add_to_cache(hub_cache, "timm/resnet18.a1_in1k", state)
    assert load_backbone("resnet18").source == "huggingface.co/timm/resnet18.a1_in1k"


def test_without_network_the_message_says_what_can_be_used(
    hub_cache: Path, add_to_cache: AddToCache
) -> None:
    add_to_cache(hub_cache, "timm/resnet18.a1_in1k", {"a": torch.ones(1)})
    with pytest.raises(BackboneError) as caught:
        load_backbone("resnet50")
    message = str(caught.value)
    assert "'resnet50' are not on this machine" in message
    for usable in (*PACKAGES, "resnet18.a1_in1k", "--weights FILE", "--weights random"):
        assert usable in message


@pytest.mark.slow
def test_a_cache_named_by_the_environment_is_read(tmp_path: Path, add_to_cache: AddToCache) -> None:
    given = build_backbone("resnet18", seed=3)
    add_to_cache(tmp_path, "timm/resnet18.a1_in1k", classifier(given))
    script = """
import json, time
from headstart.backbones.catalog import load_backbone
from headstart.errors import BackboneError
answers = {"hash": load_backbone("resnet18").weights_hash}
try:
    load_backbone("resnet50")
except BackboneError as error:
    answers["error"] = str(error)
print(json.dumps(answers))
"""
    environment = {**os.environ, "HF_HUB_CACHE": str(tmp_path), "HF_HUB_OFFLINE": "1"}
    ran = subprocess.run(
        [sys.executable, "-W", "error", "-c", script],
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    answers = json.loads(ran.stdout)
    assert answers["hash"] == hash_weights(given)
    assert "HF_HUB_OFFLINE is set" in answers["error"]
    assert "resnet18.a1_in1k" in answers["error"]
    assert ran.stderr == ""
