"""Options of the command line: what their help says."""

import inspect
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel, Field

from headstart.cli.app import declared
from headstart.cli.commands import COMMANDS as LISTED
from headstart.cli.options import NAMES, takes_options
from headstart.recipes.options import (
    BenefitOptions,
    CompareOptions,
    FitOptions,
    ResumeOptions,
    SourceOptions,
)

MODELS = {
    "fit": FitOptions, "resume": ResumeOptions, "compare": CompareOptions,
    "benefit": BenefitOptions, "check": SourceOptions, "suspects": SourceOptions,
    "show": SourceOptions,
}  # fmt: skip
COMMANDS: dict[str, Any] = {name: declared(name)[name] for name in LISTED}
Command = Callable[..., subprocess.CompletedProcess[str]]


class Example(BaseModel):
    """Defaults of several kinds."""

    zero: int = Field(0, description="Seed.")
    number: float = Field(0.5, description="Share.")
    switch: bool = Field(False, description="Switch.")
    absent: str | None = Field(None, description="Absent.")
    many: tuple[str, ...] = Field((), description="Many.")


def help_of(model: type[BaseModel]) -> dict[str, str]:
    @takes_options(model)
    def command(**values: Any) -> None:
        """Does nothing."""

    parameters = inspect.signature(command).parameters.values()
    options = [(each.name, each.annotation.__metadata__[0]) for each in parameters]
    return {name: option.help for name, option in options if not option.hidden}


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("zero", "Seed. Default: 0."),
        ("number", "Share. Default: 0.5."),
        ("switch", "Switch."),
        ("absent", "Absent."),
        ("many", "Many."),
    ],
)
def test_help_shows_defaults_that_say_something(name: str, text: str) -> None:
    assert help_of(Example)[name] == text


def test_help_shows_the_default_seed_of_the_split() -> None:
    assert help_of(FitOptions)["split_seed"].endswith("Default: 0.")


def defaults_of(command: str) -> dict[str, Any]:
    """Defaults that say something, by option: of the command itself and of its model."""
    model = MODELS.get(command)
    fields = model.model_fields if model else {}
    flags = {
        NAMES.get(name, "--" + name.replace("_", "-")): field for name, field in fields.items()
    }
    found = {}
    for option in COMMANDS[command].params:
        field = flags.get(option.opts[0])
        default = option.default if field is None else field.default
        if not option.hidden and default is not False and default not in (None, (), ""):
            found[option.opts[0]] = default
    return found


@pytest.mark.parametrize("command", COMMANDS)
def test_help_shows_the_default_of_every_option(
    command: str, headstart: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    rows, option = {}, ""
    for line in headstart(command, "--help").stdout.splitlines():
        begins = re.match(r"│ {1,10}(--?[a-z][a-z-]*) ", line)
        option = begins[1] if begins else option
        rows[option] = " ".join([*rows.get(option, "").split(), *line.strip("│ ").split()])
    for option, default in defaults_of(command).items():
        assert f"Default: {default}." in rows[option]


def test_the_defaults_that_help_must_show_are_found() -> None:
    assert defaults_of("suspects") == {"--out": Path("suspects.csv"), "--boxes": "crop"}
    assert defaults_of("similar") == {"-k": 5}
    assert defaults_of("compare")["--budget"] == "10m"


@pytest.mark.parametrize(
    ("option", "says"),
    [
        (("--lr", "1e-3"), "Unknown option 'lr'; did you mean --set optimizer.lr=VALUE?"),
        (("--learning-rate", "1"), "did you mean --set optimizer.lr=VALUE?"),
        (("--batch-size", "64"), "did you mean --set batch_size=VALUE?"),
        (("--model", "resnet50"), "did you mean 'backbone'?"),
        (("--num-epochs", "3"), "did you mean 'epochs'?"),
        (("--budget", "5"), "The budget '5' has no unit: 5m or 5s?"),
    ],
)
def test_options_of_other_tools_are_refused_with_ours(
    option: tuple[str, str], says: str, headstart: Command
) -> None:
    told = headstart("fit", "nowhere", *option)
    assert told.returncode == 2
    assert says in told.stderr
    assert option[0] == "--budget" or option[0] not in headstart("fit", "--help").stdout.split()


def test_the_shell_completes_commands_and_options() -> None:
    code = "import sys; sys.argv = ['headstart']; from headstart.cli.main import main; main()"

    def complete(line: str) -> list[str]:
        asked = {"_HEADSTART_COMPLETE": "complete_bash", "COMP_WORDS": line}
        asked["COMP_CWORD"] = str(len(line.split()) - 1)
        done = subprocess.run(
            [sys.executable, "-c", code],
            capture_output=True, text=True, check=True, env={**os.environ, **asked},
        )  # fmt: skip
        return done.stdout.split()

    assert complete("headstart lead") == ["leaderboard"]
    assert complete("headstart fit --spl") == ["--split-seed", "--split"]


def test_the_help_shows_no_type_behind_a_switch() -> None:
    switches = [
        (name, each)
        for name, command in COMMANDS.items()
        for each in command.params
        if getattr(each, "is_flag", False)
    ]
    assert len(switches) > 20
    assert [(name, each.name) for name, each in switches if each.metavar != ""] == []
