"""Recipes as text and as plain data: named recipes, files and settings."""

import json
import tomllib
from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from headstart.errors import RecipeError, did_you_mean
from headstart.inputs.regular_files import read_text
from headstart.methods.augmentation import NoAugmentation
from headstart.methods.averaging import NoAveraging
from headstart.methods.criterion import CrossEntropy
from headstart.methods.freezing import Full, HeadOnly
from headstart.methods.head import Linear
from headstart.methods.method import method_name
from headstart.methods.optimizer import AdamW
from headstart.methods.schedule import Constant
from headstart.recipes.elsewhere import our_name, same
from headstart.recipes.recipe import FAMILIES, Recipe
from headstart.text import counted, listed, shortened

MOST_PROBLEMS = 10

NAMED: dict[str, Recipe] = {
    "default": Recipe(),
    "probe": Recipe(freezing=HeadOnly(), augmentation=NoAugmentation(), averaging=NoAveraging()),
    "naive": Recipe(
        head=Linear(init="random", features="last"),
        freezing=Full(),
        criterion=CrossEntropy(),
        augmentation=NoAugmentation(),
        schedule=Constant(),
        optimizer=AdamW(lr=1e-3, clip_norm=0, weight_decay=0),
        averaging=NoAveraging(),
    ),
}
"""A good default, a linear probe, and the naive fine-tuning that many tutorials start with."""


def parse_recipe(data: Mapping[str, Any], source: str = "") -> Recipe:
    """Returns the recipe in plain data.

    Args:
        data: Field names and values; a method's name stands for its default values.
        source: File or option that the data come from, to begin the message with.

    Raises:
        RecipeError: If keys are unknown or values invalid; the message names all of them.

    Example:
        >>> parse_recipe({"optimizer": "sgd", "epochs": 5}).optimizer.lr
        0.01
    """
    try:
        return Recipe.model_validate(data)
    except ValidationError as error:
        found = error.errors()
        problems = "; ".join(_explain(detail) for detail in found[:MOST_PROBLEMS])
        if len(found) > MOST_PROBLEMS:
            problems += f"; and {counted(len(found) - MOST_PROBLEMS, 'more problem')}"
        if source:
            problems = f"{source}: {problems}"
        elif problems.startswith("unknown"):
            problems = "U" + problems[1:]  # all else begins with the name of a field
        raise RecipeError(problems + ("" if problems.endswith("?") else ".")) from None


def load_recipe(name_or_file: str) -> Recipe:
    """Returns a named recipe, or the one in a TOML or JSON file.

    Raises:
        RecipeError: If there is no such recipe or file, or if the file does not hold one.
    """
    if name_or_file in NAMED:
        return NAMED[name_or_file]
    path = Path(name_or_file)
    if path.suffix not in {".toml", ".json"}:
        known = ", ".join(NAMED)
        hint = did_you_mean(name_or_file, NAMED)
        raise RecipeError(
            f"Unknown recipe {name_or_file!r}{hint or '.'} Give one of {known}, or the path of a "
            ".toml or .json file."
        )
    return parse_recipe(read_table(path, "recipe"), str(path))


def read_table(path: Path, what: str) -> dict[str, Any]:
    """Reads a TOML or JSON file.

    Args:
        path: The file; its extension says which of both it is.
        what: What it should be, for messages.

    Raises:
        RecipeError: If it cannot be read, or does not hold a table.
    """
    try:
        text = read_text(path)
        data = json.loads(text) if path.suffix == ".json" else tomllib.loads(text)
    except OSError as error:
        raise RecipeError(
            f"The {what} {path} cannot be read: {error.strerror}. Check the path."
        ) from None
    except (ValueError, RecursionError) as error:
        why = shortened(str(error), 200)
        form = "JSON" if path.suffix == ".json" else "TOML"
        raise RecipeError(f"{path} is not valid {form}: {why}.") from None
    if not isinstance(data, dict):
        raise RecipeError(f"{path} must hold one table of {what} fields.")
    return data


