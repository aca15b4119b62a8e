from io import BytesIO
from pathlib import Path

import pytest
from PIL import Image

from headstart.artifacts.evidence import (
    EVIDENCE,
    Evidence,
    FeatureMap,
    Neighbour,
    Point,
    read_evidence,
    read_picture,
    write_evidence,
    write_pictures,
)
from headstart.errors import RunError


def test_what_is_written_is_read(tmp_path: Path) -> None:
    near = Neighbour(image="a/1.png", label="a", similarity=0.9)
    point = Point(image="b/2.png", label="b", prediction="a", x=0.25, y=1.0)
    drawn = FeatureMap(method="t-SNE", points=(point,), tile=48, columns=1)
    evidence = Evidence(neighbours={"b/2.png": (near,)}, map=drawn, notes=("one",))
    write_evidence(tmp_path, evidence)
    assert read_evidence(tmp_path) == evidence


def test_a_run_that_kept_none_has_an_empty_one(tmp_path: Path) -> None:
    assert read_evidence(tmp_path) == Evidence()
    (tmp_path / EVIDENCE).write_text("{", encoding="utf-8")
    with pytest.raises(RunError, match=EVIDENCE):
        read_evidence(tmp_path)


def test_pictures_are_found_by_any_name(tmp_path: Path) -> None:
    names = ["a/b c/1.png", "../outside.png", "/elsewhere/1.png", "猫\udcff.png", "x" * 300]
    colours = [(20 * n, 0, 200) for n in range(len(names))]
    pictures = [Image.new("RGB", (9, 9), colour) for colour in colours]
    write_pictures(tmp_path, "photograph", zip(names, pictures, strict=True))
    assert {path.parent for path in tmp_path.rglob("*.jpg")} == {tmp_path / "pictures"}
    for name, (red, _, _) in zip(names, colours, strict=True):
        kept = read_picture(tmp_path, "photograph", name)
        assert kept is not None
        with Image.open(BytesIO(kept)) as image:
            pixel = image.getpixel((4, 4))
        assert isinstance(pixel, tuple)
        assert abs(pixel[0] - red) < 8
        assert read_picture(tmp_path, "heat", name) is None
