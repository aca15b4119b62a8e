"""Mathematics of the transfer certificate: rises, plateaus, differences and learning curves."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from headstart.evaluation.statistics import Interval, wilson_interval
from headstart.text import counted

Answer = Literal["yes", "no", "cannot tell"]

Array = NDArray[np.float64]

Right = NDArray[np.bool_]

Statistic = Callable[[Array], Array]
"""From accuracies (R, T), one row a curve, to values (R,)."""

MATTERS = 0.01
"""Smallest relevant advantage in accuracy: one percentage point."""

STILL_RISING = 0.02
"""Accuracy that may be left to gain, at most, where a curve counts as level."""

STILL_LEARNING = 0.05
"""Share of the log loss that the last third of a curve may save beside the third before it."""

FEWEST_POINTS = 5
"""Evaluations after the first epoch that a plateau is looked for in."""

RESAMPLES = 1000

CONFIDENCE = 0.95

_EXPONENTS = np.linspace(0.1, 2.0, 39)

_CONSTANTS = np.geomspace(0.15, 3.0, 40)
"""Time constants of a rise, as shares of the time that was watched; the shortest is a step."""


@dataclass(frozen=True)
class PowerLaws:
    """Learning curves: the error on n labels is floor + scale · n^-exponent; arrays (R,)."""

    floor: Array
    scale: Array
    exponent: Array

    def at(self, sizes: Sequence[float] | Array) -> Array:
        """Returns the errors (R, T) on so many labels (T,)."""
        n = np.asarray(sizes, np.float64)
        return self.floor[:, None] + self.scale[:, None] * n ** -self.exponent[:, None]


@dataclass(frozen=True)
class Rises:
    """Curves that level off: value = plateau - span · exp(-time / constant); arrays (R,).

    Attributes:
        plateau: Where they end, at most 1.
        span: What they rise by from time 0 on, at least 0.
        constant: In units of time.
    """

    plateau: Array
    span: Array
    constant: Array

    def left_at(self, time: float) -> Array:
        """Returns what is still to be gained (R,) after so much time."""
        return np.asarray(self.span * np.exp(-time / self.constant))


@dataclass(frozen=True)
class Forecast:
    """The expected accuracy with a given number of labels.

    Attributes:
        labels: Images to train on.
        accuracy: Share that is right.
        interval: 95%, of the accuracy on the very images that the curve was measured on.
        new_images: 95%, of the accuracy on other images like them; it is wider.
        gain: Over as many labels as there are now.
        gain_interval: 95%.
    """

    labels: int
    accuracy: float
    interval: Interval
    new_images: Interval
    gain: float
    gain_interval: Interval


def fit_power_laws(sizes: Sequence[int], errors: Array) -> PowerLaws:
    """Fits learning curves (Cortes et al., NeurIPS 1993; Hestness et al. 2017).

    Least squares weighted by the size, as Figueroa et al. (2012) do: forecasts start from the
    largest sizes, and small ones obey other laws. Neither floor nor scale is negative, so that no
    forecast is better than perfect or falls with more labels.

    Args:
        sizes: Labels trained on (S,), at least three different ones.
        errors: Shares that are wrong (R, S), one row a curve.
    """
    n = np.asarray(sizes, np.float64)
    powers = (n / n.max())[None, :] ** -_EXPONENTS[:, None]
    floor, scale, best = _best_lines(powers, errors, n / n.sum())
    exponent = _EXPONENTS[best]
    return PowerLaws(floor, scale * n.max() ** exponent, exponent)


def fit_rises(times: Sequence[float] | Array, values: Array) -> Rises:
    """Fits curves that level off by least squares (Mitscherlich's law, 1909).

    Args:
        times: When they were looked at (T,), rising, at least three.
        values: Accuracies (R, T), one row a curve.
    """
    t = np.asarray(times, np.float64)
    constants = _CONSTANTS * (t[-1] - t[0])
    fading = np.exp(-(t - t[0])[None, :] / constants[:, None])
    # With 1 - value for the error, the plateau is a floor that is not negative.
    floor, span, best = _best_lines(fading, 1 - values, np.full(len(t), 1 / len(t)))
    constant = constants[best]
    return Rises(1 - floor, span * np.exp(t[0] / constant), constant)


def _best_lines(
    shapes: Array, values: Array, weights: Array
) -> tuple[Array, Array, NDArray[np.int64]]:
    """Fits value = floor + slope · shape, neither negative, for the shape that fits best.

    Args:
        shapes: (K, S), one row a shape.
        values: (R, S), not negative.
        weights: (S,), with sum 1.

    Returns:
        Floors, slopes and numbers of shapes, each (R,).
    """
    mean_shape, mean_value = shapes @ weights, values @ weights
    centred = shapes - mean_shape[:, None]
    slope = (centred * weights) @ values.T / ((centred**2) @ weights)[:, None]
    slope = np.maximum(slope, 0)
    floor = mean_value[None, :] - slope * mean_shape[:, None]
    # The best line through zero, where the best one would begin below it.
    through_zero = (shapes * weights) @ values.T / ((shapes**2) @ weights)[:, None]
    slope = np.where(floor < 0, through_zero, slope)
    floor = np.maximum(floor, 0)
    fitted = floor[:, :, None] + slope[:, :, None] * shapes[:, None, :]
    best = (((fitted - values[None]) ** 2) @ weights).argmin(0)
    rows = np.arange(len(values))
    return floor[best, rows], slope[best, rows], best


def after_first(curves: Array) -> Array:
    """Returns the accuracies (R,) of curves (R, T), evaluated from epoch 0 on, after epoch 1."""
    return curves[:, 1]


def before(curves: Array) -> Array:
    """Returns the accuracies (R,) of curves (R, T) before training."""
    return curves[:, 0]


def last(curves: Array) -> Array:
    """Returns the last accuracies (R,) of curves (R, T)."""
    return curves[:, -1]


def fastest_rise(curves: Array) -> Array:
    """Returns the largest rise (R,) between two evaluations, one epoch apart, of curves (R, T)."""
    return np.asarray(np.diff(curves, axis=1).max(1))


def plateau(curves: Array) -> Array:
    """Returns where curves (R, T), evaluated from epoch 0 on, level off (R,).

    Epoch 0 is left out: what rises from chance is another law than what levels off.
    """
    return fit_rises(np.arange(1.0, curves.shape[1]), curves[:, 1:]).plateau


def left_to_gain(curves: Array) -> Array:
    """Returns how far below their plateau (R,) curves (R, T), from epoch 0 on, still are."""
    end = curves.shape[1] - 1
    return fit_rises(np.arange(1.0, end + 1), curves[:, 1:]).left_at(end)


def estimate(
    statistic: Statistic,
    right: Right,
    minus: tuple[Statistic, Right] | None = None,
    seed: int = 0,
) -> tuple[float, Interval]:
    """Returns a statistic of curves, the mean over seeds, with an interval over seeds and images.

    Images are drawn anew (bootstrap), all seeds and epochs together, which gives the variance over
    images; the values of the seeds give that over seeds. The two are added, with the degrees of
    freedom of Satterthwaite (1946): an interval that few seeds make wide only where it is the
    seeds that differ. With a single seed it is one over images alone. It is cut to [-1, 1].

    Args:
        statistic: Of accuracies (R, T).
        right: Whether each image was right, (seeds, evaluations, images).
        minus: The same of other curves on the same images from as many seeds, to be taken off.
        seed: Seed for the draws.
    """
    from scipy import stats  # noqa: PLC0415 - heavy

    seeds, _, images = right.shape

    def values(weights: Array) -> Array:
        """From weights (R, images) to values (R, seeds)."""
        found = _by_seed(statistic, right, weights)
        return found if minus is None else found - _by_seed(*minus, weights)

    by_seed = values(np.full((1, images), 1 / images))[0]
    rng = np.random.default_rng(seed)
    counts = rng.multinomial(images, np.full(images, 1 / images), RESAMPLES) / images
    over_images = float(values(counts).mean(1).var(ddof=1))
    over_seeds = float(by_seed.var(ddof=1)) / seeds if seeds > 1 else 0.0
    value = float(by_seed.mean())
    total = over_images + over_seeds
    if total < 1e-12:  # no spread is seen: what Wilson leaves for the share of other images
        half = wilson_interval(0, images, CONFIDENCE)[1]
        return value, (max(-1.0, value - half), min(1.0, value + half))
    freedom = total**2 / (over_images**2 / max(1, images - 1) + over_seeds**2 / max(1, seeds - 1))
    half = float(stats.t.ppf((1 + CONFIDENCE) / 2, freedom)) * total**0.5
    return value, (max(-1.0, value - half), min(1.0, value + half))


def _by_seed(statistic: Statistic, right: Right, weights: Array) -> Array:
    """Returns the statistic (R, seeds) under weights (R, images)."""
    curves = [weights @ one.T.astype(np.float64) for one in right]  # (R, T) a seed
    return np.stack([statistic(each) for each in curves], axis=1)


def answer(interval: Interval, above: float = 0.0) -> Answer:
    """Returns what follows from the interval of an advantage.

    `no` where all of it lies below what matters, `yes` where all of it lies above `above`.
    """
    low, high = interval
    if high < MATTERS:
        return "no"
    return "yes" if low > above else "cannot tell"


def why_no_plateau(right: Right, losses: Array, chance: float) -> str:
    """Returns why curves cannot be said to have levelled off; empty if they have.

    Args:
        right: Whether each image was right, (seeds, evaluations from epoch 0 on, images).
        losses: Log loss on the same images, (seeds, evaluations).
        chance: Accuracy of always predicting the most frequent class.
    """
    epochs = right.shape[1] - 1
    if epochs < FEWEST_POINTS:
        return f"{counted(epochs, 'epoch')}: too few to see a plateau"
    if estimate(last, right)[1][0] <= chance:
        return "its accuracy is not above chance yet"
    # A log loss that still falls says so before the accuracy does.
    third = max(1, epochs // 3)
    mean = losses.mean(0)
    earlier, later = mean[-2 * third : -third].mean(), mean[-third:].mean()
    if later < (1 - STILL_LEARNING) * earlier:
        return "its log loss was still falling"
    gain, (_, high) = estimate(left_to_gain, right)
    if high > STILL_RISING:
        return (
            f"it was still rising: {100 * gain:.1f} points were left to gain, "
            f"up to {100 * min(1.0, high):.1f}"
        )
    return ""


def compare_plateaus(
    pretrained: Right, scratch: Right, rising: tuple[bool, bool]
) -> tuple[float, Interval, Answer]:
    """Returns by how much the pretrained curves end higher, its interval, and what follows.

    Where a curve is still rising, its last accuracy is a lower bound of its plateau, from which
    only one of the two answers can follow.

    Args:
        pretrained: (seeds, evaluations from epoch 0 on, images).
        scratch: As many.
        rising: Whether the pretrained and the scratch curves have no plateau.
    """
    of_pretrained, of_scratch = (last if up else plateau for up in rising)
    value, interval = estimate(of_pretrained, pretrained, (of_scratch, scratch))
    said = answer(interval)
    if rising == (True, True) or (rising[0] and said == "no") or (rising[1] and said == "yes"):
        said = "cannot tell"
    return value, interval, said


def first_reaching(curve: Sequence[float], level: float) -> float | None:
    """Returns the epoch, interpolated, at which a curve from epoch 0 on first reaches a level."""
    for epoch, value in enumerate(curve):
        if value >= level:
            if epoch == 0:
                return 0.0
            earlier = curve[epoch - 1]
            return epoch - 1 + (level - earlier) / (value - earlier)
    return None


def forecast(
    sizes: Sequence[int], hits: Array, targets: Sequence[int], now: int, seed: int = 0
) -> list[Forecast]:
    """Returns the accuracy to expect from more labels, from how it grew with them so far.

    Images are drawn anew (bootstrap), all sizes together, as an image that is hard for one
    classifier is hard for the others; every draw is fitted anew and continued in one of several
    ways. What draws of images do not show is added at every size: that classifiers from other
    labels are right on other images.

    Args:
        sizes: Labels trained on (S,), rising, at least three.
        hits: (N, S), of image n by classifiers trained on that many labels that did not see it:
            the share of them that was right.
        targets: Labels to forecast for.
        now: Labels that there are.
        seed: Seed for the draws.
    """
    rng = np.random.default_rng(seed)
    images = len(hits)
    wanted = [*targets, now]
    point = 1 - np.mean(_continued(sizes, 1 - hits.mean(0)[None], wanted)[:-1, 0], axis=0)
    counts = rng.multinomial(images, np.full(images, 1 / images), RESAMPLES)
    means = counts @ hits / images
    # One classifier beside another on nearly as many labels: by how much their accuracies differ.
    # One image more, as that none differed on these does not say that none ever does.
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
                # Draws of images that are all right are all right; Wilson's interval knows better.
                wilson_interval(round(point[column] * images), images, CONFIDENCE),
            ),
            gain=float(point[column] - point[-1]),
            gain_interval=_quantiles(gains[:, column]),
        )
        for column, target in enumerate(targets)
    ]


def _continued(sizes: Sequence[int], errors: Array, wanted: Sequence[int]) -> Array:
    """Continues learning curves in several ways, which part where no power law holds.

    Power laws through all sizes and through the larger ones alone, and last a straight line over
    the logarithm of the size through the largest ones: what levels off stays below it.

    Args:
        sizes: (S,).
        errors: (R, S).
        wanted: Sizes to continue to (T,).

    Returns:
        Errors (ways, R, T), none below zero.
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