def with_settings(recipe: Recipe, settings: Iterable[str]) -> Recipe:
    """Returns the recipe with `family=method` and `family.field=value` settings applied in order.

    Raises:
        RecipeError: If a setting has no `=`, or its name or value is invalid.

    Example:
        >>> recipe = with_settings(Recipe(), ["optimizer=sgd", "optimizer.lr=0.1", "epochs=3"])
        >>> recipe.optimizer.name, recipe.optimizer.lr, recipe.epochs
        ('sgd', 0.1, 3)
    """
    data = recipe.model_dump()
    for setting in settings:
        path, equals, value = setting.partition("=")
        if not equals or not path:
            raise RecipeError(
                f"'--set {shortened(setting)}' has no value; write for example --set "
                "optimizer.lr=3e-4."
            )
        head, *rest = path.strip().split(".")
        if not rest:
            data[head] = _scalar(value) if head not in FAMILIES else value.strip()
        elif len(rest) > 1 or head not in FAMILIES:
            parse_recipe({**data, path: value}, f"--set {shortened(setting)}")
            raise RecipeError(
                f"'--set {shortened(setting)}': {head!r} has no fields; use --set {head}=VALUE."
            )
        else:
            current = data[head]
            if isinstance(current, str):
                current = {"name": current}
            data[head] = {**current, rest[0]: _scalar(value)}
    return parse_recipe(data, "--set")


def to_toml(recipe: Recipe, prefix: str = "") -> str:
    """Returns the recipe as a TOML document, from which `load_recipe` reads the same recipe.

    Args:
        recipe: The recipe.
        prefix: Begins the names of its tables, for a document that holds more.

    Example:
        >>> print(to_toml(Recipe(epochs=3)).splitlines()[0])
        epochs = 3
    """
    fields = recipe.model_dump()
    lines = [f"{key} = {json.dumps(value)}" for key, value in fields.items() if key not in FAMILIES]
    for family_name in FAMILIES:
        lines += ["", f"[{prefix}{family_name}]"]
        lines += [f"{key} = {_value(value)}" for key, value in fields[family_name].items()]
    return "\n".join(lines) + "\n"


def _value(value: Any) -> str:
    """Returns a TOML value; JSON strings, numbers and booleans are valid ones."""
    if isinstance(value, Mapping):
        return "{ " + ", ".join(f"{key} = {_value(each)}" for key, each in value.items()) + " }"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(_value, value)) + "]"
    return json.dumps(value)


def _scalar(text: str) -> Any:
    """Returns a value parsed as TOML, or as plain text if it is not valid TOML."""
    try:
        return tomllib.loads(f"value = {text.strip()}")["value"]
    except (ValueError, RecursionError):  # also too many digits, or nested too deep
        return text.strip()


def _explain(detail: ErrorDetails) -> str:
    """Returns one clause that says what is wrong, with the closest known name."""
    # pydantic adds the method's name to the location of a union's errors; users do not write it.
    location = [shortened(str(part)) for part in detail["loc"]]
    if len(location) > 1 and location[0] in FAMILIES:
        names = {method_name(method) for method in FAMILIES[location[0]]}
        location = location[:1] + location[1 + (location[1] in names) :]
    path = ".".join(location)
    if detail["type"] == "union_tag_invalid":
        known = [method_name(method) for method in FAMILIES[location[0]]]
        name = shortened(detail["ctx"]["tag"])
        hint = did_you_mean(name, known) or f"; use {listed(known, 'or')}"
        return f"unknown {location[0].replace('_', ' ')} {name!r}{hint}"
    if detail["type"] == "extra_forbidden":
        return f"unknown key {path!r}{_near(location)}"
    if detail["type"] == "literal_error" and location[-1] == "name":
        known = [method_name(method) for method in FAMILIES[location[0]]]
        name = shortened(detail["input"])
        hint = did_you_mean(name, known) or f"; use {listed(known, 'or')}"
        return f"unknown {location[0].replace('_', ' ')} {name!r}{hint}"
    if detail["type"] == "value_error" and not location:  # RULES hold complete clauses
        return str(detail["ctx"]["error"])
    message = detail["msg"][0].lower() + detail["msg"][1:]
    given = detail["input"]
    shown = repr(shortened(given)) if isinstance(given, str) else shortened(given)
    return f"{path} = {shown}: {message}"


def _near(location: list[str]) -> str:
    """Returns the known name that an unknown key may stand for, as the end of a clause."""
    *outer, key = location
    family = outer[0] if outer else key.partition(".")[0].strip()
    if outer:
        owners = [method for method in FAMILIES[family] if key in method.model_fields]
        if owners:
            named = listed([method_name(method) for method in owners], "or")
            return f"; it belongs to another method: set {family}={named} first"
        known = sorted({field for method in FAMILIES[family] for field in method.model_fields})
        ours = our_name(key)
        if not ours.startswith(f"{family}."):
            spelled = {same(field): field for field in known}
            near = spelled.get(same(key)) or next(
                iter(get_close_matches(key.lower(), known, 1)), ""
            )
            ours = f"{family}.{near}" if near else ours
        return f"; did you mean {ours!r}?" if ours else ""
    ours = our_name(key)
    return f"; did you mean {ours!r}?" if ours else did_you_mean(family, Recipe.model_fields)
