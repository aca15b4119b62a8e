"""Heat maps: they light up where the evidence is, on a network by hand and on a real one."""

import numpy as np
import pytest
import torch
from torch import nn

from headstart.artifacts.bundle import Classifier
from headstart.backbones.catalog import load_backbone
from headstart.backbones.engine import Normalize
from headstart.diagnose.heat import HeatError, heat_maps
from headstart.methods.head_layers import Head

PLAIN = Normalize((0.0, 0.0, 0.0), (1.0, 1.0, 1.0))


def colours() -> Classifier:
    """Says class 0 by how much red there is, class 1 by how much blue."""
    pick = nn.Conv2d(3, 2, 1, bias=False)
    with torch.no_grad():
        pick.weight.copy_(torch.tensor([[1.0, 0, 0], [0, 0, 1.0]]).view(2, 3, 1, 1))
    shrink = [nn.AvgPool2d(2) for _ in range(3)]
    trunk = nn.Sequential(PLAIN, *shrink, pick, nn.AdaptiveAvgPool2d(1), nn.Flatten())
    out = nn.Linear(2, 2, bias=False)
    with torch.no_grad():
        out.weight.copy_(torch.eye(2))
    return Classifier(trunk, [nn.Identity()], [Head(nn.Identity(), out)], flip=False).eval()


def test_it_is_bright_where_the_class_is() -> None:
    view = np.zeros((32, 32, 3), np.uint8)
    view[:, :16, 0] = 255  # red on the left
    view[:, 16:, 2] = 255  # blue on the right
    red, blue = heat_maps(colours(), np.stack([view, view]), [0, 1])
    assert red.shape == (32, 32)
    assert red[:, :12].min() > 0.9
    assert red[:, 20:].max() < 0.1
    assert blue[:, 20:].min() > 0.9
    assert blue[:, :12].max() < 0.1


def test_the_network_is_left_as_it_was() -> None:
    network = colours()
    network.requires_grad_(False)
    heat_maps(network, np.full((1, 32, 32, 3), 9, np.uint8), [0])
    assert not any(p.requires_grad or p.grad is not None for p in network.parameters())
    assert not any(module._forward_hooks for module in network.modules())


def test_it_stops_when_the_time_is_up() -> None:
    views = np.zeros((3, 32, 32, 3), np.uint8)
    assert len(heat_maps(colours(), views, [0, 0, 0], until=0.0)) == 0


def test_a_real_backbone_has_maps() -> None:
    backbone = load_backbone(resolution=96)
    spec = backbone.preprocessing
    trunk = nn.Sequential(Normalize(spec.mean, spec.std), backbone.model)
    torch.manual_seed(0)
    head = Head(nn.Identity(), nn.Linear(backbone.features, 3))
    network = Classifier(trunk, [nn.Identity()], [head], flip=True).eval()
    views = np.random.default_rng(0).integers(0, 256, (2, 96, 96, 3)).astype(np.uint8)
    found = heat_maps(network, views, [0, 2])
    assert found.shape == (2, 96, 96)
    assert found.min() >= 0
    assert found.max() <= 1
    assert found.std() > 0


def test_a_network_without_maps_says_so() -> None:
    layers = [nn.Linear(192, 192) for _ in range(12)]  # what comes first alone is a map
    trunk = nn.Sequential(PLAIN, nn.Flatten(), *layers)
    head = Head(nn.Identity(), nn.Linear(192, 2))
    network = Classifier(trunk, [nn.Identity()], [head], flip=False).eval()
    with pytest.raises(HeatError, match="no map"):
        heat_maps(network, np.zeros((1, 8, 8, 3), np.uint8), [0])
