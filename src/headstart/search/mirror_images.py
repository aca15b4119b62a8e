"""Mirror images for a head alone, where the time does not suffice for any trial."""

from dataclasses import replace

from headstart.artifacts.journal import Rung, SearchPlan
from headstart.evaluation.calibration import calibrated_score
from headstart.evaluation.trust import fit_calibration
from headstart.recipes.recipe import Recipe
from headstart.recipes.space import drawn_families
from headstart.search.budget import HELD_OUT, folds_for
from headstart.search.held import held_by_folds
from headstart.search.score import clearly_better
from headstart.search.trial import groups_of, solve_heads, trial_context
from headstart.text import counted
from headstart.training.experiment import Experiment, development_set
from headstart.training.reserve import seconds_for_training, solving_seconds
from headstart.training.run_context import RunContext

UNSURE = 1.2
"""Factor of the estimated time that must be left."""


def with_mirror_images(
    run: RunContext, experiment: Experiment, base: Recipe, plan: SearchPlan
) -> tuple[Recipe, SearchPlan]:
    """Averages the logits of an image and its mirror image if that is clearly better.

    Trials look at mirror images by themselves. Here the head alone does, on images that it was
    solved without, if the time suffices.

    Args:
        run: Run context, which records the findings.
        experiment: Experiment with data and backbone.
        base: Recipe with the head.
        plan: Plan without trials.

    Returns:
        The recipe, and the plan with the calibration of the averaged logits.
    """
    if not _may_mirror(run, experiment, base) or not _affordable(run, experiment, base):
        return base, plan
    images = len(development_set(experiment).rows)
    update = {"rungs": (Rung(trials=1, epochs=0),), "folds": folds_for(images)}
    context = trial_context(experiment, base, plan.model_copy(update=update))
    mirrored = base.model_copy(update={"test_time_flip": True})
    planned = "average the logits of held-out images and of their mirror images"
    with run.step("mirror images", planned) as step:
        context = replace(context, heads=solve_heads(context, base))
        plain, labels, rows = held_by_folds(base, run, experiment, context)
        both, _, _ = held_by_folds(mirrored, run, experiment, context)
        better = clearly_better(both, plain, labels)
        losses = [calibrated_score(logits, labels)[0] for logits in (both, plain)]
        step.happened(
            f"log loss {losses[0]:.3f} on {counted(len(labels), 'image')}, and {losses[1]:.3f} "
            f"without: {'kept' if better else 'not clearly better, so left out'}"
        )
    if not better:
        return base, plan
    calibration = fit_calibration(
        both, labels, "cross-validation of the head", groups=groups_of(context, rows) or None
    )
    return mirrored, plan.model_copy(update={"head_calibration": calibration})


def _may_mirror(run: RunContext, experiment: Experiment, base: Recipe) -> bool:
    """Returns whether it is open, and mirroring known to change no class."""
    left_open = bool(drawn_families(run.options.by_hand, ("test_time_flip",)))
    flips = base.augmentation.allows_mirroring and not base.test_time_flip
    return left_open and flips and not experiment.multilabel and base.head.init == "probe"


def _affordable(run: RunContext, experiment: Experiment, base: Recipe) -> bool:
    """Returns whether there is time for it, for the last head and for a test with mirror images."""
    clock = run.clock
    if clock.budget_s is None:
        return False
    images = len(development_set(experiment).rows)
    folds = folds_for(images)
    held = images if folds > 1 else HELD_OUT * images
    work_s = held * experiment.features_s + (folds + 1) * solving_seconds(experiment, base)
    mirrored = base.model_copy(update={"test_time_flip": True})
    left_s = seconds_for_training(experiment, mirrored, clock)
    return UNSURE * clock.pace.now * work_s <= left_s
