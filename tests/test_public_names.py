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
