"""A run of any number of labels is continued: its test stays sealed, and both are compared."""

import csv
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from headstart.api.fit import fit
from headstart.artifacts.run import read_record, read_split_parts
from headstart.artifacts.set_results import read_set_predictions
from headstart.cli.output import print_run
from headstart.errors import DataError
from headstart.evaluation.label_scores import mean_average_precision
from headstart.inference.run import Run


def parts_of(run: Run) -> dict[str, str]:
    return read_split_parts(run.folder)


@pytest.fixture(scope="module")
def more(quarters_folder: Path, labels_run: Run, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The earlier pictures, 24 more with a new label, and a corrected one of the sealed test."""
    folder = Path(shutil.copytree(quarters_folder, tmp_path_factory.mktemp("more") / "data"))
    with (folder / "labels.csv").open() as file:
        rows = {row["path"]: row["label"] for row in csv.DictReader(file)}
    tested = sorted(name for name, part in parts_of(labels_run).items() if part == "test")
    rows[tested[0]] = "red;yellow"
    random = np.random.default_rng(3)
    for number in range(24):
        pixels = random.normal(128, 40, (64, 64, 3))
        pixels[:32, :32] += np.array([100, 90, -90]) if number % 2 else 0
        pixels[32:, 32:] += np.array([80, -70, -70]) if number % 3 else 0
        name = f"new-{number}.png"
        Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(folder / name)
        rows[name] = ";".join(["yellow"] * (number % 2) + ["red"] * (number % 3 > 0))
    lines = [f"{path},{names}" for path, names in rows.items()]
    (folder / "labels.csv").write_text("path,label\n" + "\n".join(lines))
    return folder


@pytest.fixture(scope="module")
def continued(
    labels_run: Run, more: Path, shared_cache: Path, tmp_path_factory: pytest.TempPathFactory
) -> Run:
    return fit(
        more / "labels.csv", from_run=labels_run.folder, epochs=0, cache_dir=shared_cache,
        out=tmp_path_factory.mktemp("continued") / "run", progress=False,
    )  # fmt: skip


def test_what_was_sealed_stays_sealed(labels_run: Run, continued: Run) -> None:
    before, now = parts_of(labels_run), parts_of(continued)
    assert {name: now[name] for name in before} == before
    assert {"train", "test"} <= {part for name, part in now.items() if name not in before}
    assert continued.record.classes == ("blue", "green", "red", "yellow")
    assert continued.record.backbone_source == "test_efficientnet as trained by the run run"


def test_what_is_gained_and_forgotten_is_counted_by_hand(
    labels_run: Run, continued: Run, more: Path
) -> None:
    found = continued.record.continued
    assert found is not None and found.gained is not None and found.forgotten is not None
    now = read_set_predictions(continued.folder)
    said = labels_run.predict([more / each.path for each in now])
    old = np.array([each.path in parts_of(labels_run) for each in now])
    pairs = zip(said, now, strict=True)
    right_before = np.array([{*(p.labels or ())} == {*each.labels} for p, each in pairs])
    right_now = np.array([set(each.given) == set(each.labels) for each in now])
    assert (found.sealed, found.found, found.relabelled) == (old.sum(), old.sum(), 1)
    for told, which in ((found.gained, np.ones(len(now), bool)), (found.forgotten, old)):
        assert told.images == which.sum()
        assert told.right_before == right_before[which].sum()
        assert told.right_now == right_now[which].sum()
        known = labels_run.record.classes
        marks = np.array([[int(name in each.labels) for name in known] for each in now])[which]
        before = np.array([[each.probabilities[name] for name in known] for each in said])[which]
        after = np.array([each.probabilities[:3] for each in now])[which]
        change = told.mean_average_precision
        assert change is not None and change.labels == 3
        assert change.before == pytest.approx(mean_average_precision(before, marks), abs=1e-6)
        assert change.now == pytest.approx(mean_average_precision(after, marks), abs=1e-6)
        assert change.interval[0] <= change.difference <= change.interval[1]
    assert found.gained.only_now > 0, "the new label is gained"
    assert read_record(continued.folder).continued == found


def test_the_page_and_the_terminal_tell_it(
    continued: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    record, page = continued.record, (continued.folder / "report.html").read_text()
    print_run(continued)
    printed = capsys.readouterr().out
    assert record.continued is not None
    assert "exactly their labels" in page and "exactly their labels" in printed
    for term, text in record.continued.lines:
        assert term in page and text.split(" (")[0] in page
        assert text in printed


def test_one_class_is_not_continued_with_several_labels(
    head_run: Run, labels_run: Run, more: Path, pictures: Path, tmp_path: Path
) -> None:
    for run, source, says in (
        (head_run, more / "labels.csv", "gives an image one class, and the images of .* have any"),
        (labels_run, pictures, "gives an image any number of labels"),
    ):
        with pytest.raises(DataError, match=says):
            fit(source, from_run=run.folder, out=tmp_path / "run", progress=False)
        assert not (tmp_path / "run").exists()
