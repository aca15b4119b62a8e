"""The budget of a search: how many trials, epochs and folds fit into the time."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product
from typing import Any

import numpy as np

from headstart.artifacts.journal import SearchPlan, Trial
from headstart.backbones.cut import space_dims, takes_resolution
from headstart.backbones.places import FEATURES
from headstart.methods.augmentation import NoAugmentation
from headstart.recipes.parsing import parse_recipe
from headstart.recipes.recipe import Recipe
from headstart.recipes.space import drawn_families
from headstart.search.halving import trial_epochs
from headstart.search.heads import HEADS_SHARE
from headstart.training.boundary import (
    candidate_boundaries,
    fixed_boundary,
    unmeasured_boundary,
)
from headstart.training.budget import (
    FEWEST_EPOCHS,
    FEWEST_VIEWS,
    MEASURING_SHARE,
    MOST_EPOCHS,
    MOST_VIEWS,
    TARGET_EPOCHS,
    UNHURRIED,
    Clock,
    Speed,
    choose_epochs,
    views_for,
)
from headstart.training.experiment import Experiment, development_set
from headstart.training.pace import Deadline
from headstart.training.reserve import deadline_of, seconds_for_training, solving_seconds
from headstart.training.run_context import RunContext
from headstart.training.speed import disk_for_views, measure_speeds

FOLDS = 3

CROSS_VALIDATED_BELOW = 500
"""Fewest images for a validation set; with fewer, trials are scored by cross-validation."""

HELD_OUT = 0.15
"""Approximate share of validation images in the development set."""

TRIAL_S = 3.0
"""Seconds per training besides its steps, to load and cut the network."""

MOST_TRIALS = 60

FEW_TRIALS = 3

SMALLER = 5 / 7
"""About the side of smaller views, as a share of that of the evaluation view: half the pixels."""

_SIDES, _SMALLEST = 32, 96
"""Smaller views have a multiple of the one as their side, and at least the other."""

SHORT = (TARGET_EPOCHS + FEWEST_EPOCHS) // 2


@dataclass(frozen=True)
class SearchShape:
    """The shape of a search: how it spends its time.

    Attributes:
        boundary: Name of the boundary.
        epochs: Length of the whole schedule.
        views: Augmented views of each image; 0 to train on the evaluation views alone, which the
            search of heads has cached.
        trials: Number of trials in the first rung.
        folds: Number of folds; 1 scores trials on the validation images.
        smaller: Whether the views have fewer pixels than the evaluation view.
    """

    boundary: str
    epochs: int
    views: int
    trials: int
    folds: int
    smaller: bool = False


def folds_for(images: int) -> int:
    """Returns the number of cross-validation folds; 1 stands for a validation set."""
    return FOLDS if images < CROSS_VALIDATED_BELOW else 1


def passes(folds: int) -> float:
    """Returns how often an epoch of a trial sees the development set."""
    return folds - 1 if folds > 1 else 1 - HELD_OUT


def least_search(
    boundary: str,
    fixed_epochs: int = 0,
    folds: int = 1,
    fixed_views: int = 0,
    smaller: bool = False,
) -> SearchShape:
    """Returns the smallest worthwhile search at a boundary."""
    epochs = fixed_epochs or SHORT
    views = fixed_views or min(epochs, 4)
    return SearchShape(boundary, epochs, views, 1, folds, smaller)


@dataclass(frozen=True)
class SearchLimits:
    """The limits and costs of a search.

    Attributes:
        speeds: Seconds per image by boundary, nearest the input first.
        images: Number of images in the development set.
        seconds: Time for views, trials and the whole schedule of the winners.
        disk_bytes: Space for the cached views.
        networks: Number of networks to train for the whole schedule.
        epochs: Length of the whole schedule; 0 to choose it.
        views: Augmented views of each image; 0 to choose the number.
        plain: Whether to train on the evaluation views alone where time allows no others.
        smaller: Share of the pixels of the evaluation view that smaller views have; 0 if all views
            have its size.
        solve_s: Seconds in which a head is solved again after a training.
        mirrors: Whether trials also look at the mirror images of what they hold out.
    """

    speeds: Mapping[str, Speed]
    images: int
    seconds: float
    disk_bytes: float
    networks: int = 1
    epochs: int = 0
    views: int = 0
    plain: bool = False
    smaller: float = 0.0
    solve_s: float = 0.0
    mirrors: bool = False

    def allow(self, shape: SearchShape, whole_share: float = 1.0) -> bool:
        """Returns whether a search fits, with its whole schedule in a share of the time."""
        speed = self.speeds[shape.boundary]
        speed = speed.at(self.smaller) if shape.smaller else speed
        steps_s = trial_epochs(shape.trials, shape.epochs) * self.images * speed.train_s
        trainings = 1.4 * shape.trials * shape.folds
        trials_s = passes(shape.folds) * steps_s + trainings * (TRIAL_S + self.solve_s)
        trials_s += shape.folds * self.solve_s  # the heads that trials start from
        if self.mirrors:
            held_out = 1 if shape.folds > 1 else HELD_OUT
            trials_s += held_out * self.images * self.speeds[shape.boundary].prefix_s
        stored = shape.views * self.images * speed.bytes_per_view
        whole_s = speed.seconds(self.images, self.networks * shape.epochs, shape.views)
        whole_s += self.networks * self.solve_s
        left = UNHURRIED * self.seconds
        return (
            whole_s + trials_s <= left
            and whole_s <= whole_share * left
            and stored <= self.disk_bytes
        )


def shape_search(limits: SearchLimits, last_resort: bool = False) -> SearchShape | None:
    """Returns the search that fits into the limits, or None if not even the smallest does.

    The boundary matters more than the number of trials, and than the pixels of a view. The search
    takes the earliest boundary at which 8 epochs, 4 views and one trial fit, with smaller views if
    they do not fit otherwise. The remaining time goes to 12 epochs, 8 views, three
    trials, longer schedules up to half of the time, and more trials, in this order.

    Args:
        limits: Limits and costs of the search.
        last_resort: True to accept 4 epochs, 2 views and one trial, or no augmented view at all if
            the limits allow plain ones.

    Example:
        >>> limits = SearchLimits({"layer4": Speed(0.02, 0.005, 1000)}, 1000, 600, 1e9)
        >>> shape_search(limits)
        SearchShape(boundary='layer4', epochs=22, views=8, trials=6, folds=1, smaller=False)
    """
    sizes = (False, True) if limits.smaller else (False,)
    for folds in dict.fromkeys((folds_for(limits.images), 1)):
        for boundary, smaller in product(limits.speeds, sizes):
            least = least_search(boundary, limits.epochs, folds, limits.views, smaller)
            if limits.allow(least):
                return _grown(least, limits)
    for boundary in limits.speeds if last_resort else ():
        epochs, views = limits.epochs or FEWEST_EPOCHS, limits.views or FEWEST_VIEWS
        least = SearchShape(boundary, epochs, views, trials=1, folds=1)
        if limits.allow(least):
            return _grown(least, limits)
    lengths = (limits.epochs,) if limits.epochs else (SHORT, FEWEST_EPOCHS)
    for epochs in lengths if last_resort and limits.plain else ():
        for boundary in limits.speeds:
            least = SearchShape(boundary, epochs, views=0, trials=1, folds=1)
            if limits.allow(least):
                return _grown(least, limits)
    return None


def _grown(shape: SearchShape, limits: SearchLimits) -> SearchShape:
    """Returns the search extended as far as it fits, most useful extensions first."""

    def grow(shape: SearchShape, field: str, most: int, whole_share: float = 1.0) -> SearchShape:
        while getattr(shape, field) < most:
            longer = replace(shape, **{field: getattr(shape, field) + 1})
            if not limits.allow(longer, whole_share):
                break
            shape = longer
        return shape

    if not limits.epochs:
        shape = grow(shape, "epochs", TARGET_EPOCHS)
    if not limits.views and shape.views:
        shape = grow(shape, "views", min(MOST_VIEWS, views_for(shape.epochs)))
    shape = grow(shape, "trials", FEW_TRIALS)
    if not limits.epochs:
        shape = grow(shape, "epochs", MOST_EPOCHS, whole_share=0.5)
    return grow(shape, "trials", MOST_TRIALS)


def boundary_speeds(
    experiment: Experiment, base: Recipe, clock: Clock, boundary: str | None = None
) -> dict[str, Speed]:
    """Measures the cost of an image at the possible boundaries, at the present pace.

    Args:
        experiment: Experiment with data and backbone.
        base: Recipe that trials start from.
        clock: Clock of the budget.
        boundary: The only boundary to measure; None for all that are possible.
    """
    extractor = experiment.extractor
    only = boundary or fixed_boundary(extractor, base)
    traced = extractor.traced
    bounds = [traced.boundary(only)] if only else candidate_boundaries(traced)
    clock.pace.measure()
    features_s = experiment.features_s * clock.pace.now
    return measure_speeds(extractor, base, bounds, features_s, clock.until(MEASURING_SHARE))


def measured_shape(
    run: RunContext,
    experiment: Experiment,
    base: Recipe,
    speeds: dict[str, Speed],
    heads_too: bool = False,
    last_resort: bool = False,
) -> SearchShape | None:
    """Returns the search that fits into the remaining budget, after any search of heads."""
    images, clock = len(development_set(experiment).rows), run.clock
    seconds = seconds_for_training(experiment, base, clock)
    if heads_too:
        features_s = experiment.features_s * clock.pace.now
        seconds = (1 - HEADS_SHARE) * seconds - 1.5 * images * features_s
    limits = SearchLimits(
        speeds,
        images,
        seconds,
        disk_for_views(experiment.extractor),
        run.options.ensemble,
        base.epochs,
        base.views,
        plain=not base.views and bool(drawn_families(run.options.by_hand, ("augmentation",))),
        smaller=share_of_pixels(experiment, smaller_side(run, experiment, base)),
        solve_s=0.0
        if base.freezing.head_alone or base.head.remembers_images
        else clock.pace.now * solving_seconds(experiment, base),
        mirrors=base.augmentation.allows_mirroring,
    )
    return shape_search(limits, last_resort)


def smaller_side(run: RunContext, experiment: Experiment, base: Recipe) -> int:
    """Returns the side of smaller views in pixels, or 0 if views cannot have another size."""
    extractor = experiment.extractor
    side = _SIDES * round(SMALLER * extractor.backbone.preprocessing.resolution / _SIDES)
    fields = ("augmentation", "train_resolution", "retrain_head")
    by_hand = len(drawn_families(run.options.by_hand, fields)) < len(fields)
    if by_hand or side < _SMALLEST or base.augmentation.absent or base.head.remembers_images:
        return 0
    boundary = fixed_boundary(extractor, base) or unmeasured_boundary(extractor.traced)
    trains = boundary != FEATURES and takes_resolution(extractor.traced, boundary, side)
    return side if trains else 0


def may_flip(run: RunContext, experiment: Experiment, base: Recipe, boundary: str) -> bool:
    """Returns whether trials at a boundary may mirror feature maps.

    They may not if that is set by hand, if mirroring may change the class, or if the activations
    have no width.
    """
    traced = experiment.extractor.traced
    dims = space_dims(traced, boundary)
    wide = bool(dims) and traced.boundary(boundary).shape[dims[1] - 1] > 1
    left_open = bool(drawn_families(run.options.by_hand, ("feature_flip",)))
    return wide and left_open and base.augmentation.allows_mirroring


def share_of_pixels(experiment: Experiment, side: int) -> float:
    """Returns the share of the pixels of the evaluation view that a view of another side has."""
    return (side / experiment.extractor.backbone.preprocessing.resolution) ** 2


def shaped(run: RunContext, experiment: Experiment, base: Recipe, shape: SearchShape) -> Recipe:
    """Returns the recipe that the trials of a search start from, and notes what it gave up."""
    update: dict[str, Any] = {"epochs": shape.epochs}
    if shape.smaller:
        side = smaller_side(run, experiment, base)
        update |= {"train_resolution": side, "retrain_head": True}
        run.note(
            f"The budget leaves time for augmented views of {side} pixels, and not of "
            f"{experiment.extractor.backbone.preprocessing.resolution}. Afterwards, the head is "
            "solved again at the full resolution."
        )
    if shape.views:
        fewer = shape.views < views_for(shape.epochs)
        update["views"] = base.views or (shape.views if fewer else 0)
    elif not base.augmentation.absent:
        update |= {"augmentation": NoAugmentation().model_dump(), "views": 1}
        trained_on = "plain images"
        if may_flip(run, experiment, base, shape.boundary):
            update["feature_flip"] = True
            trained_on += ", whose feature maps are mirrored at random"
        run.note(f"The budget leaves no time for augmented views: trials train on {trained_on}.")
    return parse_recipe({**base.model_dump(), **update})


def speed_by_trials(run: RunContext, plan: SearchPlan, trials: Sequence[Trial]) -> Speed:
    """Returns the cost of an image, from measurements and from the duration of trials.

    The last trial counts alone if it was slower than most, because the machine may have become
    slower. Trials that ran elsewhere or in parallel do not show the speed of this process alone.
    """
    here = run.options.executor == "here"
    seen_s = [trial.train_s for trial in trials if trial.train_s and here]
    train_s = max(float(np.median(seen_s)), seen_s[-1]) if seen_s else plan.train_s
    return Speed(plan.view_s, train_s, 0)


def missing_views(plan: SearchPlan, views: int) -> int:
    """Returns how many views the whole schedule needs beyond those of the first trials."""
    return max(0, (views or views_for(plan.epochs)) - (views or views_for(plan.rungs[0].epochs)))


def fitted_plan(
    plan: SearchPlan,
    speed: Speed,
    left: float,
    images: int,
    views: int,
    networks: int,
) -> SearchPlan:
    """Returns the plan with as many epochs for the winner as the remaining time allows."""
    more_views = missing_views(plan, views)
    seconds = (left - more_views * images * speed.prefix_s) / networks
    epochs = choose_epochs(speed, images, seconds, views=0)
    return plan.model_copy(update={"fitted_epochs": max(FEWEST_EPOCHS, epochs)})


def end_of_trials(
    run: RunContext, experiment: Experiment, base: Recipe, plan: SearchPlan
) -> Deadline | None:
    """Returns when a trial must end, so that the shortest whole schedule fits.

    None without a budget, and on a cluster, whose machines have other clocks.
    """
    if run.clock.budget_s is None or run.options.executor == "ray":
        return None
    epochs = run.options.ensemble * min(plan.epochs, FEWEST_EPOCHS)
    whole_s = epochs * len(development_set(experiment).rows) * plan.train_s
    deadline = deadline_of(experiment, base, run.clock, before_s=whole_s)
    if deadline is None or run.options.executor == "here":
        return deadline
    # Another process has other threads: what it measures at its start is the present pace.
    return replace(deadline, pace=replace(deadline.pace, first_s=0.0))


def fits_an_epoch(run: RunContext, experiment: Experiment, base: Recipe, speed: Speed) -> bool:
    """Returns whether one epoch on all images fits into the budget, if there is one."""
    if run.clock.budget_s is None:
        return True
    run.clock.pace.measure()
    images = len(development_set(experiment).rows)
    return speed.seconds(images, 1, 0) <= seconds_for_training(experiment, base, run.clock)
