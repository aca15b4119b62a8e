"""Mathematics of the certificate: rises, plateaus, differences and learning curves."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from headstart.certificate.curve_fits import Array, fit_power_laws, fit_rises
from headstart.evaluation.intervals import Groups, numbered, share_images, wilson
from headstart.evaluation.statistics import Interval
from headstart.text import counted

Answer = Literal["yes", "no", "cannot tell"]


Right = NDArray[np.bool_]

Statistic = Callable[[Array], Array]
"""Function from accuracies (R, T), one row per curve, to values (R,)."""

MATTERS = 0.01
"""Smallest relevant advantage in accuracy: one percentage point."""

STILL_RISING = 0.02
"""Largest remaining gain in accuracy of a curve that counts as level."""

STILL_LEARNING = 0.05
"""Largest relative decrease of the log loss in the last third of a curve that counts as level."""

FEWEST_POINTS = 5
"""Smallest number of evaluations for a plateau."""

RESAMPLES = 1000

CONFIDENCE = 0.95


@dataclass(frozen=True)
class Forecast:
    """The expected accuracy with a given number of labels.

    Attributes:
        labels: Number of labels.
        accuracy: Expected accuracy.
        interval: 95% interval of the accuracy on the images that the curve was measured on.
        new_images: 95% interval of the accuracy on new images of the same kind; it is wider.
        gain: Gain in accuracy over the present number of labels.
        gain_interval: 95% interval of the gain.
    """

    labels: int
    accuracy: float
    interval: Interval
    new_images: Interval
    gain: float
    gain_interval: Interval


def after_first(curves: Array) -> Array:
    """Returns the accuracies (R,) after epoch 1 of curves (R, T) that begin at epoch 0.

    Example:
        >>> after_first(np.array([[0.5, 0.75, 1.0]])).tolist()
        [0.75]
    """
    return curves[:, 1]


def before(curves: Array) -> Array:
    """Returns the accuracies (R,) of curves (R, T) before training.

    Example:
        >>> before(np.array([[0.5, 0.75, 1.0]])).tolist()
        [0.5]
    """
    return curves[:, 0]


def last(curves: Array) -> Array:
    """Returns the last accuracies (R,) of curves (R, T).

    Example:
        >>> last(np.array([[0.5, 0.75, 1.0]])).tolist()
        [1.0]
    """
    return curves[:, -1]


def fastest_rise(curves: Array) -> Array:
    """Returns the largest rise (R,) between consecutive evaluations of curves (R, T).

    Example:
        >>> fastest_rise(np.array([[0.0, 0.5, 0.75]])).tolist()
        [0.5]
    """
    return np.asarray(np.diff(curves, axis=1).max(1))


ACCURACIES = (before, after_first, last)
"""Statistics that are an accuracy, whose variance is known where no image varies."""


def plateau(curves: Array) -> Array:
    """Returns the plateaus (R,) of curves (R, T) that begin at epoch 0.

    Epoch 0 is left out: the first rise from chance follows another law.
    """
    return fit_rises(np.arange(1.0, curves.shape[1]), curves[:, 1:]).plateau


def left_to_gain(curves: Array) -> Array:
    """Returns the distance (R,) to the plateau of curves (R, T) that begin at epoch 0."""
    end = curves.shape[1] - 1
    return fit_rises(np.arange(1.0, end + 1), curves[:, 1:]).left_at(end)


def estimate(
    statistic: Statistic,
    right: Right,
    minus: tuple[Statistic, Right] | None = None,
    groups: Groups | None = None,
) -> tuple[float, Interval]:
    """Returns a statistic of curves, averaged over seeds, with an interval over seeds and images.

    A bootstrap over images, or over groups of images that belong together, gives the variance over
    images, with all seeds and epochs together; the values of the seeds give the variance over
    seeds. The two are added, with the degrees of freedom of Satterthwaite (1946): few seeds widen
    the interval only if the seeds differ. With a single seed, the interval is over images only. It
    is clipped to [-1, 1].

    A bootstrap of few images that differ is too narrow. For accuracies, the variance of one more
    group in favor and one more against is added, as in the intervals of Agresti and Caffo (2000)
    and of Bonett and Price (2012). The interval of an accuracy, or of a statistic that does not
    vary at all, is at least as wide as Wilson's for a share of 0. A single group of several images
    gives (-1, 1).

    Args:
        statistic: Function of accuracies (R, T).
        right: Whether each image was classified correctly, (seeds, evaluations, images).
        minus: Statistic to subtract, of other curves on the same images with as many seeds.
        groups: Group number of each image, (images,); None if all are independent.
    """
    from scipy import stats  # noqa: PLC0415 - heavy

    seeds, _, images = right.shape
    unit = numbered(groups, images)
    shares = np.bincount(unit) / images

    def values(weights: Array) -> Array:
        """Returns values (R, seeds) under weights (R, images)."""
        found = _by_seed(statistic, right, weights)
        return found if minus is None else found - _by_seed(*minus, weights)

    by_seed = values(np.full((1, images), 1 / images))[0]
    value = float(by_seed.mean())
    if images > 1 and len(shares) == 1:
        return value, (-1.0, 1.0)
    over_images = float(values(_resampled(unit, np.random.default_rng(0))).mean(1).var(ddof=1))
    alike = 1 / float((shares**2).sum())  # number of groups, if they are of one size
    if statistic in ACCURACIES:
        over_images += 2 / (alike + 2) ** 2
    over_seeds = float(by_seed.var(ddof=1)) / seeds if seeds > 1 else 0.0
    total = over_images + over_seeds
    least = wilson(0.0, alike, CONFIDENCE)[1]
    if total < 1e-12:
        return value, (max(-1.0, value - least), min(1.0, value + least))
    units = max(1, len(shares) - 1)
    freedom = total**2 / (over_images**2 / units + over_seeds**2 / max(1, seeds - 1))
    half = float(stats.t.ppf((1 + CONFIDENCE) / 2, freedom)) * total**0.5
    if statistic in ACCURACIES:
        half = max(half, least)
    return value, (max(-1.0, value - half), min(1.0, value + half))


def _resampled(unit: Groups, rng: np.random.Generator) -> Array:
    """Returns the weights (R, images) of resamples of groups; each row sums to 1."""
    groups = int(unit.max()) + 1
    counts = rng.multinomial(groups, np.full(groups, 1 / groups), RESAMPLES)[:, unit]
    return np.asarray(counts / counts.sum(1, keepdims=True))


def _by_seed(statistic: Statistic, right: Right, weights: Array) -> Array:
    """Returns the statistic (R, seeds) under weights (R, images)."""
    curves = [weights @ one.T.astype(np.float64) for one in right]  # (R, T) per seed
    return np.stack([statistic(each) for each in curves], axis=1)


def answer(interval: Interval, above: float = 0.0) -> Answer:
    """Returns the answer that follows from the interval of an advantage.

    The answer is `no` if the interval lies below `MATTERS`, and `yes` if it lies above `above`.

    Args:
        interval: Interval of the advantage.
        above: Threshold for a yes.

    Example:
        >>> answer((0.02, 0.1)), answer((-0.03, 0.005)), answer((-0.01, 0.04))
        ('yes', 'no', 'cannot tell')
    """
    low, high = interval
    if high < MATTERS:
        return "no"
    return "yes" if low > above else "cannot tell"


def why_no_plateau(right: Right, losses: Array, chance: float, groups: Groups | None = None) -> str:
    """Returns why curves have no plateau; empty if they have one.

    Args:
        right: Correctness of each image, (seeds, evaluations from epoch 0 on, images).
        losses: Log loss on the same images, (seeds, evaluations).
        chance: Accuracy of always predicting the most frequent class.
        groups: Group number of each image; None if all are independent.
    """
    epochs = right.shape[1] - 1
    if epochs < FEWEST_POINTS:
        return f"{counted(epochs, 'epoch')}, too few to see a plateau"
    if estimate(last, right, groups=groups)[1][0] <= chance:
        return "its accuracy is not above chance yet"
    # The log loss shows progress before the accuracy does.
    third = max(1, epochs // 3)
    mean = losses.mean(0)
    earlier, later = mean[-2 * third : -third].mean(), mean[-third:].mean()
    if later < (1 - STILL_LEARNING) * earlier:
        return "its log loss was still falling"
    gain, (_, high) = estimate(left_to_gain, right, groups=groups)
    if high > STILL_RISING:
        return (
            f"it was still rising and had {100 * gain:.1f}, possibly up to "
            f"{100 * min(1.0, high):.1f}, percentage points left to gain"
        )
    return ""


def compare_plateaus(
    pretrained: Right,
    scratch: Right,
    rising: tuple[bool, bool],
    groups: Groups | None = None,
) -> tuple[float, Interval, Answer]:
    """Returns the advantage of the pretrained plateau, its interval, and the answer.

    The last accuracy of a curve that still rises is a lower bound of its plateau. Only one of the
    two answers can follow from it.

    Args:
        pretrained: Correctness of each image, (seeds, evaluations from epoch 0 on, images).
        scratch: Correctness of the network from scratch, of the same shape.
        rising: Whether the pretrained and the scratch curves have no plateau.
        groups: Group number of each image; None if all are independent.
    """
    of_pretrained, of_scratch = (last if up else plateau for up in rising)
    value, interval = estimate(of_pretrained, pretrained, (of_scratch, scratch), groups)
    said = answer(interval)
    if rising == (True, True) or (rising[0] and said == "no") or (rising[1] and said == "yes"):
        said = "cannot tell"
    return value, interval, said


def first_reaching(curve: Sequence[float], level: float) -> float | None:
    """Returns the interpolated epoch at which a curve from epoch 0 on first reaches a level.

    Example:
        >>> first_reaching([0.0, 0.5, 1.0], 0.75)
        1.5
    """
    for epoch, value in enumerate(curve):
        if value >= level:
            if epoch == 0:
                return 0.0
            earlier = curve[epoch - 1]
            return epoch - 1 + (level - earlier) / (value - earlier)
    return None


def forecast(
    sizes: Sequence[int],
    hits: Array,
    targets: Sequence[int],
    now: int,
    seed: int = 0,
    groups: Groups | None = None,
) -> list[Forecast]:
    """Returns the expected accuracy with more labels, extrapolated from a learning curve.

    The intervals come from a bootstrap over images (or groups of them), all sizes together, because
    an image that is hard for one classifier is hard for the others. Each resample is fitted and
    extrapolated in one of several ways. The variance over training sets is added at every size.

    Args:
        sizes: Numbers of labels (S,), increasing, at least three.
        hits: (N, S), share of the classifiers of that size, trained without image n, that classify
            it correctly.
        targets: Numbers of labels to forecast for.
        now: Present number of labels.
        seed: Seed for the bootstrap.
        groups: Group number of each image (N,); None if all are independent.
    """
    rng = np.random.default_rng(seed)
    images = independent_images(hits[:, -1], groups)
    wanted = [*targets, now]
    point = 1 - np.mean(_continued(sizes, 1 - hits.mean(0)[None], wanted)[:-1, 0], axis=0)
    means = _resampled(numbered(groups, len(hits)), rng) @ hits
    # Variance over training sets, from two classifiers on nearly the same number of labels. The
    # term 1 / images keeps it positive if they agree on every image.
    differ = hits[:, -1] - hits[:, -2]
    flips = float((differ.var() + 1 / images) ** 0.5 / images**0.5)
    retrained = rng.normal(0, flips, (RESAMPLES, len(sizes)))
    ways = _continued(sizes, 1 - (means + retrained).clip(0, 1), wanted)
    fitted = 1 - ways[rng.integers(0, len(ways), RESAMPLES), np.arange(RESAMPLES)]
    measured = fitted + rng.normal(0, flips, (RESAMPLES, 1))
    here = measured - means[:, -1:]
    here += point - np.median(here, axis=0)
    gains = fitted - fitted[:, -1:]
    return [
        Forecast(
            labels=int(target),
            accuracy=float(point[column]),
            interval=_quantiles(here[:, column].clip(0, 1)),
            new_images=_hull(
                _quantiles(measured[:, column].clip(0, 1)),
                # A bootstrap of perfect predictions has no spread; Wilson's interval has.
                wilson(min(1.0, max(0.0, float(point[column]))), images, CONFIDENCE),
            ),
            gain=float(point[column] - point[-1]),
            gain_interval=_quantiles(gains[:, column]),
        )
        for column, target in enumerate(targets)
    ]


def independent_images(hits: Array, groups: Groups | None) -> float:
    """Returns the number of images, or of as many independent ones where there are groups.

    Args:
        hits: Share of classifiers that are right about each image (N,).
        groups: Group number of each image (N,); None if all are independent.

    Example:
        >>> independent_images(np.array([1.0, 1, 0, 0]), np.array([0, 0, 1, 1]))
        2.0
    """
    if groups is None or len(hits) < 2:
        return float(len(hits))
    if np.ptp(groups) == 0:
        return 1.0
    return round(min(float(len(hits)), share_images(hits, groups)), 9)


def _continued(sizes: Sequence[int], errors: Array, wanted: Sequence[int]) -> Array:
    """Extrapolates learning curves in several ways, which differ where no power law holds.

    The ways are power laws through all sizes and through the larger ones only, and last a straight
    line over the logarithm of the size through the largest ones.

    Args:
        sizes: Numbers of labels (S,).
        errors: Error rates (R, S).
        wanted: Numbers of labels to extrapolate to (T,).

    Returns:
        Error rates (ways, R, T), not negative.
    """
    fewest = min(4, len(sizes))
    starts = range(len(sizes) - fewest + 1)
    ways = [fit_power_laws(sizes[k:], errors[:, k:]).at(wanted) for k in starts]
    x = np.log(np.asarray(sizes[-fewest:], np.float64))
    tail = errors[:, -fewest:]
    slope = np.minimum((tail @ (x - x.mean())) / ((x - x.mean()) ** 2).sum(), 0)
    line = tail.mean(1)[:, None] + slope[:, None] * (np.log(wanted) - x.mean())[None, :]
    return np.stack([*ways, line.clip(0, None)])


def _hull(first: Interval, second: Interval) -> Interval:
    return min(first[0], second[0]), max(first[1], second[1])


def _quantiles(values: Array) -> Interval:
    low, high = np.quantile(values, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    return float(low), float(high)
