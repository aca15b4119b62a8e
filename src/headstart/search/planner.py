"""The first stages of a search: a backbone, a head, and a plan for the remaining time."""

from headstart.artifacts.journal import SearchPlan
from headstart.backbones.places import FEATURES
from headstart.errors import RecipeError
from headstart.recipes.options import NOTHING_TO_TRY
from headstart.recipes.recipe import Recipe
from headstart.search.backbones import with_best_backbone
from headstart.search.budget import (
    boundary_speeds,
    folds_for,
    least_search,
    measured_shape,
    shaped,
    share_of_pixels,
    smaller_side,
)
from headstart.search.halving import plan_rungs
from headstart.search.heads import searches_heads, with_best_head
from headstart.search.mirror_images import with_mirror_images
from headstart.training.boundary import (
    at_boundary,
    boundary_without_clock,
    check_head_alone,
    fixed_boundary,
)
from headstart.training.budget import TARGET_EPOCHS, Speed
from headstart.training.experiment import Experiment, development_set
from headstart.training.reserve import affordable_boundary, check_affordable, solving_seconds
from headstart.training.run_context import RunContext

CHOSEN = 3
"""How often a head is solved, about, to choose what it sees and its penalty."""


def plan_search(
    run: RunContext, experiment: Experiment, base: Recipe
) -> tuple[Experiment, Recipe, SearchPlan | None]:
    """Screens backbones, searches heads and plans the trials.

    Args:
        run: Run context, which records the findings and receives the heads.
        experiment: Experiment with the backbone of the recipe.
        base: Recipe with the choices that are not searched.

    Returns:
        The data for the chosen backbone, the recipe that trials start from, and the plan, which
        is None if there is only one recipe to train.

    Raises:
        RecipeError: If there is nothing to search with the number of trials.
        BudgetError: If the recipe needs more than a head and there is no time for it.
    """
    options, clock = run.options, run.clock
    speeds: dict[str, Speed] = {}
    networks = options.ensemble
    if options.trials is None:
        speeds = boundary_speeds(experiment, base, clock)
        shape = measured_shape(run, experiment, base, speeds, heads_too=True)
        # Without a search, the head is chosen and solved before the training.
        heads_s = clock.pace.now * CHOSEN * solving_seconds(experiment, base)
        if shape is None and (
            not searches_heads(run, base)
            or affordable_boundary(experiment, base, clock, heads_s) != FEATURES
        ):
            run.note("The budget allows one recipe, so nothing was searched.")
            return experiment, base, None
    own = base.backbone
    experiment, base = with_best_backbone(run, experiment, base)
    if options.trials is None:
        speeds = speeds if base.backbone == own else boundary_speeds(experiment, base, clock)
        shape = measured_shape(run, experiment, base, speeds, heads_too=True, last_resort=True)
        # Another backbone may leave no time but for a head; without a search of heads there is
        # nothing else to do than to train what can be trained.
        boundary = shape.boundary if shape else FEATURES
        if shape is None and not searches_heads(run, base):
            boundary = list(speeds)[-1]
        check_affordable(
            base, boundary, by_clock=fixed_boundary(experiment.extractor, base) is None
        )
    else:
        boundary = boundary_without_clock(experiment.extractor, base)
        check_head_alone(base, boundary)
        base = base.model_copy(update={"epochs": base.epochs or TARGET_EPOCHS})
    base = at_boundary(base, boundary)
    base, plan = with_best_head(run, experiment, base, boundary)
    trainable = boundary != FEATURES or base.head.init == "random" or base.head.has_hidden_layer
    if options.trials is not None:
        if not trainable:
            raise RecipeError(NOTHING_TO_TRY)
        rungs = plan_rungs(options.trials, base.epochs, networks)
        folds_used = folds_for(len(development_set(experiment).rows))
        return experiment, base, plan.model_copy(
            update={"rungs": tuple(rungs), "folds": folds_used, "epochs": base.epochs}
        )  # fmt: skip
    if boundary not in speeds or not trainable:
        return _heads_alone(run, experiment, base, plan)
    # The machine may have become slower during the search of heads.
    speed = boundary_speeds(experiment, base, clock, boundary)[boundary]
    shape = measured_shape(run, experiment, base, {boundary: speed}, last_resort=True)
    if shape is None and plan.head_loss is not None:
        run.note("The search of heads took the time for trials: fine-tuning was not tried.")
        return _heads_alone(run, experiment, base, plan)
    # It fitted before; the schedule of the winner is cut to the remaining time.
    shape = shape or least_search(boundary, base.epochs, fixed_views=base.views)
    if shape.smaller:
        side = smaller_side(run, experiment, base)
        speed = speed.at(share_of_pixels(experiment, side))
    base = shaped(run, experiment, base, shape)
    update = {
        "rungs": tuple(plan_rungs(shape.trials, shape.epochs, networks)),
        "folds": shape.folds,
        "epochs": shape.epochs,
        "view_s": speed.prefix_s,
        "train_s": speed.train_s,
    }
    return experiment, base, plan.model_copy(update=update)


def _heads_alone(
    run: RunContext, experiment: Experiment, base: Recipe, plan: SearchPlan
) -> tuple[Experiment, Recipe, SearchPlan | None]:
    """Returns what `plan_search` does where there is time for no trial."""
    if plan.head_loss is None:
        return experiment, base, None
    return experiment, *with_mirror_images(run, experiment, base, plan)
