"""The shape of a search: what boundary, schedule, trials and folds fit into the time there is."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from headstart.search.plan import (
    FEWEST_EPOCHS,
    FEWEST_VIEWS,
    MOST_EPOCHS,
    MOST_VIEWS,
    TARGET_EPOCHS,
    UNHURRIED,
    Speed,
    views_for,
)

FOLDS = 3
CROSS_VALIDATED_BELOW = 500
"""Images below which trials are scored by cross-validation: one part of them is too few."""
HELD_OUT = 0.15
"""Share of the images that are not sealed which the validation images are, about."""
TRIAL_S = 3.0
"""Seconds that training once takes besides the steps: the network is loaded and cut anew."""
MOST_TRIALS = 60
FEW_TRIALS = 3
SHORT = (TARGET_EPOCHS + FEWEST_EPOCHS) // 2


@dataclass(frozen=True)
class SearchShape:
    """How a search spends its time.

    Attributes:
        boundary: Where it cuts.
        epochs: Of the whole schedule.
        views: Augmented views of each image.
        trials: In the first rung.
        folds: 1 for trials that are scored on the validation images.
    """

    boundary: str
    epochs: int
    views: int
    trials: int
    folds: int


def folds_for(images: int) -> int:
    """Returns in how many parts trials are cross-validated; 1 where a part is held out."""
    return FOLDS if images < CROSS_VALIDATED_BELOW else 1


def passes(folds: int) -> float:
    """Returns how often a trial's epoch sees the images that are not sealed."""
    return folds - 1 if folds > 1 else 1 - HELD_OUT


def least_search(
    boundary: str, fixed_epochs: int = 0, folds: int = 1, fixed_views: int = 0
) -> SearchShape:
    """Returns the least search that is worth it at a boundary."""
    epochs = fixed_epochs or SHORT
    views = fixed_views or min(epochs, 4)
    return SearchShape(boundary, epochs, views, FEW_TRIALS if folds > 1 else 1, folds)


def shape_search(
    speeds: Mapping[str, Speed],
    images: int,
    seconds: float,
    disk_bytes: float,
    trial_epochs: Callable[[int, int], int],
    fixed_epochs: int = 0,
    networks: int = 1,
    fixed_views: int = 0,
    last_resort: bool = False,
) -> SearchShape | None:
    """Returns the search that fits into the time, or None where not even its least does.

    What lies behind the boundary matters more than what is tried on it: the earliest boundary is
    taken at which a schedule of 8 epochs, 4 views and a trial fit, or three trials where they are
    cross-validated. What is left goes to 12 epochs, 8 views, three trials, longer schedules up to
    half of the time, and more trials, in this order.

    Args:
        speeds: By boundary, nearest the input first.
        images: That are not sealed.
        seconds: For views, trials and the whole schedule of the winner.
        disk_bytes: For the cached views.
        trial_epochs: Epochs that all rungs take together, given trials and a schedule's length.
        fixed_epochs: Length of the whole schedule, where it is not to be chosen.
        networks: That are trained for it in the end.
        fixed_views: Augmented views of each image, where they are not to be chosen.
        last_resort: Whether 4 epochs, 2 views and a trial are better than none.
    """
    left = UNHURRIED * seconds

    def whole_s(shape: SearchShape) -> float:
        return speeds[shape.boundary].seconds(images, networks * shape.epochs, shape.views)

    def fits(shape: SearchShape) -> bool:
        speed = speeds[shape.boundary]
        steps_s = trial_epochs(shape.trials, shape.epochs) * images * speed.train_s
        trials_s = passes(shape.folds) * steps_s + 1.4 * shape.trials * shape.folds * TRIAL_S
        stored = shape.views * images * speed.bytes_per_view
        return whole_s(shape) + trials_s <= left and stored <= disk_bytes

    for folds in dict.fromkeys((folds_for(images), 1)):
        for boundary in speeds:
            least = least_search(boundary, fixed_epochs, folds, fixed_views)
            if fits(least):
                return _grown(least, fits, whole_s, left, fixed_epochs, fixed_views)
    for boundary in speeds if last_resort else ():
        views = fixed_views or FEWEST_VIEWS
        least = SearchShape(boundary, fixed_epochs or FEWEST_EPOCHS, views, trials=1, folds=1)
        if fits(least):
            return _grown(least, fits, whole_s, left, fixed_epochs, fixed_views)
    return None


def _grown(
    shape: SearchShape,
    fits: Callable[[SearchShape], bool],
    whole_s: Callable[[SearchShape], float],
    left: float,
    fixed_epochs: int,
    fixed_views: int,
) -> SearchShape:
    """Returns the search with what else fits, the most useful first."""

    def grow(shape: SearchShape, field: str, most: int, share: float = 1.0) -> SearchShape:
        while getattr(shape, field) < most:
            longer = replace(shape, **{field: getattr(shape, field) + 1})
            if not fits(longer) or whole_s(longer) > share * left:
                break
            shape = longer
        return shape

    if not fixed_epochs:
        shape = grow(shape, "epochs", TARGET_EPOCHS)
    if not fixed_views:
        shape = grow(shape, "views", min(MOST_VIEWS, views_for(shape.epochs)))
    shape = grow(shape, "trials", FEW_TRIALS)
    if not fixed_epochs:
        shape = grow(shape, "epochs", MOST_EPOCHS, share=0.5)
    return grow(shape, "trials", MOST_TRIALS)
