"""Plans: which boundary, how many epochs and views fit into the time there is."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from headstart.backbones.cut import FEATURES, INPUT, Boundary, Traced

TARGET_EPOCHS = 12
FEWEST_EPOCHS = 4
MOST_EPOCHS = 24
MOST_VIEWS = 8
MIDDLE = 0.35
"""Share of the multiply-adds that stays frozen at least when the boundary is chosen for you."""
VIEWS_SHARE = 0.5
"""Share of the time up to which views may be made when they take longer than planned."""
UNHURRIED = 0.9
"""Share of the time that is planned with; machines slow down."""


@dataclass(frozen=True)
class Speed:
    """Seconds an image at one boundary.

    Attributes:
        prefix_s: To make one view and run the prefix on it.
        train_s: To train the suffix on one activation.
        bytes_per_view: Size of one activation on the disk.
    """

    prefix_s: float
    train_s: float
    bytes_per_view: int

    def seconds(self, images: int, epochs: int, views: int) -> float:
        """Returns the seconds to cache `views` views of all images and train `epochs` epochs."""
        return images * (views * self.prefix_s + epochs * self.train_s)


def candidate_boundaries(traced: Traced) -> list[Boundary]:
    """Returns the stage ends between which the boundary is chosen, nearest the input first.

    Earlier stages hold what all photographs share; training them costs most and brings least.
    """
    inner = [b for b in traced.boundaries if b.name not in {INPUT, FEATURES} and b.position < 0.95]
    stages = [b for b in inner if b.stage] or inner
    return [b for b in stages if b.position >= MIDDLE] or stages[-1:]


def unmeasured_boundary(traced: Traced) -> str:
    """Returns the boundary where no clock may be asked: the first candidate, or `features`."""
    candidates = candidate_boundaries(traced)
    return candidates[0].name if candidates else FEATURES


def choose_boundary(
    speeds: Mapping[str, Speed],
    images: int,
    seconds: float,
    disk_bytes: float,
    least_epochs: int = FEWEST_EPOCHS,
) -> str:
    """Returns the earliest boundary at which enough epochs fit, `features` where none does.

    Args:
        speeds: By boundary, nearest the input first.
        images: Number of training images.
        seconds: For caching views and training.
        disk_bytes: For the cached views.
        least_epochs: What is enough at least.
    """
    lengths = (TARGET_EPOCHS, (TARGET_EPOCHS + FEWEST_EPOCHS) // 2, FEWEST_EPOCHS)
    for epochs in (length for length in lengths if length >= least_epochs):
        for name, speed in speeds.items():
            fits_time = speed.seconds(images, epochs, views_for(epochs)) <= UNHURRIED * seconds
            if fits_time and views_for(epochs) * images * speed.bytes_per_view <= disk_bytes:
                return name
    return FEATURES


def choose_epochs(speed: Speed, images: int, seconds: float) -> int:
    """Returns how many epochs, with their views, fit into the time."""
    epochs = MOST_EPOCHS
    while epochs and speed.seconds(images, epochs, views_for(epochs)) > UNHURRIED * seconds:
        epochs -= 1
    return epochs


def views_for(epochs: int) -> int:
    """Returns how many augmented views to cache: one an epoch, up to a limit."""
    return max(1, min(epochs, MOST_VIEWS))


def share_of_disk(free_bytes: int, limit_bytes: int) -> float:
    """Returns how much of the disk views may take: half of what is free, at most the limit."""
    return min(free_bytes / 2, limit_bytes)


FOLDS = 3
CROSS_VALIDATED_BELOW = 500
"""Images below which trials are scored by cross-validation: one part of them is too few."""
TRIAL_S = 2.0
"""Seconds that a trial takes besides training: the network is loaded and cut anew."""
MOST_TRIALS = 60
LEAST_TRIALS = 3


@dataclass(frozen=True)
class SearchShape:
    """How a search spends its time.

    Attributes:
        boundary: Where it cuts.
        epochs: Of the whole schedule.
        views: Augmented views of each image.
        trials: In the first rung.
        folds: 1 for trials that are scored on the validation images.
        finish_s: Seconds for the whole schedule of the winner.
    """

    boundary: str
    epochs: int
    views: int
    trials: int
    folds: int
    finish_s: float


def folds_for(images: int) -> int:
    """Returns in how many parts trials are cross-validated; 1 where a part is held out."""
    return FOLDS if images < CROSS_VALIDATED_BELOW else 1


def shape_search(
    speeds: Mapping[str, Speed],
    images: int,
    seconds: float,
    disk_bytes: float,
    trial_epochs: Callable[[int, int], int],
    fixed_epochs: int = 0,
) -> SearchShape | None:
    """Returns the search that fits into the time, or None where not even a few trials do.

    A whole schedule of 12 epochs comes first, then cross-validation, then eight views; the
    earliest boundary at which they fit is taken. What is left goes to longer schedules, up to half
    of the time, and to trials.

    Args:
        speeds: By boundary, nearest the input first.
        images: That are not sealed.
        seconds: For views, trials and the whole schedule of the winner.
        disk_bytes: For the cached views.
        trial_epochs: Epochs that all rungs take together, given trials and a schedule's length.
        fixed_epochs: Length of the whole schedule, where it is not to be chosen.
    """
    lengths = (TARGET_EPOCHS, (TARGET_EPOCHS + FEWEST_EPOCHS) // 2)
    ways = [
        (epochs, folds, views)
        for epochs in ((fixed_epochs,) if fixed_epochs else lengths)
        for folds in dict.fromkeys((folds_for(images), 1))
        for views in (views_for(epochs), FEWEST_EPOCHS)
    ]
    for epochs, folds, views in ways:
        for name, speed in speeds.items():
            if views * images * speed.bytes_per_view > disk_bytes:
                continue

            def whole(length: int, speed: Speed = speed, views: int = views) -> float:
                return speed.seconds(images, length, views)

            def trying(trials: int, length: int, speed: Speed = speed, folds: int = folds) -> float:
                share = folds - 1 if folds > 1 else 0.85
                epochs_s = trial_epochs(trials, length) * images * share * speed.train_s
                return epochs_s + trials * 1.4 * folds * TRIAL_S

            left = UNHURRIED * seconds
            if whole(epochs) + trying(LEAST_TRIALS, epochs) > left:
                continue
            length = epochs
            while (
                not fixed_epochs
                and length < MOST_EPOCHS
                and (
                    whole(length + 1) <= left / 2
                    and whole(length + 1) + trying(2 * LEAST_TRIALS, length + 1) <= left
                )
            ):
                length += 1
            trials = LEAST_TRIALS
            while trials < MOST_TRIALS and whole(length) + trying(trials + 1, length) <= left:
                trials += 1
            return SearchShape(name, length, views, trials, folds, whole(length))
    return None
