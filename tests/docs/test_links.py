"""Links in the pages of the repository lead somewhere; `make docs` checks those of the site."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), ROOT / "docs" / "llms.txt"])
GENERATED = {ROOT / "docs" / "commands.md"}
LINK = re.compile(r"\]\(([^)\s]+)\)|(?:src|srcset)=\"([^\"]+)\"")


def broken(page: Path, text: str) -> Iterator[str]:
    """Yields links to files and headings that are not there."""
    text = re.sub(r"^```.*?^```$", "", text, flags=re.MULTILINE | re.DOTALL)
    for found in LINK.finditer(re.sub(r"`[^`\n]*`", "", text)):
        target = found.group(1) or found.group(2)
        if target.startswith(("http://", "https://")):
            continue
        name, _, anchor = target.partition("#")
        file = (page.parent / name).resolve() if name else page
        if file in GENERATED:
            continue
        if not file.exists() or (anchor and anchor not in anchors(file)):
            yield target


def anchors(page: Path) -> set[str]:
    """Returns the names of the headings of a page, as GitHub and MkDocs make them."""
    lines = page.read_text(encoding="utf-8").splitlines()
    headings = [line.lstrip("# ") for line in lines if line.startswith("#")]
    return {re.sub(r"[^\w\- ]", "", each.lower()).replace(" ", "-") for each in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    assert list(broken(page, page.read_text(encoding="utf-8"))) == []


def test_broken_links_are_found() -> None:
    text = (
        "[a](CHANGELOG.md) [b](nowhere.md) [c](docs/layouts.md#manifests) [d](docs/layouts.md#x) "
        '<img src="none.png"> [e](#headstart) [f](#none) `[g](code.md)`\n```\n[h](block.md)\n```\n'
    )
    page = ROOT / "README.md"
    assert list(broken(page, text)) == ["nowhere.md", "docs/layouts.md#x", "none.png", "#none"]
