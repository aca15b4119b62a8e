"""What all methods have in common: strict frozen fields with search ranges, and families."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, get_args

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field


class Method(BaseModel):
    """One technique: a frozen pydantic model; `name` is a literal, the other fields its parameters.

    A method's docstring is its one sentence and its source; its fields carry the values that are
    allowed (`Field`) and, where a search may draw them, what to draw from (`Range`, `Choices`).

    What other modules must know of a method is a property of its class, with a default in its
    family's base class: they never ask which class it is.

    Attributes:
        advice: When it helps or hurts on small data.
        absent: Whether it stands for no method at all (`none`, `keep`).
        is_baseline: Whether it does only what training does anyway (a constant rate, plain
            cross-entropy): there is nothing to be seen of it.
        shares_trials: Whether the trials of a search may draw it beside other methods.
    """

    advice: ClassVar[str] = ""
    absent: ClassVar[bool] = False
    is_baseline: ClassVar[bool] = False
    shares_trials: ClassVar[bool] = True

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


def searched(marks: Sequence[Any]) -> Range | Choices | None:
    """Returns what a search draws a field from, given its metadata; None where it is set by hand.

    The last one counts: an alias of the field's type may bring an earlier one.
    """
    found = [mark for mark in marks if isinstance(mark, Range | Choices)]
    return found[-1] if found else None


def named(value: Any) -> Any:
    """Lets a plain name stand for a method with its default values: `optimizer = "adamw"`."""
    return {"name": value} if isinstance(value, str) else value


def family(union: Any, **aliases: str) -> Any:
    """Returns the field type of a family: its union, discriminated by `name`.

    Args:
        union: Of the methods' classes.
        aliases: Other names that people use, with the name that each stands for.
    """

    def by_name(value: Any) -> Any:
        value = named(value)
        if isinstance(value, dict) and value.get("name") in aliases:
            return {**value, "name": aliases[value["name"]]}
        return value

    return Annotated[union, BeforeValidator(by_name), Field(discriminator="name")]


def members(union: Any) -> tuple[type[Method], ...]:
    """Returns the methods of a family's union, in the order in which they were named."""
    return get_args(union) or (union,)


def method_name(method: type[Method]) -> str:
    """Returns the name by which recipes call a method."""
    return str(method.model_fields["name"].default)
