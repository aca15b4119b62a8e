"""A search on small pictures: repeatable, killed and resumed, with failures on the way."""

import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any

import pytest

from headstart.api.fit import fit
from headstart.api.resume import resume
from headstart.artifacts.journal import TRIALS
from headstart.artifacts.run import locked, read_record
from headstart.artifacts.run_start import EPOCHS
from headstart.backbones.listing import describe
from headstart.errors import BudgetError, HeadstartError, InputError, RecipeError, RunError
from headstart.inference.run import Run
from headstart.recipes.parsing import load_recipe
from headstart.search.lineup import Lineup

Command = Callable[..., CompletedProcess[str]]

TINY = ["backbone.resolution=64", "backbone.name=test_efficientnet", "backbone.weights=random"]
SETTINGS = [*TINY, "freezing.boundary=blocks.3", "batch_size=16", "views=2"]
# A head that starts at random has everything to learn, so that training pays.
TRAINED = [*SETTINGS, "head.init=random"]
ARGUMENTS: dict[str, Any] = {"trials": 4, "epochs": 4, "settings": TRAINED}


def weights_of(folder: Path) -> str:
    return hashlib.sha256((folder / "bundle" / "model.safetensors").read_bytes()).hexdigest()


@pytest.fixture(scope="module")
def searched(pictures: Path, shared_cache: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    out = tmp_path_factory.mktemp("searched") / "run"
    return fit(pictures, out=out, cache_dir=shared_cache, **ARGUMENTS)


@pytest.mark.slow
def test_a_search_leaves_its_trials_and_trains_the_best(searched: Run) -> None:
    trials = TRIALS.read(searched.folder)
    assert [(t.rung, t.epochs) for t in trials] == [(0, 1)] * 4 + [(1, 2)] * 2
    steps = {step.stage: step for step in searched.record.plan}
    assert list(steps) == ["augmentations", "views", "search", "finish"]
    planned = steps["search"].planned
    assert "4 recipes for 1 epoch, then 2 recipes for 2 epochs" in planned
    assert "3-fold cross-validated" in planned, "there are few images"
    chosen = load_recipe(str(searched.folder / "recipe.toml"))
    best = min((t for t in trials if t.rung == 1), key=lambda t: t.val_loss or 0.0)
    assert chosen.model_dump(mode="json") == best.recipe
    assert searched.record.epochs == 4
    assert best.val_images == searched.record.n_train + searched.record.n_val
    assert "on 36 images" in steps["finish"].happened, "the validation images, too"
    shipped = best.cautious_calibration
    assert shipped is not None
    assert searched.record.calibration == shipped, "the trial had half of the schedule"
    assert searched.metrics.temperature == shipped.temperature
    sets = searched.bundle.spec.sets
    assert tuple(each.threshold for each in sets) == pytest.approx(shipped.sets)
    assert {each.images for each in sets} == {best.val_images}
    assert searched.metrics.accuracy > 0.7
    page = (searched.folder / "report.html").read_text(encoding="utf-8")
    assert "Leaderboard" in page
    assert "Effect of each method" in page
    assert f"headstart compare --run {searched.folder}" in page
    assert all(trial.acted for trial in trials)


@pytest.mark.slow
def test_where_training_does_not_pay_the_best_head_is_kept(pictures: Path, tmp_path: Path) -> None:
    ruinous = [*SETTINGS, "optimizer.lr=0.05"]
    run = fit(pictures, out=tmp_path / "run", trials=4, epochs=4, ensemble=2, settings=ruinous)
    steps = {step.stage: step for step in run.record.plan}
    assert list(steps) == ["augmentations", "frozen prefix", "heads", "views", "search", "finish"]
    heads = (run.folder / "heads.jsonl").read_text().splitlines()
    assert len(heads) > 50
    losses = [json.loads(line)["loss"] for line in heads]
    assert losses == sorted(losses)
    recipe = load_recipe(str(run.folder / "recipe.toml"))
    assert recipe.head.model_dump(mode="json") == json.loads(heads[0])["head"]
    rungs = [trial.rung for trial in TRIALS.read(run.folder)]
    assert rungs == [0, 0, 0, 1], "no more were worth it, and a longer schedule was none either"
    assert "does not help" in run.record.stop_reason
    assert run.record.chosen == "head on frozen features"
    assert run.record.epochs == 0
    assert any("ensemble of 2 was requested, but it has 1" in note for note in run.record.notes)
    assert run.metrics.accuracy > 0.7


@pytest.mark.slow
def test_killed_at_any_moment_and_resumed_it_ends_with_the_same_bytes(
    searched: Run, pictures: Path, shared_cache: Path, tmp_path: Path, headstart: Command
) -> None:
    out = tmp_path / "run"
    settings = [part for setting in TRAINED for part in ("--set", setting)]
    command = [sys.executable, "-m", "headstart", "fit", str(pictures), "--trials", "4",
               "--epochs", "4", "--out", str(out), *settings]  # fmt: skip
    environment = {**os.environ, "HEADSTART_CACHE": str(shared_cache)}
    # First in the middle of the trials, then while the winner trains.
    for moment in (TRIALS.name, EPOCHS.name):
        process = subprocess.Popen(
            command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        deadline = time.monotonic() + 120
        while process.poll() is None and time.monotonic() < deadline:
            if (out / moment).exists():
                process.send_signal(signal.SIGKILL)
                break
            time.sleep(0.02)
        process.wait()
        assert read_record(out).status == "running"
        assert read_record(out).seconds > 0, "the time of a go that is killed is known, too"
        command = [sys.executable, "-m", "headstart", "resume", str(out)]
    done = headstart("resume", out)
    assert done.returncode == 0, done.stderr
    assert weights_of(out) == weights_of(searched.folder)
    names = {path.name for path in out.iterdir()}
    assert names == {path.name for path in searched.folder.iterdir()}, "no orphans"
    again = headstart("resume", out)
    assert again.returncode == 2
    assert "is finished" in again.stderr


@pytest.mark.slow
@pytest.mark.parametrize("moment", ["write_plan", "trial_context"])
def test_a_search_under_a_budget_goes_on_before_and_after_its_plan(
    moment: str, pictures: Path, shared_cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "run"
    settings = [*TINY, "freezing.boundary=features"]  # heads alone: nothing takes long
    with monkeypatch.context() as patch:
        patch.setattr(f"headstart.search.search.{moment}", _stopped)
        with pytest.raises(KeyboardInterrupt):
            fit(pictures, budget=60, settings=settings, out=out, cache_dir=shared_cache)
    assert (out / "plan.json").exists() == (moment == "trial_context")
    earlier = read_record(out)
    assert earlier.status == "interrupted"
    assert earlier.seconds > 0
    run = resume(out, cache_dir=shared_cache)
    assert run.record.status == "done"
    assert run.record.budget_s == 60
    assert run.record.seconds > earlier.seconds, "the time of both goes"
    assert run.record.chosen == "head on frozen features"
    assert {"heads", "finish"} <= {step.stage for step in run.record.plan}


@pytest.mark.slow
@pytest.mark.parametrize("settings", [(), ("head.penalty=0.1",)])
def test_the_backbone_that_was_chosen_is_the_one_that_is_used_and_named(
    settings: tuple[str, ...], two_classes: Path, shared_cache: Path, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    out = tmp_path / "run"
    settings = ("freezing=head_only", *settings)
    monkeypatch.setattr("headstart.search.backbones.clearly_better", lambda screened: screened[-1])
    # How many there is time for depends on what else the machine does.
    two = tuple(describe(f"tf_efficientnet_lite{size}") for size in "01")
    monkeypatch.setattr("headstart.search.backbones.lineup", lambda *_: Lineup(two))
    monkeypatch.setattr("headstart.search.backbones.SHARE", 1.0)
    # With a head that was set by hand, too, nothing is left to search.
    moment = "begin" if len(settings) > 1 else "search"
    with monkeypatch.context() as patch:
        if moment == "search":
            patch.setattr("headstart.search.search.trial_context", _stopped)
        else:
            patch.setattr("headstart.training.finetune.begin", _stopped)
        with pytest.raises(KeyboardInterrupt):
            fit(two_classes, budget=120, settings=settings, out=out, cache_dir=shared_cache)
    chosen = read_record(out).backbone
    assert chosen != load_recipe("default").backbone.name
    run = resume(out, cache_dir=shared_cache)
    assert run.record.backbone == run.bundle.spec.backbone == chosen
    assert load_recipe(str(out / "recipe.toml")).backbone.name == chosen


def _stopped(*_: Any) -> None:
    raise KeyboardInterrupt


@pytest.mark.slow
def test_a_run_that_is_stopped_with_the_test_open_says_so(
    pictures: Path, shared_cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "run"
    settings = [*TINY, "freezing.boundary=features"]
    with monkeypatch.context() as patch:
        patch.setattr("headstart.inference.sealed_test.run_bundle", _stopped)
        with pytest.raises(KeyboardInterrupt):
            fit(pictures, budget=60, settings=settings, out=out, cache_dir=shared_cache)
    first = read_record(out).test_opened_at
    assert first
    run = resume(out, cache_dir=shared_cache)
    assert run.record.test_opened_before == [first]
    page = (out / "report.html").read_text(encoding="utf-8")
    assert f"before that at {first}, when the run was stopped during the test" in page


@pytest.mark.slow
def test_the_leaderboard_as_table_json_and_csv(searched: Run, headstart: Command) -> None:
    def printed(*options: str) -> str:
        done = headstart("leaderboard", searched.folder, *options)
        assert done.returncode == 0, done.stderr
        return done.stdout

    assert len(printed().splitlines()) == 1 + 4
    assert "optimizer.lr" in printed()
    rows = json.loads(printed("--json"))
    assert [row["rank"] for row in rows] == [1, 2, 3, 4]
    assert printed("--csv").startswith("rank,trial,")


@pytest.mark.slow
def test_a_trial_that_fails_does_not_end_the_search(
    pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from headstart.training import finetune

    real, calls = finetune.train, []

    def train(*arguments: Any) -> Any:
        calls.append(1)
        if len(calls) == 1:
            raise HeadstartError("Training diverged in epoch 1: the loss is not finite.")
        return real(*arguments)

    monkeypatch.setattr(finetune, "train", train)
    run = fit(pictures, out=tmp_path / "run", trials=2, epochs=1, settings=SETTINGS)
    (failed,) = [t for t in TRIALS.read(run.folder) if t.state == "failed"]
    assert "not finite" in failed.cause
    assert run.record.status == "done"
    (step,) = [step for step in run.record.plan if step.stage == "search"]
    assert "1 trial failed" in step.happened


def test_misuse(pictures: Path, two_classes: Path, tmp_path: Path) -> None:
    with pytest.raises(BudgetError, match="trials, not both"):
        fit(pictures, trials=3, budget="5m", out=tmp_path / "a")
    with pytest.raises(InputError, match="must be at least 1"):
        fit(pictures, trials=0, out=tmp_path / "a")
    with pytest.raises(RecipeError, match="closed form"):
        fit(pictures, trials=3, strategy="head", out=tmp_path / "a")
    with pytest.raises(RunError):
        resume(tmp_path / "nowhere")
    assert not (tmp_path / "a").exists()


def test_a_run_without_a_search_cannot_be_resumed(head_run: Run, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(head_run.folder, tmp_path / "run"))
    with pytest.raises(RunError, match="is finished"):
        resume(folder)
    record = head_run.record.model_copy(update={"status": "interrupted"})
    (folder / "run.json").write_text(record.model_dump_json())
    with pytest.raises(RunError, match="only searches can"):
        resume(folder)


def test_two_processes_on_one_run_folder_are_refused(tmp_path: Path) -> None:
    code = (
        "import sys, time, pathlib\nfrom headstart.artifacts.run import locked\n"
        "with locked(pathlib.Path(sys.argv[1])):\n print('locked', flush=True)\n time.sleep(60)\n"
    )
    holder = subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE, text=True
    )
    try:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "locked\n"
        with pytest.raises(RunError, match="Another process"), locked(tmp_path):
            pass
    finally:
        holder.kill()
        holder.wait()
        if holder.stdout is not None:
            holder.stdout.close()
    with locked(tmp_path):  # a process that is gone holds nothing
        pass


@pytest.mark.slow
@pytest.mark.parametrize("executor", ["processes", "ray"])
def test_trials_elsewhere_are_the_trials_here(
    executor: Any, searched: Run, pictures: Path, shared_cache: Path, tmp_path: Path
) -> None:
    if executor == "ray":
        pytest.importorskip("ray")
    run = fit(
        pictures, out=tmp_path / "run", cache_dir=shared_cache, executor=executor, **ARGUMENTS
    )
    here, there = TRIALS.read(searched.folder), TRIALS.read(run.folder)
    assert [(t.rung, t.number, t.state) for t in there] == [
        (t.rung, t.number, t.state) for t in here
    ]
    for one, other in zip(here[:4], there[:4], strict=True):
        assert other.val_loss == pytest.approx(one.val_loss, rel=1e-3)
    assert run.record.status == "done"


@pytest.mark.slow
def test_an_ensemble_trains_several_and_ships_one_network(pictures: Path, tmp_path: Path) -> None:
    run = fit(pictures, out=tmp_path / "run", trials=3, epochs=2, ensemble=2, settings=TRAINED)
    assert run.record.chosen == "ensemble of 2"
    assert json.loads((run.folder / "bundle" / "bundle.json").read_text())["members"] == 2
    image = next(pictures.rglob("*.png"))
    (prediction,) = run.predict([image])
    assert prediction.label in run.record.classes
    with pytest.raises(InputError, match="must be at least 1"):
        fit(pictures, out=tmp_path / "other", ensemble=0)


@pytest.fixture
def failing(monkeypatch: pytest.MonkeyPatch) -> set[int]:
    """Numbers of the whole schedules, from 1, that fail after their first epoch."""
    from headstart.search import refit

    real, calls, numbers = refit.train_blended, [], set[int]()

    def train_blended(*arguments: Any) -> Any:
        calls.append(1)
        number = len(calls)
        for epoch in real(*arguments):
            yield epoch
            if number in numbers:
                raise HeadstartError("Training diverged.")

    monkeypatch.setattr(refit, "train_blended", train_blended)
    return numbers


@pytest.mark.slow
def test_a_member_whose_whole_schedule_fails_is_left_out(
    failing: set[int], pictures: Path, shared_cache: Path, tmp_path: Path
) -> None:
    failing.add(1)
    run = fit(
        pictures, out=tmp_path / "run", cache_dir=shared_cache, trials=3, epochs=2, ensemble=3,
        settings=TRAINED,
    )  # fmt: skip
    assert run.record.chosen == "ensemble of 2"
    assert json.loads((run.folder / "bundle" / "bundle.json").read_text())["members"] == 2
    assert any("ensemble of 3 was requested, but it has 2: the others failed" in note
               for note in run.record.notes)  # fmt: skip
    (step,) = [step for step in run.record.plan if step.stage == "finish"]
    assert step.happened.startswith("failed; 2 of 2 epochs")
    assert [epoch.epoch for epoch in EPOCHS.read(run.folder)] == [1, 2], "not those that failed"


@pytest.mark.slow
def test_where_the_whole_schedule_fails_a_solved_head_is_kept(
    failing: set[int],
    pictures: Path,
    shared_cache: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # The trial passes, though few pictures score it.
    monkeypatch.setattr("headstart.search.stopping._ENOUGH_IMAGES", 1)
    failing.add(1)
    gentle = [*SETTINGS, "optimizer.lr=1e-5"]
    run = fit(
        pictures, out=tmp_path / "a", cache_dir=shared_cache, trials=1, epochs=4, settings=gentle
    )
    assert run.record.chosen == "head on frozen features"
    assert any("whole schedule of trial 1 failed" in note for note in run.record.notes)
    assert [epoch.epoch for epoch in EPOCHS.read(run.folder)] == [0], "what it was before"
    assert run.metrics.accuracy > 0.7
    failing.add(2)
    with pytest.raises(HeadstartError, match="diverged"):  # a random head is nothing to keep
        fit(
            pictures, out=tmp_path / "b", cache_dir=shared_cache, trials=1, epochs=4,
            settings=TRAINED,
        )  # fmt: skip


@pytest.mark.slow
def test_images_that_were_kept_apart_calibrate_an_ensemble(
    pictures: Path, shared_cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("headstart.search.refit.FEWEST_APART", 1)
    run = fit(
        pictures, out=tmp_path / "run", cache_dir=shared_cache, trials=3, epochs=2, ensemble=2,
        settings=TRAINED,
    )  # fmt: skip
    (step,) = [step for step in run.record.plan if step.stage == "finish"]
    assert step.happened.count("2 of 2 epochs on 35 images") == 2
    assert step.happened.endswith("calibrated on 1 held-out validation image")
    assert {each.images for each in run.bundle.spec.sets} == {1}


@pytest.mark.slow
def test_a_soup_by_hand_leaves_the_validation_images_to_choose_by(
    pictures: Path, tmp_path: Path
) -> None:
    soup = [*TRAINED, "averaging=soup"]
    run = fit(pictures, out=tmp_path / "run", trials=1, epochs=2, settings=soup)
    assert run.record.chosen == "fine-tuned"
    finish = next(step for step in run.record.plan if step.stage == "finish")
    assert f"on {run.record.n_train} images" in finish.happened
