"""What there is to say of each method: for `headstart methods` and docs/methods.md."""

import inspect
from collections.abc import Iterator, Sequence
from typing import Any, Literal, get_args, get_origin

from annotated_types import Ge, Gt, Le, Lt
from pydantic import BaseModel, ConfigDict
from pydantic.fields import FieldInfo

from headstart.errors import RecipeError, did_you_mean
from headstart.methods.method import Method, Range, method_name, searched
from headstart.recipe import FAMILIES, RULES, SEARCHED


class FieldPage(BaseModel):
    """One field of a method.

    Attributes:
        name: Its name in recipes.
        default: Its value where none is given.
        allowed: The values that may be given.
        searched: The values that a search draws from; empty where it draws none.
        meaning: What it does.
    """

    model_config = ConfigDict(frozen=True)

    name: str
    default: str
    allowed: str
    searched: str
    meaning: str


class MethodPage(BaseModel):
    """One method: its sentence and source, when it helps or hurts, and its fields."""

    model_config = ConfigDict(frozen=True)

    family: str
    name: str
    what: str
    advice: str
    fields: tuple[FieldPage, ...]


def method_pages(name: str | None = None) -> list[MethodPage]:
    """Describes every method, those of one family, or those of one name.

    Raises:
        RecipeError: If there is no such family or method.
    """
    pages = [_page(family, each) for family, each in _methods()]
    if name is None:
        return pages
    wanted = name.lower()
    found = [page for page in pages if wanted in {page.name, page.family}]
    if not found:
        known = sorted({page.name for page in pages} | set(FAMILIES))
        raise RecipeError(
            f"unknown method {name!r}{did_you_mean(wanted, known)}. "
            "`headstart methods` lists them all."
        )
    return found


def as_markdown(pages: Sequence[MethodPage]) -> str:
    """Returns docs/methods.md."""
    lines = [
        "# Methods",
        "",
        "Written by `headstart methods --markdown`; do not edit. Choose a method with "
        "`--set FAMILY=NAME`, a field with `--set FAMILY.FIELD=VALUE`. *Searched* is what trials "
        "draw from. Linear heads with several penalties and smoothings and cosine heads are tried "
        "before them, on cached features; the other families stay as the recipe has them.",
        "",
        "| family | methods |",
        "|-|-|",
    ]
    for family in FAMILIES:
        names = ", ".join(f"`{page.name}`" for page in pages if page.family == family)
        names += " and any other timm model" * (family == "backbone")
        lines.append(f"| {family} | {names} |")
    for family in FAMILIES:
        lines += ["", f"## {family}"]
        for page in pages:
            if page.family == family:
                lines += _section(page)
    lines += ["", "## What does not go together", "", "Refused, and drawn by no search:", ""]
    lines += [f"- {reason}." for reason, _ in RULES]
    return "\n".join(lines) + "\n"


def _section(page: MethodPage) -> Iterator[str]:
    yield from ("", f"### {page.name}", "", page.what, "")
    yield f"*On small data:* {page.advice}"
    if page.fields:
        yield from ("", "| field | default | allowed | searched | meaning |", "|-|-|-|-|-|")
        for each in page.fields:
            cells = (f"`{each.name}`", each.default, each.allowed, each.searched, each.meaning)
            yield "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def _methods() -> Iterator[tuple[str, type[Method]]]:
    for family, methods in FAMILIES.items():
        for method in methods:
            yield family, method


def _page(family: str, method: type[Method]) -> MethodPage:
    own = {name: field for name, field in method.model_fields.items() if name != "name"}
    return MethodPage(
        family=family,
        name=method_name(method),
        what=" ".join(inspect.cleandoc(method.__doc__ or "").split()),
        advice=method.advice,
        fields=tuple(_field_page(name, field, family) for name, field in own.items()),
    )


def _field_page(name: str, field: FieldInfo, family: str) -> FieldPage:
    return FieldPage(
        name=name,
        default=_short(field.default),
        allowed=_allowed(field),
        searched=_searched(field.metadata) if family in SEARCHED else "",
        meaning=field.description or "",
    )


def _allowed(field: FieldInfo) -> str:
    if get_origin(field.annotation) is Literal:
        return ", ".join(_short(value) for value in get_args(field.annotation))
    if field.annotation is bool:
        return "true, false"
    signs = {Gt: ">", Ge: "≥", Lt: "<", Le: "≤"}
    bounds = [
        f"{sign} {_short(getattr(mark, kind.__name__.lower()))}"
        for mark in field.metadata
        for kind, sign in signs.items()
        if isinstance(mark, kind)
    ]
    kind = "text" if field.annotation is str else getattr(field.annotation, "__name__", "")
    return " ".join([{"int": "whole number", "float": "number"}.get(kind, kind), *bounds[:2]])


def _searched(marks: Sequence[Any]) -> str:
    mark = searched(marks)
    if isinstance(mark, Range):
        return f"{_short(mark.low)} to {_short(mark.high)}{', logarithmic' if mark.log else ''}"
    return "" if mark is None else ", ".join(_short(value) for value in mark.values)


def _short(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return f"{value:.3g}" if isinstance(value, float) else str(value)
