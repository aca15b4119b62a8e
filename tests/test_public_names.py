"""What `import headstart` offers, and that it loads nothing heavy by itself."""

import subprocess
import sys

import pytest

import headstart


@pytest.mark.parametrize("name", headstart.__all__)
def test_every_public_name_is_there_and_documented(name: str) -> None:
    assert "Example:\n" in getattr(headstart, name).__doc__
    assert getattr(headstart, name).__name__ == name


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no_such_name"):
        headstart.no_such_name  # noqa: B018


def test_nothing_heavy_is_imported_before_it_is_used() -> None:
    code = "import headstart, headstart.cli, sys; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    heavy = {"torch", "timm", "optuna", "pytorch_metric_learning", "matplotlib", "onnxruntime"}
    assert not heavy & set(done.stdout.split())


def test_dir_lists_what_there_is_and_python_its_own_names() -> None:
    assert {*headstart.__all__, "__version__"} == set(dir(headstart))
    commands = {"benefit", "check", "compare", "diff", "embed", "fit", "leaderboard", "report"}
    assert commands | {"backbones", "resume", "show", "similar", "suspects"} <= set(dir(headstart))


@pytest.mark.parametrize(
    "first", ["", "headstart.report.page", "headstart.fit", "headstart.report"]
)
def test_a_function_stays_one_whatever_is_imported_first(first: str) -> None:
    code = f"""
import importlib, headstart
{f"importlib.import_module({first!r})" if first.endswith(("page", "report")) else first}
import headstart.report.page
print(headstart.report.__name__, callable(headstart.report))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["report", "True"]
