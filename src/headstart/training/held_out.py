"""Images that the network has not seen decide what its outputs for several labels mean."""

import numpy as np
from numpy.typing import NDArray

from headstart.evaluation.label_rules import FittedRules, fit_rules
from headstart.training.experiment import Experiment
from headstart.training.run_context import RunContext
from headstart.training.transfer import TransferModel


def held_out_rules(
    run: RunContext,
    experiment: Experiment,
    transfer: TransferModel,
    logits: NDArray[np.float32],
    from_head: bool,
) -> FittedRules:
    """Returns the calibration and threshold of each label, and says what they stand on.

    Of a head in closed form, the training images count as well: cross-validation has given the
    logits of each from a head that was fitted without it and its group.

    Args:
        run: Run context.
        experiment: Experiment in which the network was trained.
        transfer: Transfer model.
        logits: Logits (M, C) of the validation images.
        from_head: Whether they come from the head that was solved on the training images.
    """
    extractor, groups = experiment.extractor, experiment.audited.groups
    marks, units = extractor.labels["val"], groups[experiment.split.val]
    validated = transfer.validated
    if from_head and validated is not None and validated.held is not None:
        tested = np.isfinite(validated.held).all(1)
        logits = np.concatenate([logits, validated.held[tested]])
        marks = np.concatenate([marks, extractor.labels["train"][tested]])
        units = np.concatenate([units, extractor.groups[tested]])
    fitted = fit_rules(logits, marks, units, run.record.precision)
    run.note(fitted.described)
    return fitted
