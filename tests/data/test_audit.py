"""What the audit finds, leaves out and keeps together."""

import os
import random
import time
from dataclasses import replace
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest

from headstart.data import audit as audit_module
from headstart.data import class_names
from headstart.data.audit import Audit, AuditResult, audit, summary_rows
from headstart.data.class_names import similar_names
from headstart.data.pixels import Facts
from headstart.data.rasters import THUMBNAIL
from headstart.data.types import Dataset, Item, SplitName
from headstart.data.understanding import PassedOver
from headstart.errors import DataError

DATA = Path(os.environ.get("HEADSTART_DATA", Path(__file__).parents[3] / "shared" / "data"))
ROOT = Path("/data")


def fact(seed: int, width: int = 300, height: int = 300) -> Facts:
    """Facts of an image like no other."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 256, (16, 16), dtype=np.uint8)
    thumbnail = np.repeat(np.repeat(coarse, THUMBNAIL // 16, 0), THUMBNAIL // 16, 1)
    name = f"{seed:064d}"
    return Facts("ok", "", name, width, height, "RGB", "PNG", name, thumbnail.tobytes())


def retoned(one: Facts, seed: int) -> Facts:
    """The same photograph, darker: other pixels, the same structure."""
    darker = np.frombuffer(one.thumbnail, dtype=np.uint8) // 2 + 20
    name = f"{seed:064d}"
    return replace(one, sha256=name, pixels=name, thumbnail=darker.tobytes())


def item(name: str, split: SplitName | None = None, group: str | None = None) -> Item:
    return Item(ROOT / name, name.split("/", maxsplit=1)[0], split, group)


def examine(images: dict[Item, Facts], **more: int) -> AuditResult:
    return audit(Dataset("d", ROOT, tuple(images)), list(images.values()), **more)


def two_classes(each: int = 10, split: SplitName | None = None) -> dict[Item, Facts]:
    names = [f"{label}/{number}" for label in "ab" for number in range(each)]
    return {item(name, split): fact(seed) for seed, name in enumerate(names)}


def kinds(report: Audit) -> list[tuple[str, str, tuple[str, ...]]]:
    return [(finding.kind, finding.severity, finding.files) for finding in report.findings]


def test_good_data_has_no_findings() -> None:
    result = examine(two_classes())
    assert result.audit == Audit(
        n_images=20, n_usable=20, classes={"a": 10, "b": 10}, dropped={}, findings=(),
        understood=Dataset("d", ROOT, tuple(two_classes())).understanding,
    )  # fmt: skip
    assert result.kept.tolist() == list(range(20))
    assert len(set(result.groups.tolist())) == 20
    assert summary_rows(result.audit) == []


@pytest.mark.parametrize("status", ["unreadable", "truncated", "not_an_image", "too_large"])
def test_broken_files_are_left_out(status) -> None:  # type: ignore[no-untyped-def]
    images = {item("a/bad"): Facts(status, "it is bad"), **two_classes()}
    result = examine(images)
    assert result.kept.tolist() == list(range(1, 21))
    assert result.audit.dropped == {"a/bad": "it is bad"}
    assert kinds(result.audit) == [(status, "warning", ("a/bad",))]
    assert result.audit.findings[0].message == "a/bad is left out: it is bad."


def test_all_broken_is_an_error() -> None:
    images = {item(f"{label}/0"): Facts("truncated", "it ends early") for label in "ab"}
    with pytest.raises(DataError, match=r"None of the 2 files in /data .*a/0: it ends early"):
        examine(images)


def test_exact_duplicates_stay_together() -> None:
    images = {**two_classes(), item("a/copy"): fact(0)}
    result = examine(images)
    assert kinds(result.audit) == [("exact_duplicate", "info", ("a/0", "a/copy"))]
    assert len(result.kept) == 21
    assert result.groups[0] == result.groups[20]
    assert len(set(result.groups.tolist())) == 20


def test_same_image_under_two_labels_is_left_out_with_all_its_copies() -> None:
    images = {**two_classes(), item("a/copy"): fact(0), item("b/copy"): fact(0)}
    result = examine(images)
    assert set(result.audit.dropped) == {"a/0", "a/copy", "b/copy"}
    assert kinds(result.audit)[0] == (
        "conflicting_labels",
        "warning",
        ("a/0", "a/copy", "b/copy"),
    )
    assert result.audit.classes == {"a": 9, "b": 10}


def test_near_duplicates_stay_together() -> None:
    images = {**two_classes(), item("a/dark"): retoned(fact(3), 900)}
    result = examine(images)
    assert kinds(result.audit) == [("near_duplicate", "info", ("a/3", "a/dark"))]
    assert result.groups[3] == result.groups[20]
    assert len(set(result.groups.tolist())) == 20


def test_near_duplicates_with_different_labels_are_only_a_warning() -> None:
    images = {**two_classes(), item("b/dark"): retoned(fact(3), 900)}
    result = examine(images)
    assert kinds(result.audit) == [("near_duplicate", "warning", ("a/3", "b/dark"))]
    assert "labelled 'a' and 'b'" in result.audit.findings[0].message
    assert result.audit.dropped == {}
    assert result.groups[3] == result.groups[20]


def test_groups_join_what_is_given_and_what_is_alike() -> None:
    # a/0 is like a/dark; a/dark and b/8 are of one patient: all three belong together.
    images = two_classes()
    images = {
        replace(one, group="patient") if one.path.name == "8" and one.label == "b" else one: known
        for one, known in images.items()
    }
    images[item("a/dark", group="patient")] = retoned(fact(0), 900)
    images[item("a/lone", group="other")] = fact(901)
    result = examine(images)
    assert result.groups[0] == result.groups[18] == result.groups[20]
    assert len(set(result.groups.tolist())) == 22 - 2


@pytest.mark.parametrize(
    ("splits", "stays"),
    [
        (("train", "test"), "test"),
        (("val", "test"), "test"),
        (("train", "val"), "val"),
    ],
)
def test_leaks_between_given_splits_are_left_out_of_the_less_sealed_one(
    splits: tuple[SplitName, SplitName], stays: str
) -> None:
    images = {
        **two_classes(split="train"),
        item("a/one", splits[0]): fact(900),
        item("a/two", splits[1]): retoned(fact(900), 901),
        item("a/exact1", splits[0]): fact(902),
        item("a/exact2", splits[1]): fact(902),
    }
    result = examine(images)
    assert set(result.audit.dropped) == {"a/one", "a/exact1"}
    leaks = [finding for finding in result.audit.findings if finding.kind == "split_leak"]
    assert [leak.files for leak in leaks] == [("a/one", "a/two"), ("a/exact1", "a/exact2")]
    assert leaks[0].severity == "warning"
    assert f"to keep {stays} independent" in leaks[0].message


def test_given_group_across_given_splits_is_a_leak() -> None:
    images = {
        **two_classes(split="train"),
        item("a/left", "train", "patient"): fact(900),
        item("b/right", "test", "patient"): fact(901),
    }
    assert set(examine(images).audit.dropped) == {"a/left"}


def test_tiny_class_is_left_out_while_two_remain() -> None:
    images = {**two_classes(), item("c/0"): fact(900), item("c/1"): fact(901)}
    result = examine(images)
    assert result.audit.classes == {"a": 10, "b": 10}
    assert set(result.audit.dropped) == {"c/0", "c/1"}
    assert kinds(result.audit) == [("tiny_class", "warning", ("c/0", "c/1"))]


def test_two_classes_of_which_one_is_tiny_are_an_error() -> None:
    images = {key: known for key, known in two_classes().items() if str(key.path) < "/data/b/2"}
    with pytest.raises(DataError, match=r"two classes with 3 usable images.*'a' 10, 'b' 2"):
        examine(images)


def test_one_class_is_an_error() -> None:
    images = {key: known for key, known in two_classes().items() if key.label == "a"}
    with pytest.raises(DataError, match="At least two classes"):
        examine(images)


def test_few_images_and_imbalance_are_warned_of() -> None:
    images = two_classes()
    images |= {item(f"c/{number}"): fact(900 + number) for number in range(9)}
    report = examine(images).audit
    assert [(finding.kind, finding.severity) for finding in report.findings] == [
        ("tiny_class", "warning")
    ]
    images |= {item(f"a/more{number}"): fact(1000 + number) for number in range(81)}
    report = examine(images).audit
    assert [finding.kind for finding in report.findings] == ["tiny_class", "imbalance"]
    assert "10 times as many images as 'c' (91 and 9)" in report.findings[1].message


def test_odd_sizes() -> None:
    images = {
        **two_classes(),
        item("a/long"): fact(900, 901, 300),
        item("a/allowed"): fact(901, 900, 300),
        item("a/small"): fact(902, 31, 40),
        replace(item("a/boxed"), box=(-5, 0, 20, 60)): fact(903),
    }
    found = {
        finding.message.split(" with")[0].split(" longer")[0]: finding.files
        for finding in examine(images).audit.findings
    }
    assert found == {"1 image": ("a/long",), "2 images": ("a/small", "a/boxed")}


def test_images_much_smaller_than_what_the_network_sees() -> None:
    images = {key: replace(known, width=100, height=90) for key, known in two_classes().items()}
    assert "side of 90 pixels" in examine(images, resolution=224).audit.findings[0].message
    assert examine(images, resolution=128).audit.findings == ()


@pytest.mark.parametrize(
    "names",
    [
        ("Dandelion", "dandelion"),
        ("lily valley", "lily_valley"),
        ("lily-valley", "lilyvalley"),
        ("tulip", "tulips"),
        ("sunflower", "sunflwer"),
        ("buttercup", "butercup"),
        ("wood anemone", "wood anemome"),
        ("Café", "Cafe\u0301"),
    ],
)
def test_two_spellings_of_one_name(names: tuple[str, str]) -> None:
    assert similar_names([*names, "something else"]) == [tuple(sorted(names))]


@pytest.mark.parametrize(
    "names",
    [
        ("class_1", "class_2"),
        ("0", "1"),
        ("ant", "bee"),
        ("typical", "atypical"),
        ("male", "female"),
        ("Audi S4 Sedan 2007", "Audi S4 Sedan 2012"),
        ("Audi S5 Coupe 2012", "Audi S5 Convertible 2012"),
        ("Mercedes-Benz C-Class Sedan 2012", "Mercedes-Benz E-Class Sedan 2012"),
    ],
)
def test_two_names_of_two_things(names: tuple[str, str]) -> None:
    assert similar_names(names) == []


def test_names_of_real_data_sets_are_all_different() -> None:
    folders = [DATA / name for name in ("flowers17", "neu_steel", "stanford_cars_crops")]
    if not all(folder.is_dir() for folder in folders):
        pytest.skip("the shared data are not here")
    for folder in folders:
        assert similar_names(path.name for path in folder.iterdir()) == []


def altered(word: str, changes: int, rng: random.Random) -> str:
    for _ in range(changes):
        place = rng.randrange(1, len(word))
        letter = rng.choice(["", "", *"abcde1"])
        word = word[:place] + letter + word[place + rng.randrange(2) :]
    return word


def test_similar_names_are_found_among_all_pairs() -> None:
    rng = random.Random(0)
    names = set()
    for _ in range(60):
        word = "".join(rng.choice("abcde1") for _ in range(rng.randint(5, 17)))
        other = rng.choice(["", " red", "-blue", "_2"])
        names |= {altered(word, changes, rng) + other for changes in (0, 1, 1, 2, 2, 3)}
    known = {name: class_names._words(name) for name in sorted(names)}
    found = similar_names(names)
    every = {
        (a, b)
        for a, b in combinations(known, 2)
        if "".join(known[a]) == "".join(known[b])
        or class_names._differ_by_a_letter(known[a], known[b])
    }
    assert set(found) <= every
    # What is not found has several letters more or fewer, in one word.
    missed = [("".join(known[a]), "".join(known[b])) for a, b in every - set(found)]
    assert all(max(len(a), len(b)) > 7 for a, b in missed)
    assert len(missed) < len(found) / 4
    assert len(found) > 100


def test_the_rules_on_classes_are_linear(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = random.Random(0)
    compared = 0
    real = class_names._differ_by_a_letter

    def count(first: list[str], second: list[str]) -> bool:
        nonlocal compared
        compared += 1
        return real(first, second)

    monkeypatch.setattr(class_names, "_differ_by_a_letter", count)
    names = {"".join(rng.choice("aeioubdklmnrst") for _ in range(10)) for _ in range(4000)}
    similar_names(names)
    assert compared < len(names)  # of 8 million pairs


def test_every_class_of_many_is_counted() -> None:
    labels = [f"{number:04d}" for number in range(3000) for _ in range(2 + number % 3)]
    items = tuple(Item(Path(f"/d/{row}.jpg"), label) for row, label in enumerate(labels))
    facts = [Facts("ok") for _ in items]
    notes = audit_module._Notes(Dataset("d", Path("/d"), items), facts)
    started = time.monotonic()
    audit_module._note_tiny_classes(notes)
    assert time.monotonic() - started < 5  # over a minute, if every class reads every image
    assert len(notes.dropped) == 2000
    assert len(notes.left()) == 7000
    assert len(notes.findings) == 3000


def test_similar_names_and_ignored_files_are_findings() -> None:
    images = two_classes()
    images |= {item(f"B/{number}"): fact(900 + number) for number in range(10)}
    other = PassedOver(
        reason="unknown_extension", what="Other files", names=("a/notes.txt", "b/Thumbs.db")
    )
    dataset = Dataset("d", ROOT, tuple(images), passed_over=(other,))
    report = audit(dataset, list(images.values())).audit
    assert kinds(report) == [
        ("similar_class_names", "warning", ()),
        ("ignored_file", "info", ("a/notes.txt", "b/Thumbs.db")),
    ]


def test_audit_survives_json_and_prints_as_one_row_a_kind() -> None:
    images = {
        **two_classes(),
        item("a/copy"): fact(0),
        item("a/copy2"): fact(1),
        item("a/bad"): Facts("truncated", "it ends early"),
    }
    report = examine(images).audit
    assert Audit.model_validate_json(report.model_dump_json()) == report
    rows = summary_rows(report)
    assert [row[:2] for row in rows] == [("truncated", "warning"), ("exact duplicate", "info")]
    assert rows[0][2] == "a/bad is left out: it ends early."
    assert rows[1][2].endswith("[a/0, a/copy] (and 1 more like it)")
