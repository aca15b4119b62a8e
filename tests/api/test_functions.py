"""The functions beside the commands that use a run: they give what the commands print."""

import json
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import headstart as library
from headstart.errors import BackboneError, RunError

RUNS = Path(__file__).parents[1] / "fixtures" / "run_6dddef2"
Command = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def finished(tmp_path: Path) -> Path:
    return Path(shutil.copytree(RUNS / "finished", tmp_path / "finished"))


def test_leaderboard_gives_the_rows_that_the_command_prints(
    finished: Path, headstart: Command
) -> None:
    printed = json.loads(headstart("leaderboard", finished, "--json").stdout)
    rows = library.leaderboard(str(finished))
    assert [row.trial for row in rows] == [row["trial"] for row in printed]
    assert rows[0].rank == 1


def test_report_draws_the_page_again(finished: Path) -> None:
    (finished / "report.html").unlink(missing_ok=True)
    assert library.report(str(finished)) == finished / "report.html"
    assert "83.3%" in (finished / "report.html").read_text(encoding="utf-8")


def test_embed_and_similar_agree_with_the_run(finished: Path, pictures: Path) -> None:
    images = [pictures / "rings" / "000.png", pictures / "rings" / "absent.png"]
    vectors = library.embed(finished, images)
    assert vectors.shape[0] == 2
    assert np.isnan(vectors[1]).all() and not np.isnan(vectors[0]).any()
    run = library.Run.open(finished)
    np.testing.assert_array_equal(vectors[0], run.embed(images[0])[0])
    nearest = library.similar(finished, images[0], k=2)
    assert nearest == run.similar(images[0], k=2)
    assert nearest[0].similarity >= nearest[1].similarity


@pytest.mark.parametrize("name", ["leaderboard", "report"])
def test_a_folder_that_is_no_run_is_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(RunError, match=tmp_path.name):
        getattr(library, name)(tmp_path)


@pytest.mark.parametrize("shown", [True, False, None])
def test_fit_shows_what_it_does_unless_told_otherwise(
    shown: bool | None, pictures: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(BackboneError):
        library.fit(pictures, backbone="no_such_network", progress=shown)
    captured = capsys.readouterr()
    assert captured.out == ""
    assert ("48 images" in captured.err) == (shown is True)
