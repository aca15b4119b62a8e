import xml.etree.ElementTree as ET

from headstart.artifacts.evidence import FeatureMap, Point
from headstart.report.figures import describe_map, legend, map_svg

RIGHT = Point(image="a/1.png", label="a", prediction="a", x=0, y=0)
WRONG = Point(image="a/2.png", label="a", prediction="b", x=1, y=0.5)
KNOWN = Point(image="b/3.png", label="b", x=0.5, y=1)


def test_every_image_is_a_dot_of_its_kind() -> None:
    points = (RIGHT, WRONG, KNOWN)
    svg = ET.fromstring(map_svg(FeatureMap(method="t-SNE", points=points, tile=48, columns=2)))
    dots = svg.findall("circle")
    assert [dot.get("class") for dot in dots] == ["test", "wrong", "train"]
    assert [(dot.get("cx"), dot.get("cy")) for dot in dots] == [
        ("20", "20"), ("980", "500"), ("500", "980")
    ]  # fmt: skip
    titles = [dot.findtext("title") for dot in dots]
    assert titles == [describe_map(point) for point in points]
    assert titles[1] == "a, predicted as b: a/2.png"
    colours = [dot.get("style") for dot in dots]
    assert colours[0] == colours[1] != colours[2]
    assert [dot.get("data-class") for dot in dots] == ["0", "0", "1"]


def test_the_legend_has_the_colours_of_the_dots() -> None:
    drawn = FeatureMap(method="t-SNE", points=(KNOWN, WRONG, RIGHT), tile=48, columns=2)
    assert [label for label, _ in legend(drawn)] == ["a", "b"]
    dots = ET.fromstring(map_svg(drawn)).findall("circle")
    styles = [style for _, style in legend(drawn)]
    assert [dot.get("style") for dot in dots] == [styles[1], styles[0], styles[0]]


def test_many_classes_differ_in_hue_or_lightness() -> None:
    points = tuple(Point(image=f"{n}.png", label=f"{n:03}", x=0, y=0) for n in range(60))
    drawn = legend(FeatureMap(method="t-SNE", points=points, tile=48, columns=8))
    assert len({style for _, style in drawn}) == 60


def test_names_stay_text() -> None:
    nasty = Point(image='<b>"&.png', label="<i>", x=0, y=0)
    svg = map_svg(FeatureMap(method="t-SNE", points=(nasty,), tile=48, columns=1))
    assert ET.fromstring(svg).findtext("circle/title") == '<i> (training): <b>"&.png'
