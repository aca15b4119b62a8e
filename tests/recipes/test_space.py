"""The space of recipes draws what makes sense, and everything that does."""

from collections import Counter
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from headstart.backbones import engine
from headstart.backbones.onnx import OnnxExportError
from headstart.errors import RecipeError
from headstart.features.extractor import FeatureExtractor
from headstart.methods.method import Range, method_name
from headstart.recipes.parsing import parse_recipe
from headstart.recipes.recipe import FAMILIES, Recipe
from headstart.recipes.space import RandomSuggest, draw_recipe
from headstart.training.boundary import fixed_boundary
from headstart.training.loop import TrainData, train
from headstart.training.transfer import build_transfer_model, trainable, training_data

SMALL = parse_recipe({"batch_size": 8, "backbone": {"resolution": 64}})


def test_every_method_is_drawn_and_none_that_would_be_refused() -> None:
    drawn = [draw_recipe(RandomSuggest(seed), SMALL) for seed in range(300)]
    for family, methods in FAMILIES.items():
        found = Counter(getattr(recipe, family).name for recipe in drawn)
        assert set(found) == {method_name(method) for method in methods}
    for recipe in drawn:
        assert parse_recipe(recipe.model_dump()) == recipe
    # Combinations that need each other are reached, too.
    assert any(r.head.name == "mlp" and r.freezing.name == "head_only" for r in drawn)
    assert any(r.head.name == "nearest" for r in drawn)


def test_values_are_drawn_within_their_ranges_on_their_scale() -> None:
    suggest = RandomSuggest(0)
    numbers = [suggest.number("x", Range(1e-4, 1e-2, log=True)) for _ in range(2000)]
    assert min(numbers) >= 1e-4
    assert max(numbers) <= 1e-2
    assert np.median(numbers) == pytest.approx(1e-3, rel=0.15)


def test_the_same_seed_draws_the_same_recipe() -> None:
    assert draw_recipe(RandomSuggest(5), SMALL) == draw_recipe(RandomSuggest(5), SMALL)
    assert draw_recipe(RandomSuggest(5), SMALL) != draw_recipe(RandomSuggest(6), SMALL)


def test_what_is_not_drawn_stays() -> None:
    base = parse_recipe({"optimizer": {"name": "sgd", "lr": 0.0123}})
    drawn = draw_recipe(RandomSuggest(0), base, ["schedule", "criterion"])
    assert drawn.optimizer == base.optimizer
    assert drawn.head == base.head


class Names:
    """Draws nothing at random and notes the names that it is asked for."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    def choice(self, name: str, values: list[object]) -> object:
        self.asked.append(name)
        return values[-1]

    def number(self, name: str, span: Range) -> float:
        self.asked.append(name)
        return span.high


def test_names_are_full_paths_and_each_is_asked_once() -> None:
    names = Names()
    recipe = draw_recipe(names, Recipe())  # type: ignore[arg-type]
    assert len(names.asked) == len(set(names.asked))
    assert f"optimizer.{recipe.optimizer.name}.lr" in names.asked


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({"freezing": "head_only", "activation": "mish"}, "trains no backbone layer"),
        ({"activation": {"name": "mish", "where": "head"}}, "only head = mlp"),
        (
            {"freezing": "head_only", "head": {"name": "mlp"}, "batch_mixing": "cutmix"},
            "needs images or feature maps",
        ),
        ({"freezing": "head_only", "batch_mixing": "mixup"}, "closed form"),
        ({"freezing": "head_only", "metric_loss": "triplet"}, "embedding is frozen"),
        ({"head": "nearest"}, "metric loss alone"),
        ({"head": "nearest", "metric_loss": "triplet", "batch_mixing": "mixup"}, "unmixed"),
        ({"head": "nearest", "metric_loss": "triplet", "freezing": "lp_ft"}, "head alone"),
        ({"metric_loss": {"name": "triplet", "per_class": 20}}, "two classes"),
        (
            {"augmentation": {"name": "flip_crop", "flip": False, "min_area": 1, "stretch": 1}},
            "changes nothing",
        ),
        ({"freezing": "head_only", "backbone": {"drop_path": 0.1}}, "could skip"),
        ({"freezing": {"name": "gradual", "blocks": 3, "boundary": "blocks.4"}}, "not both"),
        *(
            (
                {field: True, "augmentation": {"name": "flip_crop", "flip": False}},
                "mirror images may differ",
            )
            for field in ("feature_flip", "test_time_flip")
        ),
        ({"feature_flip": True, "freezing": "head_only"}, "trains on pooled features"),
        *(
            ({"head": {**head, "mean_of": [{"features": "stages", "penalty": 0.1}]}}, "see parts")
            for head in (
                {"name": "linear", "features": "last+covariance", "normalize": "unit"},
                {"name": "linear", "features": "stages", "normalize": "auto"},
                {"name": "linear", "features": "auto", "normalize": "unit"},
            )
        ),
    ],
)
def test_what_makes_no_sense_is_refused_with_the_reason(
    settings: dict[str, object], reason: str
) -> None:
    with pytest.raises(RecipeError, match=reason):
        parse_recipe(settings)


@pytest.mark.slow
@pytest.mark.parametrize("first", range(0, 36, 12))
def test_random_recipes_train_two_steps(
    first: int, fresh_extractor: Callable[..., FeatureExtractor], monkeypatch: pytest.MonkeyPatch
) -> None:
    """36 recipes from the whole space: 8 images at 64 pixels, two steps."""

    def no_export(*_: Any, **__: Any) -> None:
        raise OnnxExportError("it takes longer than eight images do")

    monkeypatch.setattr(engine, "verified_session", no_export)
    extractor = fresh_extractor()
    rows = np.concatenate([np.flatnonzero(extractor.labels["train"] == c)[:4] for c in (0, 1)])
    few = {"train": extractor.rows["train"][rows], "val": extractor.rows["val"]}
    labels = {"train": extractor.labels["train"][rows], "val": extractor.labels["val"]}
    keep = labels["val"] < 2
    few["val"], labels["val"] = few["val"][keep], labels["val"][keep]
    for seed in range(first, first + 12):
        recipe = draw_recipe(RandomSuggest(seed), SMALL)
        recipe = recipe.model_copy(update={"batch_size": 8, "views": 1, "seed": seed})
        fresh = fresh_extractor(recipe.backbone.drop_path)
        small = FeatureExtractor(
            **{
                **vars(fresh), "rows": few, "labels": labels, "classes": extractor.classes[:2],
                "groups": extractor.groups[rows],
            }
        )  # fmt: skip
        # The last block alone takes half the time, but cannot be skipped.
        more = recipe.backbone.drop_path or seed % 4 == 0
        boundary = fixed_boundary(small, recipe) or ("blocks.4" if more else "blocks.5")
        transfer = build_transfer_model(small, recipe, boundary)
        if recipe.closed_form:
            assert transfer.solved
            continue
        data: TrainData = training_data(small, recipe, transfer, 2)
        records = list(train(trainable(small, transfer), data, recipe, 2))
        assert len(records) == 2, recipe
        assert records[-1].acted
