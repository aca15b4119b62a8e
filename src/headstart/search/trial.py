"""One trial: a recipe trained on cached activations and scored on the images held out from it.

A trial is a function from plain data to plain data, so that it runs alike in this process, in
another one and on another machine.
"""

import time
from collections.abc import Mapping
from copy import deepcopy
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from headstart.artifacts.journal import SearchPlan
from headstart.artifacts.records import Acted
from headstart.backbones.cut import trace
from headstart.backbones.places import FEATURES
from headstart.data.decode import ImageSource, pixels_again
from headstart.data.pixels import Pixels
from headstart.evaluation.intervals import numbered
from headstart.features.cluster import Cluster
from headstart.features.extractor import FeatureExtractor, backbone_of
from headstart.features.probe import parted
from headstart.progress import SILENT
from headstart.recipes.parsing import parse_recipe
from headstart.recipes.recipe import Recipe
from headstart.search.score import Form, Score, score_of
from headstart.training.activity import untrained
from headstart.training.averaging import blend
from headstart.training.boundary import boundary_without_clock
from headstart.training.budget import VIEWS_SHARE
from headstart.training.experiment import Experiment, development_set
from headstart.training.finetune import Silent, train_silently
from headstart.training.loop import predict
from headstart.training.pace import Deadline
from headstart.training.retraining import retrain_head
from headstart.training.transfer import (
    Solved,
    build_transfer_model,
    mirrored,
    solved_by,
    training_data,
    weights_of,
)

BLENDS = (0.5, 0.75, 1.0)
"""Shares of the trained weights that are compared on validation images."""

_opened: dict[tuple[Path, str], Pixels] = {}
"""The decoded images that this process has open: those of the last trial."""


@dataclass(frozen=True)
class Fold:
    """Rows of the pixels that a trial trains on and is scored on."""

    train: NDArray[np.int64]
    held: NDArray[np.int64]


@dataclass(frozen=True)
class TrialContext:
    """The trial context: the data that all trials of a search share.

    Attributes:
        cache_dir: Cache folder.
        pixels: Cache key of the decoded images.
        source: What they are decoded from again if the cache loses them.
        rows: Rows of the pixels in the development set (N,).
        labels: Class numbers (N,), or 1 where an image has a label, (N, C).
        groups: Group numbers (N,).
        classes: Names of the classes.
        boundary: Name of the boundary.
        folds: Folds by rung.
        heads: Solved heads by rung and fold; None for a random head.
        device: Device to train on.
        deadline: Time at which a trial must end at the latest; its schedule is cut to fit.
        cluster: Machines that run a prefix, for the process of the search alone.
    """

    cache_dir: Path
    pixels: str
    source: ImageSource
    rows: NDArray[np.int64]
    labels: NDArray[np.int64]
    groups: NDArray[np.int64]
    classes: tuple[str, ...]
    boundary: str
    folds: tuple[tuple[Fold, ...], ...]
    heads: tuple[tuple[Solved | None, ...], ...] = ()
    device: str = "cpu"
    deadline: Deadline | None = None
    cluster: Cluster | None = None


@dataclass(frozen=True)
class TrialJob:
    """One recipe to try.

    Attributes:
        number: Number of the trial.
        rung: Number of the rung, which selects the folds.
        recipe: Recipe as plain data.
        epochs: Length of the schedule.
        flips: True to also try averaged logits of mirror images.
        blends: Shares of the trained weights to compare on held-out images, if the recipe keeps
            all trained weights; empty keeps the share of the recipe.
        keeps_logits: Whether the score holds the logits of the held-out images.
    """

    number: int
    rung: int
    recipe: Mapping[str, Any]
    epochs: int
    flips: bool = False
    blends: tuple[float, ...] = BLENDS
    keeps_logits: bool = False


