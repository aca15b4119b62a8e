"""What folders mean; every example of docs/layouts.md is built and read."""

import re
import shlex
from dataclasses import dataclass
from pathlib import Path

import pytest

from headstart.data.sources import load_dataset
from headstart.errors import DataError
from headstart.recipes.options import SourceOptions

PAGE = Path(__file__).parents[2] / "docs" / "layouts.md"


@dataclass(frozen=True)
class Example:
    """A folder of the page, the options, and what is printed."""

    paths: tuple[str, ...]
    flags: tuple[str, ...]
    printed: str


def examples() -> list[Example]:
    found = re.findall(r"```tree\n(.*?)```\n```text\n(.*?)```", PAGE.read_text("utf-8"), re.S)
    built = []
    for tree, printed in found:
        lines = tree.splitlines()
        flags = [part for line in lines if line.startswith("--") for part in shlex.split(line)]
        paths = tuple(line for line in lines if not line.startswith("--"))
        built.append(Example(paths, tuple(flags), printed.rstrip("\n")))
    return built


def build(root: Path, paths: tuple[str, ...]) -> Path:
    """Writes empty files: sources never open an image."""
    for label in ("ants", "bees"):
        for number in range(1, 4):
            place = root / "DISK" / label / f"{number}.jpg"
            place.parent.mkdir(parents=True, exist_ok=True)
            place.touch()
    folder = root / "FOLDER"
    for path in paths:
        name, _, target = path.partition(" -> ")
        if target:
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            inside = root if target.startswith("DISK/") else folder
            (folder / name).symlink_to(inside / target)
            continue
        if name.endswith("/"):
            (folder / name).mkdir(parents=True)
            continue
        several = re.search(r"\{(\d+)-(\d+)\}", name)
        numbers = range(int(several[1]), int(several[2]) + 1) if several else [0]
        for number in numbers:
            each = folder / (name.replace(several[0], str(number)) if several else name)
            each.parent.mkdir(parents=True, exist_ok=True)
            each.touch()
    return folder


def printed(folder: Path, flags: tuple[str, ...] = ()) -> str:
    values = dict(zip(flags[::2], flags[1::2], strict=True)) if "--layout" in flags else {}
    options = SourceOptions.model_validate(
        {"layout": values.get("--layout"), "follow_links": "--follow-links" in flags}
    )
    try:
        return "\n".join(load_dataset(folder, options).understanding.lines())
    except DataError as error:
        return f"error: {error}".replace(str(folder.resolve()), "FOLDER")


def test_the_page_has_its_examples() -> None:
    assert PAGE.read_text("utf-8").count("```tree") == len(examples()) > 20


@pytest.mark.parametrize("example", examples(), ids=lambda each: " ".join(each.paths[:2])[:60])
def test_an_example_of_the_page(example: Example, tmp_path: Path) -> None:
    assert printed(build(tmp_path, example.paths), example.flags) == example.printed
