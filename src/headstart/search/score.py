"""The score of a trial: the best form of the trained network on the images held out from it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from headstart.artifacts.records import Acted
from headstart.evaluation.calibration import calibrated_score
from headstart.evaluation.metrics import calibrated_losses, right_bits
from headstart.evaluation.trust import STAND_IN, Calibration, fit_calibration


@dataclass(frozen=True)
class Score:
    """The score of a trial on held-out images, in the best form of the trained network.

    Attributes:
        val_loss: Log loss in nats at the best temperature.
        val_bits: One character per image in the order of rows, `1` if correct.
        blend: Best share of the trained weights.
        flip: True if averaging logits with mirror images is clearly better.
        start_loss: `val_loss` before training; with mirror images if `flip`.
        start_bits: `val_bits` before training.
        calibration: Calibration by the held-out images.
        cautious_calibration: The same for a network that differs from this one.
        start_calibration: `calibration` before training.
        val_groups: Group number of each image in the order of rows; empty if none share one.
        gain_noise: Standard error, over images, of the log loss that training saved.
        train_s: Training seconds per image and epoch.
        acted: Observed effect of each method in the first fold.
        cut: Epochs that were trained, if the deadline cut the schedule; else 0.
        retrained: True if the head is best solved again on the fine-tuned features.
        logits: Logits (N, C) of the held-out images in the order of rows, if they were asked for.
    """

    val_loss: float
    val_bits: str
    blend: float
    flip: bool
    start_loss: float
    start_bits: str
    calibration: Calibration = field(default_factory=Calibration)
    cautious_calibration: Calibration = field(default_factory=Calibration)
    start_calibration: Calibration = field(default_factory=Calibration)
    val_groups: tuple[int, ...] = ()
    gain_noise: float = 0.0
    train_s: float = 0.0
    acted: tuple[Acted, ...] = ()
    cut: int = 0
    retrained: bool = False
    logits: NDArray[np.float32] | None = None


class Form(NamedTuple):
    """A form of the trained network: its share of the trained weights (0: none), and more."""

    share: float
    flip: bool = False
    retrained: bool = False


def score_of(
    logits: Mapping[Form, NDArray[np.float32]],
    labels: NDArray[np.int64],
    groups: tuple[int, ...] = (),
) -> Score:
    """Returns the score of the best form; mirror images are used if clearly better."""
    plain = not all(form.flip for form in logits)
    loss, form = min(
        (calibrated_score(found, labels)[0], form)
        for form, found in logits.items()
        if form.share > 0 and form.flip is not plain
    )
    mirrored = form._replace(flip=True)
    if plain and mirrored in logits and clearly_better(logits[mirrored], logits[form], labels):
        form, loss = mirrored, calibrated_score(logits[mirrored], labels)[0]
    best, start = logits[form], logits[Form(0.0, form.flip)]  # like and like
    source, of = "held-out images of the trial", groups or None
    if labels.ndim == 2:  # the rules of labels come from the network that is shipped
        calibration = cautious = of_start = Calibration()
    else:
        calibration = fit_calibration(best, labels, source, groups=of)
        otherwise = f"{source}, which was trained otherwise"
        cautious = fit_calibration(best, labels, otherwise, STAND_IN, of)
        of_start = fit_calibration(start, labels, source, groups=of)
    saved = calibrated_losses(start, labels) - calibrated_losses(best, labels)
    return Score(
        val_loss=loss,
        val_bits=right_bits(best, labels),
        blend=form.share,
        retrained=form.retrained,
        flip=form.flip,
        start_loss=calibrated_score(start, labels)[0],
        start_bits=right_bits(start, labels),
        calibration=calibration,
        cautious_calibration=cautious,
        start_calibration=of_start,
        val_groups=groups,
        logits=best,
        gain_noise=float(saved.std() / len(saved) ** 0.5),
    )


def clearly_better(
    logits: NDArray[np.float32], others: NDArray[np.float32], labels: NDArray[np.int64]
) -> bool:
    """Returns whether logits (N, C) have a lower log loss by more than the standard error.

    Args:
        logits: Logits of N images.
        others: Other logits of the same images.
        labels: Class numbers (N,), or 1 where an image has a label, (N, C).

    Example:
        >>> sure, unsure = np.array([[4.0, 0], [0, 4]]), np.array([[4.0, 0], [2, 0]])
        >>> clearly_better(sure, unsure, np.array([0, 1]))
        True
    """
    gain = calibrated_losses(others, labels) - calibrated_losses(logits, labels)
    return bool(gain.mean() > gain.std() / len(gain) ** 0.5)