def run_trial(context: TrialContext, job: TrialJob) -> Score:
    """Trains a recipe from the pretrained backbone, once per fold, and scores it.

    Args:
        context: Trial context.
        job: Trial to run.
    """
    recipe = parse_recipe(job.recipe)
    parts = context.folds[job.rung]
    free = recipe.blend == 1 and not recipe.head.remembers_images
    shares = job.blends if free else ()
    logits: dict[Form, list[NDArray[np.float32]]] = {}
    labels, rows = [], []
    trainings: list[Silent] = []
    extractor = fresh_extractor(context, recipe)
    as_loaded = deepcopy(extractor.backbone.model.state_dict())
    for number, fold in enumerate(parts):
        if number and recipe.activation.absent:
            extractor.backbone.model.load_state_dict(as_loaded)
        elif number:
            extractor = fresh_extractor(context, recipe)
        here = with_fold(extractor, context, fold)
        known = context.heads[job.rung][number] if context.heads else None
        deadline = context.deadline
        if deadline is not None:  # the folds share the time
            left = len(parts) - number
            deadline = replace(deadline, began=time.monotonic(), share=1 / left)
        held, done = _held_logits(here, context, job, recipe, known, shares, deadline)
        trainings.append(done)
        for key, found in held.items():
            logits.setdefault(key, []).append(found)
        labels.append(here.labels["val"])
        rows.append(fold.held)
    order = np.argsort(np.concatenate(rows))
    truth = np.concatenate(labels)[order]
    together = {key: np.concatenate(found)[order] for key, found in logits.items()}
    acted: tuple[Acted, ...] = next(filter(None, [done.acted for done in trainings]), ())
    score = score_of(together, truth, groups_of(context, np.concatenate(rows)[order]))
    cut = min((done.cut for done in trainings if done.cut), default=0)
    return replace(
        score,
        # A schedule that was cut is not that of the final training.
        calibration=score.cautious_calibration if cut else score.calibration,
        train_s=float(np.mean([done.image_s for done in trainings])),
        acted=acted,
        cut=cut,
        logits=score.logits if job.keeps_logits else None,
    )


def groups_of(context: TrialContext, held: NDArray[np.int64]) -> tuple[int, ...]:
    """Returns the group number of each held-out image; empty if none share one."""
    groups = dict(zip(context.rows.tolist(), context.groups.tolist(), strict=True))
    found = numbered(np.array([groups[row] for row in held.tolist()], np.int64), len(held))
    return () if found.max() + 1 == len(found) else tuple(found.tolist())


def fresh_extractor(context: TrialContext, recipe: Recipe) -> FeatureExtractor:
    """Returns the feature extractor of a trial, with a freshly loaded backbone."""
    backbone = backbone_of(recipe)
    device = torch.device(context.device)
    return FeatureExtractor(
        pixels=_pixels(context),
        rows={},
        labels={},
        groups=context.groups,
        classes=context.classes,
        backbone=backbone,
        traced=trace(backbone.model, backbone.preprocessing.resolution),
        device=device,
        cache_dir=context.cache_dir,
        progress=SILENT,
        pool=context.rows,
        in_turn=len(next(iter(context.folds), ())) > 1,
        cluster=context.cluster,
    )


def with_fold(extractor: FeatureExtractor, context: TrialContext, fold: Fold) -> FeatureExtractor:
    """Returns the extractor with the images of a fold as its parts."""
    place = {int(row): position for position, row in enumerate(context.rows)}
    at = {
        part: np.array([place[int(row)] for row in rows], np.int64)
        for part, rows in (("train", fold.train), ("val", fold.held))
    }
    return replace(
        extractor,
        rows={"train": fold.train, "val": fold.held},
        labels={part: context.labels[positions] for part, positions in at.items()},
        groups=context.groups[at["train"]],
    )


def solve_heads(context: TrialContext, recipe: Recipe) -> tuple[tuple[Solved | None, ...], ...]:
    """Returns the head that every trial starts from, by rung and fold."""
    extractor = fresh_extractor(context, recipe)
    known: dict[bytes, Solved | None] = {}
    for fold in (fold for rung in context.folds for fold in rung):
        key = fold.train.tobytes()
        if key not in known:
            here = with_fold(extractor, context, fold)
            known[key] = solved_by(build_transfer_model(here, recipe, context.boundary))
    return tuple(tuple(known[fold.train.tobytes()] for fold in rung) for rung in context.folds)


