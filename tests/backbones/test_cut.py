"""Proofs of the cut: a prefix and a suffix are the network that they were cut from."""

import copy
import gc
import os
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.transforms import v2

from headstart.backbones.catalog import build_backbone, load_backbone
from headstart.backbones.cut import Traced, prefix, suffix, trace
from headstart.backbones.onnx import run_onnx, verified_session
from headstart.backbones.places import FEATURES, INPUT
from headstart.backbones.pooling import covariance_tap, root_covariance
from headstart.backbones.weights import packaged_file, read_weights
from headstart.errors import BackboneError

DATA = Path(os.environ.get("HEADSTART_DATA", Path(__file__).parents[3] / "shared" / "data"))

SIDE = {
    "tf_efficientnet_lite0": 64,
    "resnet18": 64,
    "mobilenetv3_small_100": 64,
    "mobilenetv4_conv_small": 64,
    "convnext_atto": 64,
    "regnetx_002": 64,
    "vit_tiny_patch16_224": 64,
    "densenet121": 64,
    "swin_tiny_patch4_window7_224": 64,
}
HEAVY = ("densenet121", "swin_tiny_patch4_window7_224")
NAMES = [pytest.param(name, marks=pytest.mark.slow if name in HEAVY else ()) for name in SIDE]
WITH_DROP_PATH = [name for name in SIDE if name not in HEAVY]


def randomised(model: nn.Module) -> nn.Module:
    """Gives every BatchNorm statistics that differ from those of a new network."""
    generator = torch.Generator().manual_seed(1)
    for module in model.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.running_mean.normal_(0, 0.1, generator=generator)
            module.running_var.uniform_(0.5, 2, generator=generator)
            # timm starts some residual branches at zero.
            nn.init.uniform_(module.weight, 0.5, 1.5, generator=generator)
    return model


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # the networks are small, the machine may be shared
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def cut_networks() -> dict[str, Traced]:
    return {}


@pytest.fixture
def traced(request: pytest.FixtureRequest, cut_networks: dict[str, Traced]) -> Iterator[Traced]:
    name = request.param
    if name not in cut_networks:
        model = randomised(build_backbone(name, resolution=SIDE[name]))
        if name == "tf_efficientnet_lite0":
            model = load_backbone(name).model
        cut_networks[name] = trace(model, SIDE[name])
    yield cut_networks[name]
    cut_networks[name].model.eval()


def images(count: int, side: int = 64) -> Tensor:
    return torch.randn(count, 3, side, side, generator=torch.Generator().manual_seed(count))


