"""The search of recipes where an image may have any number of labels."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import headstart
from headstart.artifacts.bundle_spec import read_spec
from headstart.artifacts.journal import HEADS, TRIALS, read_plan
from headstart.artifacts.set_results import read_set_predictions
from headstart.diagnose.reasons import SUSPECTS, read_suspects_csv
from headstart.errors import HeadstartError
from headstart.evaluation.label_metrics import SetMetrics
from headstart.evaluation.label_scores import best_temperature, label_losses
from headstart.features.layout import FeatureLayout
from headstart.features.probe import LabelledFeatures
from headstart.methods.criterion import Asymmetric, BinaryCrossEntropy
from headstart.recipes.label_sets import RULES, drawn_for_sets
from headstart.recipes.recipe import SEARCHED, Recipe
from headstart.recipes.space import RandomSuggest, draw_recipe
from headstart.search.heads import search_heads
from headstart.search.sampler import Asking, ask
from headstart.search.score import Form, score_of

SMALL: dict[str, Any] = {
    "settings": ("backbone.name=test_efficientnet", "backbone.weights=random", "views=1",
                 "freezing.boundary=blocks.2"),
    "trials": 3, "epochs": 2, "progress": False,
}  # fmt: skip


@pytest.fixture(scope="module")
def searched(
    quarters_folder: Path, shared_cache: Path, tmp_path_factory: pytest.TempPathFactory
) -> headstart.Run:
    return headstart.fit(
        quarters_folder / "labels.csv", out=tmp_path_factory.mktemp("searched") / "run",
        cache_dir=shared_cache, **SMALL,
    )  # fmt: skip


def test_recipes_for_sets_are_tried_and_the_result_is_proven(searched: headstart.Run) -> None:
    trials = TRIALS.read(searched.folder)
    assert len(trials) >= 3
    for trial in trials:
        assert trial.state == "done", trial.cause
        assert trial.recipe["criterion"]["name"] in {"bce", "asymmetric"}
        assert trial.recipe["metric_loss"]["name"] == "none"
        assert trial.start_loss is not None and trial.val_images > 40  # cross-validated
    assert all(each.head["name"] == "linear" for each in HEADS.read(searched.folder))
    plan = read_plan(searched.folder)
    assert plan is not None and plan.head_rules is not None
    spec = read_spec(searched.folder / "bundle")
    assert len(spec.labels) == 3 and spec.temperature == 1
    if searched.record.chosen == "head on frozen features":
        assert spec.labels == plan.head_rules.rules
    assert isinstance(searched.metrics, SetMetrics)
    assert searched.metrics.mean_average_precision > 0.7
    assert any("held-out images" in note for note in searched.record.notes)
    page = (searched.folder / "report.html").read_text()
    assert "Leaderboard" in page and "Not checked in this run" not in page
    for doubted in read_suspects_csv(searched.folder / SUSPECTS):
        named = {*json.loads(doubted["missing"]), *json.loads(doubted["wrong"])}
        assert named <= {"red", "green", "blue"}
    rows = headstart.leaderboard(searched.folder)
    assert [each.right_share for each in rows] == ["exact label sets"] * 3
    for each in read_set_predictions(searched.folder):
        shares = dict(zip(spec.classes, each.probabilities, strict=True))
        rules = zip(spec.classes, spec.labels, strict=True)
        assert list(each.given) == [name for name, r in rules if shares[name] >= r.threshold]


@pytest.mark.slow
def test_an_interrupted_search_is_resumed_to_the_same_bytes(
    searched: headstart.Run, quarters_folder: Path, shared_cache: Path, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    from importlib import import_module

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    folder = tmp_path / "run"
    module = import_module("headstart.search.search")
    with monkeypatch.context() as patch:
        patch.setattr(module, "finish", killed)
        with pytest.raises(KeyboardInterrupt):
            headstart.fit(quarters_folder / "labels.csv", out=folder, cache_dir=shared_cache,
                          **SMALL)  # fmt: skip
    done = headstart.resume(folder, cache_dir=shared_cache, progress=False)
    assert done.record.task == "multilabel"
    for name in ("bundle/model.safetensors", "predictions.csv", "metrics.json"):
        assert (folder / name).read_bytes() == (searched.folder / name).read_bytes(), name


@pytest.mark.slow
def test_an_ensemble_gets_its_thresholds_from_images_it_was_not_trained_on(
    quarters_folder: Path, shared_cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from importlib import import_module

    for module, name in (("search.search", "pays"), ("search.halving", "pays")):
        monkeypatch.setattr(import_module(f"headstart.{module}"), name, lambda *_: True)
    worth = import_module("headstart.search.refit")
    monkeypatch.setattr(worth, "worse_than_head", lambda *_: "")
    run = headstart.fit(
        quarters_folder / "labels.csv", out=tmp_path / "run", cache_dir=shared_cache,
        **{**SMALL, "trials": 2, "ensemble": 2},
    )  # fmt: skip
    spec = read_spec(run.folder / "bundle")
    assert spec.members == 2 and len(spec.labels) == 3
    (finish,) = [step for step in run.record.plan if step.stage == "finish"]
    images = run.record.n_val
    assert f"thresholds from {images} held-out validation images" in finish.happened
    assert isinstance(run.metrics, SetMetrics)


def test_what_is_drawn_keeps_to_the_rules_of_sets() -> None:
    only = drawn_for_sets()
    assert only == {"metric_loss": ("none",), "criterion": ("bce", "asymmetric")}
    base = Recipe(criterion=BinaryCrossEntropy())
    names = set()
    for seed in range(40):
        drawn = draw_recipe(RandomSuggest(seed), base, SEARCHED, only)
        assert not [why for why, broken in RULES if broken(drawn)]
        names.add(drawn.criterion.name)
        assert isinstance(drawn.criterion, BinaryCrossEntropy | Asymmetric)
        assert 0.02 <= drawn.criterion.smoothing <= 0.2
    assert names == {"bce", "asymmetric"}


def test_the_sampler_begins_with_the_starting_recipe_and_stays_within_the_rules() -> None:
    base = Recipe(criterion=BinaryCrossEntropy())
    asking = Asking(base, only=drawn_for_sets())
    assert ask(asking, [], 0) == base
    for number in range(1, 4):
        recipe = ask(asking, [], number)
        assert recipe.criterion.for_sets and recipe.metric_loss.absent


def test_the_score_of_a_trial_is_the_mean_log_loss_of_its_decisions() -> None:
    random = np.random.default_rng(0)
    marks = (random.random((40, 3)) < 0.4).astype(np.int64)
    before = random.normal(size=(40, 3)).astype(np.float32)
    after = (before + 2 * (2 * marks - 1)).astype(np.float32)
    score = score_of({Form(0.0): before, Form(1.0): after}, marks)
    scale = best_temperature(after, marks)
    assert score.val_loss == pytest.approx(label_losses(after / scale, marks).mean(), abs=1e-6)
    assert score.val_loss < score.start_loss
    right = ((after > 0) == (marks > 0)).all(1)
    assert score.val_bits == "".join("1" if each else "0" for each in right)
    assert score.calibration.images == 0  # thresholds come from the network that is shipped


def test_heads_for_sets_are_linear_and_scored_by_their_decisions() -> None:
    random = np.random.default_rng(1)
    marks = (random.random((90, 3)) < 0.4).astype(np.int64)
    features = (2 * marks - 1) + random.normal(0, 0.4, (90, 3))
    data = LabelledFeatures(features.astype(np.float32), marks, 3, np.arange(90))
    found = search_heads(data, FeatureLayout((), (3,)))
    assert {trial.head.name for trial in found.trials} == {"linear"}
    best = found.trials[0]
    right = ((found.logits > 0) == (marks > 0)).all(1).sum()
    assert (best.right, best.images) == (right, 90)
    scale = best_temperature(found.logits, marks)
    assert best.loss == pytest.approx(label_losses(found.logits / scale, marks).mean(), abs=1e-4)


def test_a_damaged_plan_is_refused(searched: headstart.Run, tmp_path: Path) -> None:
    run = shutil.copytree(searched.folder, tmp_path / "run")
    text = (run / "plan.json").read_text()
    (run / "plan.json").write_text(text.replace('"threshold":', '"thresholds":', 1))
    assert read_plan(run) is not None  # an unknown field is passed over, its default is used
    (run / "plan.json").write_text(text.replace('"scale": ', '"scale": -', 1))
    with pytest.raises(HeadstartError):
        read_plan(run)
