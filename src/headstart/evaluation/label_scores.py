"""Scores of classifiers that give an image any number of labels.

Marks are 1 where an image has a label and 0 elsewhere, shape (N, C). Each label has a logit of its
own, whose sigmoid is its probability.
"""

import numpy as np
from numpy.typing import ArrayLike, NDArray

from headstart.errors import HeadstartError

Marks = NDArray[np.int64]
Floats = NDArray[np.float64]

SCALES = (0.05, 20.0)
"""Temperatures that are looked at."""


def sigmoid(logits: ArrayLike) -> Floats:
    """Returns the probabilities of logits, in float64.

    Example:
        >>> sigmoid([0.0, 1000.0]).tolist()
        [0.5, 1.0]
    """
    z = np.asarray(logits, np.float64)
    small = np.exp(-np.abs(z))
    return np.asarray(np.where(z >= 0, 1, small) / (1 + small))


def label_losses(logits: ArrayLike, marks: ArrayLike) -> Floats:
    """Returns the log loss, in nats, of every label of every image, shape (N, C).

    Example:
        >>> label_losses([[0.0, 0.0]], [[1, 0]]).round(3).tolist()
        [[0.693, 0.693]]
    """
    z = np.asarray(logits, np.float64)
    return np.asarray(np.logaddexp(0, z) - np.asarray(marks) * z)


def average_precisions(logits: ArrayLike, marks: Marks) -> Floats:
    """Returns the average precision (C,) of each label; NaN where no image has it.

    It is the mean, over the images with the label, of the share of them among the images that rank
    as high or higher.

    Example:
        >>> average_precisions([[0.9], [0.8], [0.7]], np.array([[1], [0], [1]])).round(3).tolist()
        [0.833]
    """
    z = np.asarray(logits, np.float64)
    ones = np.ones((1, len(z)))
    found = [weighted_precision(z[:, c], marks[:, c], ones)[0] for c in range(z.shape[1])]
    return np.asarray(found, np.float64)


def weighted_precision(scores: Floats, marks: Marks, weights: Floats) -> Floats:
    """Returns the average precision of one label for sets of weights (R, N), shape (R,).

    Args:
        scores: Scores (N,); images of one score count as ranked alike.
        marks: 1 for the images with the label, (N,).
        weights: How often each image counts.
    """
    order = np.argsort(-scores, kind="stable")
    ends = np.flatnonzero(np.append(np.diff(scores[order]) != 0, True))
    drawn, with_label = weights[:, order], np.flatnonzero(marks[order])
    # Precision counts where an image with the label is, at the last rank of its score.
    at = ends[np.searchsorted(ends, with_label)]
    last = np.append(np.diff(at) != 0, True)[: len(at)]
    hits = np.cumsum(drawn[:, with_label], 1)[:, last]
    seen = np.cumsum(drawn, 1)[:, at[last]]
    new = np.diff(hits, axis=1, prepend=0)
    with np.errstate(invalid="ignore", divide="ignore"):
        precision = np.where(seen > 0, hits / seen, 0)
        return np.asarray((new * precision).sum(1) / drawn[:, with_label].sum(1))


def mean_average_precision(logits: ArrayLike, marks: Marks) -> float:
    """Returns the mean of the average precisions of the labels that some image has; 0 without any.

    Example:
        >>> mean_average_precision([[2.0, 1.0], [1.0, 2.0]], np.array([[1, 0], [0, 0]]))
        1.0
    """
    of_labels = average_precisions(logits, marks)
    known = of_labels[~np.isnan(of_labels)]
    return float(known.mean()) if len(known) else 0.0


def set_score(logits: NDArray[np.float32], marks: Marks) -> tuple[float, float]:
    """Returns the mean log loss of a label, in nats, and the mean average precision."""
    z = checked_logits(logits, marks)
    return float(label_losses(z, marks).mean()), mean_average_precision(z, marks)


def best_temperature(logits: ArrayLike, marks: Marks) -> float:
    """Returns the temperature at which the mean log loss is lowest, for all labels alike.

    Example:
        >>> z = [[2.0], [2.0], [2.0], [2.0]]  # sure at 88%, and right in 3 of 4 cases
        >>> round(best_temperature(z, np.array([[1], [1], [1], [0]])), 2)
        1.82
    """
    from scipy.optimize import minimize_scalar  # noqa: PLC0415 - heavy

    z = checked_logits(logits, marks)
    if not len(z) or not z.any():
        return 1.0
    found = minimize_scalar(
        lambda log: float(label_losses(z * np.exp(-log), marks).mean()),
        bounds=tuple(np.log(SCALES)),
        method="bounded",
        options={"xatol": 1e-6},
    )
    return float(np.exp(found.x))


def right_sets(logits: ArrayLike, marks: Marks) -> NDArray[np.bool_]:
    """Returns which images (N,) get exactly their labels at a probability of 50%."""
    return np.asarray(((np.asarray(logits) > 0) == (marks > 0)).all(1))


def checked_logits(logits: ArrayLike, marks: Marks) -> Floats:
    """Returns logits (N, C) in float64 after checking them.

    Raises:
        HeadstartError: If one is NaN or infinite, or the shapes do not fit.
    """
    z = np.asarray(logits, np.float64)
    if z.shape != marks.shape:
        raise HeadstartError(f"Logits of shape {z.shape} do not fit labels of shape {marks.shape}.")
    if not np.isfinite(z).all():
        broken = int((~np.isfinite(z).all(axis=1)).sum())
        raise HeadstartError(
            f"The model has NaN or infinite logits for {broken} of {len(z)} images: "
            "its training diverged. Lower the learning rate."
        )
    return z
