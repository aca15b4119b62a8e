"""The certificate from a folder: what it plans, answers, writes and refuses."""

import json
import shutil
from collections.abc import Callable
from html import unescape
from pathlib import Path
from subprocess import CompletedProcess

import numpy as np
import pytest

from headstart.api.benefit import benefit
from headstart.certificate.record import (
    ARM_RUNS,
    ArmName,
    ArmRun,
    Evaluation,
    read_arms,
    read_certificate,
)
from headstart.certificate.verdicts import answers, judge_fraction
from headstart.data.sources import load_dataset
from headstart.data.splits import save_split
from headstart.errors import RunError
from headstart.inference.run import Run
from headstart.recipes.parsing import parse_recipe
from headstart.report.page import write_report
from headstart.training.experiment import SplitChoice, prepare
from headstart.training.run_context import Resources

Command = Callable[..., CompletedProcess[str]]

TINY = {"resolution": 64, "epochs": 1, "fractions": (0.5, 1.0), "seeds": 1}


def arm_run(
    arm: ArmName, accuracies: list[float], seed: int = 0, losses: list[float] | None = None
) -> ArmRun:
    """A made-up network that is right on the easiest of 200 images, and on a few others."""
    order = np.random.default_rng(7).permutation(200)
    evaluations = []
    for epoch, share in enumerate(accuracies):
        right = order + 3 * seed < 200 * share
        evaluations.append(
            Evaluation(
                epoch=epoch,
                seconds=2.0 * epoch,
                train_loss=None,
                loss=losses[epoch] if losses else 1.0,
                right="".join("01"[int(bit)] for bit in right),
            )
        )
    return ArmRun(
        purpose="curve",
        arm=arm,
        fraction=1.0,
        seed=seed,
        rate=1e-3,
        images=100,
        epochs=len(accuracies) - 1,
        evaluations=tuple(evaluations),
    )


GOOD = [0.1, 0.7, 0.85, 0.9, 0.9, 0.9, 0.9]
SLOW = [0.1, 0.2, 0.35, 0.45, 0.5, 0.5, 0.5]
STILL = [0.1, 0.15, 0.2, 0.25, 0.3, 0.35, 0.4]


def both(pretrained: list[float], scratch: list[float]) -> list[ArmRun]:
    return [
        arm_run(arm, curve, seed)
        for seed in (0, 1)
        for arm, curve in (("pretrained", pretrained), ("scratch", scratch))
    ]


def said(runs: list[ArmRun]) -> list[str]:
    found = judge_fraction(runs, 0.1)
    assert found is not None
    return [verdict.answer for verdict in found.verdicts]


def test_the_three_answers_follow_from_the_curves() -> None:
    assert said(both(GOOD, SLOW)) == ["yes", "yes", "yes"]
    assert said(both(SLOW, GOOD)) == ["no", "no", "no"]
    assert said(both(GOOD, GOOD)) == ["cannot tell", "cannot tell", "cannot tell"] or said(
        both(GOOD, GOOD)
    ) == ["no", "no", "no"]
    assert said(both(GOOD, STILL)) == ["yes", "yes", "cannot tell"]


def test_levels_are_timed_and_what_was_not_reached_is_said() -> None:
    found = judge_fraction(both(GOOD, STILL), 0.1)
    assert found is not None
    half, _, most = found.levels
    assert half.epochs["pretrained"] == pytest.approx((half.accuracy - 0.09) / 0.6, abs=0.05)
    assert half.seconds["pretrained"] == pytest.approx(2 * half.epochs["pretrained"])
    assert most.epochs["scratch"] is None
    assert "not within 6 epochs" in found.verdicts[1].why
    assert "without a plateau" in found.verdicts[2].why


def test_a_seed_that_the_budget_cut_short_is_left_out() -> None:
    runs = both(GOOD, SLOW)
    cut = runs[-1].model_copy(update={"evaluations": runs[-1].evaluations[:3]})
    found = judge_fraction([*runs[:-1], cut], 0.1)
    assert found is not None
    assert found.seeds == 1
    assert len(found.curves["scratch"].accuracy) == 7
    assert judge_fraction(runs[:1], 0.1) is None


def test_the_journal_keeps_the_longest_of_a_network_and_no_torn_line(tmp_path: Path) -> None:
    whole = arm_run("scratch", SLOW)
    cut = whole.model_copy(update={"evaluations": whole.evaluations[:3]})
    ARM_RUNS.append(tmp_path, cut)
    with (tmp_path / "arms.jsonl").open("a") as journal:
        journal.write('{"purpose": "cur')
    assert read_arms(tmp_path) == [cut]
    ARM_RUNS.append(tmp_path, whole)
    assert read_arms(tmp_path) == [whole]
    assert whole.whole and not cut.whole


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--fractions", "0,100"], "percentages above 0"),
        (["--fractions", "a,b"], "not a list of percentages"),
        (["--seeds", "0"], "must be at least 1"),
        (["--epochs", "0"], "must be at least 1"),
        (["--epochs", "2", "--budget", "1m"], "not both"),
        (["--budget", "soon"], "Cannot read the budget"),
        (["--set", "backbone.weights=random"], "cannot be changed with --set here"),
        (["--set", "freezing=head_only"], "cannot be changed with --set here"),
        (["--set", "optimizer.lr=0.1"], "cannot be changed with --set here"),
        (["--set", "backbone=resnet18"], "cannot be changed with --set here"),
        (["--set", "optimiser=sgd"], "did you mean 'optimizer'"),
    ],
)
def test_misuse_is_answered_in_a_line(
    options: list[str],
    says: str,
    pictures: Path,
    headstart: Command,
) -> None:
    done = headstart("benefit", pictures, *options)
    assert done.returncode == 2, done.stderr
    *began, error = done.stderr.splitlines()
    assert says in error
    assert began in ([], [f"reading {pictures}; results within 10 min 00 s"])


