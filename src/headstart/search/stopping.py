"""When further trials are not worthwhile. Nothing here imports torch."""

from collections.abc import Sequence

import numpy as np

from headstart.artifacts.journal import Trial
from headstart.evaluation.metrics import flags_of
from headstart.text import counted

NOT_YET = "no short schedule has a lower validation loss than its initial head"

NOT_PAYING = "fine-tuning does not help: no trial has a lower validation loss than its initial head"

ALL_FAILED = "every trial failed"

STARTUP_TRIALS = 8
"""Number of trials before their spread is known, and before the sampler learns from them."""

_ENOUGH_IMAGES = 100
"""Number of held-out images from which a short schedule gets the benefit of the doubt."""

_LOOK_AFTER = 3
"""Number of trials before the check that training beats the head alone."""


def enough(tried: Sequence[Trial], more: int, whole: int) -> str:
    """Returns why further trials are not worthwhile; empty if they are.

    Args:
        tried: Finished trials of the first rung.
        more: Number of further trials.
        whole: Length of the whole schedule in epochs.
    """
    good = [trial for trial in tried if trial.val_loss is not None]
    if len(good) >= _LOOK_AFTER and not any(pays(trial, whole) for trial in good):
        return NOT_YET
    if len(good) < STARTUP_TRIALS:
        return ""
    shares = np.array([trial.val_right / trial.val_images for trial in good])
    spread = max(float(shares.std(ddof=1)), 1e-9)
    gain = spread * (_expected_best(len(good) + more) - _expected_best(len(good)))
    first, second = (flags_of(trial.val_bits).astype(float) for trial in ranked(good)[:2])
    noise = float((first - second).std()) / len(first) ** 0.5
    if gain < noise:
        return (
            f"{counted(more, 'more trial')} would gain about {gain:.2%}, less than the noise "
            f"of validation ({noise:.2%})"
        )
    return ""


def _expected_best(number: int) -> float:
    """Returns the expected maximum of that many standard normals (Blom 1958)."""
    from scipy.special import ndtri  # noqa: PLC0415

    return float(ndtri((number - 0.375) / (number + 0.25)))


def short(trial: Trial, whole: int) -> bool:
    """Returns whether a trial's schedule was much shorter than the whole one, in epochs."""
    return 3 * trial.epochs < whole


def pays(trial: Trial, whole: int) -> bool:
    """Returns whether training beats the head that the trial started from.

    It must save more log loss than the standard error of what it saves: a smaller gain is as likely
    to be none. A short schedule counts as better unless it is worse by more than that, because a
    longer schedule would improve it; but on a few images the error is so large that anything
    would count.

    Args:
        trial: Successful trial.
        whole: Length of the whole schedule in epochs.
    """
    if trial.start_loss is None or trial.val_loss is None:
        return True
    doubtful = short(trial, whole) and trial.val_images >= _ENOUGH_IMAGES
    needed = -trial.gain_noise if doubtful else trial.gain_noise
    return trial.start_loss - trial.val_loss > needed


def ranked(trials: Sequence[Trial]) -> list[Trial]:
    """Returns the successful trials, lowest validation loss first."""
    good = [trial for trial in trials if trial.val_loss is not None]
    return sorted(good, key=lambda trial: (trial.val_loss, trial.number))
