"""Runs that commit 6dddef2 wrote: see the README beside them."""

import csv
import json
import shutil
import socket
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from headstart import Run
from headstart.api.resume import placed_request
from headstart.artifacts.journal import TRIALS
from headstart.artifacts.records import Request
from headstart.artifacts.run import read_record
from headstart.recipes.options import FitOptions, ResumeOptions
from headstart.recipes.parsing import parse_recipe

OLDER = Path(__file__).parents[1] / "fixtures" / "run_6dddef2"
Command = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def older(pictures: Path, tmp_path: Path) -> Path:
    """Copies of both runs, which say where their pictures lie on this machine."""
    for name in ("finished", "stopped"):
        path = shutil.copytree(OLDER / name, tmp_path / name) / "run.json"
        record = json.loads(path.read_text())
        path.write_text(json.dumps({**record, "source": str(pictures), "data_root": str(pictures)}))
    return tmp_path


def recorded(run: Path) -> dict[str, tuple[str, float]]:
    """Predicted class and its probability, by test image."""
    with (run / "predictions.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    return {row["path"]: (row["prediction"], float(row["probability"])) for row in rows}


def test_an_older_run_predicts_what_it_predicted(older: Path, pictures: Path) -> None:
    before = recorded(OLDER / "finished")
    assert len(before) == 12
    run = Run.open(older / "finished")
    found = run.predict([pictures / name for name in before])
    assert [each.label for each in found] == [label for label, _ in before.values()]
    probabilities = [probability for _, probability in before.values()]
    assert [each.probability for each in found] == pytest.approx(probabilities, abs=1e-4)
    assert run.metrics.accuracy == pytest.approx(10 / 12)


def test_commands_read_an_older_run(older: Path, pictures: Path, headstart: Command) -> None:
    run = older / "finished"
    image = pictures / "checks" / "000.png"
    reported = headstart("report", run)
    assert reported.returncode == 0, reported.stderr
    page = (run / "report.html").read_text()
    assert "83.3%" in page and "test_efficientnet" in page
    ranked = headstart("leaderboard", run, "--json")
    assert ranked.returncode == 0, ranked.stderr
    assert [row["trial"] for row in json.loads(ranked.stdout)] == [2, 1]
    alike = headstart("similar", run, image, "--json")
    assert alike.returncode == 0, alike.stderr
    assert json.loads(alike.stdout)[0]["image"] == "checks/015.png"


def test_an_older_search_is_resumed(older: Path, headstart: Command) -> None:
    finished, stopped = older / "finished", older / "stopped"
    first = TRIALS.read(stopped)
    assert len(first) == 1
    resumed = headstart("resume", stopped, "--workers", 1)
    assert resumed.returncode == 0, resumed.stderr

    trials, expected = TRIALS.read(stopped), TRIALS.read(finished)
    assert trials[0] == first[0]
    # What is still to be tried comes from the portfolio, which the older version did not have.
    assert [each.state for each in trials] == [each.state for each in expected]
    assert parse_recipe(trials[1].recipe).freezing.boundary == "blocks.0"
    assert recorded(stopped).keys() == recorded(finished).keys()

    compared = headstart("diff", finished, stopped)
    assert compared.returncode == 0, compared.stderr
    assert "12 shared test images" in compared.stdout
    record = json.loads((stopped / "run.json").read_text())
    assert any("kept no fingerprint of its data" in note for note in record["notes"])
    assert "kept no fingerprint" in resumed.stderr


def test_a_finished_older_search_is_not_resumed(older: Path, headstart: Command) -> None:
    refused = headstart("resume", older / "finished")
    assert refused.returncode != 0
    assert "finished" in refused.stderr


def test_a_run_folder_does_not_say_where_trials_run(older: Path, headstart: Command) -> None:
    """An address in run.json, from a stranger perhaps, is not connected to."""
    path = older / "stopped" / "run.json"
    record = json.loads(path.read_text())
    with socket.create_server(("127.0.0.1", 0)) as cluster:
        cluster.settimeout(0.1)
        address = f"127.0.0.1:{cluster.getsockname()[1]}"
        request = {**record["request"], "engine": "ray", "address": address, "workers": 2}
        path.write_text(json.dumps({**record, "request": request}))
        resumed = headstart("resume", older / "stopped", "--workers", 1)
        assert resumed.returncode == 0, resumed.stderr
        with pytest.raises(TimeoutError):
            cluster.accept()
    said = "began with --executor ray --jobs 2, and continues with --executor here --jobs 1"
    assert said in resumed.stderr
    assert any(said in note for note in Run.open(older / "stopped").record.notes)


def test_resume_runs_trials_where_it_is_told_to(older: Path, headstart: Command) -> None:
    refused = headstart("resume", older / "stopped", "--jobs", 2)
    assert refused.returncode == 2
    assert "--jobs 2 needs --executor" in refused.stderr
    request = read_record(older / "stopped").request
    assert request is not None
    asked = ResumeOptions(executor="processes", jobs=2, trial_memory=1.0)
    placed, note = placed_request(request, asked)
    assert placed.options.executor == "processes"
    assert (placed.options.jobs, placed.options.memory_limit) == (2, 10**9)
    assert "--executor here --jobs 1" in note
    assert placed_request(request, ResumeOptions()) == (request, "")


def test_a_run_folder_downloads_nothing() -> None:
    asked = Request(options=FitOptions(trials=2, download=True))
    placed, note = placed_request(asked, ResumeOptions())
    assert not placed.options.download
    assert note == "--download is not taken from the run folder, so nothing is fetched."
