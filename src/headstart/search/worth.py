"""Whether a network that was trained for its whole schedule is worth shipping."""

import numpy as np
from numpy.typing import NDArray

from headstart.artifacts.journal import Trial
from headstart.evaluation.calibration import score
from headstart.evaluation.metrics import calibrated_losses
from headstart.training.experiment import Experiment
from headstart.training.loop import predict
from headstart.training.transfer import TransferModel

LEARNED = 0.05
"""Share of the log loss of the class frequencies that a network must save on images it was trained
on."""


def worse_than_head(
    experiment: Experiment,
    transfer: TransferModel,
    trial: Trial,
    start: NDArray[np.float32] | None,
    temperature: float,
) -> str:
    """Returns why a trained network is worse than the head it started from; empty if it is not.

    On images that were kept out, both are compared at their best temperatures, and the network
    is worse if it loses more than the standard error of the difference. Without such images, the
    network is measured on the images of its trial, which it has been trained on, as it would be
    shipped; it is worse if its log loss is higher than that of the trial's head, which had not
    seen them, or hardly better than that of the class frequencies.

    Args:
        experiment: Experiment with the images that the network was trained on.
        transfer: Transfer model with the trained weights.
        trial: Trial of its recipe.
        start: Logits (M, C) of the head on the images that were kept out; None without any.
        temperature: Temperature with which it would be shipped without such images.
    """
    if not transfer.solved:
        return ""  # a random head is not worth keeping
    device, labels = experiment.extractor.device, experiment.extractor.labels
    if start is not None:
        seen, known = (
            calibrated_losses(logits, labels["val"])
            for logits in (held_logits(experiment, transfer), start)
        )
        noise = float((seen - known).std() / len(seen) ** 0.5)
        loss, head_loss, which = float(seen.mean()), float(known.mean()), "held-out"
        worse = not loss <= head_loss + noise
    elif trial.start_loss is not None:
        part = "val" if trial.val_images == len(labels["val"]) else "train"
        logits = predict(transfer.model, transfer.cached[part], device=device)
        loss, _ = score((logits / temperature).astype(np.float32), labels[part])
        head_loss, which = trial.start_loss, "its own training"
        shares = np.bincount(labels[part]) / len(labels[part])
        chance = -float(np.sum(shares * np.log(np.maximum(shares, 1e-12))))
        worse = not loss <= min(head_loss, (1 - LEARNED) * chance)
    else:
        return ""
    if not worse:
        return ""
    unseen = "" if start is not None else ", which had not seen them"
    return (
        f"was dropped: its log loss on {which} images is {loss:.3f}, and that of the head alone "
        f"is {head_loss:.3f}{unseen}."
    )


def held_logits(experiment: Experiment, transfer: TransferModel) -> NDArray[np.float32]:
    """Returns the logits (M, C) of the validation images, averaged with any mirror images."""
    views = [transfer.cached[part] for part in ("val", "val_mirrored") if part in transfer.cached]
    device = experiment.extractor.device
    logits = np.mean([predict(transfer.model, view, device=device) for view in views], axis=0)
    return np.asarray(logits, np.float32)
