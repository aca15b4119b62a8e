"""Options of the command line, made from the models that declare them."""

import inspect
import types
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import typer
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from headstart.recipes.elsewhere import ELSEWHERE
from headstart.recipes.keywords import RENAMED

NAMES = {"settings": "--set", "from_run": "--from"}
"""Flags with another name than their field."""

IN_PYTHON_ONLY = {"cache_dir"}


def takes_options(model: type[BaseModel]) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Returns a decorator that replaces a command's `**values` by one option per model field.

    Options that are absent from the command line are None; see `given`.

    Args:
        model: Model that declares names, types, defaults and help.
    """

    def add(command: Callable[..., None]) -> Callable[..., None]:
        own = [
            parameter
            for parameter in inspect.signature(command).parameters.values()
            if parameter.kind is not inspect.Parameter.VAR_KEYWORD
        ]
        added = [
            inspect.Parameter(
                name,
                inspect.Parameter.KEYWORD_ONLY,
                default=None,
                annotation=Annotated[_type(field) | None, _option(name, field)],
            )
            for name, field in _own_first(model)
            if name not in IN_PYTHON_ONLY
        ]
        added += [
            inspect.Parameter(
                other,
                inspect.Parameter.KEYWORD_ONLY,
                default=None,
                annotation=Annotated[str | None, typer.Option(_flag(other), hidden=True)],
            )
            for other in _other_names(model)
        ]

        def run(**values: Any) -> None:
            command(**values)

        run.__doc__ = command.__doc__
        run.__name__ = command.__name__
        parameters = [*own, *added]
        run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
        run.__annotations__ = {each.name: each.annotation for each in parameters}
        return run

    return add


def given(values: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the values that were given on the command line.

    Example:
        >>> given({"epochs": 3, "budget": None, "settings": []})
        {'epochs': 3}
    """
    return {name: value for name, value in values.items() if value is not None and value != []}


def _flag(name: str) -> str:
    return NAMES.get(name, "--" + name.replace("_", "-"))


def _other_names(model: type[BaseModel]) -> list[str]:
    """Returns options that are refused with the name that they have here, instead of unknown."""
    renamed = [old for old, new in RENAMED.items() if new in model.model_fields]
    elsewhere = list(ELSEWHERE) if "settings" in model.model_fields else []
    return [name for name in (*renamed, *elsewhere) if name not in model.model_fields]


def _own_first(model: type[BaseModel]) -> list[tuple[str, FieldInfo]]:
    """Returns the fields of a model; those of the model that it extends, on reading, come last."""
    first = [each for each in model.__mro__ if issubclass(each, BaseModel)][-2]
    fields = model.model_fields.items()
    return sorted(fields, key=lambda field: field[0] in first.model_fields)


def _option(name: str, field: FieldInfo) -> Any:
    text = " ".join((field.description or "").split())
    if field.default is not False and field.default not in (None, (), ""):
        text += f" Default: {field.default}."
    return typer.Option(_flag(name), help=text, show_default=False)


def _type(field: FieldInfo) -> Any:
    """Returns the type of a command-line option: text if the field also takes objects."""
    annotation = field.annotation
    if get_origin(annotation) in {Union, types.UnionType}:
        kinds = [kind for kind in get_args(annotation) if kind is not type(None)]
        annotation = str if str in kinds else kinds[0]
    if annotation == tuple[str, ...]:
        return list[str]
    simple = get_origin(annotation) is Literal or annotation in {int, float, bool, str, Path}
    return annotation if simple else str
