"""The boundary: where the network is cut, as the recipe says or by default."""

from headstart.backbones.boundaries import Boundary
from headstart.backbones.cut import Traced
from headstart.backbones.parts import boundary_of_last
from headstart.backbones.places import FEATURES, INPUT
from headstart.features.extractor import FeatureExtractor
from headstart.methods.freezing import HeadOnly
from headstart.recipes.parsing import parse_recipe
from headstart.recipes.recipe import Recipe

MIDDLE = 0.35
"""Minimum share of multiply-adds in the frozen part when the boundary is chosen automatically."""


def at_boundary(base: Recipe, boundary: str) -> Recipe:
    """Returns the recipe with the chosen boundary fixed."""
    if boundary == FEATURES:
        if base.freezing.head_alone:
            return base
        return parse_recipe({**base.model_dump(), "freezing": HeadOnly().model_dump()})
    if base.freezing.leaves_boundary_open:
        freezing = {**base.freezing.model_dump(), "boundary": boundary}
        return parse_recipe({**base.model_dump(), "freezing": freezing})
    return base


def candidate_boundaries(traced: Traced) -> list[Boundary]:
    """Returns the stage ends between which the boundary is chosen, nearest the input first.

    Earlier stages hold features common to all photographs: costly to train, with little gain.
    """
    inner = [b for b in traced.boundaries if b.name not in {INPUT, FEATURES} and b.position < 0.95]
    stages = [b for b in inner if b.stage] or inner
    return [b for b in stages if b.position >= MIDDLE] or stages[-1:]


def unmeasured_boundary(traced: Traced) -> str:
    """Returns the boundary used without time measurements: the first candidate, or `features`."""
    candidates = candidate_boundaries(traced)
    return candidates[0].name if candidates else FEATURES


def fixed_boundary(extractor: FeatureExtractor, recipe: Recipe) -> str | None:
    """Returns the boundary that the recipe names, or None if it depends on the time budget.

    Raises:
        BackboneError: If the backbone has no such boundary.
    """
    if recipe.freezing.head_alone:
        return FEATURES
    if recipe.freezing.whole_backbone:
        return INPUT
    if recipe.freezing.leaves_boundary_open:
        return None
    if recipe.freezing.blocks:
        return boundary_of_last(extractor.traced, recipe.freezing.blocks)
    return extractor.traced.boundary(recipe.freezing.boundary).name


def boundary_without_clock(extractor: FeatureExtractor, recipe: Recipe) -> str:
    """Returns the boundary that the recipe names, or else the default."""
    return fixed_boundary(extractor, recipe) or unmeasured_boundary(extractor.traced)


def check_head_alone(recipe: Recipe, boundary: str) -> None:
    """Checks that no method needs more than a head if only the head is trained.

    Raises:
        RecipeError: If a method does; the message names it.
    """
    if boundary == FEATURES and not recipe.freezing.head_alone:
        parse_recipe({**recipe.model_dump(), "freezing": "head_only"}, "Training the head alone")
