"""Trials on small pictures: what they score, that they repeat, and that they travel."""

import os
import shutil
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from headstart.data.views import View
from headstart.evaluation.calibration import fit_temperature
from headstart.evaluation.conformal import set_thresholds
from headstart.evaluation.trust import fit_calibration
from headstart.features.extractor import Activations, FeatureExtractor, PrefixRun, activations
from headstart.progress import SILENT
from headstart.recipes.parsing import parse_recipe
from headstart.recipes.recipe import Recipe
from headstart.search import trial as trial_module
from headstart.search.executors.outcome import Outcome
from headstart.search.executors.parcel import pack, run_sent_trial, unpacked
from headstart.search.halving import as_trial
from headstart.search.refit import _with_all_images
from headstart.search.score import Form, Score, score_of
from headstart.search.trial import (
    Fold,
    TrialContext,
    TrialJob,
    fresh_extractor,
    groups_of,
    run_trial,
    solve_heads,
    with_fold,
)
from headstart.training import transfer as transfer_module
from headstart.training.averaging import blend
from headstart.training.experiment import Experiment
from headstart.training.transfer import build_transfer_model

BASE = parse_recipe(
    {
        "backbone": {"resolution": 64},
        "freezing": {"name": "last_blocks", "boundary": "blocks.5"},
        "batch_size": 16,
        "views": 2,
        "epochs": 2,
        "head": {"name": "linear", "features": "last", "penalty": 0.01},
    }
)


@pytest.fixture
def context(experiment: Experiment) -> TrialContext:
    extractor = experiment.extractor
    rows = np.concatenate([extractor.rows["train"], extractor.rows["val"]])
    labels = np.concatenate([extractor.labels["train"], extractor.labels["val"]])
    half = np.arange(len(rows)) % 2 == 0
    both = (Fold(rows[half], rows[~half]), Fold(rows[~half], rows[half]))
    return TrialContext(
        cache_dir=extractor.cache_dir,
        pixels=extractor.pixels.key,
        source=experiment.source,
        rows=rows,
        labels=labels,
        groups=np.arange(len(rows)),
        classes=extractor.classes,
        boundary="blocks.5",
        folds=(both, (Fold(extractor.rows["train"], extractor.rows["val"]),)),
    )


