"""Options of the command line: what their help says."""

import inspect
from typing import Any

import pytest
from pydantic import BaseModel, Field

from headstart.cli.options import takes_options
from headstart.recipes.options import FitOptions


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
