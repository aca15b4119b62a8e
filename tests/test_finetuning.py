"""The weights that training one recipe leaves."""

from dataclasses import replace

import pytest
import torch

from headstart.averages import blend
from headstart.backbones.cut import trace
from headstart.finetuning import train_blended
from headstart.preparing import Prepared
from headstart.progress import SILENT
from headstart.recipe import parse_recipe
from headstart.search.material import backbone_of
from headstart.search.stages import start_from, training_data
from headstart.search.trial import weights_of


@pytest.mark.slow
def test_what_is_kept_lies_between_the_start_and_the_trained_weights(prepared: Prepared) -> None:
    def trained(share: float) -> tuple[dict[str, torch.Tensor], dict[str, torch.Tensor]]:
        recipe = parse_recipe(
            {"backbone": {"resolution": 64}, "freezing": {"name": "last_blocks", "blocks": 1},
             "views": 1, "batch_size": 16, "blend": share}
        )  # fmt: skip
        backbone = backbone_of(recipe)
        traced = trace(backbone.model, backbone.preprocessing.resolution)
        material = replace(prepared.material, backbone=backbone, traced=traced)
        start = start_from(material, recipe, "blocks.5")
        data = training_data(material, recipe, start, 1)
        before = weights_of(start)
        epochs = train_blended(material, recipe, start, data, 1, None, "training", SILENT)
        assert [epoch.epoch for epoch in epochs] == [1]
        return before, weights_of(start)

    before, whole = trained(1.0)
    same, quarter = trained(0.25)
    moved = [name for name in whole if not torch.equal(before[name], whole[name])]
    assert moved
    for name, value in blend(before, whole, 0.25).items():
        assert torch.equal(same[name], before[name])
        assert torch.allclose(quarter[name], value, atol=1e-6), name
