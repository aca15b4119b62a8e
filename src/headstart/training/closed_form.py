"""Heads with a closed form: solved on frozen features, and in the end on all images."""

from dataclasses import replace

from headstart.backbones.boundaries import FEATURES
from headstart.recipes.recipe import Recipe
from headstart.text import counted
from headstart.training.experiment import Experiment, development_set
from headstart.training.run_context import RunContext
from headstart.training.transfer import TransferModel, build_transfer_model


def is_solved(recipe: Recipe, transfer: TransferModel) -> bool:
    """Returns whether nothing is left to train: the head has a closed form, and it was solved."""
    at_features = transfer.prefix.boundary == FEATURES
    return at_features and transfer.solved and not recipe.head.has_hidden_layer


def solved_on_all(
    run: RunContext, experiment: Experiment, recipe: Recipe, transfer: TransferModel
) -> tuple[Experiment, TransferModel]:
    """Solves the head once more, on the validation images as well, and returns both.

    The validation images have measured the head without them: it has served its purpose. What it
    sees and its penalty stay.
    """
    method, plain = transfer.method, development_set(experiment)
    if transfer.validated is not None and not method.solved_penalty:
        method = method.model_copy(update={"penalty": transfer.validated.strength})
    extractor = replace(
        experiment.extractor,
        rows={**experiment.extractor.rows, "train": plain.rows},
        labels={**experiment.extractor.labels, "train": plain.labels},
        groups=plain.groups,
    )
    with run.step("finish", "solve the head on training and validation images") as step:
        whole = recipe.model_copy(update={"head": method})
        transfer = build_transfer_model(extractor, whole, transfer.prefix.boundary)
        step.happened(f"solved on {counted(len(plain.rows), 'image')}")
    return replace(experiment, extractor=extractor), transfer
