"""The head, solved once more on the features of the fine-tuned network."""

from headstart.features.extractor import FeatureExtractor
from headstart.features.layout import FeatureTable
from headstart.recipes.recipe import Recipe
from headstart.text import percent
from headstart.training.loop import predict
from headstart.training.solving import solve_head
from headstart.training.transfer import TransferModel


def retrain_head(extractor: FeatureExtractor, recipe: Recipe, transfer: TransferModel) -> None:
    """Solves the head of a fine-tuned network again, on the plain training images.

    A few epochs of gradient steps move the features further than the head can follow. Solved in
    closed form, it fits them again (classifier re-training: Kang et al., "Decoupling Representation
    and Classifier for Long-Tailed Recognition", ICLR 2020).

    The penalty of a linear head is that of the head before fine-tuning: cross-validation would be
    no test here, because the features have seen the labels of all these images. A head that always
    solves for its own penalty, as an MLP does, does so here, too.

    Args:
        extractor: Feature extractor with the labels of the training images.
        recipe: Recipe that was trained.
        transfer: Transfer model; its head is replaced in place.
    """
    method = transfer.method
    if transfer.validated and not method.solved_penalty and hasattr(method, "penalty"):
        method = method.model_copy(update={"penalty": transfer.validated.strength})
    features = predict(transfer.suffix, transfer.cached["train"], device=extractor.device)
    head = transfer.head.cpu()
    solve_head(extractor, recipe, method, head, FeatureTable(features, transfer.layout))
    head.to(extractor.device)


def finished_by(recipe: Recipe) -> str:
    """Returns what was done after the last step, to be added to a sentence."""
    said = f", weights blended: {percent(recipe.blend, 0)} fine-tuned" if recipe.blend < 1 else ""
    return said + (", head solved again" if recipe.retrain_head else "")
