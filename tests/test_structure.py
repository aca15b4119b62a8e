"""The shape of the source: few parameters, short files, one name for one thing."""

import ast
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[1] / "src"
FILES = sorted(SOURCE.rglob("*.py"))
NAMES = [str(path.relative_to(SOURCE)) for path in FILES]

MOST_PARAMETERS = 7
MOST_UNDOCUMENTED_LINES = 60
MOST_LINES = 400

Function = ast.FunctionDef | ast.AsyncFunctionDef


def functions(tree: ast.Module) -> Iterator[tuple[Function, str]]:
    """Yields all functions, each with its docstring and that of the class it belongs to."""

    def inside(node: ast.AST, of_class: str) -> Iterator[tuple[Function, str]]:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, Function):
                yield child, (ast.get_docstring(child) or "") + of_class
                yield from inside(child, "")
            elif isinstance(child, ast.ClassDef):
                yield from inside(child, ast.get_docstring(child) or "")
            else:
                yield from inside(child, of_class)

    return inside(tree, "")


def parameters(function: Function) -> list[str]:
    """Names of the parameters that a caller gives, without keywords that are handed on."""
    taken = function.args
    names = [each.arg for each in (*taken.posonlyargs, *taken.args, *taken.kwonlyargs)]
    return [name for name in names if name not in ("self", "cls")]


def too_many_parameters(tree: ast.Module) -> list[str]:
    return [
        function.name
        for function, docstring in functions(tree)
        if len(parameters(function)) > MOST_PARAMETERS and "more parameters" not in docstring
    ]


def long_without_docstring(tree: ast.Module) -> list[str]:
    return [
        function.name
        for function, _ in functions(tree)
        if (function.end_lineno or 0) - function.lineno + 1 > MOST_UNDOCUMENTED_LINES
        and not ast.get_docstring(function)
    ]


@pytest.mark.parametrize("path", FILES, ids=NAMES)
def test_a_file_is_easy_to_read(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    tree = ast.parse(text)
    assert not too_many_parameters(tree), "pass plain data together, or say why in the docstring"
    assert not long_without_docstring(tree)
    assert len(text.splitlines()) <= MOST_LINES


def test_a_name_of_a_class_is_used_once() -> None:
    classes = Counter(
        node.name
        for path in FILES
        for node in ast.parse(path.read_text(encoding="utf-8")).body
        if isinstance(node, ast.ClassDef) and not node.name.startswith("_")
    )
    assert len(classes) > 100
    assert [name for name, count in classes.items() if count > 1] == []


def test_the_rules_see_what_breaks_them() -> None:
    seven = "a, b, c, d, e, f, g"
    assert not too_many_parameters(ast.parse(f"class A:\n def f(self, {seven}): ..."))
    assert too_many_parameters(ast.parse(f"class A:\n def f(self, {seven}, *, h): ...")) == ["f"]
    assert too_many_parameters(ast.parse(f"def f({seven}, h, /): ...")) == ["f"]
    why = '"""It takes more parameters than others, because …"""'
    assert not too_many_parameters(ast.parse(f"class A:\n {why}\n def f(self, {seven}, h): ..."))
    body = "    x = 1\n" * 60
    assert long_without_docstring(ast.parse("def f():\n" + body)) == ["f"]
    assert not long_without_docstring(ast.parse('def f():\n    """Does it."""\n' + body))
