"""The space of recipes: what a search draws, from the ranges that the methods' fields carry."""

from collections.abc import Iterator, Sequence
from itertools import product
from typing import Any, Protocol

import numpy as np

from headstart.methods.method import Choices, Method, Range, method_name, searched
from headstart.recipe import FAMILIES, RULES, Recipe

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
    suggest: Suggest, base: Recipe, families: Sequence[str] = tuple(FAMILIES)
) -> Recipe:
    """Draws methods and their values around a base recipe.

    Every value is drawn once, from those that still lead to a recipe that makes sense: none is
    drawn that would be refused.

    Args:
        suggest: Draws.
        base: Gives what is not drawn: other families, and fields without a range.
        families: Those to draw.
    """
    recipe = _draw_entangled(suggest, base, [name for name in _ENTANGLED if name in families])
    for family in families:
        if family not in _ENTANGLED and len(FAMILIES[family]) > 1:
            names = [method_name(method) for method in FAMILIES[family]]
            recipe = _with(recipe, family, _method(family, suggest.choice(family, names))())
    for family in families:
        recipe = _draw_fields(suggest, recipe, family)
    return Recipe.model_validate(recipe.model_dump())


def _draw_entangled(suggest: Suggest, base: Recipe, families: Sequence[str]) -> Recipe:
    possible = list(_combinations(base, families))
    for family in families:
        names = list(dict.fromkeys(getattr(recipe, family).name for recipe in possible))
        name = suggest.choice(family, names) if len(names) > 1 else names[0]
        possible = [recipe for recipe in possible if getattr(recipe, family).name == name]
    return possible[0]


def _combinations(base: Recipe, families: Sequence[str]) -> Iterator[Recipe]:
    """Yields the recipes that make sense, with every method of the families and each place."""
    each = [[variant for m in FAMILIES[name] for variant in _variants(m)] for name in families]
    for methods in product(*each):
        recipe = base.model_copy(update=dict(zip(families, methods, strict=True)))
        if _sensible(recipe):
            yield recipe


def _variants(method: type[Method]) -> list[Method]:
    """Returns the method as it is by default, and once for each place where it may be used."""
    mark = (
        searched(method.model_fields["where"].metadata) if "where" in method.model_fields else None
    )
    if isinstance(mark, Choices):
        return [method.model_validate({"where": value}) for value in mark.values]
    return [method()]


def _draw_fields(suggest: Suggest, recipe: Recipe, family: str) -> Recipe:
    method = getattr(recipe, family)
    prefix = family if family == "backbone" else f"{family}.{method.name}"
    for field, info in type(method).model_fields.items():
        mark = searched(info.metadata)
        path = f"{prefix}.{field}"
        if isinstance(mark, Range):
            if _sensible(_with_field(recipe, family, field, mark.high)):
                recipe = _with_field(recipe, family, field, suggest.number(path, mark))
        elif isinstance(mark, Choices):
            values = [v for v in mark.values if _sensible(_with_field(recipe, family, field, v))]
            recipe = _with_field(recipe, family, field, suggest.choice(path, values))
    return recipe


def _method(family: str, name: str) -> type[Method]:
    return next(method for method in FAMILIES[family] if method_name(method) == name)


def _with(recipe: Recipe, family: str, method: Method) -> Recipe:
    return recipe.model_copy(update={family: method})


def _with_field(recipe: Recipe, family: str, field: str, value: Any) -> Recipe:
    method: Method = getattr(recipe, family)
    return _with(recipe, family, method.model_copy(update={field: value}))


def _sensible(recipe: Recipe) -> bool:
    return not any(broken(recipe) for _, broken in RULES)
