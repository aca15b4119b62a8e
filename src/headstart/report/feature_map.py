"""The map of images as an SVG: each a dot, coloured by its class, wrong answers with a ring."""

from markupsafe import Markup

from headstart.artifacts.evidence import FeatureMap, Point

_SIDE = 1000
_MARGIN = 20
# The golden angle keeps the hues of any number of classes apart.
_STEP = 137.508
# Blue, then red: two classes are told apart by the colour-blind, too.
_FIRST = 215


def map_svg(drawn: FeatureMap) -> Markup:
    """Returns the map as an <svg> element; every dot says in its title what it is."""
    labels = sorted({point.label for point in drawn.points})
    hue = {label: round((_FIRST + number * _STEP) % 360) for number, label in enumerate(labels)}
    dots = Markup("").join(_dot(point, hue[point.label]) for point in drawn.points)
    frame = f"0 0 {_SIDE} {_SIDE}"
    return Markup('<svg viewBox="{}" aria-hidden="true">{}</svg>').format(frame, dots)


def _dot(point: Point, hue: int) -> Markup:
    x = _MARGIN + point.x * (_SIDE - 2 * _MARGIN)
    y = _MARGIN + point.y * (_SIDE - 2 * _MARGIN)
    wrong = bool(point.prediction) and point.prediction != point.label
    kind = "wrong" if wrong else "test" if point.prediction else "train"
    return Markup(
        '<circle class="{}" cx="{:.0f}" cy="{:.0f}" r="{}" fill="hsl({} 60% 45%)">'
        "<title>{}</title></circle>"
    ).format(kind, x, y, 5 if kind == "train" else 9, hue, describe(point))


def describe(point: Point) -> str:
    """Says in words what a dot is."""
    if not point.prediction:
        return f"{point.label} (training): {point.image}"
    if point.prediction == point.label:
        return f"{point.label}, rightly: {point.image}"
    return f"{point.label}, taken for {point.prediction}: {point.image}"
