"""The mean of several solved heads as one linear head."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from headstart.evaluation.calibration import fit_temperature
from headstart.evaluation.metrics import calibrated_losses
from headstart.features.layout import LAST, STAGES, WITH_COVARIANCE
from headstart.methods.head import Cosine, Linear

FORGIVEN = 0.5
"""By how many standard errors the mean may seem worse than the head that was the best of many."""


@dataclass(frozen=True)
class HeldOut:
    """A head with its out-of-fold logits (M, C) of the tested images."""

    head: Linear | Cosine
    logits: NDArray[np.float32]


def mean_head(
    heads: Sequence[HeldOut], labels: NDArray[np.int64], best: NDArray[np.float32]
) -> HeldOut | None:
    """Returns the mean of linear heads with parts of unit length, where it is worth more than one.

    The best of many heads by cross-validation is partly the luckiest, above all with few images.
    The mean of all of them, each at its best temperature, is hardly chosen at all, and it is still
    one linear layer. It is kept if its out-of-fold log loss is not clearly higher than that of the
    best head (compare the one-standard-error rule of Breiman et al., *Classification and
    Regression Trees*, 1984).

    Args:
        heads: Heads with a penalty, each the best of its kind.
        labels: Class numbers (M,) of the tested images.
        best: Out-of-fold logits (M, C) of the best head of all.

    Returns:
        The mean with its logits, or None if it is not worth more.

    Example:
        >>> head = Linear(features="last", normalize="unit", penalty=1e-3)
        >>> unsure = np.array([[0.4, 0.0], [0.0, 0.2]], np.float32)
        >>> mean_head([HeldOut(head, unsure)], np.array([0, 1]), unsure) is None
        True
    """
    if len(heads) < 2 or not len(labels):
        return None
    temperatures = [fit_temperature(each.logits, labels) for each in heads]
    scaled = [each.logits / at for each, at in zip(heads, temperatures, strict=True)]
    logits = np.asarray(np.mean(scaled, axis=0), np.float32)
    more = calibrated_losses(logits, labels) - calibrated_losses(best, labels)
    noise = float(more.std() / len(more) ** 0.5)
    if more.mean() > FORGIVEN * noise:
        return None
    solutions = [
        {
            "features": each.head.features,
            "penalty": each.head.solved_penalty,
            "smoothing": each.head.solved_smoothing,
            "temperature": at,
        }
        for each, at in zip(heads, temperatures, strict=True)
    ]
    features = _all_of([each.head.features for each in heads])
    fields = {"features": features, "normalize": "unit", "mean_of": solutions}
    return HeldOut(Linear.model_validate(fields), logits)


def _all_of(choices: Sequence[str]) -> str:
    """Returns the choice of features that holds all of these.

    Example:
        >>> _all_of(["stages", "last+covariance"])
        'stages+covariance'
    """
    stages = any(each.startswith(STAGES) for each in choices)
    covariance = any(each.endswith(WITH_COVARIANCE) for each in choices)
    return (STAGES if stages else LAST) + (WITH_COVARIANCE if covariance else "")
