"""Predictions in a file that grows: whole, cut off anywhere and continued, or refused."""

import csv
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from io import BytesIO
from pathlib import Path
from subprocess import CompletedProcess
from types import SimpleNamespace

import pytest

import headstart
from headstart.artifacts.bundle_spec import GRAPH
from headstart.data.locks import try_lock
from headstart.errors import DataError, InputError, RunError
from headstart.inference.image_inputs import ImageInput
from headstart.inference.predict import predict_batches
from headstart.inference.prediction_file import about_file
from headstart.inference.run import Run

Command = Callable[..., CompletedProcess[str]]

ODD = [
    "=1+1.png",
    "'quoted'.png",
    'a "b",c.png',
    "two\nlines.png",
    "\udcff\udcfe.png",
    "\u202e.png",
]


@pytest.fixture(scope="module")
def images(head_run: Run, pictures: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Good images with ordinary and odd names, a damaged one, and what is no image."""
    folder = tmp_path_factory.mktemp("images")
    sources = sorted(pictures.rglob("*.png"))
    for source, name in zip(sources[:6], ODD, strict=True):
        shutil.copy(source, folder / name)
    for number, source in enumerate(sources[6:20]):
        shutil.copy(source, folder / f"{number}.png")
    (folder / "broken.jpg").write_bytes(b"\xff\xd8 no image")
    (folder / "notes.txt").write_text("nothing to see")
    return folder


@pytest.fixture(scope="module")
def whole(head_run: Run, images: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Both forms of all predictions, with what they were made with beside them."""
    folder = tmp_path_factory.mktemp("whole")
    for form in ("csv", "jsonl"):
        done = headstart.predict(head_run.folder, images, out=folder / f"found.{form}")
        assert (done.images, done.before, done.failed, done.not_listed) == (21, 0, 1, 0)
    return {form: folder / f"found.{form}" for form in ("csv", "jsonl")}


def cut(whole: Path, length: int, folder: Path) -> Path:
    """A copy of predictions, cut off as by a kill."""
    shutil.copy(about_file(whole), folder)
    path = folder / whole.name
    path.write_bytes(whole.read_bytes()[:length])
    return path


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", errors="surrogateescape", newline="") as file:
        return list(csv.DictReader(file))


def test_rows_hold_what_the_run_predicts(
    head_run: Run, images: Path, whole: dict[str, Path]
) -> None:
    said = head_run.predict(images)
    lines = whole["jsonl"].read_text(encoding="utf-8").splitlines()
    assert [json.loads(line) for line in lines] == [
        json.loads(json.dumps(each.model_dump())) for each in said
    ]
    table = rows(whole["csv"])
    assert [row["label"] for row in table] == [each.label for each in said]
    for row, each in zip(table, said, strict=True):
        if each.error:
            assert (row["error"], row["probability_rings"]) == (each.error, "")
            continue
        by_class = {name: float(row[f"probability_{name}"]) for name in each.probabilities}
        assert by_class == each.probabilities
    assert sum(bool(each.error) for each in said) == 1


@pytest.mark.parametrize("form", ["csv", "jsonl"])
def test_what_is_cut_off_anywhere_is_continued_to_the_same_bytes(
    form: str, head_run: Run, images: Path, whole: dict[str, Path], tmp_path: Path
) -> None:
    """In the header, at the end of a row, and in rows whose names hold quotes and line ends."""
    expected = whole[form].read_bytes()
    odd = expected.index(b"two\\nlines" if form == "jsonl" else b"two\nlines")
    ends = [at + 1 for at, byte in enumerate(expected) if byte == ord("\n")]
    for length in (0, ends[0] - 1, ends[0], ends[4] + 1, odd + 4, ends[-1] - 1):
        path = cut(whole[form], length, tmp_path)
        done = headstart.predict(head_run.folder, images, out=path, resume=True)
        assert path.read_bytes() == expected
        assert done.before + done.images == 21
    again = headstart.predict(head_run.folder, images, out=path, resume=True)
    assert (again.images, again.before, path.read_bytes()) == (0, 21, expected)


def test_a_list_that_changed_is_completed(
    head_run: Run, images: Path, whole: dict[str, Path], tmp_path: Path
) -> None:
    """A new image gets its row, one that is gone keeps its own, and a name twice has two."""
    folder = shutil.copytree(images, tmp_path / "images")
    path, names = tmp_path / "found.csv", ["0.png", "1.png", "1.png", "2.png"]
    headstart.predict(head_run.folder, [folder / name for name in names], out=path)
    shutil.copy(folder / "5.png", folder / "1b.png")
    listed = [folder / name for name in ("1.png", "1b.png", "2.png", "1.png", "2.png", "2.png")]
    done = headstart.predict(head_run.folder, iter(listed), out=path, resume=True)
    assert (done.before, done.images, done.not_listed) == (4, 3, 1)
    found = [Path(row["image"]).name for row in rows(path)]
    assert found == [*names, "1b.png", "2.png", "2.png"]


def test_a_file_of_something_else_is_refused_and_left_alone(
    head_run: Run, images: Path, whole: dict[str, Path], tmp_path: Path
) -> None:
    path = cut(whole["csv"], 10**6, tmp_path)
    kept, about = path.read_bytes(), json.loads(about_file(path).read_text())

    def refused(error: type[Exception], words: str, **options: object) -> None:
        with pytest.raises(error, match=words):
            headstart.predict(head_run.folder, images, out=path, **options)  # type: ignore[arg-type]
        assert path.read_bytes() == kept

    refused(InputError, r"found\.csv is there already\. Continue it with --resume")
    refused(RunError, "was made without --set-coverage", resume=True, set_coverage=0.9)
    with try_lock(path):
        refused(InputError, "Another process is writing to", resume=True)
    other = {**about, "bundle_sha256": "0" * 64}
    for content, words in (
        (json.dumps(other), "was made with another classifier"),
        (json.dumps({**about, "set_coverage": 0.9}), "was made with --set-coverage 0.9"),
        ("{", "about.json is damaged"),
    ):
        about_file(path).write_text(content)
        refused(RunError, words, resume=True)
    about_file(path).unlink()
    refused(RunError, "which says what it was made with, is not beside it", resume=True)
    about_file(path).write_text(json.dumps(about))
    for damage, words in (
        (kept.replace(b"image,label", b"picture,label", 1), "has other columns"),
        (kept.replace(b",uint8,", b",", 1), r"Row 2 of .*found\.csv is damaged: It has 12 cells"),
        (kept[:-40] + b"\0" * 39 + b"\n", "is damaged"),
    ):
        kept = damage
        path.write_bytes(kept)
        refused(RunError, words, resume=True)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("found.txt", r"Name it \.csv or \.jsonl"),
        ("none/found.csv", "There is no folder"),
        ("pipe.csv", "it is a named pipe"),
    ],
)
def test_a_file_that_cannot_be_written(
    name: str, words: str, head_run: Run, images: Path, tmp_path: Path
) -> None:
    os.mkfifo(tmp_path / "pipe.csv")
    with pytest.raises((InputError, OSError), match=words):
        headstart.predict(head_run.folder, images, out=tmp_path / name)
    assert [each.name for each in tmp_path.iterdir()] == ["pipe.csv"]


