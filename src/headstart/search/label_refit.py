"""What the search ships for sets of labels: the calibration and threshold of each label."""

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from headstart.artifacts.journal import SearchPlan
from headstart.evaluation.label_rules import FittedRules, fit_rules
from headstart.search.held import held_by_folds
from headstart.search.trial import TrialContext, groups_of
from headstart.training.experiment import Experiment
from headstart.training.finetune import FittedClassifier
from headstart.training.run_context import RunContext


def with_rules(
    fitted: FittedClassifier, run: RunContext, context: TrialContext, logits: NDArray[np.floating]
) -> FittedClassifier:
    """Returns a network with the rules of its labels, from images kept out of its training.

    Args:
        fitted: The network, whose validation images were kept out.
        run: Run context, which says what the rules stand on.
        context: Trial context.
        logits: Logits (M, C) of these images.
    """
    extractor = fitted.experiment.extractor
    return _ruled(fitted, run, context, logits, extractor.labels["val"], extractor.rows["val"])


def with_head_rules(
    fitted: FittedClassifier,
    run: RunContext,
    experiment: Experiment,
    context: TrialContext,
    plan: SearchPlan,
) -> FittedClassifier:
    """Returns a head with the rules of its labels, from heads that were solved without an image.

    They come from the search of heads. It uses no mirror images, so with these, or without such a
    search, the head is solved again in the folds of the trials.
    """
    known = plan.head_rules
    if known is not None and not (fitted.recipe.test_time_flip and context.folds):
        run.note(known.described)
        return replace(fitted, rules=known.rules)
    return _ruled(fitted, run, context, *held_by_folds(fitted.recipe, run, experiment, context))


def _ruled(
    fitted: FittedClassifier,
    run: RunContext,
    context: TrialContext,
    logits: NDArray[np.floating],
    marks: NDArray[np.int64],
    rows: NDArray[np.int64],
) -> FittedClassifier:
    groups = np.array(groups_of(context, rows) or range(len(rows)), np.int64)
    found: FittedRules = fit_rules(logits, marks, groups, run.record.precision)
    run.note(found.described)
    return replace(fitted, rules=found.rules)
