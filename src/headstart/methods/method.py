"""What all methods have in common: strict frozen fields with search ranges, and families."""

from dataclasses import dataclass
from typing import Annotated, Any, get_args

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field


class Method(BaseModel):
    """One technique: a frozen pydantic model; `name` is a literal, the other fields its parameters.

    A method's docstring is its one sentence and its source; its fields carry the values that are
    allowed (`Field`) and, where a search may draw them, the range to draw from (`Range`).
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


@dataclass(frozen=True)
class Range:
    """The values that a search draws a field from."""

    low: float
    high: float
    log: bool = False


@dataclass(frozen=True)
class Choices:
    """The values that a search draws a field from, where they have no order."""

    values: tuple[Any, ...]


def named(value: Any) -> Any:
    """Lets a plain name stand for a method with its default values: `optimizer = "adamw"`."""
    return {"name": value} if isinstance(value, str) else value


def family(union: Any) -> Any:
    """Returns the field type of a family: its union, discriminated by `name`."""
    if len(members(union)) == 1:  # pydantic discriminates only between two or more
        return Annotated[union, BeforeValidator(named)]
    return Annotated[union, BeforeValidator(named), Field(discriminator="name")]


def members(union: Any) -> tuple[type[Method], ...]:
    """Returns the methods of a family's union, in the order in which they were named."""
    return get_args(union) or (union,)


def method_name(method: type[Method]) -> str:
    """Returns the name by which recipes call a method."""
    return str(method.model_fields["name"].default)
