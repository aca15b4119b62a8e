"""Unlabelled images that show what a labelled image shows are left out: by hand, part by part."""

from pathlib import Path

import numpy as np
import pytest

from headstart.data.pixels import Facts
from headstart.data.rasters import THUMBNAIL
from headstart.data.types import SplitName
from headstart.data.unlabelled import drawn, images_below, reasons, usable
from headstart.errors import DataError, InputError


def scene(seed: int) -> np.ndarray:
    """Grey blocks, unlike those of any other seed."""
    blocks = np.random.default_rng(seed).integers(0, 256, (16, 16))
    return np.kron(blocks, np.ones((THUMBNAIL // 16, THUMBNAIL // 16))).astype(np.uint8)


def seen(image: np.ndarray, pixels: str = "", patient: str = "", sha256: str = "") -> Facts:
    """What is known of an image that could be read."""
    kept = pixels or str(hash(image.tobytes()))
    return Facts("ok", "", sha256, 64, 64, pixels=kept, thumbnail=image.tobytes(), patient=patient)


LABELLED: list[tuple[Facts, SplitName]] = [
    (seen(scene(0)), "train"),
    (seen(scene(1)), "val"),
    (seen(scene(2)), "test"),
    (seen(scene(3), patient="a"), "test"),
    (seen(scene(4), patient="b"), "train"),
]


def test_the_reason_of_each_image_by_hand() -> None:
    brighter = (scene(2) * 0.8 + 40).astype(np.uint8)
    facts = [
        seen(scene(10)),  # new
        seen(scene(2)),  # a copy of the test image
        seen(brighter),  # a near-duplicate of it
        seen(scene(1)[:, ::-1].copy()),  # the mirror image of the validation image
        seen(scene(0)),  # a copy of a training image
        seen(scene(11), patient="a"),  # the patient of a test image
        seen(scene(12), patient="c"),  # another patient
        seen(scene(10)),  # a copy of the first
        Facts("unreadable", "it is broken"),
    ]
    found = reasons(facts, LABELLED, {})
    assert found == ["", "test", "test", "val", "train", "test", "", "copy", "unread"]


def test_what_is_linked_to_a_link_is_left_out_too() -> None:
    """A copy of the pixels of another unlabelled image, which is of the test's patient."""
    facts = [seen(scene(20), patient="a"), seen(scene(20)), seen(scene(21))]
    assert reasons(facts, LABELLED, {}) == ["test", "test", ""]
    # Of two parts, the sealed test is named.
    both = [seen(scene(0), patient="a")]
    assert reasons(both, LABELLED, {}) == ["test"]


def test_sealed_files_of_an_earlier_run_are_not_seen() -> None:
    facts = [seen(scene(30), sha256="f" * 64), seen(scene(31), sha256="e" * 64)]
    assert reasons(facts, LABELLED, {"f" * 16: "test"}) == ["test", ""]


def test_all_are_counted(tmp_path: Path) -> None:
    files = [tmp_path / f"{number}.png" for number in range(3)]
    facts = [seen(scene(10)), seen(scene(2)), Facts("unreadable", "it is broken")]
    found = usable(tmp_path, files, 5, facts, LABELLED)
    assert found.rows.tolist() == [0] and found.images == 8
    assert found.left_out == {"like sealed test images": 1, "unreadable": 1, "not drawn": 5}
    assert found.why_unread == "it is broken"
    assert [item.path for item in found.items] == files


def test_the_same_are_drawn_in_their_order() -> None:
    files = [Path(f"{number:03d}.png") for number in range(100)]
    some = drawn(files, 30)
    assert len(some) == 30 and some == sorted(some) and some == drawn(files, 30)
    assert drawn(files, 100) == files and drawn(files, 0) == []


def test_a_folder_with_images_is_needed(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"--unlabelled .* is not a folder"):
        images_below(tmp_path / "none")
    with pytest.raises(InputError, match=r"--background .* is not a folder"):
        images_below(tmp_path / "none", "background")
    with pytest.raises(DataError, match="no images in the folder"):
        images_below(tmp_path)
