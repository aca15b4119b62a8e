"""Code in the pages runs, or a comment above it says why it is not run.

Commands that read a run or a folder are run as they stand, on small pictures. All commands are
given to the parser of the program, which refuses names and values that do not exist; those that
train are run by `test_training_commands.py`.
"""

import ast
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess

import pytest
from doc_blocks import (
    ALL,
    COMMANDS,
    ELSEWHERE,
    GROUP,
    PROGRAMS,
    ROOT,
    Block,
    blocks,
    commands,
    is_quick,
    parsed,
)

import headstart as package
from headstart.inference.run import Run

PROJECT = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
DONE = set[tuple[str, ...]]()


@pytest.fixture(scope="module")
def place(pictures: Path, head_run: Run, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with what the pages name: images, an image, a table, and a finished run."""
    folder = tmp_path_factory.mktemp("pages")
    shutil.copytree(pictures, folder / "flowers")
    shutil.copytree(head_run.folder, folder / "RUN")
    shutil.copytree(head_run.folder, folder / "solar")
    shutil.copy(next(pictures.rglob("*.png")), folder / "new.png")
    shutil.copy(folder / "new.png", folder / "NEW.png")
    rows = [f"flowers/{p.parent.name}/{p.name},{p.parent.name}" for p in pictures.rglob("*.png")]
    (folder / "images.csv").write_text("\n".join(["path,label", *sorted(rows)]) + "\n")
    return folder


@pytest.mark.parametrize("block", ALL, ids=str)
def test_every_block_is_of_a_kind_that_is_run_or_says_why_not(block: Block) -> None:
    assert block.why_not or block.language in {"sh", "console", "python", "text", "tree", "toml"}


@pytest.mark.parametrize("page", ELSEWHERE)
def test_what_is_read_elsewhere_is_read_there(page: str) -> None:
    assert Path(page).name in (ROOT / ELSEWHERE[page]).read_text(encoding="utf-8")


@pytest.mark.parametrize("block", COMMANDS, ids=str)
def test_commands_run(
    block: Block,
    place: Path,
    monkeypatch: pytest.MonkeyPatch,
    headstart: Callable[..., CompletedProcess[str]],
) -> None:
    monkeypatch.chdir(place)
    targets = re.findall(r"^(\w+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    for program, *words in commands(block.text):
        if program == "make":
            assert set(words) <= set(targets)
        elif program == "python":
            assert words[0] == "-m" or (ROOT / words[0]).exists()
        elif program == "pip":
            extras = re.findall(r"\[([\w,]+)\]", " ".join(words))
            assert all(
                re.search(rf"^{each} = ", PROJECT, re.M) for e in extras for each in e.split(",")
            )
        elif program == "headstart":
            if words[0].startswith("--"):
                assert words[0] in {option for each in GROUP.params for option in each.opts}
                continue
            if is_quick(words) and tuple(words) not in DONE:
                DONE.add(tuple(words))
                done = headstart(*words)
                assert done.returncode == 0, (words, done.stderr)
        else:
            raise AssertionError(f"{program} is not run: say why in a comment above the block")


@pytest.mark.slow
@pytest.mark.parametrize("block", PROGRAMS, ids=str)
def test_programs_run(block: Block, place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(place)
    tree = ast.parse(block.text)
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            assert node.value.id != "headstart" or hasattr(package, node.attr)
    exec(compile(tree, str(block), "exec"), {})


def test_wrong_commands_and_blocks_are_found() -> None:
    def refused(command: str) -> None:
        ((_, *words),) = commands(command)
        with pytest.raises(Exception, match=r"(?i)no such|invalid|missing|valid integer"):
            parsed(words)

    assert parsed(["fit", "flowers", "--budget", "5m"]) == "fit"
    refused("headstart fti FOLDER")
    refused("headstart fit FOLDER --bugdet 5m")
    refused("headstart fit FOLDER --epochs many")
    refused("headstart similar RUN")
    page = "<!-- not run: it costs money -->\n```sh\nrm\n```\n\n```python\nx = 1\n```\n"
    first, second = blocks("page", page)
    assert (first.why_not, second.why_not) == ("it costs money", "")
    assert list(commands("$ headstart check FOLDER  # why\n2 classes")) == [
        ["headstart", "check", "flowers"]
    ]
