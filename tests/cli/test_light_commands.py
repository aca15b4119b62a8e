"""Commands that train nothing start without PyTorch, which takes seconds to load."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

FINISHED = Path(__file__).parents[1] / "fixtures" / "run_6dddef2" / "finished"

CODE = """
import sys
from headstart.cli.main import main
sys.argv = ["headstart", *{arguments}]
try:
    main()
except SystemExit as end:
    assert not end.code, end.code
found = set({heavy}) & {{name.partition(".")[0] for name in sys.modules}}
assert not found, found
"""

TORCH = {"torch", "torchvision", "timm", "onnx", "onnxruntime", "huggingface_hub"}
LIBRARIES = {"scipy", "sklearn", "optuna", "pandas", "matplotlib"}


def run_without(heavy: set[str], *arguments: object) -> str:
    """Runs a command in a process of its own that must not import `heavy`; returns its output."""
    code = CODE.format(arguments=[str(each) for each in arguments], heavy=sorted(heavy))
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize(
    ("arguments", "shown"),
    [
        (["--help"], "leaderboard"),
        (["fit", "--help"], "--budget"),
        (["methods"], "trivial_augment"),
        (["methods", "head", "--json"], "nearest"),
    ],
)
def test_what_reads_only_text_imports_no_numerical_library(
    arguments: list[object], shown: str
) -> None:
    assert shown in run_without(TORCH | LIBRARIES, *arguments)


@pytest.mark.parametrize(
    ("arguments", "shown"),
    [(["leaderboard", FINISHED], "rank"), (["diff", FINISHED, FINISHED], "equally many")],
)
def test_what_reads_runs_imports_no_pytorch(arguments: list[object], shown: str) -> None:
    assert shown in run_without(TORCH | LIBRARIES - {"scipy"}, *arguments)


def test_the_report_is_drawn_without_pytorch(tmp_path: Path) -> None:
    run = shutil.copytree(FINISHED, tmp_path / "run")
    run_without(TORCH | {"sklearn", "optuna", "pandas"}, "report", run)
    assert (run / "report.html").stat().st_size > 10_000


def test_images_are_checked_without_pytorch(pictures: Path) -> None:
    assert "image" in run_without(TORCH | LIBRARIES - {"scipy"}, "check", pictures)
