"""What is shipped is never worse than the head that was there before training."""

import json
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from headstart.api.fit import fit
from headstart.artifacts.journal import TRIALS, Trial
from headstart.artifacts.run_start import EPOCHS
from headstart.errors import DivergedError, HeadstartError
from headstart.inference.run import Run
from headstart.recipes.parsing import load_recipe
from headstart.search.worth import worse_than_head

TINY = ["backbone.resolution=64", "backbone.name=test_efficientnet", "backbone.weights=random"]
SETTINGS = [*TINY, "freezing.boundary=blocks.3", "batch_size=16", "views=2"]
GENTLE = [*SETTINGS, "optimizer.lr=1e-5"]
LABELS = np.array([0, 0, 1, 1])
RIGHT = np.array([[2, 0], [2, 0], [0, 2], [0, 2]], np.float32)
"""Logits with a log loss of log(1 + exp(-2)) = 0.127."""


def compared(
    trained: np.ndarray,
    start: np.ndarray | None,
    solved: bool = True,
    temperature: float = 1.0,
    **of_trial: Any,
) -> str:
    """Compares a network with known logits on four images."""
    extractor = SimpleNamespace(
        device=torch.device("cpu"), labels={"train": np.tile(LABELS, 2), "val": LABELS}
    )
    experiment: Any = SimpleNamespace(extractor=extractor)
    cached = {"train": np.concatenate([trained] * 2), "val": trained}
    transfer: Any = SimpleNamespace(model=nn.Identity(), cached=cached, solved=solved)
    known = {"val_loss": 0.5, "val_images": 4, **of_trial}
    trial = Trial(rung=0, number=0, state="done", recipe={}, epochs=1, **known)
    return worse_than_head(experiment, transfer, trial, start, temperature)


@pytest.mark.parametrize("images", [4, 8])
def test_without_held_out_images_the_head_of_the_trial_is_the_measure(images: int) -> None:
    assert not compared(RIGHT, None, val_images=images, start_loss=0.13)
    why = compared(RIGHT, None, val_images=images, start_loss=0.12)
    assert why == (
        "was dropped: its log loss on its own training images is 0.127, and that of the head "
        "alone is 0.120, which had not seen them."
    )
    # As it would be shipped: at half of the confidence, log(1 + exp(-1)) = 0.313.
    assert "0.313" in compared(RIGHT, None, val_images=images, start_loss=0.13, temperature=2.0)
    # Of the log(2) = 0.693 of guessing, a network must save 5% on its own images: 0.658.
    # log(1 + exp(-0.1)) = 0.644, log(1 + exp(-0.06)) = 0.664
    assert not compared(RIGHT * 0.05, None, val_images=images, start_loss=0.69)
    assert "0.664" in compared(RIGHT * 0.03, None, val_images=images, start_loss=0.69)
    assert "nan" in compared(RIGHT * np.nan, None, val_images=images, start_loss=9.0)
    assert not compared(RIGHT, None, val_images=images), "a trial of a random head has no score"


def test_on_held_out_images_a_loss_within_the_noise_is_no_loss() -> None:
    rng = np.random.default_rng(0)
    start = RIGHT + rng.normal(0, 2.0, RIGHT.shape).astype(np.float32)
    assert not compared(RIGHT, start)
    assert not compared(start, start), "no difference"
    undecided = np.array([[0, 0.1], [0.1, 0], [0.1, 0], [0, 0.1]], np.float32)
    assert compared(undecided, RIGHT).startswith("was dropped: its log loss on held-out images")


def test_a_random_head_is_nothing_to_fall_back_on() -> None:
    assert not compared(RIGHT * np.nan, None, solved=False, val_images=4, start_loss=0.1)


