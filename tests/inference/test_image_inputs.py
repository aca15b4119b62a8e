"""Every form in which people have images is taken, or refused with what is wanted."""

import re
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from headstart.data.images import load_image
from headstart.errors import DataError
from headstart.inference.image_inputs import ImageInput, image_inputs, why_missing

COLOURS = np.random.default_rng(0).integers(0, 256, (9, 7, 3), dtype=np.uint8)
TWO = ["a.jpg", "b.jpg"]


def names(images: Any) -> list[str]:
    return [each.name for each in image_inputs(images)]


def pixels(image: ImageInput) -> np.ndarray:
    return np.asarray(load_image(image.source))


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    for name in ("z.png", "b/2.PNG", "b/1.jpg", "a/deep/x.png", ".hidden/y.png", "a/.z.png"):
        (tmp_path / "new" / name).parent.mkdir(parents=True, exist_ok=True)
        form = "JPEG" if name.endswith("jpg") else "PNG"
        Image.fromarray(COLOURS).save(tmp_path / "new" / name, form)
    (tmp_path / "new" / "notes.txt").write_text("no image")
    (tmp_path / "empty").mkdir()
    return tmp_path


@pytest.mark.parametrize(
    "images",
    [
        TWO,
        tuple(TWO),
        (name for name in TWO),
        [Path(name) for name in TWO],
        [[name] for name in TWO],
        np.array(TWO),
        np.array(TWO, dtype=object),
        np.array(TWO).reshape(2, 1),
        np.array([[Path(name)] for name in TWO]),
    ],
    ids=["list", "tuple", "generator", "Path", "nested", "U", "O", "column", "column of Path"],
)
def test_columns_of_paths(images: Any) -> None:
    assert names(images) == TWO


def test_pandas_series_and_tables_of_one_column() -> None:
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame({"path": TWO, "label": ["x", "y"]}, index=[7, 3])
    assert names(frame["path"]) == names(frame[["path"]]) == TWO
    assert names(frame[["path"]][:1]) == TWO[:1]
    with pytest.raises(DataError, match="one column of paths"):
        image_inputs(frame)


@pytest.mark.parametrize(
    "image",
    [
        COLOURS,
        COLOURS[:, :, 0],
        Image.fromarray(COLOURS),
        Image.fromarray(COLOURS).convert("CMYK"),
        Image.fromarray(COLOURS).convert("HSV"),
        Image.fromarray(COLOURS[:, :, 0]),
    ],
    ids=["array", "grey array", "RGB", "CMYK", "HSV", "L"],
)
def test_one_image_alone_is_a_list_of_it(image: Any) -> None:
    (alone,), (listed,) = image_inputs(image), image_inputs([image])
    assert alone == listed
    assert alone.name == "image 0"
    expected = image if isinstance(image, Image.Image) else Image.fromarray(image)
    assert np.abs(pixels(alone).astype(int) - np.asarray(expected.convert("RGB"))).max() <= 3


def test_stacks_and_lists_of_arrays() -> None:
    assert len(image_inputs(np.stack([COLOURS] * 4))) == 4
    assert len(image_inputs(np.stack([COLOURS[:, :, 0]] * 4))) == 4
    wide, tall = image_inputs([COLOURS, COLOURS.swapaxes(0, 1)])
    assert np.array_equal(pixels(wide), COLOURS)
    assert np.array_equal(pixels(tall), COLOURS.swapaxes(0, 1))


def test_bytes_are_kept_and_pillow_images_turned_upright(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(COLOURS).save(tmp_path / "a.png", exif=exif)
    raw = (tmp_path / "a.png").read_bytes()
    given = image_inputs([tmp_path / "a.png", raw, Image.open(tmp_path / "a.png")])
    assert given[1] == ImageInput("image 1", raw)
    turned = np.rot90(COLOURS, -1)
    assert all(np.array_equal(pixels(each), turned) for each in given)


def test_a_folder_stands_for_its_images(tree: Path) -> None:
    new = tree / "new"
    expected = [str(new / name) for name in ("a/deep/x.png", "b/1.jpg", "b/2.PNG", "z.png")]
    assert names(new) == names(str(new)) == names([new]) == expected
    assert names(["x.png", new / "b"]) == ["x.png", *expected[1:3]]
    with pytest.raises(DataError, match="no images in the folder"):
        image_inputs(tree / "empty")


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("new/*/*.jpg", ["b/1.jpg"]),
        ("new/**/*.png", ["a/deep/x.png", "z.png"]),
        ("new/*", ["a/deep/x.png", "b/1.jpg", "b/2.PNG", "z.png"]),
        ("new/b/[12].*", ["b/1.jpg", "b/2.PNG"]),
    ],
)
def test_a_pattern_stands_for_what_matches(tree: Path, pattern: str, expected: list[str]) -> None:
    assert names(str(tree / pattern)) == [str(tree / "new" / name) for name in expected]


def test_a_file_with_a_pattern_as_name_is_that_file(tree: Path) -> None:
    (tree / "b[1].png").write_bytes((tree / "new" / "z.png").read_bytes())
    assert names(str(tree / "b[1].png")) == [str(tree / "b[1].png")]


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("https://example.org/a.jpg", "https://example.org/a.jpg is an address"),
        ("s3://bucket/a.jpg", "is an address"),
        ("none/*.jpg", "No image matches the pattern none/\\*.jpg"),
        ("none.zip", "because"),
        ("none.jpg", "because"),
    ],
)
def test_what_is_no_path_is_named(name: str, said: str) -> None:

    (given,) = image_inputs(name)
    assert re.search(said, why_missing(given, "because"))


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("new.zip", "new.zip is an archive. Unpack it and give the folder."),
        ("new.TAR.gz", "new.TAR.gz is an archive."),
        ("new.7z", "new.7z is an archive."),
        ("new.csv", "new.csv is a table. Give the images that it names, or their folder."),
        ("new.parquet", "new.parquet is a table."),
        ("new.jpg", "because"),
    ],
)
def test_what_is_no_image_is_named(name: str, said: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(b"x")
    (given,) = image_inputs(tmp_path / name)
    assert said in why_missing(given, "because")


@pytest.mark.parametrize(
    ("images", "said"),
    [
        ([None], "Image 0 is None .NoneType."),
        (["a.jpg", float("nan")], "Image 1 is nan .float."),
        (7, "The argument is 7 .int."),
        (np.zeros((2, 9, 7, 3)), r"uint8 .* float64 of shape \(2, 9, 7, 3\)"),
        (np.zeros((2, 3, 9, 7), np.uint8), "of shape"),
        ([np.zeros((9, 7, 4), np.uint8)], "Image 0 must be .* of shape"),
        ([np.zeros((9, 7))], "Image 0 must be .* float64"),
        (np.array([["a", "b"]]), r"one column of paths; this one has the shape \(1, 2\)"),
        ([Path], "Image 0 is"),
    ],
)
def test_what_is_no_image_is_refused(images: Any, said: str) -> None:
    with pytest.raises(DataError, match=said):
        image_inputs(images)


def test_a_broken_pillow_image_is_refused() -> None:
    stream = BytesIO()
    Image.fromarray(COLOURS).resize((200, 200)).save(stream, "PNG")
    broken = Image.open(BytesIO(stream.getvalue()[:-300]))
    with pytest.raises(DataError, match="Image 0 cannot be read"):
        image_inputs(broken)