def test_a_folder_without_images_is_known_before_the_first_row(
    head_run: Run, images: Path, tmp_path: Path
) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="There are no images"):
        headstart.predict(head_run.folder, [images, tmp_path / "empty"], out=tmp_path / "found.csv")
    assert not (tmp_path / "found.csv").exists()


def test_only_the_next_few_images_are_taken(head_run: Run, images: Path) -> None:
    taken = 0

    def endless() -> Iterator[ImageInput]:
        nonlocal taken
        while True:
            taken += 1
            yield ImageInput("0", images / "0.png")

    batches = predict_batches(head_run.bundle, endless())
    for number in (1, 2, 3):
        assert len(next(batches)) == 4
        assert taken <= 4 * number + 64
    batches.close()


def test_the_command_reads_names_from_standard_input(
    head_run: Run, images: Path, tmp_path: Path, headstart: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = b"".join(os.fsencode(images / each) + b"\r\n" for each in ("0.png", "\udcff\udcfe.png"))
    given = SimpleNamespace(buffer=BytesIO(names + b"\n" + os.fsencode(images / "broken.jpg")))
    monkeypatch.setattr(sys, "stdin", given)
    out = tmp_path / "found.csv"
    done = headstart("predict", head_run.folder, images / "1.png", "-", "--out", out)
    assert done.returncode == 1
    assert "found.csv: 4 images in" in done.stdout and "1 could not be read" in done.stdout
    assert [Path(row["image"]).name for row in rows(out)] == [
        "1.png", "0.png", "\udcff\udcfe.png", "broken.jpg",
    ]  # fmt: skip
    again = headstart("predict", head_run.folder, images, "--out", out, "--resume", "--json")
    counts = json.loads(again.stdout)
    assert (counts["images"], counts["before"], counts["failed"]) == (17, 4, 0)


def test_the_command_prints_rows(head_run: Run, images: Path, headstart: Command) -> None:
    done = headstart("predict", head_run.folder, images / "0.png", images / "broken.jpg", "--jsonl")
    assert done.returncode == 1
    good, bad = map(json.loads, done.stdout.splitlines())
    assert good["label"] == max(good["probabilities"], key=good["probabilities"].get)
    assert "broken.jpg" in bad["error"]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--jsonl", "--csv"), "Give only one of"),
        (("--resume",), "give --out"),
        (("--engine", "ray"), "give --out"),
        (("--out", "x.csv", "--csv"), "says its form"),
        (("--out", "x.csv", "--address", "auto"), "--address needs --engine ray"),
    ],
)
def test_options_that_do_not_go_together(
    options: tuple[str, ...], words: str, head_run: Run, images: Path, headstart: Command,
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    done = headstart("predict", head_run.folder, images / "0.png", *options)
    assert (done.returncode, len(done.stderr.splitlines())) == (2, 1)
    assert words in done.stderr
    assert list(tmp_path.iterdir()) == []
    assert (head_run.folder / "bundle" / GRAPH).exists()


ON_RAY = """
import sys
import headstart
run, images, out = sys.argv[1:]
done = headstart.predict(run, images, out=out, engine="ray", resume=True)
print(done.images, done.before, done.failed)
"""


@pytest.mark.slow
def test_a_cluster_gives_the_same_rows(
    head_run: Run, images: Path, whole: dict[str, Path], tmp_path: Path
) -> None:
    """In a program of its own, because Ray leaves traces in a process; half of it was done here."""
    pytest.importorskip("ray")
    expected = whole["csv"].read_bytes()
    path = cut(whole["csv"], len(expected) // 2, tmp_path)
    command = [sys.executable, "-c", ON_RAY, str(head_run.folder), str(images), str(path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    made, before, failed = map(int, done.stdout.split())
    assert (made + before, failed) == (21, 1 - any(row["error"] for row in rows(path)[:before]))
    by_name = [{row["image"]: row for row in rows(file)} for file in (whole["csv"], path)]
    assert by_name[0].keys() == by_name[1].keys() and len(rows(path)) == 21
    for name, row in by_name[0].items():
        assert by_name[1][name]["label"] == row["label"]
