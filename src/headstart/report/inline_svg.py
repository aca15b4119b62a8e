"""Figures of matplotlib as SVG inside a page, in the colours of the page."""

import re
from collections.abc import Mapping
from io import BytesIO
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def inline_svg(figure: "Figure", name: str, variables: Mapping[str, str]) -> str:
    """Returns a figure as an <svg> element whose colours are CSS variables of the page.

    So it follows the light or dark mode of the page, and what the reader prints.

    Args:
        figure: The figure.
        name: Begins its ids, which must differ from those of other figures of the page.
        variables: Name of a CSS variable by the colour that it replaces, such as `#1b1f24`.
    """
    from matplotlib import rc_context  # noqa: PLC0415 - heavy

    buffer = BytesIO()
    # Text stays text: it uses the reader's font and can be searched.
    with rc_context({"svg.fonttype": "none", "svg.hashsalt": name}):
        nothing = {"Date": None, "Creator": None, "Format": None, "Type": None}
        figure.savefig(buffer, format="svg", metadata=nothing)
    svg = buffer.getvalue().decode()
    svg = svg[svg.index("<svg") :]
    # matplotlib's stylesheet would apply to the whole page, and every figure has the same ids.
    svg = re.sub(r"<style.*?</style>|<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    svg = re.sub(r' xmlns(:xlink)?="[^"]*"', "", svg)  # HTML does not need them
    svg = re.sub(r'(id="|href="#|url\(#)', rf"\g<1>{name}-", svg)
    for colour, variable in variables.items():
        svg = svg.replace(colour, f"var(--{variable})")
    return svg
