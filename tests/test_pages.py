"""Pages list what they promise to list, and their tables are whole."""

from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), *ROOT.glob("findings/*.md")])


def test_every_finding_has_one_line() -> None:
    lines = (ROOT / "findings" / "README.md").read_text(encoding="utf-8").splitlines()
    listed = [line.split("`")[1] for line in lines if line.startswith("- `")]
    assert listed == sorted(path.name for path in ROOT.glob("findings/*.sh"))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_tables_have_a_header_and_rows_without_gaps(page: Path) -> None:
    """A blank line inside a table ends it: the rows below it are shown as text."""
    blocks, code = [[""]], False
    for line in page.read_text(encoding="utf-8").splitlines():
        code ^= line.startswith("```")
        if line.startswith("|") and not code:
            blocks[-1].append(line)
        elif len(blocks[-1]) > 1:
            blocks.append([""])
    for _, *rows in blocks:
        if rows:
            assert len(rows) > 2, rows
            assert set(rows[1]) <= set("|-: "), rows[0]
