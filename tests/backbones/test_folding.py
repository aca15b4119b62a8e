"""A suffix that is trained with its BatchNorm folded has the outputs and gradients of the plain."""

import copy

import pytest
import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from headstart.backbones.catalog import build_backbone
from headstart.backbones.cut import suffix, trace
from headstart.backbones.folding import FoldedNorm, folded

CUTS = {
    "tf_efficientnet_lite0": "blocks.3",
    "resnet18": "layer2",
    "mobilenetv3_small_100": "blocks.3",
    "regnetx_002": "s2",
}


def suffix_of(name: str) -> tuple[nn.Module, torch.Tensor]:
    """Returns a suffix with statistics of its own, and a batch of activations for it."""
    generator = torch.Generator().manual_seed(0)
    model = build_backbone(name, resolution=64)
    for module in model.modules():
        if isinstance(module, _BatchNorm):
            assert module.running_mean is not None and module.running_var is not None
            module.running_mean.normal_(0, 0.1, generator=generator)
            module.running_var.uniform_(0.5, 2, generator=generator)
            nn.init.uniform_(module.weight, 0.5, 1.5, generator=generator)
    traced = trace(model, 64)
    names = [each.name for each in traced.boundaries]
    boundary = CUTS.get(name) or names[len(names) // 2]
    shape = traced.boundary(boundary).shape
    return suffix(traced, boundary), torch.randn(4, *shape, generator=generator)


def in_mode(network: nn.Module, *, statistics: bool) -> None:
    """Sets training mode, with statistics that are taken from each batch or stay."""
    network.train()
    for module in network.modules():
        if isinstance(module, _BatchNorm):
            module.train(statistics)
        elif isinstance(module, nn.Dropout):
            module.p = 0.0


def gradients(
    network: nn.Module, owner: nn.Module, batch: torch.Tensor
) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    """Returns the output of a step, and the gradients of the parameters of their owner."""
    owner.zero_grad()
    output = network(batch)
    (output * torch.linspace(-1, 1, output.numel()).view_as(output)).sum().backward()
    found = {
        name: each.grad.clone() for name, each in owner.named_parameters() if each.grad is not None
    }
    return output.detach(), found


@pytest.mark.parametrize("name", CUTS)
def test_outputs_and_gradients_are_those_of_the_plain_suffix(name: str) -> None:
    plain, batch = suffix_of(name)
    fast = folded(plain)
    in_mode(plain, statistics=False)
    expected, of_plain = gradients(plain, plain, batch)
    found, of_fast = gradients(fast, plain, batch)
    assert sum(isinstance(each, FoldedNorm) for each in fast.modules()) > 4
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-4 * float(expected.abs().max()))
    assert of_fast.keys() == of_plain.keys() == dict(plain.named_parameters()).keys()
    for parameter, value in of_plain.items():
        scale = float(value.abs().max())
        torch.testing.assert_close(of_fast[parameter], value, rtol=2e-3, atol=1e-3 * scale + 1e-5)


def test_statistics_that_are_trained_change_as_in_the_plain_suffix() -> None:
    plain, batch = suffix_of("resnet18")
    other = copy.deepcopy(plain)
    for network in (plain, other):
        in_mode(network, statistics=True)
    expected = plain(batch)
    assert torch.equal(folded(other)(batch), expected)
    before, after = plain.state_dict(), other.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_what_is_frozen_gets_no_gradient_and_what_is_behind_it_does() -> None:
    plain, batch = suffix_of("tf_efficientnet_lite0")
    fast = folded(plain)
    in_mode(plain, statistics=False)
    first, *_, last = plain.parameters()
    first.requires_grad_(False)
    fast(batch).sum().backward()
    assert first.grad is None
    assert last.grad is not None


def test_layers_are_shared_and_none_is_added_to_the_state() -> None:
    plain, _ = suffix_of("tf_efficientnet_lite0")
    names = list(plain.state_dict())
    shared = {id(each) for each in folded(plain).parameters()}
    assert shared == {id(each) for each in plain.parameters()}
    assert list(plain.state_dict()) == names


@pytest.mark.parametrize("network", [nn.Identity(), nn.Sequential(nn.Conv2d(3, 4, 1))])
def test_other_networks_are_left_as_they_are(network: nn.Module) -> None:
    assert folded(network) is network


def test_a_convolution_that_others_see_too_is_not_folded() -> None:
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.bn = nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3)

        def forward(self, images: torch.Tensor) -> torch.Tensor:
            out = self.conv(images)
            return self.bn(out) + out

    graph = torch.fx.symbolic_trace(Twice())
    graph.train_graph = graph.graph
    assert not [each for each in folded(graph).modules() if isinstance(each, FoldedNorm)]
