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


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ("new/a.png,rose\nnew/a.png,tulip\n", "'rose' and 'tulip'.*row 3"),
        ("new/a.png,\n", "label is empty.*row 2"),
        ("new/a.png,rose,1\n", "3 cells"),
        ("new/\0.png,rose\n", "no name has"),
    ],
)
def test_a_file_that_does_not_give_each_image_one_label(place: Path, rows: str, said: str) -> None:
    """`fit` refuses them, or they would be lost when the next label is written."""
    (place / "labels.csv").write_text(f"path,label\n{rows}")
    with pytest.raises(InputError, match=said):
        LabelFile(place / "labels.csv")


def test_a_file_in_another_character_set_is_refused(place: Path) -> None:
    content = "path,label\nnew/a.png,Gänseblümchen\n".encode("latin-1")
    (place / "labels.csv").write_bytes(content)
    with pytest.raises(InputError, match="Save it in UTF-8"):
        LabelFile(place / "labels.csv")


def test_what_another_program_wrote_meanwhile_stays(place: Path) -> None:
    first, second = sorted((place / "new").iterdir())[1:]
    labels, other = LabelFile(place / "labels.csv"), LabelFile(place / "labels.csv")
    labels.set({first: "rose"})
    other.set({second: "tulip"})
    other.set({first: "corrected"})
    labels.set({second: "lily"})
    assert [labels.label_of(image) for image in (first, second)] == ["corrected", "lily"]
    labels.path.write_text("path,label,split\nnew/a.png,rose,train\n")
    with pytest.raises(InputError, match="other columns"):
        labels.set({second: "tulip"})
    assert "split" in labels.path.read_text()


def test_names_that_begin_like_a_formula_stay(place: Path) -> None:
    labels = LabelFile(place / "labels.csv")
    labels.set({place / "new" / "a.png": "'=x"})
    assert LabelFile(place / "labels.csv").names == {"'=x"}
