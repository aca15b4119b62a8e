"""Probabilities that can be trusted: a cautious temperature, and alarms where it failed."""

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray
from pydantic import BaseModel, ConfigDict

from headstart.data.splits import folds
from headstart.evaluation.calibration import (
    BINS,
    checked_scores,
    expected_calibration_error,
    fit_temperature,
    log_losses,
    softmax,
)
from headstart.evaluation.conformal import set_thresholds
from headstart.evaluation.intervals import Groups, numbered
from headstart.inputs.quantities import Count, Positive, Share, Size
from headstart.text import counted, percent

TWIN = 1.0
"""Spread of the temperature of the shipped network itself, or of one that was trained alike.

Spreads are standard deviations of log(temperature) before any image is seen. This one is that of
the temperatures of 24 runs (`docs/search_vs_fixed.jsonl`): 0.96. `docs/calibration.md` has measured
what other values would give.
"""

STAND_IN = 0.3
"""Spread where the logits are those of another network: after a shorter training, or one of several
that are averaged. Its temperature says less about the one that is shipped."""

FOLDS = 5
"""Folds in which a temperature must prove itself."""

ALARMING = 0.06
"""Calibration error above which an alarm is raised, unless chance explains it."""

_ONE_SIDED = 1.645  # standard errors that chance exceeds in 5 of 100 cases
_DRAWS = 1000


class Calibration(BaseModel):
    """A temperature and what it stands on.

    Attributes:
        temperature: Temperature that divides the logits; 1 leaves them as they are.
        images: Number of held-out images that it comes from.
        log_loss: Mean log loss in nats of these images, each at the temperature that the others
            gave; None if it could not be measured.
        log_loss_uncalibrated: The same at temperature 1.
        source: What the images are, in words.
        sets: Thresholds of prediction sets at this temperature, see `conformal.set_thresholds`;
            empty if no image has tested what is shipped.
    """

    model_config = ConfigDict(frozen=True)

    temperature: Positive = 1.0
    images: Count = 0
    log_loss: Size | None = None
    log_loss_uncalibrated: Size | None = None
    source: str = ""
    sets: tuple[Share, ...] = ()

    @property
    def described(self) -> str:
        """The temperature and what it stands on, as a phrase."""
        found = f"{self.temperature:.2f}"
        if self.images:
            found += f", from {counted(self.images, 'image')}"
        if self.source:
            found += f" ({self.source})"
        if self.log_loss is None or self.log_loss_uncalibrated is None:
            return found
        before, after = f"{self.log_loss_uncalibrated:.3f}", f"{self.log_loss:.3f}"
        if self.temperature == 1:
            return f"{found}: a fitted one does not lower their log loss ({before} to {after})"
        return f"{found}; their log loss: {before} without it, {after} with it"


def fit_calibration(
    logits: ArrayLike,
    labels: ArrayLike,
    source: str,
    spread: float = TWIN,
    groups: Groups | Sequence[int] | None = None,
) -> Calibration:
    """Fits a temperature that is shrunk towards 1, and keeps it only if it helps.

    The temperature must prove itself on images that it was not fitted on: in five folds, the
    temperatures fitted on the other folds must lower the log loss. Otherwise it is 1.

    Args:
        logits: Logits (M, C) of images that the network was not trained on.
        labels: Class numbers (M,).
        source: What the images are, in words.
        spread: Standard deviation of log(temperature) before any image is seen.
        groups: Group number of each image (M,), if they are not independent. A group stays in one
            fold, and counts as one image against the prior.

    Raises:
        HeadstartError: If a logit is NaN or infinite, or the shapes do not fit.

    Example:
        >>> logits = [[4.0, 0.0]] * 40  # sure of the first class, which is right in 30 of 40 cases
        >>> found = fit_calibration(logits, [0, 0, 0, 1] * 10, "made up")
        >>> round(found.temperature, 1), found.log_loss < found.log_loss_uncalibrated
        (3.3, True)
    """
    z, y = checked_scores(logits, labels)
    group_of = numbered(np.asarray(groups, np.int64) if groups is not None else None, len(y))
    independent = len(np.unique(group_of))
    if independent < 2:
        return Calibration(images=len(y), source=source, sets=set_thresholds(z, y, 1.0))
    fold_of = folds([str(label) for label in y], group_of, min(FOLDS, independent), seed=0)
    losses = np.empty(len(y))
    for fold in np.unique(fold_of):
        held = fold_of == fold
        others = len(np.unique(group_of[~held]))
        losses[held] = log_losses(
            z[held], y[held], fit_temperature(z[~held], y[~held], spread, others)
        )
    after, before = float(losses.mean()), float(log_losses(z, y, 1.0).mean())
    temperature = fit_temperature(z, y, spread, independent) if after < before else 1.0
    return Calibration(
        temperature=temperature,
        images=len(y),
        log_loss=after,
        log_loss_uncalibrated=before,
        source=source,
        sets=set_thresholds(z, y, temperature),
    )


