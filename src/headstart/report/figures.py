"""The figures of the report, as inline SVG or PNG."""

from base64 import b64encode
from collections.abc import Sequence
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from markupsafe import Markup
from PIL import Image

from headstart.ablation.record import LedgerRow
from headstart.artifacts.evidence import FeatureMap, Point
from headstart.artifacts.records import EpochRecord, TestPrediction
from headstart.data.images import load_image
from headstart.data.reading import EACH
from headstart.errors import DataError
from headstart.evaluation.calibration import calibration_bins
from headstart.evaluation.intervals import share_interval
from headstart.report.inline_svg import inline_svg

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


THUMBNAIL = 160
"""Shorter side of a small picture, in pixels."""

# Placeholder colours for matplotlib, and the CSS variables that replace them, so that charts
# follow the light or dark mode of the page.
_INK, _MUTED, _LINE = "#0a0b0c", "#0b0c0d", "#0c0d0e"

_FIRST, _SECOND = "#0d0e0f", "#0e0f10"

_VARIABLES = {_INK: "ink", _MUTED: "muted", _LINE: "line", _FIRST: "first", _SECOND: "second"}

# Blue and vermilion of Okabe and Ito (2008), safe for colour-blind readers. Both are of medium
# lightness and work on a light and on a dark page.
_RIGHT, _WRONG = (0, 114, 178), (213, 94, 0)

_FAINTEST = 0.35

_SMALLEST_SIDE = 720

_MAP_SIDE = 1000

_MAP_MARGIN = 20

# The golden angle spreads the hues of any number of classes.
_MAP_STEP = 137.508

# Blue, then red: safe for colour-blind readers if there are two classes.
_FIRST_HUE = 215

_SHIFTS = (0, 12, -10)
"""What is added to the lightness of the colours, in turn: hues alone cannot tell many classes."""


def loss_curves(epochs: Sequence[EpochRecord]) -> str:
    """Returns an inline SVG of training and validation loss over the epochs."""
    figure, axes = _axes("epoch", "loss")
    x = [e.epoch for e in epochs]
    training = [np.nan if e.train_loss is None else e.train_loss for e in epochs]
    axes.plot(x, training, "s--", color=_SECOND, label="training", markersize=3.5)
    validation = [np.nan if e.val_loss is None else e.val_loss for e in epochs]
    axes.plot(x, validation, "o-", color=_FIRST, label="validation", markersize=4)
    _whole_numbers(axes)
    axes.legend(frameon=False, labelcolor=_INK)
    return inline_svg(figure, "loss", _VARIABLES)


def accuracy_curve(epochs: Sequence[EpochRecord], measure: str = "accuracy") -> str:
    """Returns an inline SVG of the validation accuracy over the epochs; all need a validation.

    Args:
        epochs: Epochs.
        measure: Name of what was measured.
    """
    figure, axes = _axes("epoch", f"validation {measure}, %")
    values = [100 * (e.val_accuracy or 0.0) for e in epochs]
    axes.plot([e.epoch for e in epochs], values, "o-", color=_FIRST, markersize=4)
    for index, offset in ((0, (7, -9)), (-1, (-9, 7))):  # beside a line that rises
        axes.annotate(
            f"{values[index]:.1f}",
            (epochs[index].epoch, values[index]),
            xytext=offset,
            textcoords="offset points",
            color=_INK,
        )
    axes.margins(y=0.15)
    _whole_numbers(axes)
    return inline_svg(figure, "accuracy", _VARIABLES)


def reliability_diagram(predictions: Sequence[TestPrediction]) -> str:
    """Returns an inline SVG of accuracy over probability in ten bins, with intervals by group."""
    probability = np.array([p.probability for p in predictions])
    wrong = np.array([p.prediction != p.label for p in predictions], np.int64)
    # Two columns stand for all classes: the predicted class and any other.
    bins = calibration_bins(np.stack([probability, np.zeros_like(probability)], 1), wrong, 10)
    filled = np.flatnonzero(bins.count)
    x, y, n = 100 * bins.confidence[filled], 100 * bins.accuracy[filled], bins.count[filled]
    place = (np.searchsorted(bins.edges, probability) - 1).clip(0)
    groups = np.array([-1 - row if p.group == "" else p.group for row, p in enumerate(predictions)])
    inside = [place == number for number in filled]
    ends = 100 * np.array([share_interval(wrong[each] == 0, groups[each]) for each in inside])
    figure, axes = _axes("predicted probability, %", "share of correct predictions, %")
    axes.plot([0, 100], [0, 100], "--", color=_MUTED, linewidth=1)
    axes.vlines(x, ends[:, 0], ends[:, 1], color=_FIRST, linewidth=1.5)
    axes.scatter(x, y, 14 + 90 * n / n.max(), color=_FIRST, zorder=3)
    axes.set(xlim=(0, 104), ylim=(0, 104))
    return inline_svg(figure, "reliability", _VARIABLES)


