"""Labels that a person gives: kept at once, continued, and read by `fit` as a manifest."""

from pathlib import Path

import pytest

from headstart.artifacts.label_file import LabelFile
from headstart.data.sources import load_dataset
from headstart.errors import InputError


@pytest.fixture
def place(tmp_path: Path) -> Path:
    (tmp_path / "new").mkdir()
    for name in ("a.png", "=b.png", "c,d.png"):
        (tmp_path / "new" / name).write_bytes(b"")
    (tmp_path / "=top.png").write_bytes(b"")
    return tmp_path


def test_labels_are_kept_changed_and_taken_back(place: Path) -> None:
    labels = LabelFile(place / "labels.csv")
    images = sorted((place / "new").iterdir())
    assert not labels.path.exists()
    labels.set(dict.fromkeys(images, "rose"))
    labels.set({images[0]: "tulip", images[1]: None})
    again = LabelFile(place / "labels.csv")
    assert [again.label_of(image) for image in images] == ["tulip", None, "rose"]
    assert len(again) == 2


def test_fit_reads_them_whatever_the_names_are(place: Path) -> None:
    labels = LabelFile(place / "labels.csv")
    images = [*sorted((place / "new").iterdir()), place / "=top.png"]
    labels.set({image: f"class {number % 2}" for number, image in enumerate(images)})
    found = {item.path: item.label for item in load_dataset(labels.path).items}
    assert found == {image: f"class {number % 2}" for number, image in enumerate(images)}
    assert "\n=" not in labels.path.read_text()


def test_an_image_that_no_manifest_here_can_name_is_known(place: Path) -> None:
    (place / "deep" / "er").mkdir(parents=True)
    labels = LabelFile(place / "deep" / "er" / "labels.csv")
    assert labels.why_not(place / "deep" / "beside.png") == ""
    assert "neither in the folder" in labels.why_not(place / "new" / "a.png")
    assert "not valid Unicode" in labels.why_not(place / "deep" / "er" / "\udcff.png")


@pytest.mark.parametrize(
    ("content", "said"),
    [("image,class\na,b\n", "path and label"), ("path,label,split\na,b,train\n", "other columns")],
)
def test_another_file_is_not_touched(place: Path, content: str, said: str) -> None:
    (place / "other.csv").write_text(content)
    with pytest.raises(InputError, match=said):
        LabelFile(place / "other.csv")
    with pytest.raises(InputError, match="no folder"):
        LabelFile(place / "nowhere" / "labels.csv")
    assert (place / "other.csv").read_text() == content
