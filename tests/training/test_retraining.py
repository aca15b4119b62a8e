"""The head that is solved again after fine-tuning."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from headstart.backbones.catalog import load_backbone
from headstart.backbones.cut import takes_resolution, trace
from headstart.errors import RecipeError
from headstart.features.extractor import FeatureExtractor
from headstart.features.probe import fit_probe
from headstart.recipes.parsing import parse_recipe
from headstart.recipes.recipe import Recipe
from headstart.training.finetune import train_blended
from headstart.training.loop import predict
from headstart.training.retraining import finished_by, retrain_head
from headstart.training.transfer import (
    TransferModel,
    build_transfer_model,
    training_data,
    view_gap,
)

MakeExtractor = Callable[..., FeatureExtractor]


def recipe_of(**more: object) -> Recipe:
    blocks = {"name": "last_blocks", "blocks": 1}
    shared = {"backbone": {"resolution": 64}, "freezing": blocks, "views": 1, "batch_size": 16}
    return parse_recipe({**shared, **more})


def moved(extractor: FeatureExtractor, recipe: Recipe) -> tuple[TransferModel, np.ndarray]:
    """A transfer model whose features have changed, and the features of its training images."""
    transfer = build_transfer_model(extractor, recipe, "blocks.5")
    with torch.no_grad():
        for parameter in transfer.suffix.parameters():
            parameter.mul_(1.05)
    return transfer, predict(transfer.suffix, transfer.cached["train"])


@pytest.mark.parametrize("penalty", [0.0, 0.02])
def test_a_linear_head_is_the_probe_on_the_new_features(
    penalty: float, fresh_extractor: MakeExtractor
) -> None:
    """With the penalty of before: the features have seen all labels, so that none can be tested."""
    extractor = fresh_extractor()
    head = {"name": "linear", "features": "last", "normalize": "none", "penalty": penalty}
    transfer, features = moved(extractor, recipe := recipe_of(head=head))
    known = penalty
    if not penalty:
        assert transfer.validated is not None
        known = transfer.validated.strength
    retrain_head(extractor, recipe, transfer)
    probe = fit_probe(features, extractor.labels["train"], len(extractor.classes), known)
    layer = transfer.head.out[1]
    assert np.allclose(layer.weight.detach().numpy(), probe.weight, atol=1e-6)
    assert np.allclose(layer.bias.detach().numpy(), probe.bias, atol=1e-6)
    assert transfer.method.solved_penalty == penalty, "the recipe stays as it was"


def test_a_cosine_head_points_at_the_means_of_the_new_features(
    fresh_extractor: MakeExtractor,
) -> None:
    extractor = fresh_extractor()
    head = {"name": "cosine", "features": "last", "normalize": "none"}
    transfer, features = moved(extractor, recipe := recipe_of(head=head))
    retrain_head(extractor, recipe, transfer)
    directions = F.normalize(torch.from_numpy(features), dim=1)
    for number in range(len(extractor.classes)):
        of_class = torch.from_numpy(extractor.labels["train"] == number)
        mean = F.normalize(directions[of_class].mean(0), dim=0)
        assert torch.allclose(transfer.head.out[1].weight[number], mean, atol=1e-5)


def test_a_hidden_layer_stays_as_it_was_trained(fresh_extractor: MakeExtractor) -> None:
    extractor = fresh_extractor()
    head = {"name": "mlp", "features": "last", "hidden": 16}
    transfer, _ = moved(extractor, recipe := recipe_of(head=head))
    before = {name: value.clone() for name, value in transfer.head.state_dict().items()}
    retrain_head(extractor, recipe, transfer)
    changed = {name for name, now in transfer.head.state_dict().items()
               if not torch.equal(now, before[name])}  # fmt: skip
    assert changed == {"out.1.weight", "out.1.bias"}


@pytest.mark.slow
def test_it_follows_the_last_step_of_training(fresh_extractor: MakeExtractor) -> None:
    extractor = fresh_extractor()
    recipe = recipe_of(retrain_head=True, blend=0.5)
    transfer = build_transfer_model(extractor, recipe, "blocks.5")
    data = training_data(extractor, recipe, transfer, 1)
    assert len(list(train_blended(extractor, recipe, transfer, data, 1, None, "training"))) == 1
    trained = [value.clone() for value in transfer.head.state_dict().values()]
    retrain_head(extractor, recipe, transfer)
    for before, now in zip(trained, transfer.head.state_dict().values(), strict=True):
        assert torch.equal(before, now), "it is the head of the blended weights"


@pytest.mark.slow
def test_training_may_see_smaller_views_than_evaluation(fresh_extractor: MakeExtractor) -> None:
    extractor = fresh_extractor()
    recipe = recipe_of(retrain_head=True, train_resolution=32)
    transfer = build_transfer_model(extractor, recipe, "blocks.4")
    data = training_data(extractor, recipe, transfer, 1)
    assert [view.shape[1:] for view in data.views] == [(112, 2, 2)]
    assert transfer.cached["train"].shape[1:] == transfer.cached["val"].shape[1:] == (112, 4, 4)
    (epoch,) = train_blended(extractor, recipe, transfer, data, 1, None, "training")
    assert epoch.val_accuracy is not None
    gap = view_gap(extractor, recipe, transfer, transfer.model, data)
    assert gap is not None
    features = predict(transfer.suffix, transfer.cached["train"])
    right = predict(transfer.head, features).argmax(1) == extractor.labels["train"]
    assert right.mean() == 1, "the head was solved on the features of the evaluation views"


def test_a_network_with_a_place_for_each_patch_takes_no_other_size(
    fresh_extractor: MakeExtractor, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its embedding of positions is as long as there are patches in one size."""
    traced = fresh_extractor().traced
    for boundary in ("input", "blocks.4", "features"):
        assert takes_resolution(traced, boundary, 96)
    backbone = load_backbone("deit_tiny_patch16_224", weights="random")
    traced = trace(backbone.model, backbone.preprocessing.resolution)
    for boundary in ("blocks.0", "features"):
        assert takes_resolution(traced, boundary, backbone.preprocessing.resolution)
        assert not takes_resolution(traced, boundary, 96)
    choice = {"name": "deit_tiny_patch16_224", "weights": "random"}
    recipe = recipe_of(retrain_head=True, train_resolution=96, backbone=choice)
    other = replace(fresh_extractor(), backbone=backbone, traced=traced)
    with pytest.raises(RecipeError, match="deit_tiny_patch16_224 only takes images of 224 pixels"):
        build_transfer_model(other, recipe, "blocks.0")
    assert capsys.readouterr().err == "", "torch.fx prints what it raises"


def test_it_is_told_with_what_else_followed() -> None:
    assert finished_by(recipe_of()) == ""
    assert finished_by(recipe_of(retrain_head=True)) == ", head solved again"
    both = finished_by(recipe_of(retrain_head=True, blend=0.75))
    assert both == ", weights blended: 75% fine-tuned, head solved again"


@pytest.mark.parametrize(
    ("more", "reason"),
    [
        ({"freezing": "head_only"}, "leaves them as they are"),
        ({"head": "nearest", "metric_loss": "triplet"}, "no parameters that retrain_head"),
        ({"augmentation": "none", "train_resolution": 96}, "makes none"),
        ({"retrain_head": False, "train_resolution": 96}, "only retrain_head puts right"),
    ],
)
def test_where_there_is_nothing_to_solve_again_it_is_refused(
    more: dict[str, object], reason: str
) -> None:
    with pytest.raises(RecipeError, match=reason):
        parse_recipe({"retrain_head": True, **more})
