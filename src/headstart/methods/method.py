"""The base of all methods: strict frozen models with search ranges, grouped in families."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, get_args

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field


class Method(BaseModel):
    """One technique: a frozen pydantic model; `name` is a literal, other fields are parameters.

    The docstring of a method is one sentence and its source. Its fields declare the allowed values
    (`Field`) and, if a search may draw them, the values to draw from (`Range`, `Choices`).

    Other modules never ask for a method's class. What they need to know is a property, with a
    default in the base class of the family.

    Attributes:
        advice: When the method helps or hurts on small data.
        absent: Whether it stands for no method at all (`none`, `keep`).
        is_baseline: Whether it is what training does without a method (a constant rate, plain
            cross-entropy), so that it leaves no trace to check.
        shares_trials: Whether a search may draw it in trials along with other methods.
    """

    advice: ClassVar[str] = ""
    absent: ClassVar[bool] = False
    is_baseline: ClassVar[bool] = False
    shares_trials: ClassVar[bool] = True

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


@dataclass(frozen=True)
class Range:
    """The interval that a search draws a field from, on a linear or logarithmic scale."""

    low: float
    high: float
    log: bool = False


@dataclass(frozen=True)
class Choices:
    """The unordered values that a search draws a field from."""

    values: tuple[Any, ...]


def searched(marks: Sequence[Any]) -> Range | Choices | None:
    """Returns what a search draws a field from, given its metadata; None if it draws nothing.

    The last mark counts: the alias of a field's type may carry an earlier one.

    Example:
        >>> searched(["a note", Range(0, 1), Choices((1, 2))])
        Choices(values=(1, 2))
    """
    found = [mark for mark in marks if isinstance(mark, Range | Choices)]
    return found[-1] if found else None


def named(value: Any) -> Any:
    """Expands a plain name to a method with default values, as in `optimizer = "adamw"`.

    Example:
        >>> named("adamw"), named({"name": "sgd", "lr": 0.1})
        ({'name': 'adamw'}, {'name': 'sgd', 'lr': 0.1})
    """
    return {"name": value} if isinstance(value, str) else value


def family(union: Any, **aliases: str) -> Any:
    """Returns the field type of a family: its union, discriminated by `name`.

    Args:
        union: Union of the methods' classes.
        aliases: Other common names, each with the name that it stands for.
    """

    def by_name(value: Any) -> Any:
        value = named(value)
        name = value.get("name") if isinstance(value, dict) else None
        if isinstance(name, str) and name in aliases:
            return {**value, "name": aliases[name]}
        return value

    return Annotated[union, BeforeValidator(by_name), Field(discriminator="name")]


def members(union: Any) -> tuple[type[Method], ...]:
    """Returns the methods of a family's union, in the order of its definition."""
    return get_args(union) or (union,)


def method_name(method: type[Method]) -> str:
    """Returns a method's name in recipes."""
    return str(method.model_fields["name"].default)