def _pixels(context: TrialContext) -> Pixels:
    place = (context.cache_dir, context.pixels)
    if place not in _opened:
        _opened.clear()
        _opened[place] = pixels_again(context.pixels, context.source, context.cache_dir)
    return _opened[place]


def _held_logits(
    extractor: FeatureExtractor,
    context: TrialContext,
    job: TrialJob,
    recipe: Recipe,
    known: Solved | None,
    shares: tuple[float, ...],
    deadline: Deadline | None,
) -> tuple[dict[Form, NDArray[np.float32]], Silent]:
    """Trains once and returns the held-out logits (M, C) of each form of the network.

    Also returns what is known of the training. A head solved on frozen features is not trained.
    A search also solves the head again, on the features of the largest share.
    """
    transfer = build_transfer_model(extractor, recipe, context.boundary, known)
    nothing_moves = context.boundary == FEATURES and not recipe.head.has_hidden_layer
    held, flipped = transfer.cached["val"], transfer.cached.get("val_mirrored")
    if job.flips and flipped is None:
        flipped = mirrored(extractor, transfer.prefix)
    model = transfer.model.to(extractor.device)
    found: dict[Form, NDArray[np.float32]] = {}

    def look(share: float, retrained: bool = False) -> None:
        plain = predict(model, held, device=extractor.device)
        if flipped is not None:
            other = predict(model, flipped, device=extractor.device)
            both = np.asarray((plain + other) / 2, np.float32)
            found[Form(share, True, retrained)] = both
        if not recipe.test_time_flip:
            found[Form(share, False, retrained)] = plain

    look(0.0)
    if nothing_moves and recipe.head.init == "probe":
        look(recipe.blend)
        acted = (*transfer.acted, *untrained(recipe, "the head was solved"))
        return found, Silent(0.0, acted)
    until = None if deadline is None else deadline.part(VIEWS_SHARE)
    data = training_data(extractor, recipe, transfer, job.epochs, until)
    before = weights_of(transfer)
    if not recipe.averaging.chooses_by_validation:  # nothing else needs held-out images
        data = replace(data, val=None, val_mirrored=None)
    done = train_silently(extractor, transfer, data, recipe, job.epochs, deadline)
    after = weights_of(transfer)
    for share in shares or (recipe.blend,):
        model.load_state_dict(blend(before, after, share))
        if not recipe.retrain_head:
            look(share)
    solvable = not (recipe.freezing.head_alone or recipe.head.remembers_images)
    if recipe.retrain_head or (job.blends and solvable):
        retrain_head(extractor, recipe, transfer)
        look(share, retrained=True)
    return found, replace(done, acted=(*transfer.acted, *done.acted))


def trial_context(experiment: Experiment, base: Recipe, plan: SearchPlan) -> TrialContext:
    """Returns the trial context: each rung has its own folds, or the validation images."""
    extractor, plain = experiment.extractor, development_set(experiment)
    parts: list[tuple[Fold, ...]] = []
    for number in range(len(plan.rungs)):
        if plan.folds == 1:
            parts.append((Fold(extractor.rows["train"], extractor.rows["val"]),))
            continue
        fold_of = parted(plain.labels, plain.groups, plan.folds, base.seed + number)
        parts.append(
            tuple(
                Fold(plain.rows[fold_of != fold], plain.rows[fold_of == fold])
                for fold in np.unique(fold_of)
            )
        )
    return TrialContext(
        cache_dir=extractor.cache_dir,
        pixels=experiment.pixels.key,
        source=experiment.source,
        rows=plain.rows,
        labels=plain.labels,
        groups=plain.groups,
        classes=extractor.classes,
        boundary=boundary_without_clock(extractor, base),
        folds=tuple(parts),
        device=str(extractor.device),
        cluster=extractor.cluster,
    )
