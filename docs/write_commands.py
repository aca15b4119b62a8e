"""Writes every command with every option, as the program itself knows them.

    python docs/write_commands.py > docs/commands.md

`tests/docs/test_commands_page.py` compares the page with the program.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

import typer

from headstart.cli.app import app, declared
from headstart.cli.commands import COMMANDS

PAGE = Path(__file__).with_name("commands.md")
KINDS = {int: "NUMBER", float: "NUMBER", str: "TEXT", Path: "PATH"}


def page() -> str:
    """Returns the page as Markdown."""
    group = typer.main.get_command(app)
    lines = [
        "# Commands and options",
        "",
        "Written by `python docs/write_commands.py` from the program itself; do not edit. "
        "`headstart COMMAND --help` shows the same.",
        "",
        *_parameters(group, "headstart"),
    ]
    for name in COMMANDS:
        command = declared(name)[name]
        lines += ["", f"## {name}", "", _plain(command.help), ""]
        lines += _parameters(command, f"headstart {name}")
    return "\n".join(lines) + "\n"


def shown(command: Any) -> list[Any]:
    """Returns the arguments and options of a command that its help shows."""
    return [each for each in command.params if not getattr(each, "hidden", False)]


def spelled(parameter: Any) -> str:
    """Returns how a parameter is written on the command line.

    Options begin with dashes; of a switch that can be turned off both forms are shown.
    """
    if not parameter.opts[0].startswith("-"):
        name = (parameter.metavar or parameter.name.upper()).strip("[]. ")
        return name + (" …" if parameter.nargs == -1 else "")
    names = ", ".join(sorted([*parameter.opts, *parameter.secondary_opts], key=len))
    return names if parameter.is_flag else f"{names} {_kind(parameter)}"


def _parameters(command: Any, name: str) -> list[str]:
    parameters = shown(command)
    arguments = [each for each in parameters if not each.opts[0].startswith("-")]
    usage = [spelled(each) if each.required else f"[{spelled(each)}]" for each in arguments]
    usage += ["[OPTIONS]"]
    rows = [f"| `{spelled(each)}` | {_described(each)} |" for each in parameters]
    return [
        f"`{' '.join([name, *usage])}`",
        *(["", "| | |", "|-|-|", *rows] if rows else []),
    ]


def _described(parameter: Any) -> str:
    text = _plain(parameter.help or "")
    default = parameter.default
    said = default not in (None, False, (), [], "") and not callable(default)
    if said and parameter.show_default:
        text += f" Default: {getattr(default, 'value', default)}."
    if parameter.multiple:
        text += " May be given several times."
    return text.replace("|", "\\|")


def _kind(parameter: Any) -> str:
    if parameter.metavar:
        return str(parameter.metavar)
    choices = list(_choices(parameter.type_descriptor.annotation))
    if choices:
        return "{" + ",".join(choices) + "}"
    return KINDS.get(parameter.type_descriptor.annotation, "TEXT")


def _choices(annotation: Any) -> Iterator[str]:
    if get_origin(annotation) is Literal:
        yield from map(str, get_args(annotation))
    for each in get_args(annotation):
        yield from _choices(each)


def _plain(text: str) -> str:
    return " ".join(text.split())


if __name__ == "__main__":
    print(page(), end="")
