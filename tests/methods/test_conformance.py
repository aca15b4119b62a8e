"""Every method of every family keeps the rules that recipes, searches and docs build on."""

import json
import tomllib

import pytest
import torch
from pydantic import ValidationError

from headstart.methods.method import Choices, Method, Range, method_name
from headstart.recipe import FAMILIES, Recipe, parse_recipe, to_toml

METHODS = [
    pytest.param(family, method, id=f"{family}-{method_name(method)}")
    for family, methods in FAMILIES.items()
    for method in methods
]


@pytest.mark.parametrize(("family", "method"), METHODS)
def test_name_alone_chooses_the_method(family: str, method: type[Method]) -> None:
    recipe = parse_recipe({family: method_name(method)})
    assert getattr(recipe, family) == method()


@pytest.mark.parametrize(("family", "method"), METHODS)
def test_round_trips_through_json_and_toml(family: str, method: type[Method]) -> None:
    recipe = Recipe(**{family: method()})
    assert Recipe.model_validate_json(recipe.model_dump_json()) == recipe
    assert parse_recipe(tomllib.loads(to_toml(recipe))) == recipe
    assert parse_recipe(json.loads(recipe.model_dump_json())) == recipe


@pytest.mark.parametrize(("family", "method"), METHODS)
def test_is_frozen_and_strict(family: str, method: type[Method]) -> None:
    built = method()
    with pytest.raises(ValidationError):
        built.name = "other"  # type: ignore[attr-defined]
    with pytest.raises(ValidationError):
        method(no_such_field=1)  # type: ignore[call-arg]


@pytest.mark.parametrize(("family", "method"), METHODS)
def test_says_what_it_is(family: str, method: type[Method]) -> None:
    assert method.__doc__ is not None
    assert method.__doc__.strip() != (Method.__doc__ or "").strip()


@pytest.mark.parametrize(("family", "method"), METHODS)
def test_search_ranges_lie_in_what_is_allowed(family: str, method: type[Method]) -> None:
    for name, field in method.model_fields.items():
        for mark in field.metadata:
            if isinstance(mark, Range):
                assert mark.low < mark.high
                for value in (mark.low, mark.high):
                    method(**{name: value})
            if isinstance(mark, Choices):
                for value in mark.values:
                    method(**{name: value})


@pytest.mark.parametrize("method", FAMILIES["optimizer"])
def test_optimizer_makes_a_loss_fall(method: type[Method]) -> None:
    weight = torch.nn.Parameter(torch.tensor([3.0, -2.0]))
    optimizer = method().build([{"params": [weight], "lr": 0.1, "weight_decay": 0.0}])  # type: ignore[attr-defined]
    start = 13.0
    for _ in range(30):
        weight.square().sum().backward()
        optimizer.step()
        optimizer.zero_grad()
    assert float(weight.detach().square().sum()) < start / 2


@pytest.mark.parametrize("method", FAMILIES["schedule"])
def test_schedule_stays_between_none_and_the_full_rate(method: type[Method]) -> None:
    factors = [method().factor(step / 1000) for step in range(1001)]  # type: ignore[attr-defined]
    assert max(factors) == pytest.approx(1.0, abs=1e-4)
    assert min(factors) >= 0


@pytest.mark.parametrize("method", FAMILIES["criterion"])
def test_criterion_prefers_the_true_class(method: type[Method]) -> None:
    criterion = method().build()  # type: ignore[attr-defined]
    labels = torch.tensor([0, 2])
    right = criterion(torch.tensor([[4.0, 0, 0], [0, 0, 4.0]]), labels)
    wrong = criterion(torch.tensor([[0.0, 4, 0], [4.0, 0, 0]]), labels)
    assert right < wrong
