"""What a budget allows: the time for training, after all that follows it, and the boundary."""

import time

from headstart.backbones.places import FEATURES
from headstart.errors import BudgetError, RecipeError
from headstart.features.layout import layout_behind
from headstart.recipes.recipe import Recipe
from headstart.training.boundary import (
    candidate_boundaries,
    check_head_alone,
    fixed_boundary,
)
from headstart.training.budget import (
    FEWEST_EPOCHS,
    MEASURING_SHARE,
    MOST_EPOCHS,
    Clock,
    choose_boundary,
)
from headstart.training.experiment import CLOSING_S, Experiment
from headstart.training.pace import Deadline, reserve
from headstart.training.speed import disk_for_views, measure_speeds

REPORT_S_PER_IMAGE = 0.002

TRIED_S = 6.0
"""Seconds in which pseudo-labels are tried on 1,000 images, 1,000 features and 10 classes."""

SOLVED_S = 5.9e-9
"""Seconds in which a head is solved, by images, features and classes."""

READ_CLASSES = 92
"""Classes whose products take as long as reading the features does. With `SOLVED_S`, it takes 0.6 s
for 1,000 images, 1,000 features and 10 classes, and 43 s for 6,097, 4,144 and 196 (one core)."""

_EAGER = 4
"""How many times as long eager PyTorch takes as the engine of the frozen network."""


def seconds_for_training(experiment: Experiment, recipe: Recipe, clock: Clock) -> float:
    """Returns the seconds left for training, after everything that follows the last step."""
    left = clock.left()
    assert left is not None
    return left - reserve(proof_seconds(experiment, recipe), CLOSING_S, clock.pace)


def deadline_of(
    experiment: Experiment,
    recipe: Recipe,
    clock: Clock,
    share: float = 1.0,
    least_s: float = 0.0,
    before_s: float = 0.0,
) -> Deadline | None:
    """Returns the end of a training that begins now; None without a budget.

    Args:
        experiment: Experiment with the data.
        recipe: Recipe to train.
        clock: Clock of the budget.
        share: Share of the time that this training may use.
        least_s: Seconds that this training may take in any case.
        before_s: Seconds of other work to leave time for, at the present pace.
    """
    if clock.budget_s is None:
        return None
    work_s = proof_seconds(experiment, recipe) + before_s / clock.pace.now
    ends = clock.started + clock.budget_s
    began = time.monotonic()
    return Deadline(ends, clock.pace, work_s, CLOSING_S, began, share, least_s)


def proof_seconds(experiment: Experiment, recipe: Recipe) -> float:
    """Returns the seconds at the first pace of what depends on the number of images."""
    passes = 2 if recipe.test_time_flip else 1
    test_s = passes * experiment.features_s + 1.5 * experiment.decode_s + REPORT_S_PER_IMAGE
    # The embeddings of the training images are computed again from the cached activations.
    gallery = len(experiment.split.train) + len(experiment.split.val)
    embedding_s = _share_behind(experiment, recipe) * experiment.features_s
    seconds = len(experiment.split.test) * test_s + gallery * embedding_s
    # PyTorch runs the background images: there is no model.onnx yet.
    background_s = 1.5 * experiment.decode_s + _EAGER * passes * experiment.features_s
    seconds += len(experiment.background) * background_s
    seconds += unlabelled_seconds(experiment)
    return seconds + _averaging_seconds(experiment, recipe)


def unlabelled_seconds(experiment: Experiment) -> float:
    """Returns the seconds for features of unlabelled images, and for trying what they say."""
    if experiment.unlabelled is None:
        return 0.0
    images, labelled = len(experiment.unlabelled.rows), len(experiment.extractor.labels["train"])
    rows = images + labelled
    heads = rows * min(rows, 2 * experiment.extractor.backbone.features)
    heads *= len(experiment.extractor.classes)
    return images * experiment.features_s + TRIED_S * heads / 1e7


def _share_behind(experiment: Experiment, recipe: Recipe) -> float:
    """Returns the share of the network behind the boundary; a half where that is still open."""
    boundary = fixed_boundary(experiment.extractor, recipe)
    if boundary is None:
        return 0.5
    return 1 - experiment.extractor.traced.boundary(boundary).position


def _averaging_seconds(experiment: Experiment, recipe: Recipe) -> float:
    """Returns the seconds after the last step for statistics, for a soup and for the head."""
    eager_s = _EAGER * experiment.features_s
    seconds = 0.0
    if recipe.averaging.chooses_by_validation:
        seconds += MOST_EPOCHS * len(experiment.split.val) * eager_s
    if recipe.averaging.needs_fresh_statistics:
        seconds += len(experiment.split.train) * eager_s
    if recipe.retrain_head:
        images = len(experiment.split.train) + len(experiment.split.val)
        seconds += images * eager_s * _share_behind(experiment, recipe)
        seconds += solving_seconds(experiment, recipe)
    return seconds


def solving_seconds(experiment: Experiment, recipe: Recipe) -> float:
    """Returns the seconds at the first pace in which a head is solved on the development set."""
    extractor, split = experiment.extractor, experiment.split
    whole = layout_behind(extractor.traced, FEATURES, extractor.backbone.features)
    features = recipe.head.features
    layout = whole if features == "auto" else whole.only(features)
    images = len(split.train) + len(split.val)
    solved = max(1, len(recipe.head.solutions))
    return solved * solve_s(images, layout.width, len(extractor.classes))


def solve_s(images: int, features: int, classes: int) -> float:
    """Returns the seconds at the first pace in which a head is solved once.

    Example:
        >>> round(solve_s(1000, 1000, 10), 2)
        0.6
    """
    return SOLVED_S * images * features * (READ_CLASSES + classes)


def check_affordable(recipe: Recipe, boundary: str, by_clock: bool) -> None:
    """Checks that the recipe does not need more than a head if only the head is trained.

    Raises:
        BudgetError: If it does, and the budget left no time for more.
        RecipeError: If it does for another reason.
    """
    try:
        check_head_alone(recipe, boundary)
    except RecipeError as error:
        if not by_clock:
            raise
        raise BudgetError(
            "The budget only leaves time to train the head, and the recipe needs more: "
            f"{error} Give a larger --budget, or --epochs."
        ) from None


def affordable_boundary(
    experiment: Experiment,
    recipe: Recipe,
    clock: Clock,
    ahead_s: float,
    least_epochs: int = FEWEST_EPOCHS,
) -> str:
    """Measures every candidate and returns the earliest at which enough epochs fit.

    Args:
        experiment: Experiment with data and backbone.
        recipe: Recipe to train.
        clock: Clock of the budget.
        ahead_s: Seconds needed before training.
        least_epochs: Smallest sufficient number of epochs.
    """
    extractor = experiment.extractor
    candidates = candidate_boundaries(extractor.traced)
    features_s = experiment.features_s * clock.pace.now
    until = clock.until(MEASURING_SHARE)
    speeds = measure_speeds(extractor, recipe, candidates, features_s, until)
    seconds = seconds_for_training(experiment, recipe, clock) - ahead_s
    images = len(extractor.labels["train"])
    return choose_boundary(speeds, images, seconds, disk_for_views(extractor), least_epochs)
