"""The effect of each method where images have any number of labels: exact sets and mAP, paired."""

import csv
import json
import shutil
from base64 import b64decode
from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess

import numpy as np
import pytest

from headstart.ablation.record import MEASURED, Ledger
from headstart.api.compare import compare
from headstart.artifacts.run import read_split_parts
from headstart.evaluation.label_scores import mean_average_precision, right_sets
from headstart.inference.run import Run

Command = Callable[..., CompletedProcess[str]]


@pytest.fixture(scope="module")
def compared(
    labels_run: Run, shared_cache: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, Ledger]:
    run = Path(shutil.copytree(labels_run.folder, tmp_path_factory.mktemp("compared") / "run"))
    return run, compare(run=run, epochs=1, cache_dir=shared_cache, progress=False)


def test_the_figures_of_a_row_by_hand(compared: tuple[Path, Ledger], quarters_folder: Path) -> None:
    run, ledger = compared
    parts = read_split_parts(run)
    with (quarters_folder / "labels.csv").open() as file:
        sets = {row["path"]: row["label"].split(";") for row in csv.DictReader(file)}
    held = sorted(name for name in sets if parts[name] != "test")
    marks = np.array([[int(n in sets[name]) for n in ("blue", "green", "red")] for name in held])
    naive, *others = [row for row in ledger.rows if row.part == "ladder"]
    chosen = others[-1]
    lines = [json.loads(line) for line in MEASURED.path(run).read_text().splitlines()]
    logits = [
        np.frombuffer(b64decode(line["logits"]), "<f4").reshape(marks.shape) for line in lines
    ]
    for row, told in ((naive, logits[0]), (chosen, logits[1])):  # the two ends come first
        assert row.images == len(held)
        assert row.mean_average_precision == pytest.approx(mean_average_precision(told, marks))
        assert row.accuracy == pytest.approx(right_sets(told, marks).mean())
    assert naive.precision_gain is None
    steps = zip([naive, *others], others, strict=False)
    for before, after in steps:
        assert before.mean_average_precision is not None
        assert after.mean_average_precision is not None
        assert after.precision_gain == pytest.approx(
            after.mean_average_precision - before.mean_average_precision
        )
        assert after.precision_interval is not None
        low, high = after.precision_interval
        assert low <= after.precision_gain <= high
    assert chosen.mean_average_precision > naive.mean_average_precision


def test_the_page_and_the_command_tell_both(
    compared: tuple[Path, Ledger], headstart: Command
) -> None:
    run, ledger = compared
    known = MEASURED.path(run).read_bytes()
    done = headstart("compare", "--run", run, "--epochs", 1, "--csv")
    assert done.returncode == 0, done.stderr
    assert MEASURED.path(run).read_bytes() == known, "nothing was trained again"
    rows = list(csv.DictReader(done.stdout.splitlines()))
    wanted = [row.mean_average_precision for row in ledger.rows]
    assert [float(row["mean_average_precision"]) for row in rows] == wanted
    page = (run / "report.html").read_text()
    for words in ("Effect of each method", "Exactly their labels", "Gain in mAP", "<svg"):
        assert words in page, words


def test_a_training_whose_logits_do_not_fit_is_done_again(
    compared: tuple[Path, Ledger], shared_cache: Path, tmp_path: Path
) -> None:
    run = Path(shutil.copytree(compared[0], tmp_path / "run"))
    first, *rest = MEASURED.path(run).read_text().splitlines()
    short = {**json.loads(first), "logits": "AAAA"}
    MEASURED.path(run).write_text("\n".join([json.dumps(short), *rest]) + "\n")
    again = compare(run=run, epochs=1, cache_dir=shared_cache, progress=False)
    assert len(MEASURED.path(run).read_text().splitlines()) == len(rest) + 2
    assert [row.accuracy for row in again.rows] == [row.accuracy for row in compared[1].rows]
