"""Every method of every family keeps the rules that recipes, searches and docs build on."""

import json
import re
import textwrap
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import BaseModel, ValidationError

from headstart.methods import optimizer as optimizer_module
from headstart.methods.method import Choices, Method, Range, family, method_name
from headstart.recipe import FAMILIES, Recipe, parse_recipe, to_toml
from headstart.search.material import Material
from headstart.search.stages import (
    fixed_boundary,
    start_from,
    trainable,
    training_data,
)
from headstart.train import train

# What each method needs beside itself to make sense.
COMPANIONS: dict[tuple[str, str], dict[str, Any]] = {
    ("head", "nearest"): {"metric_loss": "triplet"},
    ("freezing", "head_only"): {"head": {"name": "linear", "init": "random"}},
    ("averaging", "soup"): {"schedule": "constant"},
    ("backbone", "tf_efficientnet_lite0"): {
        "backbone": {"name": "tf_efficientnet_lite0", "drop_path": 0.2}
    },
}
METHODS = [
    pytest.param(family, method, id=f"{family}-{method_name(method)}")
    for family, methods in FAMILIES.items()
    for method in methods
]


@pytest.mark.parametrize(("family", "method"), METHODS)
def test_name_alone_chooses_the_method(family: str, method: type[Method]) -> None:
    companions = COMPANIONS.get((family, method_name(method)), {})
    recipe = parse_recipe({**companions, family: method_name(method)})
    assert getattr(recipe, family) == method()


@pytest.mark.parametrize(("family", "method"), METHODS)
def test_round_trips_through_json_and_toml(family: str, method: type[Method]) -> None:
    companions = COMPANIONS.get((family, method_name(method)), {})
    recipe = parse_recipe({family: method_name(method), **companions})
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


@pytest.mark.parametrize(("family", "method"), METHODS)
def test_docstring_names_the_source_and_advice_is_given(family: str, method: type[Method]) -> None:
    assert method.advice.endswith(".")
    if method_name(method) not in {"none", "keep"}:
        assert re.search(r"\b(19|20)\d\d\b", method.__doc__ or ""), "no paper with its year"


@pytest.mark.parametrize("method", FAMILIES["optimizer"])
def test_optimizer_makes_a_loss_fall(method: type[Method]) -> None:
    weight = torch.nn.Parameter(torch.tensor([3.0, -2.0]))
    optimizer = method().build([{"params": [weight], "lr": 0.1, "weight_decay": 0.0}])  # type: ignore[attr-defined]
    start = 13.0
    for _ in range(40):
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
def test_criterion_prefers_the_true_class_and_takes_soft_targets(method: type[Method]) -> None:
    criterion = method().build(torch.tensor([1, 1, 1]))  # type: ignore[attr-defined]
    targets = torch.eye(3)[[0, 2]]
    right = criterion(torch.tensor([[4.0, 0, 0], [0, 0, 4.0]]), targets)
    wrong = criterion(torch.tensor([[0.0, 4, 0], [4.0, 0, 0]]), targets)
    assert right < wrong
    soft = torch.tensor([[0.5, 0.5, 0.0]])
    even, uneven = torch.tensor([[2.0, 2.0, 0.0]]), torch.tensor([[4.0, 0.0, 0.0]])
    assert criterion(even, soft) < criterion(uneven, soft)


UNSEEN = {"none", "keep", "constant", "cross_entropy"}
"""Methods that are the absence of one, and leave nothing to be found."""


@pytest.mark.slow
@pytest.mark.parametrize(("family", "method"), METHODS)
def test_trains_on_pretrained_features_and_is_found_to_have_acted(
    family: str, method: type[Method], fresh_material: Callable[..., Material]
) -> None:
    name = method_name(method)
    # Methods of these families act block by block; for others one block will do, in half the time.
    cut = "blocks.4" if family in {"freezing", "backbone"} else "blocks.5"
    base: dict[str, Any] = {
        "batch_size": 16,
        "freezing": {"name": "last_blocks", "boundary": cut},
        "head": {"name": "linear", "init": "random"},
        "views": 2,
    }
    if family == "freezing" and "boundary" in method.model_fields:
        base["freezing"] = {"name": name, "boundary": cut}
    elif family == "head" and "init" in method.model_fields:
        base["head"] = {"name": name, "init": "random"}
    else:
        base[family] = name
    recipe = parse_recipe({**base, **COMPANIONS.get((family, name), {})})
    recipe = recipe.model_copy(
        update={"optimizer": recipe.optimizer.model_copy(update={"lr": 2e-3, "clip_norm": 0.0})}
    )
    material = fresh_material(recipe.backbone.drop_path)
    boundary = fixed_boundary(material, recipe)
    assert boundary is not None
    start = start_from(material, recipe, boundary)
    data = training_data(material, recipe, start, 6)
    records = list(train(trainable(material, start), data, recipe, 6))
    losses = [record.train_loss for record in records]
    assert losses[0] is not None
    assert min(losses[-2:]) < losses[0], losses
    acted = [*start.acted, *records[-1].acted]
    found = [each for each in acted if each.family == family and each.method == name]
    if name not in UNSEEN:
        assert found
        assert "acted" in {each.state for each in found}, found


def test_the_example_in_contributing_is_a_method() -> None:
    text = (Path(__file__).parents[2] / "CONTRIBUTING.md").read_text(encoding="utf-8")
    code = textwrap.dedent(re.search(r"```python\n(.*?)```", text, re.DOTALL).group(1))  # type: ignore[union-attr]
    namespace = dict(vars(optimizer_module))
    exec(code, namespace)
    lion = namespace["Lion"]

    class Wrapped(BaseModel):
        optimizer: family(optimizer_module.OptimizerUnion | lion)  # type: ignore[valid-type]

    chosen = Wrapped.model_validate({"optimizer": {"name": "lion", "lr": 2e-4}}).optimizer
    assert chosen.lr == 2e-4
    with pytest.raises(ValidationError):
        Wrapped.model_validate({"optimizer": "lioness"})
    weight = torch.nn.Parameter(torch.tensor([1.0]))
    built = chosen.build([{"params": [weight], "lr": 0.1, "weight_decay": 0.0}])
    (3 * weight).sum().backward()
    built.step()
    # The sign of the gradient times the rate.
    assert float(weight.detach()) == pytest.approx(0.9)
    assert lion.advice