@pytest.fixture
def ruined(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whole schedules leave a network that gives every image the same answer."""
    from headstart.search import refit

    real = refit.train_blended

    def train_blended(extractor: Any, recipe: Any, transfer: Any, *rest: Any) -> Iterator[Any]:
        yield from real(extractor, recipe, transfer, *rest)
        with torch.no_grad():
            for weight in transfer.head.parameters():
                weight.zero_()

    monkeypatch.setattr(refit, "train_blended", train_blended)


@pytest.mark.slow
@pytest.mark.parametrize("apart", [False, True])
@pytest.mark.usefixtures("ruined")
def test_a_last_training_that_is_worse_than_the_head_is_dropped(
    apart: bool,
    pictures: Path,
    shared_cache: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # A short trial passes that is hardly worse than the head, though few pictures score it.
    monkeypatch.setattr("headstart.search.stopping._ENOUGH_IMAGES", 1)
    monkeypatch.setattr("headstart.search.stopping._TESTED", {1: 1, 2: 1})
    if apart:
        monkeypatch.setattr("headstart.search.refit.FEWEST_APART", 1)
    run = fit(
        pictures, out=tmp_path / "run", cache_dir=shared_cache, trials=1, epochs=4, settings=GENTLE
    )
    assert run.record.chosen == "head on frozen features"
    assert run.record.stop_reason == "no whole schedule was better than the head alone"
    (note,) = [note for note in run.record.notes if "was dropped" in note]
    assert ("held-out" in note) == apart
    (step,) = [step for step in run.record.plan if step.stage == "finish"]
    assert step.happened.endswith("dropped; the head is kept")
    assert (run.record.epochs, run.record.views) == (0, 0)
    assert [epoch.epoch for epoch in EPOCHS.read(run.folder)] == [0]
    assert run.metrics.accuracy > 0.7
    page = (run.folder / "report.html").read_text(encoding="utf-8")
    assert "was dropped" in page


@pytest.fixture
def failing(monkeypatch: pytest.MonkeyPatch) -> list[Exception]:
    """Errors with which all trainings fail, the last of them again and again."""
    from headstart.training import finetune

    errors: list[Exception] = []

    def train(*arguments: Any) -> Any:
        raise errors[0]

    monkeypatch.setattr(finetune, "train", train)
    return errors


def head_was_shipped(run: Run, cause: str) -> None:
    assert run.record.status == "done"
    assert run.record.chosen == "head on frozen features"
    assert run.record.stop_reason == "every trial failed"
    trials = TRIALS.read(run.folder)
    assert trials
    assert {trial.state for trial in trials} == {"failed"}
    (note,) = [note for note in run.record.notes if note.startswith("All trials failed")]
    assert cause in note
    assert note.endswith("The head on frozen features is kept.")
    assert "All trials failed" in (run.folder / "report.html").read_text(encoding="utf-8")
    assert run.metrics.accuracy > 0.7


@pytest.mark.slow
@pytest.mark.parametrize(
    ("error", "cause"),
    [(MemoryError("no memory"), "no memory"), (RuntimeError("it broke"), "it broke")],
)
def test_where_every_trial_fails_the_head_is_shipped(
    error: Exception, cause: str, failing: list[Exception], pictures: Path, shared_cache: Path,
    tmp_path: Path,
) -> None:  # fmt: skip
    failing.append(error)
    run = fit(
        pictures, out=tmp_path / "run", cache_dir=shared_cache, trials=2, epochs=2, settings=GENTLE
    )
    head_was_shipped(run, cause)
    best = json.loads((run.folder / "heads.jsonl").read_text().splitlines()[0])
    assert load_recipe(str(run.folder / "recipe.toml")).head.model_dump(mode="json") == best["head"]


@pytest.mark.slow
def test_where_every_trial_fails_a_head_by_hand_is_calibrated_on_held_out_images(
    failing: list[Exception], pictures: Path, shared_cache: Path, tmp_path: Path
) -> None:
    failing.append(DivergedError("the loss is not finite."))
    by_hand = [*GENTLE, "head.penalty=0.001"]
    run = fit(
        pictures, out=tmp_path / "run", cache_dir=shared_cache, trials=1, epochs=2, settings=by_hand
    )
    head_was_shipped(run, "not finite")
    assert not (run.folder / "heads.jsonl").exists()
    assert {each.images for each in run.bundle.spec.sets} == {run.record.n_train + run.record.n_val}
    assert run.record.calibration is not None
    assert run.record.calibration.source == "cross-validation of the head"
    assert run.record.calibration.images == run.record.n_train + run.record.n_val
    assert run.metrics.temperature == run.record.calibration.temperature
    random = [*SETTINGS, "head.init=random"]
    with pytest.raises(HeadstartError, match=r"All trials failed \(1\)"):
        fit(
            pictures, out=tmp_path / "b", cache_dir=shared_cache, trials=1, epochs=2,
            settings=random,
        )  # fmt: skip


@pytest.mark.slow
def test_under_a_budget_the_head_is_shipped_too_and_the_time_that_is_left_is_explained(
    failing: list[Exception],
    pictures: Path,
    shared_cache: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    failing.append(MemoryError("no memory"))
    monkeypatch.setattr("headstart.search.budget.MOST_TRIALS", 3)
    run = fit(pictures, out=tmp_path / "run", cache_dir=shared_cache, budget="20m", settings=GENTLE)
    head_was_shipped(run, "no memory")
    steps = {step.stage: step for step in run.record.plan}
    assert "reserved for the bundle, the sealed test and the report" in steps["proof"].planned
    (note,) = [note for note in run.record.notes if "was not used" in note]
    assert "of the budget of 20 min 00 s was not used. Why training ended: every trial" in note
    assert "was not used" in (run.folder / "report.html").read_text(encoding="utf-8")


@pytest.mark.slow
@pytest.mark.parametrize(
    "error",
    [
        DivergedError("Training diverged in epoch 1: the loss is not finite."),
        MemoryError(),
        RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried"),
    ],
)
def test_a_recipe_whose_training_fails_leaves_the_probe(
    error: Exception, failing: list[Exception], pictures: Path, shared_cache: Path, tmp_path: Path
) -> None:
    failing.append(error)
    run = fit(pictures, out=tmp_path / "run", cache_dir=shared_cache, epochs=2, settings=GENTLE)
    assert run.record.chosen == "probe"
    assert run.record.stop_reason == "training failed, so the probe is kept"
    assert any(note.startswith("Training failed: ") for note in run.record.notes)
    assert (run.record.epochs, run.record.views) == (0, 0)
    assert run.metrics.accuracy > 0.7


@pytest.mark.slow
def test_a_recipe_that_fails_for_another_reason_fails_the_run(
    failing: list[Exception], pictures: Path, shared_cache: Path, tmp_path: Path
) -> None:
    failing.append(HeadstartError("A frozen tensor changed."))
    with pytest.raises(HeadstartError, match="frozen tensor"):
        fit(pictures, out=tmp_path / "a", cache_dir=shared_cache, epochs=2, settings=GENTLE)
    failing[0] = DivergedError("it diverged")
    random = [*SETTINGS, "head.init=random"]  # nothing to keep
    with pytest.raises(DivergedError):
        fit(pictures, out=tmp_path / "b", cache_dir=shared_cache, epochs=2, settings=random)