def mean_calibration(members: Sequence[Calibration]) -> Calibration:
    """Returns the calibration of an ensemble whose mean no held-out image has tested.

    It has no prediction sets, because they promise a coverage.

    Args:
        members: Calibrations of its members, at least one.

    Example:
        >>> halves = [Calibration(temperature=2.0, images=9), Calibration(images=9)]
        >>> mean_calibration(halves).described
        '1.50, from 9 images (mean of 2 networks)'
    """
    return Calibration(
        temperature=float(np.mean([each.temperature for each in members])),
        images=min(each.images for each in members),
        source=f"mean of {counted(len(members), 'network')}",
    )


def alarms(
    logits: ArrayLike, labels: ArrayLike, temperature: float, groups: Groups | None = None
) -> list[str]:
    """Returns why the probabilities on unseen images cannot be trusted; often nothing.

    There is an alarm if the temperature raised the log loss by more than chance would in 19 of 20
    cases, and one if the calibration error is above `ALARMING` and above what chance would give in
    19 of 20 cases if every probability were right.

    Args:
        logits: Logits (N, C) before they are divided by the temperature, N at least 1.
        labels: Class numbers (N,).
        temperature: Temperature that is shipped.
        groups: Group number of each image (N,), if they are not independent.
    """
    z, y = checked_scores(logits, labels)
    found = []
    after, before = log_losses(z, y, temperature), log_losses(z, y, 1.0)
    harm, noise = mean_and_noise(after - before, numbered(groups, len(y)))
    if harm > _ONE_SIDED * noise and harm > 1e-6:
        found.append(
            f"The temperature {temperature:.2f} makes the log loss of the test images worse: "
            f"{after.mean():.3f} instead of {before.mean():.3f}. Do not trust the probabilities."
        )
    probabilities = softmax(z, temperature)
    error = expected_calibration_error(probabilities, y)
    if error > ALARMING:
        by_chance = calibration_error_by_chance(probabilities.max(axis=1), groups)
        if error > by_chance + 1e-9:  # sums of floats differ a little
            found.append(
                f"The calibration error on {counted(len(y), 'test image')} is {percent(error)}; "
                f"chance alone would give at most {percent(by_chance)}. Do not trust the "
                "probabilities."
            )
    return found


def calibration_error_by_chance(
    confidence: NDArray[np.float64], groups: Groups | None = None, share: float = 0.95
) -> float:
    """Returns the calibration error that right probabilities stay below in a share of all cases.

    The fewer images there are, the further apart are what happens and what is probable: even right
    probabilities have a calibration error. Whether a prediction is right is drawn with its
    probability, alike for the images of a group.

    Args:
        confidence: Probability of the predicted class of each image (N,), N at least 1.
        groups: Group number of each image (N,), if they are not independent.
        share: Share of the cases, 0 to 1; 0.5 gives the usual error.

    Example:
        >>> sure, unsure = np.ones(50), np.full(50, 0.5)
        >>> calibration_error_by_chance(sure), round(calibration_error_by_chance(unsure), 2)
        (0.0, 0.14)
        >>> round(calibration_error_by_chance(unsure, share=0.5), 2)
        0.04
    """
    bin_of = np.searchsorted(np.linspace(0, 1, BINS + 1), confidence, side="left")
    group_of = numbered(groups, len(confidence))
    rng = np.random.default_rng(0)
    errors = np.empty(_DRAWS)
    for draw in range(_DRAWS):
        right = rng.random(len(confidence))[group_of] < confidence
        errors[draw] = np.abs(np.bincount(bin_of, right - confidence)).sum() / len(confidence)
    return float(np.quantile(errors, share))


def mean_and_noise(values: NDArray[np.float64], group_of: Groups) -> tuple[float, float]:
    """Returns a mean over images and its standard error, with whole groups as the units."""
    mean = float(values.mean())
    sums = np.bincount(group_of, values - mean)
    if len(sums) < 2:  # one image tells nothing about others
        return mean, math.inf
    variance = float((sums**2).sum()) * len(sums) / (len(sums) - 1)
    return mean, math.sqrt(variance) / len(values)