def waterfall(
    rows: Sequence[LedgerRow], whole: bool, figure_name: str = "held-out accuracy, %"
) -> str:
    """Returns a waterfall chart of the accuracy from row to row as an inline SVG.

    The first bar is the accuracy of the first row, the last bar that of the last row. The bars
    between them are gains (blue) and losses (orange); a line shows the interval of each.

    Args:
        rows: Rows of the ladder, in order.
        whole: Whether the last row is the chosen recipe, which then has a bar.
        figure_name: What the accuracy of these rows is called.
    """
    names = [row.name.removeprefix("+ ") for row in rows]
    ends = [100 * (row.accuracy or 0.0) for row in rows]
    last = ["chosen recipe"] if whole else []
    figure, axes = _bars([*names, *last], figure_name)
    starts = [ends[0], *ends[:-1]]
    edges = [
        np.clip(start + 100 * np.array(row.interval or (0.0, 0.0)), 0, 100)
        for row, start in zip(rows, starts, strict=True)
    ]
    left = max(0.0, 5 * np.floor((min(*ends, *np.ravel(edges)) - 6) / 5))
    axes.barh(0, ends[0] - left, left=left, height=0.62, color=_MUTED)
    _beside(axes, ends[0], 0, f"{ends[0]:.1f}")
    for place in range(1, len(rows)):
        start, end = ends[place - 1], ends[place]
        colour = _FIRST if end >= start else _SECOND
        axes.barh(place, end - start, left=start, height=0.62, color=colour)
        # A bar starts where the one above it ends.
        axes.vlines(start, place - 0.69, place + 0.31, color=_MUTED, linewidth=1)
        low, high = edges[place]
        axes.hlines(place, low, high, color=_INK, linewidth=1)
        _beside(axes, max(start, end, high), place, _signed(end - start))
    if whole:
        axes.barh(len(rows), ends[-1] - left, left=left, height=0.62, color=_MUTED)
        _beside(axes, ends[-1], len(rows), f"{ends[-1]:.1f}")
    axes.set_xlim(left, 100 + 0.17 * (100 - left))
    axes.set_xticks([tick for tick in axes.get_xticks() if left <= tick <= 100])
    return inline_svg(figure, "waterfall", _VARIABLES)


def gain_chart(rows: Sequence[LedgerRow]) -> str:
    """Returns an inline SVG of the gain of each row, as points with their intervals."""
    figure, axes = _bars(
        [row.name.removeprefix("without ") for row in rows], "gain, percentage points"
    )
    axes.axvline(0, color=_MUTED, linewidth=1)
    for place, row in enumerate(rows):
        gain = 100 * (row.gain or 0.0)
        low, high = (100 * edge for edge in row.interval or (0.0, 0.0))
        colour = _FIRST if gain >= 0 else _SECOND
        axes.hlines(place, low, high, color=colour, linewidth=1.5)
        axes.plot([gain], [place], "o", color=colour, markersize=6)
        _beside(axes, max(high, gain), place, _signed(gain))
    low, high = axes.get_xlim()
    axes.set_xlim(low, high + 0.17 * (high - low))
    return inline_svg(figure, "gains", _VARIABLES)


def _bars(names: Sequence[str], x_label: str) -> "tuple[Figure, Axes]":
    """Returns axes with one named row per name, the first at the top."""
    figure, axes = _axes(x_label, "")
    figure.set_size_inches(4.4, 0.75 + 0.27 * len(names))
    axes.set_yticks(range(len(names)), [_two_lines(name) for name in names])
    axes.set_ylim(len(names) - 0.4, -0.6)
    axes.grid(visible=False, axis="y")
    axes.set_axisbelow(True)
    return figure, axes


def _two_lines(name: str) -> str:
    return name.replace(" + ", " +\n", 1) if len(name) > 22 else name


def _beside(axes: "Axes", x: float, y: float, text: str) -> None:
    axes.annotate(text, (x, y), xytext=(4, 0), textcoords="offset points", va="center", color=_INK)


def _signed(points: float) -> str:
    value = round(points, 1)
    return f"{value:+.1f}".replace("-", "\N{MINUS SIGN}") if value else "0.0"


