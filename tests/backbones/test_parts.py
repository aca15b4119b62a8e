"""Blocks, activations and frozen tensors behind a boundary, of real architectures."""

import pytest
import torch
from torch import nn

from headstart.backbones.catalog import build_backbone
from headstart.backbones.cut import Traced, ahead, behind, prefix, suffix, trace
from headstart.backbones.parts import (
    blocks_behind,
    boundary_of_last,
    count_drop_path,
    frozen_tensors,
    swap_activations,
)
from headstart.backbones.places import FEATURES, INPUT
from headstart.errors import BackboneError, RecipeError

NETWORKS = [
    "tf_efficientnet_lite0", "resnet18", "mobilenetv3_small_050", "convnext_atto", "regnety_002",
    "vit_tiny_patch16_224",
]  # fmt: skip


def traced_network(name: str, drop_path: float = 0.0) -> Traced:
    resolution = 224 if name.startswith("vit") else 64
    return trace(build_backbone(name, drop_path=drop_path), resolution)


def middle(traced: Traced) -> str:
    inner = [each for each in traced.boundaries if each.name not in {INPUT, FEATURES}]
    return inner[len(inner) // 2].name


@pytest.mark.parametrize("name", NETWORKS)
def test_blocks_partition_what_is_trained(name: str) -> None:
    traced = traced_network(name)
    for boundary in (INPUT, middle(traced)):
        blocks = blocks_behind(traced, boundary)
        network = suffix(traced, boundary)
        in_blocks = [id(parameter) for block in blocks for parameter in block]
        assert len(in_blocks) == len(set(in_blocks))
        assert set(in_blocks) == {id(parameter) for parameter in network.parameters()}
        assert len(blocks) > 1
        frozen = frozen_tensors(traced, network)
        everything = [*traced.model.named_parameters(), *traced.model.named_buffers()]
        moving = {id(t) for t in (*network.parameters(), *network.buffers())}
        assert set(frozen) == {n for n, t in everything if id(t) not in moving}
    assert blocks_behind(traced, FEATURES) == ()


def test_blocks_are_in_the_order_of_the_network() -> None:
    traced = traced_network("resnet18")
    blocks = blocks_behind(traced, INPUT)
    names = {id(p): n for n, p in traced.model.named_parameters()}
    first, last = [names[id(p)] for p in blocks[0]], [names[id(p)] for p in blocks[-1]]
    assert "conv1.weight" in first
    assert all(name.startswith("layer4.1") for name in last)


def test_the_last_blocks_by_number() -> None:
    traced = traced_network("resnet18")
    for count in (1, 3):
        assert len(blocks_behind(traced, boundary_of_last(traced, count))) == count
    with pytest.raises(BackboneError, match="set fewer"):
        boundary_of_last(traced, 99)


@pytest.mark.parametrize("name", NETWORKS)
def test_swapping_changes_the_suffix_and_not_the_prefix(name: str) -> None:
    traced = traced_network(name)
    boundary = middle(traced)
    side = traced.boundaries[0].shape[-1]
    images = torch.randn(2, 3, side, side)
    frozen, before = prefix(traced, boundary), suffix(traced, boundary)
    with torch.inference_mode():
        activations = frozen(images)
        old = before(activations)
    swapped = swap_activations(traced, boundary, nn.Mish)
    assert swapped
    with torch.inference_mode():
        new = suffix(traced, boundary)(activations)
        assert not torch.allclose(old, new)
        # The whole network, put together again from both parts, is what the parts are.
        torch.testing.assert_close(traced.model.eval()(images), new, rtol=1e-4, atol=1e-4)
        assert torch.equal(frozen(images), activations)
    kinds = [type(m) for m in traced.model.modules()]
    assert kinds.count(nn.Mish) >= len(swapped)


def test_a_second_swap_starts_from_the_backbone_as_it_was() -> None:
    traced = traced_network("resnet18")
    names = [each.name for each in traced.boundaries]
    late, early = names[-3], names[2]
    first = swap_activations(traced, late, nn.Mish)
    second = swap_activations(traced, early, nn.Mish)
    assert set(first) < set(second)
    assert {old for old, _ in second.values()} == {"ReLU"}
    swap_activations(traced, late, nn.Mish)
    kinds = [type(m) for m in traced.model.modules()]
    assert kinds.count(nn.Mish) == len(first)


def test_gates_are_left_alone() -> None:
    traced = traced_network("mobilenetv3_small_050")
    gates = [n for n, m in traced.model.named_modules() if type(m).__name__.startswith("Hardsig")]
    assert gates
    swap_activations(traced, INPUT, nn.Mish)
    assert all(not isinstance(traced.model.get_submodule(n), nn.Mish) for n in gates)


def test_a_swap_that_changes_nothing_is_refused() -> None:
    traced = traced_network("efficientnet_b0")
    with pytest.raises(RecipeError, match="already SiLU"):
        swap_activations(traced, INPUT, nn.SiLU)
    with pytest.raises(RecipeError, match="nothing to swap"):
        swap_activations(traced, FEATURES, nn.Mish)


def test_an_activation_on_both_sides_is_refused() -> None:
    class Shared(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.blocks = nn.Sequential(*(Block() for _ in range(3)))
            self.act = nn.ReLU()

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            for block in self.blocks:
                x = self.act(block(x))
            return x.mean((2, 3))

    class Block(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(3, 3, 1)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.conv(x)

    traced = trace(Shared(), 8)
    inner = [each.name for each in traced.boundaries if each.name not in {INPUT, FEATURES}]
    with pytest.raises(RecipeError, match="both sides"):
        swap_activations(traced, inner[1], nn.Mish)


def test_drop_path_is_counted_or_missed() -> None:
    traced = traced_network("tf_efficientnet_lite0", drop_path=0.2)
    assert count_drop_path(suffix(traced, "blocks.4")) > 0
    with pytest.raises(BackboneError, match="drop_path"):
        count_drop_path(suffix(traced_network("resnet18"), INPUT))


def test_ahead_and_behind_meet_at_the_boundary() -> None:
    traced = traced_network("resnet18")
    boundary = middle(traced)
    assert not ahead(traced, boundary) & behind(traced, boundary)
    assert "conv1" in ahead(traced, boundary)
    assert ahead(traced, INPUT) == frozenset()
    assert behind(traced, FEATURES) == frozenset()
