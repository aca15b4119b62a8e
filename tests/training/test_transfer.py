"""What a head may see of a network, and how it is solved."""

from types import SimpleNamespace
from typing import Any

import pytest
import torch

from headstart.recipes.parsing import parse_recipe
from headstart.training.experiment import Experiment
from headstart.training.transfer import _pooled_from, _tap_width, build_transfer_model


@pytest.mark.parametrize(
    ("shape", "output_fmt", "width"),
    [
        ((64, 28, 28), "NCHW", 64),
        ((28, 28, 64), "NHWC", 64),
        ((7, 7, 512), "NCHW", 512),  # a map that lies otherwise than its network says
        ((196, 384), "NCHW", 384),
        ((384,), "NCHW", 384),
    ],
)
def test_the_width_of_a_tap_is_its_channels(
    shape: tuple[int, ...], output_fmt: str, width: int
) -> None:
    traced = SimpleNamespace(
        model=SimpleNamespace(output_fmt=output_fmt),
        boundary=lambda name: SimpleNamespace(shape=shape),
    )
    extractor: Any = SimpleNamespace(traced=traced)
    assert _tap_width(extractor, ("stage", "stage")) == 2 * width


def test_a_map_that_was_pooled_is_no_stage_of_its_own() -> None:
    assert _pooled_from((576, 1, 1), (576, 7, 7))
    assert _pooled_from((576,), (576, 7, 7))
    assert not _pooled_from((1024, 1, 1), (576, 7, 7))
    assert not _pooled_from((576, 1, 1), (576, 1, 1))
    assert not _pooled_from((48, 14, 14), (24, 28, 28))


@pytest.mark.slow
@pytest.mark.parametrize("penalty", [0.0, 0.01])
def test_a_solved_head_is_smoothed_where_that_is_asked_for(
    penalty: float, experiment: Experiment
) -> None:
    weights = {}
    for smoothing in (0.0, 0.3):
        head = {"name": "linear", "features": "last", "penalty": penalty, "smoothing": smoothing}
        recipe = parse_recipe(
            {"backbone": {"resolution": 64}, "head": head, "freezing": "head_only",
             "augmentation": "none", "averaging": "none"}
        )  # fmt: skip
        transfer = build_transfer_model(experiment.extractor, recipe, "features")
        weights[smoothing] = transfer.head.out[1].weight.detach().clone()  # type: ignore[index]
    assert torch.linalg.norm(weights[0.3]) < 0.9 * torch.linalg.norm(weights[0.0])
