"""Pages of the site that are made from other sources: commands, changes, contributing, security."""

import re
import sys
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

ROOT = Path(__file__).parents[1]
PROJECT = ("CHANGELOG", "CONTRIBUTING", "SECURITY")


def on_files(files: Files, config: Any) -> Files:
    """Adds the pages that no file in `docs` holds."""
    sys.path.insert(0, str(ROOT / "docs"))
    from write_commands import page  # noqa: PLC0415

    files.append(File.generated(config, "commands.md", content=page()))
    for name in PROJECT:
        text = project_page((ROOT / f"{name}.md").read_text(encoding="utf-8"))
        files.append(File.generated(config, f"project/{name.lower()}.md", content=text))
    return files


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Lets pages in `docs` link to pages beside it, as they do in the repository."""
    for name in PROJECT:
        markdown = re.sub(rf"\]\(\.\./{name}\.md", f"](project/{name.lower()}.md", markdown)
    return markdown


def project_page(text: str) -> str:
    """Returns a page of the repository with links that hold in `project/`.

    Links to what is not on the site become plain text.
    """

    def moved(match: re.Match[str]) -> str:
        label, target = match.groups()
        if target.startswith(("http", "#")):
            return match.group()
        if target.startswith("docs/"):
            return f"[{label}](../{target.removeprefix('docs/')})"
        name, _, anchor = target.partition("#")
        if name.removesuffix(".md") in PROJECT:
            return f"[{label}]({name.lower()}{'#' + anchor if anchor else ''})"
        return label

    return re.sub(r"\[([^\]]+)\]\(([^)]+)\)", moved, text)
