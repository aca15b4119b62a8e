"""The search of heads: closed-form heads on cached features, scored by cross-validation."""

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from headstart.evaluate import calibrated_score
from headstart.methods.head import Cosine, Linear
from headstart.probe import STRENGTHS, LabelledFeatures, affordable_folds, out_of_fold, parted
from headstart.progress import SILENT, Progress

PENALTIES: tuple[float, ...] = tuple(float(10 ** (-exponent / 4)) for exponent in range(4, 21))
"""L2 penalties from 0.1 to 0.00001, four to a decade."""
SMOOTHINGS = (0.0, 0.1, 0.2)
REPEATS_BELOW = ((300, 3), (600, 2))
"""Cross-validation is repeated on fewer images than this, so often, with other folds each time."""


@dataclass(frozen=True)
class HeadTrial:
    """One head that was tried.

    Attributes:
        head: With the features that it sees.
        loss: Cross-validated log loss in nats at the best temperature.
        right: Images right, of those that were tested.
        images: That were tested.
    """

    head: Linear | Cosine
    loss: float
    right: int
    images: int


@dataclass(frozen=True)
class HeadSearch:
    """What came of a search of heads.

    Attributes:
        trials: The best first.
        logits: Out-of-fold logits (N, C) of the best; NaN for an image that was not tested.
    """

    trials: tuple[HeadTrial, ...]
    logits: NDArray[np.float32]


def search_heads(
    features: dict[str, NDArray[np.float32]],
    labels: NDArray[np.int64],
    classes: int,
    groups: NDArray[np.int64],
    seed: int = 0,
    until: float | None = None,
    progress: Progress = SILENT,
) -> HeadSearch:
    """Tries heads on cached features and ranks them by cross-validated log loss.

    All penalties of a kind come from one path of fits, each from the one before it.

    Args:
        features: (N, F) by the name that the head's field has for them: `last`, `stages`.
        labels: (N,), in 0 … C-1.
        classes: C.
        groups: (N,), kept within a fold.
        seed: Of the folds.
        until: On `time.monotonic`: no further path is begun after it.
        progress: Where progress is shown.
    """
    tried: list[HeadTrial] = []
    best: NDArray[np.float32] | None = None
    kinds = _kinds(features, classes)
    for which, smoothing in progress.track(kinds, "searching heads", len(kinds)):
        if tried and until is not None and time.monotonic() > until:
            continue
        for head, logits in _out_of_fold(
            LabelledFeatures(features[which], labels, classes, groups), which, smoothing, seed
        ):
            tested = np.isfinite(logits[:, 0])
            if not tested.any():
                continue
            loss, accuracy = calibrated_score(logits[tested], labels[tested])
            images = int(tested.sum())
            if best is None or loss < min(trial.loss for trial in tried):
                best = logits
            tried.append(HeadTrial(head, loss, round(accuracy * images), images))
    if best is None:  # no fold leaves two classes to learn from: nothing can be compared
        best = np.full((len(labels), classes), np.nan, np.float32)
        tried = [HeadTrial(Linear(features="last", penalty=STRENGTHS[0]), 0.0, 0, 0)]
    return HeadSearch(tuple(sorted(tried, key=lambda trial: trial.loss)), best)


def repeats(images: int) -> int:
    """Returns how often cross-validation is repeated on so many images."""
    return next((number for limit, number in REPEATS_BELOW if images < limit), 1)


def _kinds(
    features: dict[str, NDArray[np.float32]], classes: int
) -> list[tuple[str, float | None]]:
    """Returns features with a smoothing, or None for a cosine head; few where one costs much."""
    widest = max(array.shape[1] for array in features.values())
    rows = len(next(iter(features.values())))
    if affordable_folds(rows, widest, classes) == 1:
        return [(which, 0.0) for which in features]
    smoothings = (SMOOTHINGS[0], None, *SMOOTHINGS[1:])  # the likeliest first: time may run out
    return [(which, smoothing) for smoothing in smoothings for which in features]


def _out_of_fold(
    data: LabelledFeatures, which: str, smoothing: float | None, seed: int
) -> Iterator[tuple[Linear | Cosine, NDArray[np.float32]]]:
    """Yields heads with their out-of-fold logits (N, C), the mean of all repeats."""
    times = repeats(len(data.labels))
    seeds = range(seed, seed + times)
    if smoothing is None:
        each = [_cosines(data, at) for at in seeds]
        yield Cosine.model_validate({"features": which}), np.mean(each, axis=0)
        return
    rows, width = data.features.shape
    cheap = affordable_folds(rows, width, data.classes) > 1
    strengths: Sequence[float] = PENALTIES if cheap else STRENGTHS
    paths = [out_of_fold(data, strengths, smoothing, at) for at in seeds]
    for position, logits in enumerate(np.mean(paths, axis=0)):
        fields = {"features": which, "penalty": strengths[position], "smoothing": smoothing}
        yield Linear.model_validate(fields), logits


def _cosines(data: LabelledFeatures, seed: int) -> NDArray[np.float32]:
    """Returns the out-of-fold logits (N, C) of heads that point at each class's mean direction."""
    columns, labels, classes = data.features, data.labels, data.classes
    n_folds = affordable_folds(len(columns), columns.shape[1], classes)
    fold_of = parted(labels, data.groups, n_folds, seed)
    directions = columns / np.maximum(np.linalg.norm(columns, axis=1, keepdims=True), 1e-12)
    logits = np.zeros((len(labels), classes), np.float32)
    for fold in np.unique(fold_of):
        held = fold_of == fold
        for number in range(classes):
            rows = ~held & (labels == number)
            centre = directions[rows].mean(0) if rows.any() else np.zeros(columns.shape[1])
            length = max(float(np.linalg.norm(centre)), 1e-12)
            logits[held, number] = Cosine().scale * directions[held] @ (centre / length)
    return logits
