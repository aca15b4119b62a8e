"""The best epoch so far, which is kept if a training is interrupted."""

from collections.abc import Iterator

from headstart.artifacts.records import EpochRecord
from headstart.artifacts.run_start import EPOCHS
from headstart.features.extractor import FeatureExtractor
from headstart.recipes.recipe import Recipe
from headstart.text import counted
from headstart.training.averaging import blend
from headstart.training.retraining import retrain_head
from headstart.training.run_context import RunContext
from headstart.training.transfer import TransferModel, weights_of


def last_or_best(
    run: RunContext,
    extractor: FeatureExtractor,
    recipe: Recipe,
    transfer: TransferModel,
    records: Iterator[EpochRecord],
    epochs: int,
) -> tuple[EpochRecord | None, bool]:
    """Trains to the end, or until Ctrl-C: then the epoch of the lowest validation loss is kept.

    Args:
        run: Run context; epochs are journalled, and an interruption is noted.
        extractor: Feature extractor.
        recipe: Recipe, with what follows the last step.
        transfer: Transfer model; it holds the weights of the returned epoch.
        records: The training, one record for each epoch.
        epochs: Planned length.

    Returns:
        The last epoch, or the best one after an interruption, and whether there was one. None if
        there was no time for an epoch.

    Raises:
        KeyboardInterrupt: If it came before the end of the first epoch.
    """
    before = weights_of(transfer)
    last: EpochRecord | None = None
    best, weights = last, before
    try:
        for last in records:
            journal_epoch(run, last)
            if best is None or _loss(last) < _loss(best):
                best, weights = last, weights_of(transfer)
    except KeyboardInterrupt:
        if best is None or last is None:
            raise
        run.note(
            f"Interrupted after {last.epoch} of {counted(epochs, 'epoch')}: epoch {best.epoch}, "
            "which has the lowest validation loss so far, is kept. The same command with another "
            "--out trains all of them."
        )
        run.say(f"note: {run.record.notes[-1]}")
        run.say("Press Ctrl-C again to leave without the sealed test and the report.")
        transfer.model.load_state_dict(blend(before, weights, recipe.blend))
        if recipe.retrain_head:
            retrain_head(extractor, recipe, transfer)
        transfer.model.requires_grad_(True)
        transfer.model.eval()
        return best, True
    return last, False


def journal_epoch(run: RunContext, epoch: EpochRecord) -> None:
    """Appends an epoch to the journal; what the methods did is told once, at the end."""
    done = epoch.progress >= 1
    EPOCHS.append(run.folder, epoch if done else epoch.model_copy(update={"acted": ()}))


def _loss(epoch: EpochRecord) -> float:
    return float("inf") if epoch.val_loss is None else epoch.val_loss