def some(traced: Traced) -> list[str]:
    """Names of the first, a middle, and the last boundaries, both ends included."""
    names = [boundary.name for boundary in traced.boundaries]
    assert len(names) >= 6
    return [names[0], names[1], names[len(names) // 2], names[-2], names[-1]]


@pytest.mark.parametrize("traced", NAMES, indirect=True)
def test_suffix_of_prefix_equals_the_network(traced: Traced) -> None:
    for name in some(traced):
        first, second = prefix(traced, name), suffix(traced, name)
        for count in (1, 3):
            with torch.inference_mode():
                activations = first(images(count))
                before = activations.clone()
                assert torch.equal(second(activations), traced.model(images(count))), name
                # A cached activation must survive its use.
                assert torch.equal(activations, before), name


@pytest.mark.parametrize("traced", NAMES, indirect=True)
def test_boundaries_say_what_they_are(traced: Traced) -> None:
    first, *inner, last = traced.boundaries
    assert (first.name, first.position, first.shape) == (INPUT, 0.0, (3, 64, 64))
    assert (last.name, last.position) == (FEATURES, 1.0)
    assert last.shape == traced.model(images(1)).shape[1:]
    positions = [boundary.position for boundary in traced.boundaries]
    assert positions == sorted(positions)
    assert sum(boundary.stage for boundary in inner) >= 2
    for boundary in inner:
        # Blocks, not their layers.
        assert next(traced.model.get_submodule(boundary.name).children(), None) is not None
    for name in some(traced):
        assert prefix(traced, name)(images(2)).shape[1:] == traced.boundary(name).shape


@pytest.mark.parametrize("traced", NAMES, indirect=True)
def test_suffix_shares_the_parameters_of_the_network(traced: Traced) -> None:
    own = dict(traced.model.named_parameters())
    for name in some(traced)[:-1]:
        parameters = dict(suffix(traced, name).named_parameters())
        assert parameters
        assert all(own[key] is value for key, value in parameters.items())
    whole = suffix(traced, INPUT, [traced.boundaries[-2].name])
    assert dict(whole.named_parameters()).keys() == own.keys()
    assert whole.state_dict().keys() <= traced.model.state_dict().keys()


@pytest.mark.parametrize("traced", NAMES, indirect=True)
def test_training_the_suffix_leaves_the_prefix_alone(traced: Traced) -> None:
    name = some(traced)[2]
    frozen, rest = prefix(traced, name), suffix(traced, name)
    before = copy.deepcopy(frozen.state_dict())
    expected = frozen(images(4))
    trained = {key for key, _ in rest.named_parameters()}
    frozen.train()
    rest.train()
    assert not any(module.training for module in frozen.modules())
    rest(frozen(images(4))).square().mean().backward()
    gradients = {key for key, value in traced.model.named_parameters() if value.grad is not None}
    traced.model.zero_grad()
    assert gradients == trained
    assert all(value.grad is None and not value.requires_grad for value in frozen.parameters())
    after = frozen.state_dict()
    assert all(torch.equal(before[key], after[key]) for key in before)
    traced.model.train()
    assert torch.equal(frozen(images(4)), expected)


@pytest.mark.parametrize("name", WITH_DROP_PATH)
def test_drop_path_is_random_in_training_only(name: str) -> None:
    traced = trace(randomised(build_backbone(name, drop_path=0.5, resolution=64)), 64)
    boundary = traced.boundaries[2].name
    activations = prefix(traced, boundary)(images(8))
    rest = suffix(traced, boundary)
    with torch.no_grad():
        assert torch.equal(rest(activations), rest(activations))
        rest.train()
        assert not torch.equal(rest(activations), rest(activations))
        rest.eval()
        assert torch.equal(rest(activations), rest(activations))


@pytest.mark.parametrize("traced", WITH_DROP_PATH, indirect=True)
def test_without_drop_path_training_is_not_random(traced: Traced) -> None:
    boundary = traced.boundaries[2].name
    activations = prefix(traced, boundary)(images(8))
    rest = copy.deepcopy(suffix(traced, boundary)).train()
    with torch.no_grad():
        assert torch.equal(rest(activations), rest(activations))


@pytest.mark.parametrize("name", ["tf_efficientnet_lite0", "convnext_atto", "vit_tiny_patch16_224"])
def test_train_mode_draws_what_the_network_draws(name: str) -> None:
    model = build_backbone(name, drop_path=0.5, resolution=64)
    traced = trace(model, 64)
    tap = traced.boundaries[-2]
    whole = suffix(traced, INPUT, [tap.name]).train()
    with torch.no_grad():
        torch.manual_seed(5)
        found = whole(images(4))
        torch.manual_seed(5)
        expected = model.train()(images(4))
    assert torch.equal(found[:, -expected.shape[1] :], expected)


@pytest.mark.parametrize("traced", ["mobilenetv3_small_100"], indirect=True)
def test_suffix_follows_train_and_eval_in_its_batch_norms(traced: Traced) -> None:
    boundary = some(traced)[2]
    rest = copy.deepcopy(suffix(traced, boundary))
    norms = {
        name: module
        for name, module in rest.named_modules()
        if isinstance(module, nn.modules.batchnorm._BatchNorm)
    }
    assert len(norms) > 5
    first, *others = norms.values()
    rest.train()
    first.eval()  # one BatchNorm's statistics are frozen by hand
    before = [module.running_mean.clone() for module in norms.values()]
    rest(prefix(traced, boundary)(images(4)))
    assert torch.equal(first.running_mean, before[0])
    assert not any(
        torch.equal(module.running_mean, mean)
        for module, mean in zip(others, before[1:], strict=True)
    )


@pytest.mark.parametrize("traced", ["convnext_atto"], indirect=True)
def test_copy_of_a_suffix_is_independent(traced: Traced) -> None:
    boundary = some(traced)[2]
    rest = suffix(traced, boundary)
    twin = copy.deepcopy(rest)
    assert dict(twin.named_parameters()).keys() == dict(rest.named_parameters()).keys()
    activations = prefix(traced, boundary)(images(2))
    expected = rest(activations)
    with torch.no_grad():
        for parameter in twin.parameters():
            parameter.zero_()
    assert torch.equal(rest(activations), expected)
    assert not torch.equal(twin(activations), expected)


@pytest.mark.parametrize(
    ("traced", "names", "dims"),
    [
        ("tf_efficientnet_lite0", ("blocks.3", "blocks.5.1"), (2, 3)),
        ("vit_tiny_patch16_224", ("blocks.4", "blocks.11"), (1,)),
        pytest.param(
            "swin_tiny_patch4_window7_224", ("layers.1", "layers.3"), (1, 2), marks=pytest.mark.slow
        ),
    ],
    indirect=["traced"],
)
def test_taps_are_averaged_before_the_features(
    traced: Traced, names: tuple[str, ...], dims: tuple[int, ...]
) -> None:
    batch = images(2)
    for boundary in (INPUT, names[0]):
        found = suffix(traced, boundary, names)(prefix(traced, boundary)(batch))
        pooled = [prefix(traced, name)(batch).mean(dims) for name in names]
        assert torch.equal(found, torch.cat([*pooled, traced.model(batch)], 1))


@pytest.mark.parametrize(
    ("traced", "name", "dims"),
    [
        ("tf_efficientnet_lite0", "blocks.6", (2, 3)),
        ("resnet18", "layer4.0", (2, 3)),
        ("vit_tiny_patch16_224", "blocks.11", (1,)),
        pytest.param("swin_tiny_patch4_window7_224", "layers.3", (1, 2), marks=pytest.mark.slow),
    ],
    indirect=["traced"],
)
def test_a_tap_may_take_the_covariance_beside_the_mean(
    traced: Traced, name: str, dims: tuple[int, ...]
) -> None:
    batch = images(2)
    taps = (covariance_tap(name), name)
    for boundary in (INPUT, name):
        found = suffix(traced, boundary, taps)(prefix(traced, boundary)(batch))
        there = prefix(traced, name)(batch)
        means = there.mean(dims)
        parts = [root_covariance(there, dims, means.shape[1]), means, traced.model(batch)]
        torch.testing.assert_close(found, torch.cat(parts, 1))


@pytest.mark.parametrize("traced", ["tf_efficientnet_lite0"], indirect=True)
def test_a_covariance_trains_and_exports(traced: Traced, tmp_path: Path) -> None:
    network = suffix(traced, "blocks.5", (covariance_tap("blocks.6"),))
    start = prefix(traced, "blocks.5")(images(3))
    network.train()(start)[:, :2080].square().sum().backward()
    slopes = [each.grad for each in traced.model.blocks[6].parameters()]
    assert all(slope is not None and slope.isfinite().all() and slope.any() for slope in slopes)
    traced.model.zero_grad(set_to_none=True)
    network.eval()
    session = verified_session(network, start.detach(), tmp_path / "covariance.onnx")
    found = run_onnx(session, start.detach().numpy())
    with torch.inference_mode():
        expected = network(start).numpy()
    assert np.abs(found - expected).max() < 1e-4 * np.abs(expected).max()


@pytest.mark.parametrize("traced", ["resnet18"], indirect=True)
def test_wrong_boundaries_are_refused(traced: Traced) -> None:
    with pytest.raises(BackboneError, match=r"'layer5'; did you mean 'layer"):
        prefix(traced, "layer5")
    with pytest.raises(BackboneError, match="cannot be taken at 'layer1'"):
        suffix(traced, "layer2", ["layer1"])
    with pytest.raises(BackboneError, match="cannot be taken at 'layer1'"):
        suffix(traced, "layer2", [covariance_tap("layer1")])
    with pytest.raises(BackboneError, match="'layer5'"):
        suffix(traced, "layer2", [covariance_tap("layer5")])
    with pytest.raises(BackboneError, match="cannot be taken at 'features'"):
        suffix(traced, "layer2", [FEATURES])


def test_trace_leaves_the_network_and_the_random_numbers_alone() -> None:
    model = build_backbone("mobilenetv3_small_100").train()
    model.blocks[0].eval()
    modes = [module.training for module in model.modules()]
    state = copy.deepcopy(model.state_dict())
    torch.manual_seed(3)
    expected = torch.rand(2)
    torch.manual_seed(3)
    trace(model, 64)
    assert torch.equal(torch.rand(2), expected)
    assert [module.training for module in model.modules()] == modes
    assert all(torch.equal(value, state[key]) for key, value in model.state_dict().items())
    assert model.state_dict().keys() == state.keys()


class Block(nn.Module):
    """A convolution with a residual and a dropout that only the functional form shows."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, padding=1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        batch = x.shape[0]
        x = x + F.dropout(self.conv(x), 0.5, self.training)
        return x.reshape(batch, 4, 8, 8)


class Small(nn.Module):
    """Three blocks and an average."""

    def __init__(self, long_way: bool = False) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1, bias=False), nn.ReLU())
        self.blocks = nn.Sequential(Block(4), Block(4), Block(4))
        self.long_way = long_way

    def forward(self, x: Tensor, flipped: bool = False) -> Tensor:
        if flipped:
            x = x.flip(-1)
        images, batch = x, x.shape[0]
        x = self.blocks(self.stem(x))
        if self.long_way:
            x = x + images.mean(1, keepdim=True)
        return x.view(batch, 4, -1).mean(2)


def test_positions_are_shares_of_the_multiply_adds() -> None:
    traced = trace(Small(), 8)
    # Per pixel: 3*4*9 = 108 in the stem and 4*4*9 = 144 in each of three blocks, 540 in all.
    assert [(each.name, each.position) for each in traced.boundaries] == [
        (INPUT, 0.0),
        ("stem", pytest.approx(108 / 540)),
        ("blocks.0", pytest.approx(252 / 540)),
        ("blocks.1", pytest.approx(396 / 540)),
        (FEATURES, 1.0),
    ]
    assert all(each.shape == (4, 8, 8) for each in traced.boundaries[1:-1])


def test_functional_dropout_is_baked_neither_off_nor_on() -> None:
    traced = trace(Small(), 8)
    activations = prefix(traced, "blocks.0")(images(2, 8))
    rest = suffix(traced, "blocks.0")
    assert torch.equal(rest(activations), traced.model.eval()(images(2, 8)))
    rest.train()
    assert not torch.equal(rest(activations), rest(activations))


def test_a_network_traced_before_is_cut_with_its_own_weights() -> None:
    first, second = Small(), Small()
    gone = weakref.ref(first)
    trace(first, 8)
    del first
    gc.collect()
    assert gone() is None, "what is kept of a trace keeps no weights"
    traced = trace(second, 8)
    assert traced.model is second
    together = suffix(traced, "blocks.0")(prefix(traced, "blocks.0")(images(2, 8)))
    assert torch.allclose(together, second.eval()(images(2, 8)))


def test_a_network_of_the_same_form_that_computes_something_else_is_traced_anew() -> None:
    class Bent(Small):
        """Its last function is no plain attribute, which is all that is compared."""

        def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
            super().__init__()
            self.function = function

        def forward(self, x: Tensor, flipped: bool = False) -> Tensor:
            return self.function(super().forward(x))

    trace(Bent(torch.sin), 8)
    model = Bent(torch.cos)
    traced = trace(model, 8)
    assert "blocks.0" in [each.name for each in traced.boundaries]
    together = suffix(traced, "blocks.0")(prefix(traced, "blocks.0")(images(2, 8)))
    assert torch.allclose(together, model.eval()(images(2, 8)))


def test_batch_size_crosses_the_boundary() -> None:
    traced = trace(Small(), 8)
    for count in (1, 2, 5):
        activations = prefix(traced, "blocks.1")(images(count, 8))
        assert suffix(traced, "blocks.1")(activations).shape == (count, 4)


def test_where_two_tensors_cross_there_is_no_boundary() -> None:
    traced = trace(Small(long_way=True).eval(), 8)
    assert [each.name for each in traced.boundaries] == [INPUT, FEATURES]
    assert "more than one tensor" in traced.reason


class Untraceable(nn.Module):
    """Its way depends on its numbers."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(3, 2)
        self.norm = nn.Sequential(nn.BatchNorm1d(2))

    def forward(self, x: Tensor) -> Tensor:
        pooled = x.mean((2, 3))
        if pooled.sum() > 0:
            pooled = -pooled
        features: Tensor = self.norm(self.linear(pooled))
        return features


def test_untraceable_network_is_cut_at_its_ends() -> None:
    model = Untraceable().train()
    traced = trace(model, 8)
    assert [(each.name, each.shape) for each in traced.boundaries] == [
        (INPUT, (3, 8, 8)),
        (FEATURES, (2,)),
    ]
    assert traced.reason.startswith("it cannot be traced: ")
    assert model.training
    frozen = prefix(traced, FEATURES)
    expected = model.eval()(images(3, 8))
    model.train()
    assert torch.equal(suffix(traced, FEATURES)(frozen(images(3, 8))), expected)
    assert torch.equal(suffix(traced, INPUT)(prefix(traced, INPUT)(images(3, 8))), expected)


@pytest.mark.parametrize("traced", NAMES, indirect=True)
def test_onnx_runtime_computes_the_same(traced: Traced, tmp_path: Path) -> None:
    boundary = some(traced)[2]
    frozen = prefix(traced, boundary)
    session = verified_session(frozen, images(2), tmp_path / "prefix.onnx")
    for count in (1, 5):
        expected = frozen(images(count)).numpy()
        found = run_onnx(session, images(count).numpy())
        assert np.abs(found - expected).max() <= 1e-4 * np.abs(expected).max()


@pytest.mark.slow
def test_float16_storage_keeps_the_decisions() -> None:
    files = sorted((DATA / "flowers17").rglob("*.jpg"))[::10]
    if not files:
        pytest.skip("needs the flowers17 images")
    backbone = load_backbone("tf_efficientnet_lite0")
    path = packaged_file("tf_efficientnet_lite0")
    assert path is not None
    weights = read_weights(path)
    traced = trace(backbone.model, 96)
    boundary = "blocks.3"
    frozen, rest = prefix(traced, boundary), suffix(traced, boundary)
    crop = v2.RandomResizedCrop(96, scale=(0.3, 1.0))
    agreed = total = 0
    torch.manual_seed(0)
    for start in range(0, len(files), 20):
        pictures = [Image.open(file).convert("RGB") for file in files[start : start + 20]]
        crops = [np.asarray(crop(picture)) for picture in pictures for _ in range(8)]
        batch = torch.from_numpy(np.stack(crops)).permute(0, 3, 1, 2) / 127.5 - 1
        with torch.inference_mode():
            activations = frozen(batch)
            exact, stored = (
                F.linear(rest(each), weights["_fc.weight"], weights["_fc.bias"]).argmax(1)
                for each in (activations, activations.half().float())
            )
        agreed += int((exact == stored).sum())
        total += len(crops)
    assert total >= 1000
    assert agreed / total >= 0.999
