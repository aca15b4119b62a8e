from dataclasses import replace

import pytest

from headstart.backbones.known import BY_NAME, KNOWN
from headstart.backbones.listing import BackboneInfo, Place, describe
from headstart.backbones.weights import PACKAGES
from headstart.recipes.parsing import parse_recipe
from headstart.recipes.recipe import Recipe
from headstart.search.lineup import (
    MOST_CACHED,
    MOST_COST,
    PASSES,
    Affordable,
    lineup,
    with_backbone,
)

LITE = list(PACKAGES)
FREE = Affordable(1000, 0.01, None)


def lites() -> list[BackboneInfo]:
    return [describe(name) for name in LITE]


def other(name: str, gmacs: float, weights: Place = "cached", why: str = "") -> BackboneInfo:
    return BackboneInfo(name, weights, 1.0, gmacs, 224, "mit", None, "", screened=not why, why=why)


def names(recipe: Recipe, known: list[BackboneInfo], affordable: Affordable = FREE) -> list[str]:
    return [each.name for each in lineup(recipe, known, affordable).backbones]


def test_the_recipes_own_comes_first_then_the_cheapest() -> None:
    assert names(Recipe(), lites()) == LITE
    assert names(parse_recipe({"backbone": LITE[2]}), lites()) == [LITE[2], LITE[0], LITE[1]]
    cached = [other("dear", 0.7), other("cheap", 0.1)]
    assert names(Recipe(), [*lites(), *cached]) == [LITE[0], "cheap", LITE[1], "dear", LITE[2]]


def test_a_candidate_must_be_affordable() -> None:
    # 0.01 s an image for 407 million multiply-adds: 631 million take 0.0155 s.
    enough = PASSES * 1000 * 0.01 * 631 / 407
    for seconds, expected in ((enough + 1, 2), (enough - 1, 1)):
        found = lineup(Recipe(), lites(), Affordable(1000, 0.01, seconds))
        assert [each.name for each in found.backbones] == LITE[:expected]
        assert list(found.too_slow) == LITE[expected:]


def test_without_a_clock_the_cost_has_a_limit() -> None:
    limit = MOST_COST * BY_NAME[LITE[0]].gmacs
    found = lineup(Recipe(), [*lites(), other("at", limit), other("above", limit * 1.01)], FREE)
    assert [each.name for each in found.backbones] == [*LITE, "at"]
    assert found.too_slow == ("above",)


@pytest.mark.parametrize(
    "choice", ["resnet18", "cached", {"name": LITE[0], "resolution": 96}, {"drop_path": 0.1}]
)
def test_a_backbone_that_was_chosen_is_kept(choice: object) -> None:
    assert names(parse_recipe({"backbone": choice}), [*lites(), other("cached", 1.0)]) == []


def test_what_cannot_be_used_is_told_if_it_is_here() -> None:
    known = [*lites(), other("a", 1.0, why="its file is damaged"), other("b", 1.0, "hub", "far")]
    found = lineup(Recipe(), known, FREE)
    assert [each.name for each in found.backbones] == LITE
    assert found.unusable == {"a": "its file is damaged"}


def test_of_many_in_the_cache_the_most_promising_are_compared() -> None:
    many = [other(f"unknown{number}", 0.1 + number / 100) for number in range(MOST_CACHED + 1)]
    accurate = replace(other("accurate", 0.05), accuracy=80.0)
    found = lineup(Recipe(), [*lites(), *many, accurate], FREE)
    # Of those without a figure, the smallest stay behind.
    kept = ["accurate", *(each.name for each in many[2:])]
    assert [each.name for each in found.backbones if each.weights == "cached"] == kept
    assert found.unusable == dict.fromkeys(
        ["unknown0", "unknown1"], "8 others in the cache promise more"
    )


def test_the_best_of_the_hub_for_which_there_is_time_are_fetched() -> None:
    known = [describe(each.name, download=True) for each in KNOWN]
    hub = [each.name for each in lineup(Recipe(), known, FREE).backbones if each.weights == "hub"]
    # 16 times the cost of the smallest: the best of labels, of images alone, and of texts.
    assert hub == [
        "tiny_vit_21m_224.dist_in22k_ft_in1k",
        "vit_base_patch32_siglip_256.v2_webli",
        "vit_small_patch14_dinov2.lvd142m",
    ]
    # Time for 1.6 billion multiply-adds.
    few = Affordable(1000, 0.01, PASSES * 1000 * 0.01 * 1.601 / 0.407)
    hub = [each.name for each in lineup(Recipe(), known, few).backbones if each.weights == "hub"]
    assert [name.partition("_")[0] for name in hub] == ["tiny", "mobilenetv4", "efficientvit"]


def test_the_rest_of_the_recipe_stays() -> None:
    recipe = parse_recipe({"optimizer": "sgd"})
    changed = with_backbone(recipe, LITE[1])
    assert (changed.backbone.name, changed.backbone.resolution) == (LITE[1], 0)
    assert changed.optimizer == recipe.optimizer
    assert with_backbone(recipe, recipe.backbone.name) is recipe
    assert with_backbone(recipe, "vit_small_patch14_dinov2.lvd142m").backbone.resolution == 224
