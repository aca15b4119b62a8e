"""What a head may see of a network, and how it is solved."""

from typing import Any

import numpy as np
import pytest
import torch

from headstart.features.probe import FEW_STRENGTHS, Validated, cross_validate
from headstart.recipes.parsing import parse_recipe
from headstart.training.experiment import Experiment
from headstart.training.solving import CHOICES
from headstart.training.transfer import build_transfer_model


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


@pytest.mark.slow
def test_what_a_head_sees_is_chosen_by_cross_validation(experiment: Experiment) -> None:
    given = {"name": "linear", "penalty": 0.0}
    common = {"backbone": {"resolution": 64}, "freezing": "head_only", "augmentation": "none",
              "averaging": "none"}  # fmt: skip
    scores = {}
    for features, normalize in CHOICES:
        head = {**given, "features": features, "normalize": normalize}
        transfer = build_transfer_model(
            experiment.extractor, parse_recipe({**common, "head": head}), "features"
        )
        assert transfer.method.features == features
        assert transfer.cached["train"].shape[1] == transfer.layout.width
        assert transfer.validated is not None
        scores[features, normalize] = transfer.validated.log_loss
    chosen = build_transfer_model(
        experiment.extractor, parse_recipe({**common, "head": given}), "features"
    )
    best = (chosen.method.features, getattr(chosen.method, "normalize", ""))
    assert chosen.validated is not None
    assert scores[best] == pytest.approx(chosen.validated.log_loss)
    assert scores[best] <= min(scores.values()) / (1 - 0.02) ** 3 + 0.01  # fewer penalties


@pytest.mark.slow
@pytest.mark.parametrize(("name", "times"), [("linear", 0), ("mlp", 1)])
def test_a_large_head_is_not_validated_again_once_its_features_are_chosen(
    name: str, times: int, experiment: Experiment, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Unless a hidden layer lies between them and its last layer."""
    monkeypatch.setattr("headstart.features.probe.FOLDS_BY_WORK", ())
    tried: list[Validated] = []

    def noted(*args: Any, **kwargs: Any) -> Validated:
        tried.append(cross_validate(*args, **kwargs))
        return tried[-1]

    monkeypatch.setattr("headstart.training.solving.cross_validate", noted)
    recipe = parse_recipe(
        {"backbone": {"resolution": 64}, "head": {"name": name},
         "freezing": "head_only", "augmentation": "none", "averaging": "none"}
    )  # fmt: skip
    chosen = build_transfer_model(experiment.extractor, recipe, "features")
    assert len(tried) == len(CHOICES) + times
    assert chosen.validated in tried
    assert chosen.validated is not None
    assert chosen.validated.strength in FEW_STRENGTHS
    if not times:
        assert chosen.validated.log_loss <= min(each.log_loss for each in tried) / 0.98**3


@pytest.mark.slow
@pytest.mark.parametrize(
    ("head", "boundary"),
    [
        ("linear", "blocks.5"),
        ("mlp", "features"),
        ("cosine", "features"),
        ("nearest", "features"),
    ],
)
def test_every_head_starts_from_a_covariance(
    head: str, boundary: str, experiment: Experiment
) -> None:
    freezing = {"name": "last_blocks", "boundary": boundary}
    recipe = parse_recipe(
        {
            "backbone": {"resolution": 64},
            "augmentation": "none",
            "averaging": "none",
            "freezing": "head_only" if boundary == "features" else freezing,
            "head": {"name": head, "features": "stages+covariance"},
        }
    )
    transfer = build_transfer_model(experiment.extractor, recipe, boundary)
    assert transfer.layout.taps[0] == "blocks.6:covariance"
    assert transfer.method.has_unit_parts
    labels = experiment.extractor.labels["val"]
    with torch.inference_mode():
        some = torch.from_numpy(np.asarray(transfer.cached["val"], np.float32))
        right = float((transfer.model.eval()(some).argmax(1).numpy() == labels).mean())
    assert right > 0.9


def test_a_random_head_that_leaves_its_features_open_sees_the_last(experiment: Experiment) -> None:
    recipe = parse_recipe(
        {"backbone": {"resolution": 64}, "freezing": "head_only", "augmentation": "none",
         "head": {"name": "linear", "init": "random"}}
    )  # fmt: skip
    transfer = build_transfer_model(experiment.extractor, recipe, "features")
    assert transfer.method.features == "last"
    assert transfer.layout.taps == ()
    assert transfer.cached["val"].shape[1] == 1280
