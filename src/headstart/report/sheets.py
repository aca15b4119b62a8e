"""Sheets of small pictures as PNG. Nothing here imports torch."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from headstart.artifacts.files import replacing

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_CELL = 1.35
"""Inches per view in a sheet."""
_DPI = 110


def draw_similar(
    path: Path, query: Image.Image, found: Sequence[tuple[Image.Image | None, str]]
) -> None:
    """Draws an image and the most similar training images, each with a line of text."""
    blank = Image.new("RGB", (8, 8), "white")
    images = [query, *(blank if image is None else image for image, _ in found)]
    squares = [np.asarray(image.convert("RGB").resize((160, 160))) for image in images]
    titles = [["This image", *(text for _, text in found)]]
    draw_sheet(path, {"": squares}, titles, "The most similar training images")


def draw_sheet(
    path: Path,
    rows: Mapping[str, Sequence[NDArray[np.uint8]]],
    titles: Sequence[Sequence[str]],
    title: str,
) -> None:
    """Draws rows of views as PNG, each row with its name and each view with its title."""
    columns = max(map(len, rows.values()))
    size = (columns * _CELL + 1.1, len(rows) * (_CELL + 0.2) + 0.6)
    figure, grid = new_figure(size, len(rows), columns)
    for line, (name, views) in enumerate(rows.items()):
        for column in range(columns):
            axes = grid[line][column]
            axes.set_xticks([])
            axes.set_yticks([])
            axes.spines[:].set_visible(False)
            if column < len(views):
                axes.imshow(views[column])
                axes.set_title(titles[line][column][:22], fontsize=7, parse_math=False)
        label = name.replace("_", " ").replace(" + ", "\n+ ")
        grid[line][0].set_ylabel(label, rotation=0, ha="right", va="center", fontsize=9)
    figure.suptitle(title, fontsize=10, parse_math=False)  # class names may contain a $
    save(figure, path)


def new_figure(
    size: tuple[float, float], rows: int, columns: int
) -> tuple["Figure", list[list["Axes"]]]:
    """Returns an empty figure and its axes."""
    from matplotlib.figure import Figure  # noqa: PLC0415 - slow to import

    figure = Figure(figsize=size, dpi=_DPI, layout="constrained")
    grid = figure.subplots(rows, columns, squeeze=False)
    return figure, [list(row) for row in grid]


def save(figure: "Figure", path: Path) -> None:
    """Writes a figure as PNG, atomically."""
    with replacing(path) as draft:
        figure.savefig(draft, format="png", facecolor="white")