def test_a_folder_in_use_is_left_alone(pictures: Path, tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(RunError, match="in use"):
        benefit(pictures, out=tmp_path, **TINY)
    assert [file.name for file in tmp_path.iterdir()] == ["mine.txt"]
    run = tmp_path / "run"
    run.mkdir()
    for name in ("run.json", "audit.json"):
        (run / name).write_text("{}")
    with pytest.raises(RunError, match="in use"):
        benefit(pictures, out=run, **TINY)


@pytest.mark.slow
def test_from_a_folder_to_a_certificate_and_on(
    pictures: Path, head_run: Run, tmp_path: Path
) -> None:
    out = tmp_path / "certificate"
    folder, certificate = benefit(pictures, out=out, command="headstart benefit x", **TINY)
    assert folder == out
    assert [v.question for v in certificate.verdicts] == ["start", "slope", "asymptote"]
    assert certificate.verdicts[2].answer == "cannot tell"
    assert "too few to see a plateau" in certificate.verdicts[2].why
    assert [result.images for result in certificate.fractions] == [15, 30]
    assert certificate.labels is not None
    assert read_certificate(out) == certificate
    rows = answers(certificate)
    assert [row[0] for row in rows[:3]] == ["Higher start?", "Higher slope?", "Higher asymptote?"]
    page = (out / "certificate.html").read_text()
    assert (
        "<svg" in page
        and "headstart benefit x" in page
        and "http:" not in page
        and "https:" not in page
    )
    assert (out / "certificate.svg").exists() and (out / "certificate.png").exists()
    assert not list(out.glob(".*"))
    run = Path(shutil.copytree(head_run.folder, tmp_path / "run"))
    assert "Not measured." in (run / "report.html").read_text()
    shutil.copytree(out, run / "certificate")
    report = write_report(run).read_text()
    assert "Not measured." not in report
    assert all(verdict.why in unescape(report) for verdict in certificate.verdicts)
    assert "with start, slope and asymptote marked" in report

    # A network that is missing is trained anew, the same to the last image; the others stay.
    journal = (out / "arms.jsonl").read_text().splitlines()
    (out / "arms.jsonl").write_text("\n".join(journal[:-1]) + "\n")
    again = benefit(pictures, out=out, **TINY)[1]
    lines = (out / "arms.jsonl").read_text().splitlines()
    assert lines[:-1] == journal[:-1]
    before, after = (json.loads(text)["evaluations"] for text in (journal[-1], lines[-1]))
    assert [e["right"] for e in before] == [e["right"] for e in after]
    assert again.verdicts == certificate.verdicts
    with pytest.raises(RunError, match=r"begun with --fractions 50,100 and 1 epoch\."):
        benefit(pictures, out=out, **{**TINY, "epochs": 2})
    with pytest.raises(RunError, match="another recipe"):
        benefit(pictures, out=out, settings=["augmentation.flip=false"], **TINY)
    # What was stopped before there was a plan is not gone on with by something else either, and a
    # command that is refused changes nothing.
    (out / "plan.json").unlink()
    files = {path: path.read_bytes() for path in out.iterdir()}
    for other, differs in (({"resolution": 72}, "recipe"), ({"split_seed": 1}, "split")):
        with pytest.raises(RunError, match=f"another {differs}"):
            benefit(pictures, out=out, **{**TINY, **other})
    assert {path: path.read_bytes() for path in out.iterdir()} == files
    (out / "asked.json").unlink()
    with pytest.raises(RunError, match="older version"):
        benefit(pictures, out=out, **TINY)


@pytest.mark.slow
def test_the_split_of_a_run_is_kept(pictures: Path, shared_cache: Path, tmp_path: Path) -> None:
    once = {**TINY, "fractions": (1.0,)}
    recipe = parse_recipe({"backbone": {"resolution": 64}})
    resources = Resources(cache_dir=shared_cache, workers=1)
    drawn = prepare(load_dataset(pictures), recipe, SplitChoice(seed=3), resources)
    keys = [drawn.dataset.key(int(row)) for row in drawn.audited.kept]
    split = tmp_path / "split.csv"
    save_split(split, drawn.split, keys)
    _, certificate = benefit(pictures, out=tmp_path / "certificate", split=split, **once)
    assert certificate.held == len(drawn.split.val)
    # The same images, so the same certificate goes on by the seed that drew the split.
    again = benefit(pictures, out=tmp_path / "certificate", split=split, **once)[1]
    assert again.verdicts == certificate.verdicts
    with pytest.raises(RunError, match="another split"):
        benefit(pictures, out=tmp_path / "certificate", **once)
