"""The words of the package: errors are sentences, and no phrase reads as translated."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import headstart
from headstart.recipes.recipe import Recipe

PACKAGE = Path(headstart.__file__).parent

SOURCES = sorted(PACKAGE.rglob("*.py"))

UNCHECKED: set[str] = set()
"""Rooms whose texts are not rewritten yet."""

CLAUSES = {
    "AttributeError", "BadImageError", "FormError", "HeatError", "OnnxExportError", "UncutError",
    "UnavailableError", "_CutError",
}  # fmt: skip
"""Errors whose texts are clauses: whoever catches them puts them into a sentence."""

FIELDS = re.compile(rf"({'|'.join(Recipe.model_fields)}|labels)( ?=|[.:,_])|[a-z]+_[a-z_]+ |demo:")
"""Fields of a recipe, and other literals that a message may begin with."""

BANNED = (
    "is gone on with", "go on with", "goes on with", " is no bundle", "is no run", "1 trials",
    "the time sufficed", "what is said of them",
)  # fmt: skip

SPACED_PERCENT = re.compile(r"[0-9}] %(?![a-zA-Z(])")


def texts(node: ast.AST) -> Iterator[str]:
    """Yields the string literals of a module; placeholders of f-strings are `{}`."""
    if isinstance(node, ast.JoinedStr):
        yield "".join(
            str(part.value) if isinstance(part, ast.Constant) else "{}" for part in node.values
        )
        return
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        yield node.value
    for child in ast.iter_child_nodes(node):
        yield from texts(child)


def messages(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """Yields the texts of raised errors with their lines."""
    for node in ast.walk(tree):
        if not (isinstance(node, ast.Raise) and isinstance(node.exc, ast.Call)):
            continue
        call = node.exc
        name = call.func.id if isinstance(call.func, ast.Name) else ""
        if not name.endswith("Error") or name in CLAUSES or not call.args:
            continue
        if isinstance(call.args[0], ast.Constant | ast.JoinedStr):
            yield node.lineno, next(texts(call.args[0]), "")


def is_sentence(text: str) -> bool:
    """Returns whether a message starts and ends like a sentence."""
    first = text[:1]
    begins = first.isupper() or first in set("{-`'\"") or FIELDS.match(text) is not None
    return begins and text.endswith((".", "?", "{}", ".'", "`"))


def is_checked(path: Path) -> bool:
    return path.relative_to(PACKAGE).parts[0] not in UNCHECKED


@pytest.mark.parametrize(
    ("text", "good"),
    [
        ("There is no such folder.", True),
        ("there is no such folder.", False),
        ("There is no such folder", False),
        ("{} is not a folder.", True),
        ("optimizer.lr must be positive.", True),
        ("averaging = soup needs held-out images.", True),
        ("unknown backbone {}.", False),
    ],
)
def test_what_counts_as_a_sentence(text: str, good: bool) -> None:
    assert is_sentence(text) is good


def test_errors_are_sentences() -> None:
    found = [
        f"{path.relative_to(PACKAGE)}:{line}: {text}"
        for path in filter(is_checked, SOURCES)
        for line, text in messages(ast.parse(path.read_text(encoding="utf-8")))
        if not is_sentence(text)
    ]
    assert not found, "\n".join(found)


def test_no_text_has_a_banned_phrase() -> None:
    found = []
    for path in filter(is_checked, SOURCES):
        for text in texts(ast.parse(path.read_text(encoding="utf-8"))):
            plain = " ".join(text.split())
            phrases = [phrase for phrase in BANNED if phrase in plain]
            phrases += SPACED_PERCENT.findall(plain)
            found += [f"{path.relative_to(PACKAGE)}: {phrase!r}: {plain}" for phrase in phrases]
    assert not found, "\n".join(found)


def test_no_description_of_an_argument_starts_with_of() -> None:
    pattern = re.compile(r"^\s+\w+: Of\b.*$", re.MULTILINE)
    found = [
        f"{path.relative_to(PACKAGE)}:{line.group().strip()}"
        for path in filter(is_checked, SOURCES)
        for line in pattern.finditer(path.read_text(encoding="utf-8"))
    ]
    assert not found, "\n".join(found)


def test_unchecked_rooms_exist() -> None:
    assert all((PACKAGE / room).exists() for room in UNCHECKED)
