"""The gain of a method in mean average precision, where images have any number of labels."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from headstart.evaluation.label_paired import mean_precision_difference
from headstart.evaluation.label_scores import mean_average_precision


@dataclass(frozen=True)
class HeldSets:
    """What all rows of an ablation say of the same held-out images.

    Attributes:
        marks: 1 where an image has a label, (N, C).
        logits: Logits (N, C) of each training, by its recipe as text.
    """

    marks: NDArray[np.int64]
    logits: Mapping[str, NDArray[np.float32]]


def precision_fields(
    held: HeldSets,
    own: Sequence[str],
    without: Sequence[str],
    having: Sequence[str],
    groups: NDArray[np.int64] | None,
) -> dict[str, Any]:
    """Returns the mean average precision of a row and its gain, as fields of the row.

    Args:
        held: What all trainings say.
        own: The trainings of the row, one for each seed.
        without: Those that its methods are left out of, with the same seeds as `having`.
        having: Those that have its methods.
        groups: Group number of each image, (N,); None if each is one of its own.
    """
    points = [mean_average_precision(held.logits[key], held.marks) for key in own]
    found: dict[str, Any] = {"mean_average_precision": float(np.mean(points))}
    if not without:
        return found
    # Seeds count as further labels of the same images: the mean over both is the mean over seeds.
    before, after = (
        np.hstack([held.logits[key] for key in keys]).astype(np.float64)
        for keys in (without, having)
    )
    marks = np.tile(held.marks, (1, len(without)))
    gain, interval = mean_precision_difference(after, before, marks, groups)
    return {**found, "precision_gain": gain, "precision_interval": interval}
