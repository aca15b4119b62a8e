"""The site names every page and every public function."""

import re
from pathlib import Path

import headstart

ROOT = Path(__file__).parents[2]


def test_every_page_is_in_the_navigation() -> None:
    listed = set(re.findall(r": ([\w/-]+\.md)$", (ROOT / "mkdocs.yml").read_text(), re.MULTILINE))
    pages = {str(path.relative_to(ROOT / "docs")) for path in ROOT.glob("docs/**/*.md")}
    made = {
        "commands.md",
        *(f"project/{name}.md" for name in ("changelog", "contributing", "security")),
    }
    assert listed == pages | made


def test_every_public_name_is_on_the_page_of_python() -> None:
    page = (ROOT / "docs" / "api.md").read_text()
    named = set(re.findall(r"^::: headstart\.[\w.]+\.(\w+)$", page, re.MULTILINE))
    assert set(headstart.__all__) <= named


def test_the_readme_is_a_landing_page() -> None:
    assert len((ROOT / "README.md").read_text().split()) <= 900