def count_mirrored(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Returns a list to which the number of images is added whenever mirror images are wanted."""
    seen: list[int] = []

    def counting(
        extractor: FeatureExtractor, run: PrefixRun, part: str, *view: View
    ) -> Activations:
        if view and view[0].mirror:
            # Without a pool, the network sees the images of the part alone.
            seen.append(len(extractor.rows[part] if extractor.pool is None else extractor.pool))
        return activations(extractor, run, part, *view)

    monkeypatch.setattr(transfer_module, "activations", counting)
    return seen


def job(recipe: Recipe = BASE, rung: int = 0, flips: bool = False) -> TrialJob:
    return TrialJob(0, rung, recipe.model_dump(mode="json"), 1, flips)


@pytest.mark.slow
def test_every_fold_is_scored_and_the_same_trial_scores_the_same(context: TrialContext) -> None:
    with_heads = replace(context, heads=solve_heads(context, BASE))
    score = run_trial(with_heads, job())
    assert len(score.val_bits) == len(score.start_bits) == len(context.rows)
    assert score.val_bits.count("1") > 0.7 * len(context.rows)
    assert score.blend in trial_module.BLENDS
    assert score.start_loss > 0
    assert score.train_s > 0
    again = run_trial(with_heads, job())
    assert replace(again, train_s=0.0) == replace(score, train_s=0.0)
    # A head that is solved in the trial itself is the one that was solved before.
    alone = run_trial(context, job())
    assert alone.val_loss == pytest.approx(score.val_loss, rel=1e-5)


@pytest.mark.slow
def test_a_held_out_part_is_scored_alone_and_mirror_images_when_asked(
    context: TrialContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    mirrored = count_mirrored(monkeypatch)
    held = context.folds[1][0].held
    alone = replace(context, folds=(context.folds[1],))
    score = run_trial(alone, job(flips=True))
    assert mirrored == [len(held)], "training images are not mirrored"
    assert len(score.val_bits) == len(held)
    mirrored.clear()
    both = parse_recipe({**BASE.model_dump(), "test_time_flip": True})
    extractor = with_fold(fresh_extractor(alone, both), alone, alone.folds[0][0])
    build_transfer_model(extractor, both, alone.boundary)
    assert mirrored == [len(held)], "nor where the recipe mirrors images"
    soup = parse_recipe({**BASE.model_dump(), "averaging": "soup"})
    assert run_trial(context, job(soup, rung=1)).val_loss > 0, "a soup chooses by what is held out"


@pytest.mark.slow
def test_where_every_image_is_held_out_in_turn_all_are_mirrored_at_once(
    context: TrialContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    mirrored = count_mirrored(monkeypatch)
    run_trial(context, job(flips=True))
    assert mirrored == [len(context.rows)] * len(context.folds[0]), "which is cached"


@pytest.mark.parametrize("cross_validated", [False, True])
def test_the_last_training_mirrors_no_image_that_no_trial_has_mirrored(
    context: TrialContext, experiment: Experiment, cross_validated: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """Mirroring the whole development set once took 145 s of a run of 600 s."""
    here = context if cross_validated else replace(context, folds=(context.folds[1],))
    recipe = parse_recipe({**BASE.model_dump(), "test_time_flip": True})
    run: Any = SimpleNamespace(progress=SILENT)
    mirrored = count_mirrored(monkeypatch)
    everything = _with_all_images(run, experiment, here, recipe)
    build_transfer_model(everything.extractor, recipe, here.boundary)
    held = len(experiment.extractor.rows["val"])
    assert mirrored == [len(context.rows) if cross_validated else held]


@pytest.mark.slow
def test_a_trial_travels_with_what_it_reads(
    context: TrialContext, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = run_trial(context, job(rung=1))
    parcel = pack(context, [context.cache_dir / "pixels" / context.pixels])
    with unpacked(parcel) as same:
        assert same == context, "a machine that has the entries needs no other"
    away = replace(parcel, context=replace(context, cache_dir=tmp_path / "not" / "here"))
    monkeypatch.setenv("HEADSTART_CACHE", str(tmp_path / "cache"))
    trial_module._opened.clear()
    score = run_sent_trial(away, job(rung=1))
    assert score.val_loss == pytest.approx(here.val_loss, rel=1e-6)
    assert score.val_bits == here.val_bits
    assert (tmp_path / "cache" / "pixels" / context.pixels / "index.json").exists()
    assert not list((tmp_path / "cache").rglob(".draft-*"))
    shutil.rmtree(tmp_path / "cache")
    trial_module._opened.clear()


@pytest.mark.slow
@pytest.mark.parametrize("damage", ["lost", "flipped", "cut"])
def test_a_trial_whose_cache_is_lost_or_damaged_scores_the_same(
    damage: str, context: TrialContext, tmp_path: Path
) -> None:
    here = run_trial(context, job(rung=1))
    cache = tmp_path / "cache"
    shutil.copytree(
        context.cache_dir / "pixels" / context.pixels, cache / "pixels" / context.pixels
    )
    away = replace(context, cache_dir=cache)
    run_trial(away, job(rung=1))
    for data in (*cache.glob("activations/*/data"), *cache.glob("pixels/*/pixels.u8")):
        trial_module._opened.clear()
        if damage == "lost":
            shutil.rmtree(data.parent)
        elif damage == "cut":
            os.truncate(data, 7)
        else:
            with data.open("r+b") as file:
                file.write(bytes([file.read(1)[0] ^ 64]))
    again = run_trial(away, job(rung=1))
    assert replace(again, train_s=0.0) == replace(here, train_s=0.0)
    trial_module._opened.clear()


def test_groups_of_held_out_images_are_kept_in_their_order(context: TrialContext) -> None:
    held = context.folds[1][0].held
    assert groups_of(context, held) == ()
    alike = replace(context, groups=np.arange(len(context.rows)) // 2)
    found = groups_of(alike, held)
    place = {int(row): number for number, row in enumerate(context.rows)}
    pairs = [place[int(row)] // 2 for row in held]
    assert len(set(found)) == max(found) + 1 == len(set(pairs))
    assert len(set(zip(pairs, found, strict=True))) == len(set(pairs))


def logits(right: list[bool], margin: float) -> np.ndarray:
    """Two classes; the label is always 0."""
    return np.array([[margin, 0.0] if each else [0.0, margin] for each in right], np.float32)


def test_the_best_blend_is_scored_and_mirror_images_must_be_clearly_better() -> None:
    labels = np.zeros(40, np.int64)
    wrong = {share: [row >= count for row in range(40)] for share, count in
             ((0.0, 20), (0.5, 4), (0.75, 8), (1.0, 12))}  # fmt: skip
    found = {Form(share): logits(right, 6.0) for share, right in wrong.items()}
    score = score_of(found, labels)
    assert isinstance(score, Score)
    assert score.blend == 0.5
    assert score.val_bits == "0" * 4 + "1" * 36
    assert score.start_bits == "0" * 20 + "1" * 20
    # At the best temperature the loss is the entropy of the share of errors.
    share = 4 / 40
    expected = -(share * np.log(share) + (1 - share) * np.log(1 - share))
    assert score.val_loss == pytest.approx(expected, abs=1e-4)
    best = found[Form(0.5)]
    assert score.calibration == fit_calibration(best, labels, score.calibration.source)
    # The temperatures for the same and for another network, and the likeliest one.
    likeliest = fit_temperature(best, labels)
    assert likeliest == pytest.approx(6.0 / np.log((1 - share) / share), rel=1e-3)
    same, other = score.calibration.temperature, score.cautious_calibration.temperature
    assert likeliest > same > other > 1
    assert score.calibration.sets == set_thresholds(best, labels, same)
    assert score.cautious_calibration.sets == set_thresholds(best, labels, other)
    assert score.calibration.images == score.cautious_calibration.images == 40
    assert score.gain_noise > 0
    assert not score.flip
    flipped = {**found, Form(0.0, flip=True): found[Form(0.0)]}
    same = {**flipped, Form(0.5, flip=True): found[Form(0.5)]}
    assert not score_of(same, labels).flip, "no better is not better"
    better = {
        **found,
        Form(0.0, flip=True): found[Form(0.0)],
        Form(0.5, flip=True): logits([True] * 40, 2.0),
    }
    assert score_of(better, labels).flip
    # What training brought is told of mirrored and mirrored.
    start = {Form(0.0, flip=True): logits([True] * 30 + [False] * 10, 2.0)}
    mirrored = score_of({**better, **start}, labels)
    assert mirrored.start_bits == "1" * 30 + "0" * 10
    calibrated = fit_calibration(start[Form(0.0, flip=True)], labels, mirrored.calibration.source)
    assert mirrored.start_calibration == calibrated
    assert 1 < calibrated.temperature < 2.0 / np.log(3)
    only = {Form(share, flip=True): logits(right, 2.0) for share, right in wrong.items()}
    assert score_of(only, labels).blend == 0.5, "flips that were asked for by hand are always there"


def test_a_head_that_is_solved_again_is_taken_where_it_is_better() -> None:
    labels = np.zeros(40, np.int64)
    found = {Form(0.0): logits([row >= 20 for row in range(40)], 6.0)}
    found[Form(1.0)] = logits([row >= 8 for row in range(40)], 6.0)
    for wrong, retrained in ((4, True), (12, False)):
        again = logits([row >= wrong for row in range(40)], 6.0)
        score = score_of({**found, Form(1.0, retrained=True): again}, labels)
        assert (score.blend, score.retrained) == (1.0, retrained)
        assert score.val_bits.count("0") == min(wrong, 8)
    # Mirror images are compared in the same form.
    both = {Form(1.0, retrained=True): logits([row >= 4 for row in range(40)], 6.0),
            Form(1.0, flip=True, retrained=True): logits([True] * 40, 2.0),
            Form(0.0, flip=True): found[Form(0.0)]}  # fmt: skip
    score = score_of({**found, **both}, labels)
    assert (score.flip, score.retrained, score.val_bits) == (True, True, "1" * 40)


@pytest.mark.slow
def test_a_search_tries_the_head_again_and_a_recipe_may_ask_for_it(context: TrialContext) -> None:
    """What is asked for by hand is all that is scored."""
    asked = parse_recipe({**BASE.model_dump(), "retrain_head": True})
    trial = replace(job(asked, rung=1), blends=())
    done = as_trial(trial, Outcome(run_trial(context, trial)))
    assert (done.recipe["blend"], done.recipe["retrain_head"]) == (1.0, True)
    plain = replace(job(rung=1), blends=())
    other = as_trial(plain, Outcome(run_trial(context, plain)))
    assert not other.recipe["retrain_head"]
    assert done.val_loss != other.val_loss
    searched = run_trial(context, job(rung=1))
    assert searched.val_loss <= min(done.val_loss, other.val_loss)


def test_a_blend_lies_between_and_leaves_the_rest() -> None:
    before = {"w": torch.zeros(2), "n": torch.tensor(1), "m": torch.zeros(0, 3), "s": torch.ones(1)}
    after = {"w": torch.ones(2), "n": torch.tensor(5), "m": torch.ones(4, 3), "s": torch.ones(1)}
    found = blend(before, after, 0.25)
    assert torch.equal(found["w"], torch.full((2,), 0.25))
    assert int(found["n"]) == 5, "counts are no weights"
    assert found["m"].shape == (4, 3), "what has grown is as it is now"
    assert torch.equal(found["s"], torch.ones(1)), "what did not move does not, to the last bit"
    assert torch.equal(blend(before, after, 1.0)["w"], after["w"])