def confusion_image(confusion: Sequence[Sequence[int]]) -> str:
    """Returns a picture of a large confusion matrix as a data URI, one square per cell.

    The diagonal is blue, the rest vermilion; a stronger colour is a larger share of the row.
    """
    counts = np.array(confusion, np.float64)
    share = counts / np.maximum(counts.sum(1, keepdims=True), 1)
    alpha = np.where(counts > 0, _FAINTEST + (1 - _FAINTEST) * share, 0)
    diagonal = np.eye(len(counts), dtype=bool)
    cells = np.where(diagonal[..., None], _RIGHT, _WRONG)
    pixels = np.concatenate([cells, 255 * alpha[..., None]], 2).round().astype(np.uint8)
    scale = -(-_SMALLEST_SIDE // len(counts))
    image = Image.fromarray(pixels).resize((scale * len(counts),) * 2, Image.Resampling.NEAREST)
    return _data_uri(image, "PNG")


def photograph(path: Path) -> str | None:
    """Returns a small version of an image as a data URI, or None if it is missing or damaged."""
    try:
        return _data_uri(load_image(path, None, THUMBNAIL, EACH), "JPEG")
    except DataError:
        return None


def _data_uri(image: Image.Image, kind: str) -> str:
    buffer = BytesIO()
    image.save(buffer, kind, quality=82, optimize=True)
    return f"data:image/{kind.lower()};base64,{b64encode(buffer.getvalue()).decode()}"


def _axes(x_label: str, y_label: str) -> "tuple[Figure, Axes]":
    from matplotlib.figure import Figure  # noqa: PLC0415 - heavy

    figure = Figure(figsize=(4.4, 2.9), layout="constrained", facecolor="none")
    axes = figure.add_subplot(facecolor="none")
    axes.set_xlabel(x_label, color=_INK)
    axes.set_ylabel(y_label, color=_INK)
    axes.grid(color=_LINE, linewidth=0.8)
    axes.tick_params(length=0, labelcolor=_INK)
    axes.spines[:].set_visible(False)
    return figure, axes


def _whole_numbers(axes: "Axes") -> None:
    from matplotlib.ticker import MaxNLocator  # noqa: PLC0415

    axes.xaxis.set_major_locator(MaxNLocator(integer=True))


def map_svg(drawn: FeatureMap) -> Markup:
    """Returns the map as an <svg> element; the title of each dot describes its image."""
    number = {label: place for place, (label, _) in enumerate(legend(drawn))}
    dots = Markup("").join(_dot(point, number[point.label]) for point in drawn.points)
    frame = f"0 0 {_MAP_SIDE} {_MAP_SIDE}"
    return Markup('<svg viewBox="{}" aria-hidden="true">{}</svg>').format(frame, dots)


def legend(drawn: FeatureMap) -> list[tuple[str, str]]:
    """Returns the classes of a map in alphabetical order, each with the style of its dots.

    Neighbours in the list differ in hue and lightness. The page adds the lightness of its mode.
    """
    labels = sorted({point.label for point in drawn.points})
    return [(label, _style(number)) for number, label in enumerate(labels)]


def _style(number: int) -> str:
    hue = round((_FIRST_HUE + number * _MAP_STEP) % 360)
    return f"--hue:{hue};--shift:{_SHIFTS[number % len(_SHIFTS)]}%"


def _dot(point: Point, number: int) -> Markup:
    x = _MAP_MARGIN + point.x * (_MAP_SIDE - 2 * _MAP_MARGIN)
    y = _MAP_MARGIN + point.y * (_MAP_SIDE - 2 * _MAP_MARGIN)
    wrong = bool(point.prediction) and point.prediction != point.label
    kind = "wrong" if wrong else "test" if point.prediction else "train"
    return Markup(
        '<circle class="{}" data-class="{}" cx="{:.0f}" cy="{:.0f}" r="{}" style="{}">'
        "<title>{}</title></circle>"
    ).format(kind, number, x, y, 5 if kind == "train" else 9, _style(number), describe_map(point))


def describe_map(point: Point) -> str:
    """Returns a description of the image behind a dot.

    Example:
        >>> describe_map(Point(image="7.jpg", label="ant", prediction="bee", x=0, y=0))
        'ant, predicted as bee: 7.jpg'
    """
    if not point.prediction:
        return f"{point.label} (training): {point.image}"
    if point.prediction == point.label:
        return f"{point.label}, correct: {point.image}"
    return f"{point.label}, predicted as {point.prediction}: {point.image}"
