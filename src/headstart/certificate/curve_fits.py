"""Power laws and saturating rises fitted to accuracy and loss curves."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

_EXPONENTS = np.linspace(0.1, 2.0, 39)
_CONSTANTS = np.geomspace(0.15, 3.0, 40)
"""Time constants of a rise, as shares of the observed time; the shortest is a step."""


@dataclass(frozen=True)
class PowerLaws:
    """Learning curves: the error on n labels is floor + scale · n^-exponent; arrays (R,)."""

    floor: Array
    scale: Array
    exponent: Array

    def at(self, sizes: Sequence[float] | Array) -> Array:
        """Returns the errors (R, T) at numbers of labels (T,).

        Example:
            >>> laws = PowerLaws(np.array([0.0]), np.array([1.0]), np.array([0.5]))
            >>> laws.at([4, 100]).tolist()
            [[0.5, 0.1]]
        """
        n = np.asarray(sizes, np.float64)
        return self.floor[:, None] + self.scale[:, None] * n ** -self.exponent[:, None]


@dataclass(frozen=True)
class Rises:
    """Curves that level off: value = plateau - span · exp(-time / constant); arrays (R,).

    Attributes:
        plateau: Final value, at most 1.
        span: Total rise from time 0 on, at least 0.
        constant: Time constant, in units of time.
    """

    plateau: Array
    span: Array
    constant: Array

    def left_at(self, time: float) -> Array:
        """Returns the remaining rise (R,) after a time."""
        return np.asarray(self.span * np.exp(-time / self.constant))


def fit_power_laws(sizes: Sequence[int], errors: Array) -> PowerLaws:
    """Fits learning curves (Cortes et al., NeurIPS 1993; Hestness et al. 2017).

    Uses least squares weighted by the size, as Figueroa et al. (2012): forecasts start from the
    largest sizes, and small ones follow other laws. Floor and scale are not negative: no forecast
    exceeds 100% or decreases with more labels.

    Args:
        sizes: Numbers of labels (S,), at least three different ones.
        errors: Error rates (R, S), one row per curve.
    """
    n = np.asarray(sizes, np.float64)
    powers = (n / n.max())[None, :] ** -_EXPONENTS[:, None]
    floor, scale, best = _best_lines(powers, errors, n / n.sum())
    exponent = _EXPONENTS[best]
    return PowerLaws(floor, scale * n.max() ** exponent, exponent)


def fit_rises(times: Sequence[float] | Array, values: Array) -> Rises:
    """Fits curves that level off by least squares (Mitscherlich's law, 1909).

    Args:
        times: Times of the evaluations (T,), increasing, at least three.
        values: Accuracies (R, T), one row per curve.
    """
    t = np.asarray(times, np.float64)
    constants = _CONSTANTS * (t[-1] - t[0])
    fading = np.exp(-(t - t[0])[None, :] / constants[:, None])
    # In terms of the error, 1 - value, the plateau is a floor that is not negative.
    floor, span, best = _best_lines(fading, 1 - values, np.full(len(t), 1 / len(t)))
    constant = constants[best]
    return Rises(1 - floor, span * np.exp(t[0] / constant), constant)


def _best_lines(
    shapes: Array, values: Array, weights: Array
) -> tuple[Array, Array, NDArray[np.int64]]:
    """Fits value = floor + slope · shape with floor, slope >= 0, for the best of several shapes.

    Args:
        shapes: Candidate shapes (K, S), one per row.
        values: Values to fit (R, S), not negative.
        weights: Weights (S,) with sum 1.

    Returns:
        Floors, slopes and indices of shapes, each (R,).
    """
    mean_shape, mean_value = shapes @ weights, values @ weights
    centred = shapes - mean_shape[:, None]
    slope = (centred * weights) @ values.T / ((centred**2) @ weights)[:, None]
    slope = np.maximum(slope, 0)
    floor = mean_value[None, :] - slope * mean_shape[:, None]
    # Where the best floor is negative, the best line through zero.
    through_zero = (shapes * weights) @ values.T / ((shapes**2) @ weights)[:, None]
    slope = np.where(floor < 0, through_zero, slope)
    floor = np.maximum(floor, 0)
    fitted = floor[:, :, None] + slope[:, :, None] * shapes[:, None, :]
    best = (((fitted - values[None]) ** 2) @ weights).argmin(0)
    rows = np.arange(len(values))
    return floor[best, rows], slope[best, rows], best
