"""The options of `fit` as a TOML file: `request.toml` of a run, and what `--config` reads."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from headstart.errors import InputError
from headstart.recipes.keywords import parse_options
from headstart.recipes.options import FitOptions
from headstart.recipes.parsing import NAMED, load_recipe, parse_recipe, read_table, to_toml
from headstart.recipes.recipe import Recipe

REQUEST = "request.toml"
"""The file in a run folder with what `fit` was asked for."""

NOT_COPIED = {
    "out", "cache_dir", "workers", "executor", "jobs", "address", "trial_memory", "recipe",
    "budget",
}  # fmt: skip
"""Options of one run or one machine, and two that are written in a form of their own."""

_SHORT = {"settings": "set", "from_run": "from"}
"""Names in a file of options with another name in Python."""

_LONG = {short: name for name, short in _SHORT.items()}

EXCLUSIVE = {"budget": ("epochs", "trials"), "epochs": ("budget",), "trials": ("budget",)}
"""Options that cannot be given with an option."""


def to_config(options: FitOptions) -> str:
    """Returns options as a TOML document, from which `read_config` reads the same options.

    A recipe from a file or from Python is written out. What belongs to one run or one machine is
    left out: where results, the cache and the trials are.

    Args:
        options: Options of `fit`.

    Example:
        >>> print(to_config(FitOptions(budget="90s", settings=("optimizer=sgd",))), end="")
        budget = "90s"
        set = ["optimizer=sgd"]
    """
    values: dict[str, Any] = {}
    if options.budget_s is not None:
        values["budget"] = f"{options.budget_s:.15g}s"
    for name, field in FitOptions.model_fields.items():
        value = getattr(options, name)
        if name not in NOT_COPIED and value != field.default:
            shown = str(value.resolve()) if isinstance(value, Path) else value
            values[_SHORT.get(name, name)] = shown
    recipe = options.recipe
    if isinstance(recipe, str) and recipe in NAMED:
        values["recipe"] = recipe
    lines = [f"{name} = {_toml(value)}" for name, value in values.items()]
    text = "\n".join(lines) + "\n"
    if recipe is None or "recipe" in values:
        return text
    whole = recipe if isinstance(recipe, Recipe) else load_recipe(str(recipe))
    return f"{text}\n[recipe]\n{to_toml(whole, prefix='recipe.')}"


def read_config(path: Path) -> dict[str, Any]:
    """Reads options of `fit` from a TOML or JSON file, or from the `request.toml` of a run folder.

    Names are those of the command line, with `-` or `_`. Paths are relative to the current folder.
    A cluster is never taken from a file: the file may come from elsewhere, and a cluster exchanges
    code.

    Args:
        path: The file, or a run folder.

    Returns:
        Options by the name of their field.

    Raises:
        InputError: If the file cannot be read, or a name or value is wrong; the message names it.
    """
    file = path / REQUEST if path.is_dir() else path
    values: dict[str, Any] = {}
    for key, value in read_table(file, "configuration").items():
        name = key.replace("-", "_")
        values[_LONG.get(name, name)] = value
    if isinstance(values.get("recipe"), dict):
        values["recipe"] = parse_recipe(values["recipe"], f"{file}: recipe")
    if values.get("executor") == "ray" or "address" in values:
        raise InputError(
            f"{file}: a cluster exchanges code, and is not taken from a file. Give --executor ray "
            "and --address in the command."
        )
    budget = values.get("budget")
    if isinstance(budget, int | float):
        values["budget"] = str(budget)  # a number without a unit is refused, as in a command
    try:
        parse_options(FitOptions, values)
    except InputError as error:
        raise type(error)(f"{file}: {error}") from None
    return values


def with_config(config: Mapping[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """Returns options of a file with those of the command line, which win; settings add up.

    Args:
        config: Options of the file.
        given: Options of the command line.

    Example:
        >>> with_config({"epochs": 3, "seed": 1}, {"budget": "5m"})
        {'seed': 1, 'budget': '5m'}
    """
    replaced = {other for name in given for other in EXCLUSIVE.get(name, ())}
    kept = {name: value for name, value in config.items() if name not in replaced}
    both = [*config.get("settings", ()), *given.get("settings", ())]
    return {**kept, **given, **({"settings": both} if both else {})}


def from_config(config: Mapping[str, Any], given: Mapping[str, Any]) -> list[str]:
    """Returns lines that say which options come from a file, and which the command line replaced.

    Args:
        config: Options of the file.
        given: Options of the command line.

    Example:
        >>> from_config({"epochs": 3, "seed": 1}, {"budget": "5m"})
        ['seed = 1', 'epochs = 3 (replaced by the command line)']
    """
    merged = with_config(config, given)
    used, replaced = [], []
    for name, value in config.items():
        written = "a table" if isinstance(value, Recipe) else _toml(value)
        line = f"{_SHORT.get(name, name)} = {written}"
        if name in merged and (name not in given or name == "settings"):
            used.append(line)
        else:
            replaced.append(f"{line} (replaced by the command line)")
    return used + replaced


def _toml(value: Any) -> str:
    # JSON is TOML, but for one character that JSON leaves as it is, and names that are no Unicode.
    text = json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    return text.encode("utf-8", "replace").decode()
