"""The figures of a multi-label report: reliability of all labels, and precision over recall."""

from collections.abc import Mapping

import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray

_WIDTH, _HEIGHT, _LEFT, _BOTTOM = 400, 270, 40, 34
_HUES = (215, 20, 140, 290, 50, 180)
_BINS = 10


def reliability_svg(told: NDArray[np.float64], marks: NDArray[np.bool_]) -> Markup:
    """Returns the share of labels that are there over their probability, as an SVG.

    Args:
        told: Probabilities (N, C).
        marks: Whether an image has a label, (N, C).
    """
    p, y = told.ravel(), marks.ravel()
    place = np.minimum((p * _BINS).astype(int), _BINS - 1)
    count = np.bincount(place, minlength=_BINS)
    filled = np.flatnonzero(count)
    x = np.bincount(place, p, minlength=_BINS)[filled] / count[filled]
    share = np.bincount(place, y, minlength=_BINS)[filled] / count[filled]
    size = 3 + 7 * np.sqrt(count[filled] / count.max())
    dots = [
        Markup('<circle cx="{:.1f}" cy="{:.1f}" r="{:.1f}" fill="hsl(215 60% 50%)">'
               "<title>{}</title></circle>").format(
            *_at(a, b), r, f"{n} decisions: stated {a:.0%}, there {b:.0%}")
        for a, b, r, n in zip(x, share, size, count[filled], strict=True)
    ]  # fmt: skip
    line = Markup('<path d="M{:.1f} {:.1f}L{:.1f} {:.1f}" stroke="hsl(0 0% 55%)" '
                  'stroke-dasharray="4 4"/>').format(*_at(0, 0), *_at(1, 1))  # fmt: skip
    return _framed(line + Markup("").join(dots), "predicted probability, %", "label is there, %")


def precision_svg(
    labels: Mapping[str, tuple[NDArray[np.float64], NDArray[np.bool_], float]],
) -> Markup:
    """Returns precision over recall of some labels as an SVG.

    Args:
        labels: By name, probabilities (N,), whether images have the label, (N,), and the threshold.
    """
    drawn = Markup("")
    for number, (name, (told, marks, threshold)) in enumerate(labels.items()):
        order = np.argsort(-told, kind="stable")
        hits = np.cumsum(marks[order])
        recall, precision = hits / max(hits[-1], 1), hits / np.arange(1, len(told) + 1)
        path = "L".join(
            "{:.1f} {:.1f}".format(*_at(a, b)) for a, b in zip(recall, precision, strict=True)
        )
        colour = f"hsl({_HUES[number % len(_HUES)]} 60% 50%)"
        drawn += Markup('<path d="M{}" fill="none" stroke="{}" stroke-width="1.5">'
                        "<title>{}</title></path>").format(path, colour, name)  # fmt: skip
        given = int((told >= threshold).sum())
        if given:
            x, y = _at(recall[given - 1], precision[given - 1])
            drawn += Markup('<circle cx="{:.1f}" cy="{:.1f}" r="4" fill="{}"/>').format(
                x, y, colour
            )
        drawn += Markup('<text x="{}" y="{}" fill="{}" font-size="11">{}</text>').format(
            _LEFT + 8, _HEIGHT - _BOTTOM - 10 - 14 * (len(labels) - 1 - number), colour, name[:24]
        )
    return _framed(drawn, "recall, %", "precision, %")


def _at(x: float, y: float) -> tuple[float, float]:
    """Returns where a point from 0 to 1 lies in the picture."""
    wide, high = _WIDTH - _LEFT - 12, _HEIGHT - _BOTTOM - 12
    return _LEFT + x * wide, 12 + (1 - y) * high


def _framed(inside: Markup, x_label: str, y_label: str) -> Markup:
    """Returns a figure with its axes."""
    grid = Markup("")
    for step in range(0, 101, 20):
        (x, bottom), (left, y) = _at(step / 100, 0), _at(0, step / 100)
        grid += Markup(
            '<path d="M{l:.1f} {y:.1f}H{r:.1f}" stroke="hsl(0 0% 55% / .25)"/>'
            '<text x="{tx:.1f}" y="{ty:.1f}" text-anchor="end">{s}</text>'
            '<text x="{x:.1f}" y="{b:.1f}" text-anchor="middle">{s}</text>'
        ).format(l=left, r=_at(1, 0)[0], y=y, tx=left - 6, ty=y + 4, x=x, b=bottom + 15, s=step)
    return Markup(
        '<svg viewBox="0 0 {w} {h}" aria-hidden="true" font-size="11" fill="currentColor">{g}'
        '<text x="{mx}" y="{my}" text-anchor="middle">{xl}</text>'
        '<text transform="translate(11 {yy}) rotate(-90)" text-anchor="middle">{yl}</text>{i}</svg>'
    ).format(
        w=_WIDTH, h=_HEIGHT, g=grid, mx=_LEFT + (_WIDTH - _LEFT) // 2, my=_HEIGHT - 4,
        yy=_HEIGHT // 2, xl=x_label, yl=y_label, i=inside,
    )  # fmt: skip
