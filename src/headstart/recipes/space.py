"""The space of recipes: what a search draws, from the ranges that the methods' fields carry."""

from collections.abc import Mapping, Sequence
from functools import lru_cache
from itertools import product
from typing import Any, Protocol

import numpy as np

from headstart.methods.method import Choices, Method, Range, method_name, searched
from headstart.recipes.recipe import FAMILIES, SEARCHED, Recipe, broken_rules

_ENTANGLED = ("freezing", "head", "metric_loss", "activation", "batch_mixing")
"""Families of which some methods do not go together."""


class Suggest(Protocol):
    """Draws values; each has a full path such as `optimizer.sgd.lr` for a name."""

    def choice(self, name: str, values: Sequence[Any]) -> Any:
        """Returns one of the values."""
        ...

    def number(self, name: str, span: Range) -> float:
        """Returns a number within a range."""
        ...


class RandomSuggest:
    """Draws every value independently."""

    def __init__(self, seed: int) -> None:
        self._random = np.random.default_rng(seed)

    def choice(self, name: str, values: Sequence[Any]) -> Any:
        """Returns one of the values, all equally likely."""
        return values[int(self._random.integers(len(values)))]

    def number(self, name: str, span: Range) -> float:
        """Returns a number within a range, uniform on its scale."""
        if span.log:
            return float(np.exp(self._random.uniform(np.log(span.low), np.log(span.high))))
        return float(self._random.uniform(span.low, span.high))


def draw_recipe(
    suggest: Suggest,
    base: Recipe,
    families: Sequence[str] = tuple(FAMILIES),
    only: Mapping[str, Sequence[str]] | None = None,
) -> Recipe:
    """Draws methods and their values around a base recipe.

    Every value is drawn once, from those that still lead to a recipe that makes sense: none is
    drawn that would be refused.

    Args:
        suggest: Draws.
        base: Gives what is not drawn: other families, and fields without a range, which a drawn
            method takes over where it has them, too.
        families: Those to draw.
        only: The methods among which a family is drawn, where it is not all of them.
    """
    offered = {name: _offered(name, only or {}) for name in families}
    entangled = tuple((name, tuple(offered[name])) for name in _ENTANGLED if name in families)
    recipe = _draw_entangled(suggest, base, entangled)
    for family in families:
        if family not in _ENTANGLED and len(offered[family]) > 1:
            names = [method_name(method) for method in offered[family]]
            chosen = _method(family, suggest.choice(family, names))
            recipe = _with(recipe, family, _variants(chosen, getattr(base, family))[0])
    for family in families:
        recipe = _draw_fields(suggest, recipe, family)
    return Recipe.model_validate(recipe.model_dump())


def _offered(family: str, only: Mapping[str, Sequence[str]]) -> list[type[Method]]:
    names = only.get(family)
    return [m for m in FAMILIES[family] if names is None or method_name(m) in names]


def _draw_entangled(
    suggest: Suggest, base: Recipe, offered: tuple[tuple[str, tuple[type[Method], ...]], ...]
) -> Recipe:
    possible: Sequence[Recipe] = _combinations(base, offered)
    for family, _ in offered:
        names = list(dict.fromkeys(getattr(recipe, family).name for recipe in possible))
        name = suggest.choice(family, names) if len(names) > 1 else names[0]
        possible = [recipe for recipe in possible if getattr(recipe, family).name == name]
    return possible[0]


@lru_cache(maxsize=4)  # a search draws around the same recipe all the time
def _combinations(
    base: Recipe, offered: tuple[tuple[str, tuple[type[Method], ...]], ...]
) -> tuple[Recipe, ...]:
    """Returns the recipes that make sense, with every method offered and each place for it."""
    each = [
        [variant for method in methods for variant in _variants(method, getattr(base, family))]
        for family, methods in offered
    ]
    names = [family for family, _ in offered]
    recipes = (
        base.model_copy(update=dict(zip(names, chosen, strict=True))) for chosen in product(*each)
    )
    return tuple(recipe for recipe in recipes if not broken_rules(recipe))


def _variants(method: type[Method], base: Method) -> list[Method]:
    """Returns the method with what was set by hand, once for each place where it may be used."""
    by_hand = {
        name: getattr(base, name)
        for name, field in method.model_fields.items()
        if name != "name" and name in type(base).model_fields and not searched(field.metadata)
    }
    mark = searched(method.model_fields["where"].metadata) if "where" in method.model_fields else ()
    places = mark.values if isinstance(mark, Choices) else ()
    return [method.model_validate({**by_hand, "where": place}) for place in places] or [
        method.model_validate(by_hand)
    ]


def _draw_fields(suggest: Suggest, recipe: Recipe, family: str) -> Recipe:
    method = getattr(recipe, family)
    prefix = family if family == "backbone" else f"{family}.{method.name}"
    for field, info in type(method).model_fields.items():
        mark = searched(info.metadata)
        path = f"{prefix}.{field}"
        if isinstance(mark, Range):
            if not broken_rules(_with_field(recipe, family, field, mark.high)):
                recipe = _with_field(recipe, family, field, suggest.number(path, mark))
        elif isinstance(mark, Choices):
            values = [
                v for v in mark.values if not broken_rules(_with_field(recipe, family, field, v))
            ]
            recipe = _with_field(recipe, family, field, suggest.choice(path, values))
    return recipe


def _method(family: str, name: str) -> type[Method]:
    return next(method for method in FAMILIES[family] if method_name(method) == name)


def _with(recipe: Recipe, family: str, method: Method) -> Recipe:
    return recipe.model_copy(update={family: method})


def _with_field(recipe: Recipe, family: str, field: str, value: Any) -> Recipe:
    method: Method = getattr(recipe, family)
    return _with(recipe, family, method.model_copy(update={field: value}))


def drawn_families(settings: Sequence[str], families: Sequence[str] = SEARCHED) -> tuple[str, ...]:
    """Returns what is drawn of some families: what was set by hand stays as it is."""
    by_hand = {setting.partition("=")[0].partition(".")[0].strip() for setting in settings}
    return tuple(family for family in families if family not in by_hand)
