"""The page on the architecture names files that exist, all rooms, and the layers as tested."""

import re
import runpy
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SOURCE = ROOT / "src" / "headstart"
LAYERS = runpy.run_path(str(Path(__file__).parent / "test_import_rule.py"))["LAYERS"]
PAGE = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
NAMED = sorted(set(re.findall(r"`((?:src|tests|docs|benchmarks)/[\w./]+)`", PAGE)))
LINKED = sorted(set(re.findall(r"\]\(([\w./]+)(?:#[\w-]+)?\)", PAGE)))
SHORT = sorted(set(re.findall(r"`(\w+(?:/\w+)+)`", PAGE)) - set(NAMED))
"""Modules by their room: `data/splits` is the file splits.py, or a folder, of the room data."""


@pytest.mark.parametrize("name", NAMED)
def test_named_files_exist(name: str) -> None:
    assert (ROOT / name).exists()


@pytest.mark.parametrize("name", LINKED)
def test_linked_files_exist(name: str) -> None:
    assert (ROOT / "docs" / name).exists()


@pytest.mark.parametrize("name", SHORT)
def test_named_modules_exist(name: str) -> None:
    assert (SOURCE / f"{name}.py").exists() or (SOURCE / name).is_dir()


def test_the_main_path_is_named_file_by_file() -> None:
    steps = ["cli/fit", "api/fit", "search/search", "training/finetune", "report/page"]
    assert {f"src/headstart/{step}.py" for step in steps} <= set(NAMED)


def test_every_room_is_named() -> None:
    rooms = {path.parent.name for path in SOURCE.glob("*/__init__.py")}
    assert {room for room in rooms if f"`{room}/`" not in PAGE} == set()


def test_the_drawn_layers_are_those_of_the_import_rule() -> None:
    block = PAGE.partition("## Layers")[2].split("```")[1]
    drawn = [line.split("|")[1].split() for line in block.splitlines() if "|" in line]
    assert [{name.rstrip("/") for name in layer} for layer in drawn] == list(reversed(LAYERS))
