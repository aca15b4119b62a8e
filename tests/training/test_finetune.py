"""The weights that training one recipe leaves."""

from dataclasses import replace

import pytest
import torch

from headstart.backbones.cut import trace
from headstart.features.extractor import backbone_of
from headstart.recipes.parsing import parse_recipe
from headstart.training.averaging import blend
from headstart.training.experiment import Experiment
from headstart.training.finetune import train_blended
from headstart.training.transfer import build_transfer_model, training_data, weights_of


@pytest.mark.slow
def test_what_is_kept_lies_between_the_start_and_the_trained_weights(
    experiment: Experiment,
) -> None:
    def trained(share: float) -> tuple[dict[str, torch.Tensor], dict[str, torch.Tensor]]:
        recipe = parse_recipe(
            {"backbone": {"resolution": 64}, "freezing": {"name": "last_blocks", "blocks": 1},
             "views": 1, "batch_size": 16, "blend": share}
        )  # fmt: skip
        backbone = backbone_of(recipe)
        traced = trace(backbone.model, backbone.preprocessing.resolution)
        extractor = replace(experiment.extractor, backbone=backbone, traced=traced)
        transfer = build_transfer_model(extractor, recipe, "blocks.5")
        data = training_data(extractor, recipe, transfer, 1)
        before = weights_of(transfer)
        epochs = train_blended(extractor, recipe, transfer, data, 1, None, "training")
        assert [epoch.epoch for epoch in epochs] == [1]
        return before, weights_of(transfer)

    before, whole = trained(1.0)
    same, quarter = trained(0.25)
    moved = [name for name in whole if not torch.equal(before[name], whole[name])]
    assert moved
    for name, value in blend(before, whole, 0.25).items():
        assert torch.equal(same[name], before[name])
        assert torch.allclose(quarter[name], value, atol=1e-6), name
