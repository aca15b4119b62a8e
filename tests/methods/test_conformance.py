"""Every method of every family keeps the rules that recipes, searches and docs build on."""

import ast
import json
import os
import re
import shutil
import subprocess
import sys
import textwrap
import tomllib
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import ValidationError

from headstart.errors import RecipeError
from headstart.features.extractor import FeatureExtractor
from headstart.methods.method import Choices, Method, Range, method_name
from headstart.recipes.parsing import parse_recipe, to_toml, with_settings
from headstart.recipes.recipe import FAMILIES, SEARCHED, Recipe
from headstart.search.sampler import Asking, ask
from headstart.training.boundary import fixed_boundary
from headstart.training.loop import train
from headstart.training.transfer import build_transfer_model, trainable, training_data

ROOT = Path(__file__).parents[2]

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


@pytest.fixture(scope="module")
def drawn() -> list[Recipe]:
    """What a search around the default recipe tries."""
    asking = Asking(Recipe(), "random")
    return [ask(asking, [], number) for number in range(200)]


@pytest.mark.parametrize(("family", "method"), METHODS)
def test_name_alone_chooses_the_method(family: str, method: type[Method]) -> None:
    companions = COMPANIONS.get((family, method_name(method)), {})
    recipe = parse_recipe({**companions, family: method_name(method)})
    assert getattr(recipe, family) == method()
    assert with_settings(parse_recipe(companions), [f"{family}={method_name(method)}"]) == recipe


# A backbone's name is one of timm's collection, which is looked up later.
@pytest.mark.parametrize(
    ("family", "method"), [each for each in METHODS if each.values[0] != "backbone"]
)
def test_a_misspelled_name_is_answered_with_the_right_one(
    family: str, method: type[Method]
) -> None:
    name = method_name(method)
    with pytest.raises(RecipeError, match=f"did you mean .*{name}"):
        with_settings(Recipe(), [f"{family}={name}{name[-1]}"])


@pytest.mark.parametrize(
    ("family", "method"), [each for each in METHODS if each.values[0] in SEARCHED]
)
def test_a_search_draws_it_where_trials_can_share_it(
    family: str, method: type[Method], drawn: list[Recipe]
) -> None:
    there = any(type(getattr(recipe, family)) is method for recipe in drawn)
    assert there == method.shares_trials


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
    if not method.absent:
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


@pytest.mark.slow
@pytest.mark.parametrize(("family", "method"), METHODS)
def test_trains_on_pretrained_features_and_is_found_to_have_acted(
    family: str, method: type[Method], fresh_extractor: Callable[..., FeatureExtractor]
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
    extractor = fresh_extractor(recipe.backbone.drop_path)
    boundary = fixed_boundary(extractor, recipe)
    assert boundary is not None
    transfer = build_transfer_model(extractor, recipe, boundary)
    data = training_data(extractor, recipe, transfer, 6)
    records = list(train(trainable(extractor, transfer), data, recipe, 6))
    losses = [record.train_loss for record in records]
    assert losses[0] is not None
    assert min(losses[-2:]) < losses[0], losses
    acted = [*transfer.acted, *records[-1].acted]
    found = [each for each in acted if each.family == family and each.method == name]
    if not (method.absent or method.is_baseline):
        assert found
        assert "acted" in {each.state for each in found}, found


def test_nothing_outside_methods_asks_which_class_a_method_is() -> None:
    classes = {method.__name__ for methods in FAMILIES.values() for method in methods}
    package = ROOT / "src" / "headstart"
    found = []
    for path in package.rglob("*.py"):
        if package / "methods" in path.parents:
            continue
        tree = ast.parse(path.read_text(encoding="utf-8"))
        imported = {
            alias.name
            for node in ast.walk(tree)
            if isinstance(node, ast.ImportFrom)
            and (node.module or "").startswith("headstart.methods")
            for alias in node.names
        }
        for node in ast.walk(tree):
            if isinstance(node, ast.Call) and ast.unparse(node.func) == "isinstance":
                asked = {name.id for name in ast.walk(node) if isinstance(name, ast.Name)}
                if asked & classes & imported:
                    found.append(f"{path.relative_to(package)}:{node.lineno}")
    assert not found


def _examples() -> list[tuple[str, str, str]]:
    """Returns the path, the class and the union of each method that CONTRIBUTING adds."""
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    form = r"`(src/headstart/methods/\w+\.py)`.*?```python\n(.*?)```.*?`(\w+Union = [^`]*)`"
    return [
        (path, textwrap.dedent(code), union)
        for path, code, union in re.findall(form, text, re.DOTALL)
    ]


def _example(name: str) -> Any:
    """Returns the class of a method that CONTRIBUTING adds, as its module would define it."""
    path, code, _ = next(each for each in _examples() if f"class {name}(" in each[1])
    namespace = dict(vars(import_module(f"headstart.methods.{Path(path).stem}")))
    exec(code, namespace)
    return namespace[name]


def test_the_optimizer_in_contributing_steps_by_the_sign_of_the_gradient() -> None:
    weight = torch.nn.Parameter(torch.tensor([1.0]))
    built = _example("Lion")().build([{"params": [weight], "lr": 0.1, "weight_decay": 0.0}])
    (3 * weight).sum().backward()
    built.step()
    assert float(weight.detach()) == pytest.approx(0.9)


def test_the_averaging_in_contributing_weighs_later_steps_more() -> None:
    polynomial = _example("Polynomial")
    # The plain mean of 1, 2 and 6; with a power of 1, the weights are 1, 2 and 3 of 6.
    for power, mean in ((0, 3.0), (1, 23 / 6)):
        method, average = polynomial(power=power), 0.0
        for step, value in enumerate((1.0, 2.0, 6.0)):
            kept = method.decay(step, 3)
            average = kept * average + (1 - kept) * value
        assert average == pytest.approx(mean)


@pytest.mark.slow
def test_the_examples_in_contributing_need_one_class_and_one_name(tmp_path: Path) -> None:
    shutil.copytree(ROOT / "src", tmp_path / "src")
    ids = []
    for path, code, union in _examples():
        file = tmp_path / path
        name = union.partition(" = ")[0]
        text, found = re.subn(
            rf"^{name} = .*$", lambda _, new=f"{code}\n\n{union}": new,
            file.read_text(encoding="utf-8"), flags=re.MULTILINE,
        )  # fmt: skip
        assert found == 1
        file.write_text(text, encoding="utf-8")
        method = re.search(r'name: Literal\["(\w+)"\]', code)
        assert method is not None
        ids.append(f"{file.stem}-{method.group(1)}")
    assert ids == ["optimizer-lion", "averaging-polynomial"]
    ended = subprocess.run(
        [
            sys.executable, "-m", "pytest", "-v", "-p", "no:cacheprovider", str(Path(__file__)),
            "-k", " or ".join(f"{each}]" for each in ids),
        ],
        cwd=ROOT, env={**os.environ, "PYTHONPATH": str(tmp_path / "src")},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert ended.returncode == 0, ended.stdout + ended.stderr
    for name in ids:
        for test in ("name_alone", "misspelled", "search_draws", "round_trips", "trains_on"):
            assert re.search(rf"{test}.*\[{name}\] PASSED", ended.stdout), (name, test)
