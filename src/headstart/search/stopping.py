"""When further trials are not worthwhile. Nothing here imports torch."""

from collections.abc import Sequence

import numpy as np

from headstart.artifacts.journal import SearchPlan, Trial
from headstart.evaluation.metrics import flags_of
from headstart.text import counted

NOT_YET = "no short schedule has a lower validation loss than its initial head"

NOT_PAYING = "fine-tuning does not help: no trial has a lower validation loss than its initial head"

ALL_FAILED = "every trial failed"

STARTUP_TRIALS = 8
"""Number of trials before their spread is known, and before the sampler learns from them."""

_ENOUGH_IMAGES = 100
"""Number of held-out images from which a part of the schedule gets the benefit of the doubt."""

FEWEST_APART, ONE_APART_IN = 100, 20
"""Fewest images that are kept out of the final training to test it, and one in how many they are of
the development set."""

_TESTED = {1: round(0.15 * ONE_APART_IN * FEWEST_APART), 2: ONE_APART_IN * FEWEST_APART}
"""Number of held-out images of a trial from which there are so many: of one fold, which holds 15%
of the development set, or of several."""

_LOOK_AFTER = 3
"""Number of trials before the check that training beats the head alone."""


def not_yet(tried: Sequence[Trial], plan: SearchPlan) -> str:
    """Returns `NOT_YET` if several trials of the first rung did not pay; else an empty string."""
    good = [trial for trial in tried if trial.val_loss is not None]
    hopeless = len(good) >= _LOOK_AFTER and not any(pays(trial, plan, len(good)) for trial in good)
    return NOT_YET if hopeless else ""


def enough(tried: Sequence[Trial], more: int) -> str:
    """Returns why further trials would hardly gain anything; empty if they would.

    Args:
        tried: Finished trials of the first rung.
        more: Number of further trials.
    """
    good = [trial for trial in tried if trial.val_loss is not None]
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


def pays(trial: Trial, plan: SearchPlan, among: int = 1) -> bool:
    """Returns whether training beats the head that the trial started from.

    It must save more log loss than the standard error of what it saves: a smaller gain is as likely
    to be none. At most half of the whole schedule counts as better if it is no worse, because the
    other half would improve it; and a short one even if it is worse by up to that error, where the
    final training is tested on images that are kept out of it. On a few images the error is so
    large that anything would count, and the best of several trials is partly the luckiest: there,
    it must also save what that is worth. Where the head began at random there is nothing to beat.

    Args:
        trial: Successful trial.
        plan: Plan of the search.
        among: Number of trials that it is the best of.
    """
    at_random = trial.recipe.get("head", {}).get("init") == "random"
    if at_random or trial.start_loss is None or trial.val_loss is None:
        return True
    needed = trial.gain_noise
    if trial.val_images < _ENOUGH_IMAGES:
        needed *= 1 + _expected_best(max(1, among))
    elif 2 * trial.epochs <= plan.epochs:
        # Thresholds of labels always need images that are kept out.
        tested = plan.head_rules is not None or trial.val_images >= _TESTED[min(plan.folds, 2)]
        needed = -trial.gain_noise if tested and short(trial, plan.epochs) else 0.0
    return trial.start_loss - trial.val_loss > needed


def ranked(trials: Sequence[Trial]) -> list[Trial]:
    """Returns the successful trials, lowest validation loss first."""
    good = [trial for trial in trials if trial.val_loss is not None]
    return sorted(good, key=lambda trial: (trial.val_loss, trial.number))
