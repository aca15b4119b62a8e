"""The map of images as an SVG: one dot per image, coloured by class, mistakes with a ring."""

from markupsafe import Markup

from headstart.artifacts.evidence import FeatureMap, Point

_SIDE = 1000
_MARGIN = 20
# The golden angle spreads the hues of any number of classes.
_STEP = 137.508
# Blue, then red: safe for colour-blind readers if there are two classes.
_FIRST = 215


def map_svg(drawn: FeatureMap) -> Markup:
    """Returns the map as an <svg> element; the title of each dot describes its image."""
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
    """Returns a description of the image behind a dot.

    Example:
        >>> describe(Point(image="7.jpg", label="ant", prediction="bee", x=0, y=0))
        'ant, predicted as bee: 7.jpg'
    """
    if not point.prediction:
        return f"{point.label} (training): {point.image}"
    if point.prediction == point.label:
        return f"{point.label}, correct: {point.image}"
    return f"{point.label}, predicted as {point.prediction}: {point.image}"
