"""Fingerprints of data: what changed is found and named."""

import random
import re
from pathlib import Path

import pytest

from headstart.artifacts.fingerprint import (
    FINGERPRINT,
    Mark,
    changes,
    combined,
    fingerprint,
    read_fingerprint,
    write_fingerprint,
)
from headstart.data.types import Dataset, Item
from headstart.errors import RunError

MARKS = [Mark(f"{kind}/{n:02d}.jpg", kind, f"{kind[0]}{n:02d}") for kind in "ab" for n in range(15)]


def test_it_names_label_and_content_of_each_image() -> None:
    items = tuple(Item(Path("/d") / name, name[0]) for name in ("b/1.jpg", "a/1.jpg"))
    found = fingerprint(Dataset("d", Path("/d"), items), ["f" * 64, ""])
    assert found == [Mark("a/1.jpg", "a", ""), Mark("b/1.jpg", "b", "f" * 16)]


def test_the_order_of_files_does_not_count() -> None:
    shuffled = random.Random(0).sample(MARKS, len(MARKS))
    assert combined(shuffled) == combined(MARKS)
    assert changes(MARKS, shuffled) == []


@pytest.mark.parametrize(
    ("after", "said"),
    [
        ([MARKS[0]._replace(label="b"), *MARKS[1:]], "1 image with another label"),
        ([MARKS[0]._replace(sha256="x"), *MARKS[1:]], r"1 image with other content \(a/00.jpg\)"),
        ([MARKS[0]._replace(sha256=""), *MARKS[1:]], r"1 image with other content \(a/00.jpg\)"),
        (MARKS[2:], r"2 images missing \(a/00.jpg, a/01.jpg\)"),
        ([*MARKS, Mark("a/99.jpg", "a", "z")], r"1 image added \(a/99.jpg\)"),
        (MARKS[:15], r"15 images missing \(b/00.jpg, .*, b/09.jpg and 5 more\)"),
    ],
)
def test_each_change_is_found(after: list[Mark], said: str) -> None:
    (change,) = changes(MARKS, after)
    assert re.match(said, str(change))
    assert combined(after) != combined(MARKS)


def test_one_image_with_several_labels_or_boxes() -> None:
    twice = [Mark("a.jpg", "ant", "1"), Mark("a.jpg", "bee", "1")]
    assert changes(twice, twice[::-1]) == []
    (change,) = changes(twice, twice[:1])
    assert str(change).startswith("1 image with another label (a.jpg: ant and bee is now ant)")


def test_it_is_read_as_it_was_written(tmp_path: Path) -> None:
    odd = [Mark('a,"b\n.jpg', "käfer ", "0" * 16), Mark("\udcff.jpg", "x", "")]
    assert read_fingerprint(tmp_path) is None  # a run of an older version
    write_fingerprint(tmp_path, odd)
    assert read_fingerprint(tmp_path) == odd
    (tmp_path / FINGERPRINT).write_text("path,other\n1,2\n")
    with pytest.raises(RunError, match="damaged"):
        read_fingerprint(tmp_path)
