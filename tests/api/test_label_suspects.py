"""Images of any number of labels that deserve a look: `suspects` of a table and of a run."""

import csv
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess

import pytest

from headstart.api.report import report
from headstart.api.suspects import suspects
from headstart.artifacts.run import read_split_parts
from headstart.diagnose.reasons import SUSPECTS, Suspect, write_suspects_csv
from headstart.inference.run import Run

Command = Callable[..., CompletedProcess[str]]


@pytest.fixture(scope="module")
def spoiled(quarters_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """A table in which one image lacks a label and another has one too many, and which."""
    folder = shutil.copytree(quarters_folder, tmp_path_factory.mktemp("spoiled") / "data")
    with (folder / "labels.csv").open() as file:
        rows = {row["path"]: row["label"].split(";") for row in csv.DictReader(file)}
    lacking, added = "05.png", "04.png"
    assert (rows[lacking], rows[added]) == (["green", "blue"], [""])
    rows[lacking].remove("blue")
    rows[added] = ["red"]
    lines = [f"{path},{';'.join(names)}" for path, names in rows.items()]
    (folder / "labels.csv").write_text("path,label\n" + "\n".join(lines))
    return {"table": str(folder / "labels.csv"), "lacking": lacking, "added": added}


def test_the_command_names_the_labels(
    spoiled: dict[str, str], tmp_path: Path, headstart: Command
) -> None:
    out = tmp_path / "found.csv"
    done = headstart("suspects", spoiled["table"], "--out", out, "--json")
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert (told["images"], told["sealed"], told["unjudged"]) == (72, 0, [])
    found = {each["path"]: each for each in told["suspects"]}
    assert found[spoiled["lacking"]]["missing"] == ["blue"]
    assert found[spoiled["added"]]["wrong"] == ["red"]
    assert found[spoiled["added"]]["suggested"] == "no label"
    with out.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["path"] for row in rows] == [each["path"] for each in told["suspects"]]
    assert [json.loads(row["wrong"]) for row in rows] == [s["wrong"] for s in told["suspects"]]


def test_of_a_run_the_sealed_test_stays_sealed(labels_run: Run, shared_cache: Path) -> None:
    sealed = {path for path, part in read_split_parts(labels_run.folder).items() if part == "test"}
    found = suspects(labels_run.folder, cache_dir=shared_cache)
    assert found.images == labels_run.record.n_train + labels_run.record.n_val
    assert (found.sealed, found.unjudged) == (len(sealed), ())
    assert not sealed & {each.path for each in found.suspects}


def test_the_report_shows_them(labels_run: Run, tmp_path: Path) -> None:
    run = Path(shutil.copytree(labels_run.folder, tmp_path / "run"))
    page = report(run).read_text()
    assert "Not checked in this run" in page and f"headstart suspects {run}" in page
    one = Suspect("00.png", 0, "red", "blue; red", "label", 0.9, "'blue' may be missing: …",
                  ("blue",), ())  # fmt: skip
    write_suspects_csv(run / SUSPECTS, [one], multilabel=True)
    page = report(run).read_text()
    assert "perhaps <strong>blue; red</strong>" in page and "may be missing" in page
    write_suspects_csv(run / SUSPECTS, [], multilabel=True)
    assert "no label is confidently contradicted" in report(run).read_text()
