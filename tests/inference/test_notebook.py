"""What a notebook shows of a run."""

import re
import shutil
from pathlib import Path
from urllib.parse import unquote

import pytest

from headstart import Run

FINISHED = Path(__file__).parents[1] / "fixtures" / "run_6dddef2" / "finished"


def test_a_notebook_shows_the_result_the_figures_and_the_way_to_the_report(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = Path(shutil.copytree(FINISHED, tmp_path / "a run & more"))
    (folder / "report.html").write_text("<p>Report</p>")
    shown = Run.open(folder)._repr_html_()
    assert "83.3% of 12 images correct (95% interval" in shown
    for name in ("balanced accuracy", "macro-F1", "log loss", "calibration error", "backbone"):
        assert f">{name}<" in shown
    found = re.search(r'href="([^"]*)"', shown)
    assert found and unquote(found[1]) == f"file://{folder}/report.html"
    monkeypatch.chdir(tmp_path)
    near = re.search(r'href="([^"]*)"', Run.open(folder)._repr_html_())
    assert near and near[1] == "a%20run%20%26%20more/report.html"


def test_names_are_text_and_never_markup(tmp_path: Path) -> None:
    folder = Path(shutil.copytree(FINISHED, tmp_path / "run<script>"))
    (folder / "report.html").unlink(missing_ok=True)
    run = Run.open(folder)
    run.record.data_name = "<img src=x onerror=alert(1)>\x1b[31m"
    run.record.backbone = '"><script>alert(2)</script>'
    shown = run._repr_html_()
    assert "<img" not in shown and "<script" not in shown and "\x1b" not in shown
    assert "&lt;img src=x" in shown
    assert "no report in" in shown and "href" not in shown
