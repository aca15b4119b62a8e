"""The page of commands has every command and every option, in words of the program."""

from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from headstart.cli.app import declared
from headstart.cli.commands import COMMANDS

DECLARED: dict[str, Any] = {name: declared(name)[name] for name in COMMANDS}
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
    assert set(sections) == set(DECLARED)
    for name, command in DECLARED.items():
        assert command.help, f"{name} does not say what it does"
        for each in script.shown(command):
            assert each.help, f"{name} {each.opts[0]} does not say what it does"
            (row,) = (r for r in sections[name].splitlines() if f"| `{script.spelled(each)}`" in r)
            assert " ".join(each.help.split()).replace("|", "\\|") in row


def test_how_options_are_written(script: ModuleType) -> None:
    fit = {each.name: each for each in DECLARED["fit"].params}
    assert script.spelled(fit["source"]) == "SOURCE"
    assert script.spelled(fit["epochs"]) == "--epochs NUMBER"
    assert script.spelled(fit["sampler"]) == "--sampler {tpe,random}"
    page = script.page()
    assert "| `--seed NUMBER` | " in page
    assert "May be given several times." in page
    assert "Default: tpe." in page
    assert "--manual-seed" not in page, "names of other tools are only refused"


def test_the_page_in_the_repository_is_up_to_date(script: ModuleType) -> None:
    assert script.PAGE.read_text(encoding="utf-8") == script.page()
