"""Which backbones a search compares: what is here or may be fetched, and what there is time for."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from headstart.backbones.known import BY_NAME, worth_fetching
from headstart.backbones.listing import BackboneInfo
from headstart.recipes.parsing import parse_recipe
from headstart.recipes.recipe import Recipe

PASSES = 24
"""Passes over all images that must fit into the remaining time to screen a candidate."""

MOST_COST = 16
"""Without a budget: largest cost of a candidate, in multiples of that of the recipe's backbone."""


MOST_CACHED = 8
"""Most backbones of the Hugging Face cache to compare: the most accurate, then the largest."""


@dataclass(frozen=True)
class Lineup:
    """The backbones to compare.

    Attributes:
        backbones: That of the recipe first, then the others, the cheapest first; none if that of
            the recipe is to stay.
        too_slow: Backbones on this machine that would take too long.
        unusable: Why others on this machine are not looked at, by their name.
    """

    backbones: tuple[BackboneInfo, ...] = ()
    too_slow: tuple[str, ...] = ()
    unusable: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Affordable:
    """What a network may cost.

    Attributes:
        images: Number of images in the development set.
        features_s: Seconds per image of the recipe's backbone; 0 if it was not measured.
        seconds: Remaining time; None without a budget.
    """

    images: int
    features_s: float
    seconds: float | None

    def allows(self, times: float) -> bool:
        """Returns whether there is time for a network of so many times the cost of the recipe's."""
        if self.seconds is None:
            return times <= MOST_COST
        return PASSES * self.images * self.features_s * times <= self.seconds


def lineup(base: Recipe, known: Sequence[BackboneInfo], affordable: Affordable) -> Lineup:
    """Returns the backbones to compare.

    Args:
        base: Starting recipe.
        known: What is known of backbones.
        affordable: What they may cost.
    """
    choice = base.backbone
    own = next((each for each in known if each.name == choice.name), None)
    changed = choice != type(choice)(name=choice.name)
    if own is None or own.weights != "shipped" or changed:  # by hand or by an earlier run
        return Lineup()
    here = [each for each in known if each.weights in {"shipped", "cached"} and each != own]
    usable = [each for each in here if each.screened]
    fits = {
        each.name: each
        for each in known
        if each != own and each.screened and affordable.allows(times(each, own))
    }
    on_hub = [BY_NAME[name] for name, each in fits.items() if each.weights == "hub"]
    cached = [each for each in fits.values() if each.weights == "cached"]
    cached.sort(key=lambda each: (each.accuracy or 0.0, each.gmacs or 0.0), reverse=True)
    chosen = [each for each in fits.values() if each.weights == "shipped"]
    chosen += [*cached[:MOST_CACHED], *(fits[each.name] for each in worth_fetching(on_hub))]
    return Lineup(
        (own, *sorted(chosen, key=lambda each: each.gmacs or 0.0)),
        tuple(each.name for each in usable if each.name not in fits),
        {each.name: each.why for each in here if not each.screened}
        | {
            each.name: f"{MOST_CACHED} others in the cache promise more"
            for each in cached[MOST_CACHED:]
        },
    )


def times(one: BackboneInfo, other: BackboneInfo) -> float:
    """Returns how many times as expensive a backbone is as another one."""
    assert one.gmacs is not None and other.gmacs is not None, "only counted ones are screened"
    return one.gmacs / other.gmacs


def with_backbone(recipe: Recipe, name: str) -> Recipe:
    """Returns the recipe with another backbone, at the resolution that suits it."""
    if recipe.backbone.name == name:
        return recipe
    resolution = BY_NAME[name].resolution if name in BY_NAME else 0
    choice = {"name": name, "resolution": resolution}
    return parse_recipe({**recipe.model_dump(), "backbone": choice})
