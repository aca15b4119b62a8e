"""Which columns of the features come from where, and what a head may see of them."""

import numpy as np
import pytest
import torch

from headstart.backbones.catalog import build_backbone
from headstart.backbones.cut import trace
from headstart.features.layout import (
    FeatureLayout,
    FeatureTable,
    _channels,
    _has_places,
    _pooled_from,
    layout_behind,
)

WHOLE = FeatureLayout(("c:covariance", "b", "c"), (6, 2, 3, 4))


@pytest.mark.parametrize(
    ("features", "taps", "columns"),
    [
        ("last", (), range(11, 15)),
        ("stages", ("b", "c"), range(6, 15)),
        ("last+covariance", ("c:covariance",), [*range(6), *range(11, 15)]),
        ("stages+covariance", ("c:covariance", "b", "c"), range(15)),
    ],
)
def test_a_head_sees_the_columns_that_it_asks_for(
    features: str, taps: tuple[str, ...], columns: list[int]
) -> None:
    table = FeatureTable(np.arange(30, dtype=np.float32).reshape(2, 15), WHOLE)
    part = WHOLE.only(features)
    assert part.taps == taps
    assert part.width == len(columns)
    assert np.array_equal(table.of(features), table.array[:, list(columns)])


def test_adjacent_columns_are_not_copied() -> None:
    array = np.zeros((3, 15), np.float32)
    for features in ("last", "stages", "stages+covariance"):
        assert np.shares_memory(WHOLE.pick(array, WHOLE.only(features)), array)


def test_choices_are_what_the_network_has() -> None:
    assert WHOLE.choices == ("last", "stages", "last+covariance", "stages+covariance")
    assert FeatureLayout((), (4,)).choices == ("last",)
    assert FeatureLayout(("b",), (2, 4)).choices == ("last", "stages")


def test_the_last_map_of_a_network_has_a_covariance() -> None:
    traced = trace(build_backbone("tf_efficientnet_lite0"), 128)
    layout = layout_behind(traced, "features", 1280)
    assert layout.taps[0] == "blocks.6:covariance"
    assert layout.widths[0] == 2080
    assert layout.taps[-1] == "blocks.6"
    assert layout.widths[-2:] == (320, 1280)
    behind = layout_behind(traced, "blocks.4", 1280)
    assert behind.taps == ("blocks.6:covariance", "blocks.4", "blocks.5", "blocks.6")
    assert behind.widths == (2080, 112, 192, 320, 1280)


@pytest.mark.parametrize(
    ("name", "side", "tap"),
    [
        # At 64 pixels, blocks.6 ends no stage: it has as many values as there are features.
        ("tf_efficientnet_lite0", 64, "blocks.6"),
        ("resnet18", 64, "layer4.0"),  # behind layer4 there is nothing to train
        ("convnext_atto", 64, "stages.3"),
    ],
)
def test_the_covariance_is_that_of_the_last_place_to_cut(name: str, side: int, tap: str) -> None:
    network = build_backbone(name)
    assert layout_behind(trace(network, side), "features", 8).taps[0] == f"{tap}:covariance"


def test_a_network_that_cannot_be_cut_has_its_features_alone() -> None:
    class Crossing(torch.nn.Module):
        def forward(self, images: torch.Tensor) -> torch.Tensor:
            return images.mean((2, 3)) if images.sum() > -1 else images[:, :, 0, 0]

    network = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 1), Crossing())
    assert layout_behind(trace(network, 8), "features", 4) == FeatureLayout((), (4,))


@pytest.mark.parametrize(
    ("shape", "output_fmt", "channels", "places"),
    [
        ((64, 28, 28), "NCHW", 64, True),
        ((28, 28, 64), "NHWC", 64, True),
        ((7, 7, 512), "NCHW", 512, True),  # a map that lies otherwise than its network says
        ((196, 384), "NCHW", 384, True),
        ((384,), "NCHW", 384, False),
        ((384, 1, 1), "NCHW", 384, False),
        ((1, 28, 28), "NCHW", 1, False),
    ],
)
def test_the_width_of_a_tap_is_its_channels(
    shape: tuple[int, ...], output_fmt: str, channels: int, places: bool
) -> None:
    assert _channels(shape, output_fmt) == channels
    assert _has_places(shape, output_fmt) == places


def test_a_map_that_was_pooled_is_no_stage_of_its_own() -> None:
    assert _pooled_from((576, 1, 1), (576, 7, 7))
    assert _pooled_from((576,), (576, 7, 7))
    assert not _pooled_from((1024, 1, 1), (576, 7, 7))
    assert not _pooled_from((576, 1, 1), (576, 1, 1))
    assert not _pooled_from((48, 14, 14), (24, 28, 28))
