"""Images that deserve a look: planted errors are on top, and the sealed test stays sealed."""

import csv
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess

import pytest
from PIL import Image

from headstart.api.fit import fit
from headstart.api.suspects import suspects
from headstart.artifacts.run import read_split_parts
from headstart.data.audit import Finding
from headstart.diagnose.reasons import without_sealed
from headstart.errors import DataError, RunError
from headstart.inference.run import Run

Command = Callable[..., CompletedProcess[str]]

WRONG = {"rings/stripes-003.png": "stripes", "checks/rings-007.png": "rings"}


@pytest.fixture(scope="module")
def spoiled(pictures: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The pictures, two of them in a wrong folder, one smaller in two folders, one strange."""
    folder = shutil.copytree(pictures, tmp_path_factory.mktemp("spoiled") / "data")
    for wrong, right in WRONG.items():
        (folder / right / wrong[-7:]).rename(folder / wrong)
    with Image.open(folder / "stripes" / "009.png") as image:
        image.resize((60, 60)).save(folder / "checks" / "copy.png")
    return folder


def test_planted_errors_are_on_top(spoiled: Path, shared_cache: Path) -> None:
    found = suspects(spoiled, cache_dir=shared_cache)
    assert (found.images, found.sealed) == (49, 0)
    top = {each.path: each for each in found.suspects[:4]}
    assert WRONG.keys() <= top.keys()
    for path, right in WRONG.items():
        assert top[path].kind == "label"
        assert top[path].suggested == right
    assert {"checks/copy.png", "stripes/009.png"} <= top.keys()
    assert "is labelled 'stripes'" in top["checks/copy.png"].why
    scores = [each.score for each in found.suspects]
    assert scores == sorted(scores, reverse=True)


def test_of_a_run_the_sealed_test_stays_sealed(
    spoiled: Path, shared_cache: Path, tmp_path: Path
) -> None:
    run = fit(
        spoiled, strategy="head", epochs=0, settings=["backbone.resolution=96"],
        out=tmp_path / "run", cache_dir=shared_cache,
    )  # fmt: skip
    assert run.record.source == str(spoiled.resolve())
    parts = read_split_parts(run.folder)
    sealed = {path for path, part in parts.items() if part == "test"}
    found = suspects(run.folder, cache_dir=shared_cache)
    assert found.images == run.record.n_train + run.record.n_val
    assert found.sealed == len(sealed)
    named = {each.path for each in found.suspects}
    assert not named & sealed
    assert not any(path in each.why for path in sealed for each in found.suspects)
    assert named >= (WRONG.keys() - sealed)


def test_findings_lose_their_sealed_images() -> None:
    def finding(*files: str) -> Finding:
        return Finding(kind="near_duplicate", severity="warning", files=files, message="")

    found = [finding("a", "b"), finding("a", "s"), finding("a", "b", "s"), finding("s")]
    kept = without_sealed(found, frozenset({"s"}))
    assert [each.files for each in kept] == [("a", "b"), ("a", "b")]


def test_a_run_whose_images_are_gone_says_so(pictures: Path, head_run: Run, tmp_path: Path) -> None:
    data = Path(shutil.copytree(pictures, tmp_path / "data"))
    run = Path(shutil.copytree(head_run.folder, tmp_path / "run"))
    record = json.loads((run / "run.json").read_text())
    (run / "run.json").write_text(json.dumps({**record, "source": str(data)}))
    parts = read_split_parts(run)
    (data / next(path for path, part in parts.items() if part == "train")).unlink()
    with pytest.raises(RunError, match=r"no longer contains 1 of the \d+ images that"):
        suspects(run)
    shutil.rmtree(data)
    with pytest.raises(RunError, match="Cannot find the images"):
        suspects(run)
    (run / "run.json").write_text(json.dumps({**record, "source": ""}))
    with pytest.raises(RunError, match="passed in Python"):
        suspects(run)


def test_too_few_images_are_refused(two_classes: Path) -> None:
    shutil.rmtree(two_classes / "rings")
    with pytest.raises(DataError):
        suspects(two_classes)


def test_the_command(spoiled: Path, tmp_path: Path, headstart: Command) -> None:
    out = tmp_path / "found.csv"
    done = headstart("suspects", spoiled, "--out", out, "--json")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    with out.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["path"] for row in rows] == [each["path"] for each in found["suspects"]]
    assert len(rows) >= 4
    refused = headstart("suspects", spoiled, "--out", tmp_path / "nowhere" / "found.csv")
    assert refused.returncode == 2
    assert "nowhere" in refused.stderr
    table = headstart("suspects", spoiled, "--out", out)
    assert WRONG.keys() <= {line.split("\t")[2] for line in table.stdout.splitlines()[1:-1]}
    assert "of 49 images are suspicious" in table.stdout
