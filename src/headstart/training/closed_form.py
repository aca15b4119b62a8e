"""Heads with a closed form: solved on frozen features, and in the end on all images."""

from dataclasses import replace

from headstart.backbones.places import FEATURES
from headstart.features.extractor import FeatureExtractor
from headstart.recipes.recipe import Recipe
from headstart.text import counted
from headstart.training.experiment import Experiment, development_set
from headstart.training.reserve import seconds_for_training, solving_seconds
from headstart.training.run_context import RunContext
from headstart.training.transfer import TransferModel, build_transfer_model

UNSURE = 2.0
"""Factor of the estimated time that must be left to solve a head again."""


def has_closed_form(recipe: Recipe, boundary: str) -> bool:
    """Returns whether nothing is left to train behind a boundary once the head is solved."""
    return boundary == FEATURES and recipe.head.init == "probe" and not recipe.head.has_hidden_layer


def pooled(experiment: Experiment, recipe: Recipe, boundary: str) -> FeatureExtractor:
    """Returns the feature extractor of a training.

    Where the head has a closed form, one run of the network serves training and validation images:
    in the end it is solved on both.
    """
    if not has_closed_form(recipe, boundary):
        return experiment.extractor
    return replace(experiment.extractor, pool=development_set(experiment).rows)


def solved_on_all(
    run: RunContext, experiment: Experiment, recipe: Recipe, transfer: TransferModel, took: float
) -> tuple[Experiment, TransferModel]:
    """Solves the head once more, on the validation images as well, and returns both.

    The validation images have measured the head without them: it has served its purpose. What it
    sees and its penalty stay. Without the time for it, what was given is returned.

    Args:
        run: Run context.
        experiment: Experiment on whose training images the head was solved.
        recipe: Its recipe.
        transfer: Transfer model with that head.
        took: Seconds that this head took, and more than another one takes.
    """
    clock = run.clock
    with run.step("finish", "solve the head on training and validation images") as step:
        method, plain = transfer.method, development_set(experiment)
        if transfer.validated is not None and not method.solved_penalty:
            method = method.model_copy(update={"penalty": transfer.validated.strength})
        whole = recipe.model_copy(update={"head": method})
        if clock.budget_s is not None:
            again_s = min(took, UNSURE * clock.pace.now * solving_seconds(experiment, whole))
            if seconds_for_training(experiment, recipe, clock) < again_s:
                step.happened("no time: the head stays as it was solved on the training images")
                return experiment, transfer
        extractor = replace(
            pooled(experiment, recipe, transfer.prefix.boundary),
            rows={**experiment.extractor.rows, "train": plain.rows},
            labels={**experiment.extractor.labels, "train": plain.labels},
            groups=plain.groups,
        )
        transfer = build_transfer_model(extractor, whole, transfer.prefix.boundary)
        step.happened(f"solved on {counted(len(plain.rows), 'image')}")
    return replace(experiment, extractor=extractor), transfer
