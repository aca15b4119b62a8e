"""The blocks of code in the README and the docs, and the commands in them."""

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import typer

from headstart.cli.app import app

GROUP: Any = typer.main.get_command(app)
ROOT = Path(__file__).parents[2]
PAGES = sorted([ROOT / "README.md", *ROOT.glob("docs/**/*.md")])
ELSEWHERE = {
    "docs/architecture.md": "tests/test_architecture_page.py",
    "docs/bundle.md": "tests/inference/test_predict.py",
    "docs/layouts.md": "tests/data/test_layouts.py",
}
"""Pages whose blocks other tests read."""

NAMES = {
    "FOLDER": "flowers",
    "OLD_RUN": "RUN",
    "[NAME]": "onecycle",
    "IMAGE": "new.png",
}
QUICK = {
    "backbones",
    "check",
    "diff",
    "embed",
    "methods",
    "predict",
    "report",
    "similar",
    "suspects",
}
"""Commands that train nothing and need only what every run has."""


@dataclass(frozen=True)
class Block:
    """A block of code: where it is, its language, its text, and why it is not run."""

    page: str
    line: int
    language: str
    text: str
    why_not: str

    def __str__(self) -> str:
        return f"{self.page}:{self.line}"


def blocks(page: str, text: str) -> Iterator[Block]:
    pattern = r"(?:<!-- not run: ([^\n]+) -->\n)?^( *)```(\w*)\n(.*?)^ *```$"
    for found in re.finditer(pattern, text, re.MULTILINE | re.DOTALL):
        why_not, indent, language, code = found.groups()
        plain = re.sub(f"^{indent}", "", code, flags=re.MULTILINE)
        line = text[: found.start()].count("\n") + 1
        yield Block(page, line, language, plain, why_not or "")


ALL = [
    block
    for page in PAGES
    for block in blocks(str(page.relative_to(ROOT)), page.read_text(encoding="utf-8"))
    if str(page.relative_to(ROOT)) not in ELSEWHERE
]
RUN = [block for block in ALL if not block.why_not]
COMMANDS = [block for block in RUN if block.language in {"sh", "console"}]
PROGRAMS = [block for block in RUN if block.language == "python"]


def commands(text: str) -> Iterator[list[str]]:
    """Yields the commands of a block; output and comments are left out."""
    console = any(line.startswith("$ ") for line in text.splitlines())
    for line in text.splitlines():
        if line.strip() and (line.startswith("$ ") or not console):
            last = re.sub(r"^.* \| (?=headstart )", "", line.removeprefix("$ "))
            words = shlex.split(last, comments=True)
            yield [NAMES.get(word, word) for word in words if word != "…"]


def parsed(words: list[str]) -> str:
    """Returns the name of a command that the parser takes; it fails on one that it does not."""
    with GROUP.make_context("headstart", words, resilient_parsing=False) as context:
        name, command, rest = GROUP.resolve_command(context, context._protected_args + context.args)
        with command.make_context(name, rest, parent=context):
            return str(name)


def is_quick(words: list[str]) -> bool:
    """Whether a command is run with the blocks; the others are run by `test_training_commands`."""
    return parsed(words) in QUICK and not {"demo:solar", "-"} & set(words)
