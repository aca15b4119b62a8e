"""The page of commands has every command and every option, in words of the program."""

from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import typer

from headstart.cli.app import app
from headstart.cli.main import MODULES, register

register([])
GROUP: Any = typer.main.get_command(app)
SCRIPT = Path(__file__).parents[2] / "docs" / "write_commands.py"


@pytest.fixture(scope="module")
def script() -> ModuleType:
    spec = spec_from_file_location("write_commands", SCRIPT)
    assert spec is not None and spec.loader is not None
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_every_command_and_every_option_is_documented(script: ModuleType) -> None:
    sections = dict(
        part.split("\n", 1) for part in script.page().removeprefix("# ").split("\n## ")[1:]
    )
    assert set(sections) == set(GROUP.commands) == {n for names in MODULES.values() for n in names}
    for name, command in GROUP.commands.items():
        assert command.help, f"{name} does not say what it does"
        for each in script.shown(command):
            assert each.help, f"{name} {each.opts[0]} does not say what it does"
            (row,) = (r for r in sections[name].splitlines() if f"| `{script.spelled(each)}`" in r)
            assert " ".join(each.help.split()).replace("|", "\\|") in row


def test_how_options_are_written(script: ModuleType) -> None:
    fit = {each.name: each for each in GROUP.commands["fit"].params}
    assert script.spelled(fit["source"]) == "SOURCE"
    assert script.spelled(fit["epochs"]) == "--epochs NUMBER"
    assert script.spelled(fit["sampler"]) == "--sampler {tpe,random}"
    page = script.page()
    assert "| `--seed NUMBER` | " in page
    assert "May be given several times." in page
    assert "Default: tpe." in page
    assert "--manual-seed" not in page, "names of other tools are only refused"
