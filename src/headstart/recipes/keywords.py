"""Keywords of the public functions, read from their options."""

import inspect
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from headstart.errors import InputError, did_you_mean
from headstart.recipes.elsewhere import our_name

RENAMED = {"engine": "executor"}
"""New names of renamed options, by their old name."""

Options = TypeVar("Options", bound=BaseModel)
Function = TypeVar("Function", bound=Callable[..., Any])


def lists_fields(model: type[BaseModel]) -> Callable[[Function], Function]:
    """Returns a decorator that lists a model's fields in the signature of a function.

    The fields replace the `**keywords` of the function as keyword parameters, for `help` and for
    completion. Calls are not affected.

    Args:
        model: Model that the function makes from its keywords.

    Example:
        >>> from headstart.recipes.options import CompareOptions
        >>> @lists_fields(CompareOptions)
        ... def run(source: str, **keywords: Any) -> None: ...
        >>> inspect.signature(run).parameters["epochs"].default
        6
    """

    def add(function: Function) -> Function:
        signature = inspect.signature(function)
        kinds = inspect.Parameter
        own = [each for each in signature.parameters.values() if each.kind != kinds.VAR_KEYWORD]
        fields = [
            kinds(name, kinds.KEYWORD_ONLY, default=field.default, annotation=field.annotation)
            for name, field in model.model_fields.items()
        ]
        listed = signature.replace(parameters=[*own, *fields])
        function.__signature__ = listed  # type: ignore[attr-defined]
        return function

    return add


def parse_options(model: type[Options], values: Mapping[str, Any]) -> Options:
    """Builds options from keywords.

    Raises:
        InputError: If a name is unknown, a value is out of range, or options contradict each other.

    Example:
        >>> from headstart.recipes.options import FitOptions
        >>> parse_options(FitOptions, {"budget": "5m"}).budget_s
        300.0
    """
    try:
        return model.model_validate(values)
    except ValidationError as error:
        details = error.errors()
        for detail in details:
            cause = detail.get("ctx", {}).get("error")
            if isinstance(cause, InputError):
                raise cause from None
        problems = "; ".join(dict.fromkeys(_explain(model, detail) for detail in details))
        raise InputError(problems + ("" if problems.endswith("?") else ".")) from None


def with_keywords(
    model: type[Options], options: Options | None, keywords: Mapping[str, Any]
) -> Options:
    """Returns options with some of their fields given as keywords.

    Raises:
        InputError: If a name is unknown, a value is out of range, or options contradict each other.

    Example:
        >>> from headstart.recipes.options import FitOptions
        >>> with_keywords(FitOptions, FitOptions(seed=1), {"epochs": 3}).seed
        1
    """
    if options is not None and not keywords:
        return options
    given = {} if options is None else {k: getattr(options, k) for k in options.model_fields_set}
    return parse_options(model, {**given, **keywords})


def _explain(model: type[BaseModel], detail: ErrorDetails) -> str:
    """Returns one clause on an invalid option, with the nearest known name."""
    name = str(detail["loc"][0]) if detail["loc"] else ""
    flag, value, bounds = "--" + name.replace("_", "-"), detail["input"], detail.get("ctx", {})
    match detail["type"]:
        case "extra_forbidden" if name in RENAMED:
            return f"{flag} is now called --{RENAMED[name]}"
        case "extra_forbidden":
            return f"Unknown option {name!r}{_near(name, model)}"
        case "greater_than_equal":
            return f"{flag} must be at least {bounds['ge']:g}; it is {value}"
        case "greater_than":
            return f"{flag} must be above {bounds['gt']:g}; it is {value}"
        case "literal_error":
            return f"{flag} must be {bounds['expected']}; it is {value!r}"
    return f"{flag} {value}: {detail['msg'][0].lower()}{detail['msg'][1:]}"


def _near(name: str, model: type[BaseModel]) -> str:
    """Returns the option or the setting that an unknown option may stand for."""
    ours = our_name(name)
    last = ours.rpartition(".")[2]
    if last in model.model_fields:
        return f"; did you mean {last!r}?"
    if ours and "settings" in model.model_fields:
        return f"; did you mean --set {ours}{'' if '=' in ours else '=VALUE'}?"
    return did_you_mean(name, model.model_fields)
