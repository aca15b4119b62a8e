import xml.etree.ElementTree as ET

from headstart.artifacts.evidence import FeatureMap, Point
from headstart.report.figures import describe_map, map_svg

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
    colours = [dot.get("fill") for dot in dots]
    assert colours[0] == colours[1] != colours[2]


def test_names_stay_text() -> None:
    nasty = Point(image='<b>"&.png', label="<i>", x=0, y=0)
    svg = map_svg(FeatureMap(method="t-SNE", points=(nasty,), tile=48, columns=1))
    assert ET.fromstring(svg).findtext("circle/title") == '<i> (training): <b>"&.png'
