"""Options are declared once: what they refuse, and that the command line has each of them."""

import inspect
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

from headstart.api.benefit import benefit
from headstart.api.check import check
from headstart.api.compare import compare
from headstart.api.fit import fit
from headstart.api.show import show
from headstart.api.suspects import suspects
from headstart.cli.options import IN_PYTHON_ONLY, NAMES
from headstart.errors import BudgetError, InputError
from headstart.recipes.keywords import parse_options, with_keywords
from headstart.recipes.options import BenefitOptions, CompareOptions, FitOptions, SourceOptions

MODELS = {
    "fit": FitOptions, "compare": CompareOptions, "benefit": BenefitOptions,
    "check": SourceOptions, "suspects": SourceOptions, "show": SourceOptions,
}  # fmt: skip

FUNCTIONS = {"fit": fit, "compare": compare, "benefit": benefit, "check": check,
             "suspects": suspects, "show": show}  # fmt: skip


@pytest.mark.parametrize("command", MODELS)
def test_the_signature_of_a_function_lists_its_options(command: str) -> None:
    parameters = inspect.signature(FUNCTIONS[command]).parameters
    assert inspect.Parameter.VAR_KEYWORD not in {each.kind for each in parameters.values()}
    assert next(iter(parameters)) == "source"
    for name, field in MODELS[command].model_fields.items():
        assert parameters[name].kind == inspect.Parameter.KEYWORD_ONLY
        assert parameters[name].default == field.default


@pytest.mark.parametrize("command", MODELS)
def test_every_option_is_documented_and_on_the_command_line(headstart: Any, command: str) -> None:
    model = MODELS[command]
    assert all(field.description for field in model.model_fields.values())
    told = headstart(command, "--help").stdout
    for name in model.model_fields.keys() - IN_PYTHON_ONLY:
        assert NAMES.get(name, "--" + name.replace("_", "-")) in told


@pytest.mark.parametrize(
    ("model", "values", "says"),
    [
        (FitOptions, {"bugdet": "5m"}, r"^Unknown option 'bugdet'; did you mean 'budget'\?$"),
        (FitOptions, {"lr": 1}, r"^Unknown option 'lr'; did you mean --set optimizer.lr=VALUE\?$"),
        (FitOptions, {"ema": 1}, r"did you mean --set averaging=ema\?$"),
        (FitOptions, {"model": "resnet50"}, r"did you mean 'backbone'\?$"),
        (FitOptions, {"pretrained": "no"}, r"did you mean 'weights'\?$"),
        (BenefitOptions, {"imgsz": 64}, r"did you mean 'resolution'\?$"),
        (SourceOptions, {"lr": 1}, r"^Unknown option 'lr'\.$"),
        (FitOptions, {"budget": "5"}, r"^The budget '5' has no unit: 5m or 5s\?$"),
        (CompareOptions, {"budget": " 2.5 "}, r"no unit: 2.5m or 2.5s\?$"),
        (BenefitOptions, {"budget": "1h30"}, r"no unit: 1h30m or 1h30s\?$"),
        (FitOptions, {"budget": "0"}, "Cannot read the budget"),
        (FitOptions, {"budget": "5x"}, r"Cannot read the budget '5x'"),
        (FitOptions, {"budget": "0s"}, r"Cannot read the budget '0s'"),
        (FitOptions, {"engine": "ray"}, r"^--engine is now called --executor\.$"),
        (FitOptions, {"trials": 0}, r"^--trials must be at least 1; it is 0\.$"),
        (FitOptions, {"trial_memory": 0}, r"^--trial-memory must be above 0; it is 0\.$"),
        (FitOptions, {"sampler": "grid"}, r"^--sampler must be 'tpe' or 'random'; it is 'grid'"),
        (FitOptions, {"budget": "5m", "trials": 2}, "not both"),
        (FitOptions, {"download": True, "epochs": 3}, r"^--download cannot be used here"),
        (FitOptions, {"download": True, "backbone": "resnet18"}, "Leave --download out"),
        (FitOptions, {"download": True, "settings": ("backbone.resolution=96",)}, "Leave --down"),
        (FitOptions, {"split_seed": -1}, "at least 0"),
        (CompareOptions, {"run": "a", "out": "b"}, "Leave --out out"),
        (CompareOptions, {"run": "a", "recipe": "naive"}, "Leave --recipe"),
        (CompareOptions, {"budget": "soon"}, "Cannot read the budget 'soon'"),
        (BenefitOptions, {"fractions": (0.0, 1.0)}, "percentages above 0"),
    ],
)
def test_what_makes_no_sense_is_refused(
    model: type[BaseModel], values: dict[str, Any], says: str
) -> None:
    with pytest.raises(InputError, match=says):
        parse_options(model, values)


def test_the_error_says_what_kind_it_is() -> None:
    with pytest.raises(BudgetError):
        parse_options(FitOptions, {"budget": "5m", "epochs": 2})


def test_an_option_by_its_old_name_is_refused_with_the_new_one(headstart: Any) -> None:
    told = headstart("fit", "nowhere", "--engine", "ray")
    assert told.returncode == 2
    assert "--engine is now called --executor." in told.stderr
    assert "--engine" not in headstart("fit", "--help").stdout


def test_keywords_change_options_without_touching_the_rest() -> None:
    options = FitOptions(seed=1, settings=("views=2",))
    assert with_keywords(FitOptions, options, {}) is options
    changed = with_keywords(FitOptions, options, {"epochs": 3})
    assert (changed.seed, changed.settings, changed.epochs) == (1, ("views=2",), 3)
    with pytest.raises(InputError, match="not both"):
        with_keywords(FitOptions, FitOptions(budget="1m"), {"epochs": 3})


@pytest.mark.parametrize(
    ("values", "searches", "budget_s"),
    [
        ({}, True, 600.0),
        ({"budget": 90}, True, 90.0),
        ({"trials": 4}, True, None),
        ({"epochs": 4}, False, None),
        ({"strategy": "head"}, False, 600.0),
        ({"recipe": "naive", "trials": 2}, True, None),
    ],
)
def test_what_is_searched_and_for_how_long(
    values: dict[str, Any], searches: bool, budget_s: float | None
) -> None:
    options = parse_options(FitOptions, values)
    assert options.searches is searches
    assert options.budget_s == budget_s


def test_how_a_source_is_read_stands_in_the_record_of_a_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    options = FitOptions(layout="groups", follow_links=True, root=Path("images"), seed=1)
    assert options.reading == SourceOptions(
        layout="groups", follow_links=True, root=tmp_path / "images"
    )
    assert options.reading.flags == [
        *("--layout", "groups", "--follow-links", "--root", str(tmp_path / "images"))
    ]
    assert FitOptions(seed=1).flags == []
