"""Logits of images for heads that were solved without them."""

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from headstart.recipes.recipe import Recipe
from headstart.search.trial import TrialContext, fresh_extractor, with_fold
from headstart.search.worth import held_logits
from headstart.training.experiment import Experiment
from headstart.training.run_context import RunContext
from headstart.training.transfer import build_transfer_model


def held_by_folds(
    recipe: Recipe, run: RunContext, experiment: Experiment, context: TrialContext
) -> tuple[NDArray[np.float32], NDArray[np.int64], NDArray[np.int64]]:
    """Returns logits of heads for images that they were solved without, labels and rows."""
    logits, labels, rows = [], [], []
    for fold, known in zip(context.folds[0], context.heads[0], strict=True):
        extractor = with_fold(fresh_extractor(context, recipe), context, fold)
        here = replace(experiment, extractor=replace(extractor, progress=run.progress))
        transfer = build_transfer_model(here.extractor, recipe, context.boundary, known)
        logits.append(held_logits(here, transfer))
        labels.append(here.extractor.labels["val"])
        rows.append(fold.held)
    return np.concatenate(logits), np.concatenate(labels), np.concatenate(rows)
