"""The ledger on small pictures: measured, stopped, gone on with, and written into a run."""

import csv
import io
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any

import pytest

from headstart.ablation.record import MEASURED, Ledger, read_ledger
from headstart.api.compare import chosen_by, compare
from headstart.api.fit import fit
from headstart.artifacts.run import read_record
from headstart.errors import BudgetError, InputError, RunError
from headstart.inference.run import Run

Command = Callable[..., CompletedProcess[str]]

TINY = ["backbone.resolution=64", "backbone.name=test_efficientnet", "backbone.weights=random"]
SETTINGS = [*TINY, "batch_size=16", "head.features=last"]
# Little differs from naive, so that there is little to train.
PLAIN = [
    *SETTINGS, "augmentation=none", "averaging=none", "schedule=constant", "optimizer.lr=1e-3",
    "optimizer.clip_norm=0", "optimizer.weight_decay=0", "criterion=cross_entropy",
]  # fmt: skip


@pytest.fixture(scope="module")
def probed(pictures: Path, shared_cache: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    out = tmp_path_factory.mktemp("probed") / "run"
    settings = [*TINY, "head.features=last"]
    return fit(
        pictures, out=out, cache_dir=shared_cache, strategy="head", epochs=0, settings=settings
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({}, "Give a folder"),
        ({"source": "x", "run": "y", "recipe": "probe"}, "uses the recipe of the run"),
        ({"run": "y", "settings": ["epochs=3"]}, "uses the recipe of the run"),
        ({"run": "y", "out": "z"}, "Leave --out out"),
        ({"source": "x", "seeds": 0}, "--seeds must be at least 1; it is 0"),
        ({"source": "x", "recipe": "naive"}, "nothing to compare"),
        ({"source": "x", "settings": ["averaging=soup"]}, "on the held-out images"),
    ],
)
def test_what_does_not_go_together_is_refused(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        compare(**arguments)


def test_a_folder_in_use_is_not_written_into(pictures: Path, tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(RunError, match="in use"):
        compare(pictures, out=tmp_path)


def test_misuse_exits_with_2(headstart: Command) -> None:
    done = headstart("compare")
    assert done.returncode == 2
    assert done.stderr.startswith("error: Give a folder of images")


@pytest.fixture(scope="module")
def compared(
    pictures: Path, shared_cache: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, Ledger]:
    out = tmp_path_factory.mktemp("compared") / "ledger"
    return out, compare(pictures, settings=PLAIN, epochs=1, out=out, cache_dir=shared_cache)


@pytest.mark.slow
def test_rows_share_their_images(compared: tuple[Path, Ledger]) -> None:
    out, ledger = compared
    names = [row.name for row in ledger.rows]
    assert names == ["naive", "+ freezing", "+ head", "without freezing", "without head"]
    assert {row.images for row in ledger.rows} == {36}, "all that is not sealed, cross-validated"
    assert [row.gain is None for row in ledger.rows] == [True, False, False, False, False]
    for row in ledger.rows[1:]:
        assert {each.family for each in row.acted} == set(row.families)
        assert row.interval is not None
        assert row.p is not None
        assert row.p_holm is not None
        assert row.p_holm >= row.p
    # The last step of the ladder is the chosen recipe against itself without its head.
    assert ledger.rows[4].gain == ledger.rows[2].gain
    assert read_ledger(out) == ledger
    assert len(MEASURED.read(out)) == 4, "what two rows need is trained once"


@pytest.mark.slow
def test_what_is_known_is_not_trained_again(
    compared: tuple[Path, Ledger],
    pictures: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    before, ledger = compared
    out = shutil.copytree(before, tmp_path / "ledger")
    path = MEASURED.path(out)
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(lines[:3]) + lines[3][:-40])  # killed while it wrote the fourth
    again = compare(pictures, settings=PLAIN, epochs=1, out=out)
    assert len(MEASURED.read(out)) == 4
    figures = {"accuracy", "gain", "interval", "loss", "p_holm"}
    assert [row.model_dump(include=figures) for row in again.rows] == [
        row.model_dump(include=figures) for row in ledger.rows
    ]
    whole = path.read_bytes()
    compare(pictures, settings=PLAIN, epochs=1, out=out)
    assert path.read_bytes() == whole
    monkeypatch.setattr(
        "headstart.ablation.measure._Costs.fits",
        lambda costs, recipe: recipe.freezing.name != "full",
    )
    compare(pictures, settings=PLAIN, epochs=1, out=out, split_seed=1)
    assert len(MEASURED.read(out)) == 6, "other images are another measurement"


@pytest.mark.slow
def test_what_failed_is_tried_again(
    compared: tuple[Path, Ledger], pictures: Path, tmp_path: Path
) -> None:
    before, ledger = compared
    out = shutil.copytree(before, tmp_path / "ledger")
    path = MEASURED.path(out)
    *others, last = MEASURED.read(out)
    failed = last.trial.model_copy(update={"state": "failed", "val_loss": None, "cause": "gone"})
    lines = [*others, last.model_copy(update={"trial": failed})]
    path.write_text("".join(line.model_dump_json() + "\n" for line in lines))
    again = compare(pictures, settings=PLAIN, epochs=1, out=out)
    assert len(MEASURED.read(out)) == len(lines) + 1
    assert not any(row.failed for row in again.rows)
    assert again.whole
    assert ledger.whole


@pytest.mark.parametrize(
    ("chosen", "boundary", "freezing"),
    [
        ("fine-tuned", "blocks.4", "last_blocks"),
        ("ensemble of 3", "blocks.4", "last_blocks"),
        ("fine-tuned", "features", "head_only"),
        ("probe", "blocks.4", "head_only"),
        ("head on frozen features", "features", "head_only"),
    ],
)
def test_what_a_run_chose_is_what_it_shipped(
    chosen: str, boundary: str, freezing: str, probed: Run, tmp_path: Path
) -> None:
    head = "random" if (chosen, boundary) == ("fine-tuned", "features") else "probe"
    (tmp_path / "recipe.toml").write_text(
        f'test_time_flip = true\nhead = {{name = "linear", init = "{head}"}}\n'
        'freezing = "last_blocks"\n[optimizer]\nname = "sgd"\nlr = 0.01\n'
    )
    record = read_record(probed.folder).model_copy(update={"chosen": chosen, "boundary": boundary})
    recipe = chosen_by(tmp_path, record)
    assert recipe.freezing.name == freezing
    assert recipe.test_time_flip
    trained = not chosen.startswith(("probe", "head"))
    assert (recipe.optimizer.name == "sgd") == trained
    if freezing == "last_blocks":
        assert getattr(recipe.freezing, "boundary", "") == boundary


@pytest.mark.slow
def test_a_run_is_taken_apart_and_its_report_says_so(probed: Run, headstart: Command) -> None:
    folder = probed.folder
    chosen = chosen_by(folder, read_record(folder))
    assert chosen.closed_form
    done = headstart("compare", "--run", folder, "--epochs", 1, "--csv")
    assert done.returncode == 0, done.stderr
    rows = list(csv.DictReader(io.StringIO(done.stdout)))
    assert [row["name"] for row in rows] == [
        "naive", "+ freezing", "+ head", "without freezing", "without head",
    ]  # fmt: skip
    assert float(rows[2]["accuracy"]) > float(rows[0]["accuracy"]) - 0.5
    page = (folder / "report.html").read_text(encoding="utf-8")
    assert "Effect of each method" in page
    assert "The chosen recipe without one method at a time" in page
    again = headstart("compare", "--run", folder, "--epochs", 1, "--json")
    assert "0 training runs of 1 epoch," in again.stderr
    assert len(json.loads(again.stdout)["rows"]) == 5


def test_a_budget_too_small_for_two_rows_is_refused_before_anything_is_trained(
    pictures: Path, shared_cache: Path, tmp_path: Path
) -> None:
    whole, out = ["backbone.resolution=64", "freezing=full"], tmp_path / "out"
    # So many epochs take hours on any machine, but only rows of the whole network are foretold.
    with pytest.raises(BudgetError, match=r"cheapest path takes about \d+ s\. Give --budget \d+s"):
        compare(pictures, settings=whole, epochs=10**5, budget=60, out=out, cache_dir=shared_cache)
    part = ["backbone.resolution=64", "head.init=random", "freezing.boundary=blocks.5"]
    with pytest.raises(BudgetError, match=r"no time to train two recipes\. Give --budget \d+s or"):
        compare(pictures, settings=part, epochs=10**5, budget=60, out=out, cache_dir=shared_cache)
    assert not out.exists()


@pytest.mark.slow
def test_a_budget_leaves_out_what_does_not_fit_and_names_it(
    pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "headstart.ablation.measure._Costs.fits",
        lambda costs, recipe: recipe.freezing.name != "full",
    )
    ledger = compare(pictures, settings=PLAIN, epochs=1, out=tmp_path / "some")
    assert ledger.left_out == ("naive", "without freezing")
    assert ledger.whole
    assert [row.name for row in ledger.rows] == ["+ freezing", "+ head", "without head"]
    assert ledger.rows[0].change.startswith("the naive recipe with freezing: ")
    monkeypatch.setattr("headstart.ablation.measure._Costs.fits", lambda costs, recipe: False)
    with pytest.raises(BudgetError, match="no time to train two recipes"):
        compare(pictures, settings=PLAIN, epochs=1, out=tmp_path / "none")
