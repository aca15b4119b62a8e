"""Features as a probe learns from them: standardised, and uncorrelated where that saves time."""

import numpy as np
from numpy.typing import NDArray

from headstart.inputs.large_arrays import copied, large_array

_AT_ONCE = 1 << 19
"""Number of values of which a temporary copy is made."""

_MOST_ROTATED = 5000
"""Number of images or features up to which features are made uncorrelated: two squares of them."""

_ALWAYS_ROTATED = 2000
"""The same, where it takes no time to speak of."""

_STEPS = 400
"""Evaluations of the loss whose products may take as long as making features uncorrelated."""


def standardized(
    features: NDArray[np.floating], one_scale: bool, rows: NDArray[np.bool_] | None
) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32]]:
    """Returns some features, less their mean and divided by their scale, with the mean and scale.

    Both statistics are of these features. Further copies are of a few images at a time.
    """
    standard = copied(features, None if rows is None else np.flatnonzero(rows))
    mean = standard.mean(0, dtype=np.float64).astype(np.float32)
    standard -= mean
    squares = np.zeros(standard.shape[1])
    rows_at_once = max(1, _AT_ONCE // standard.shape[1])
    for start in range(0, len(standard), rows_at_once):
        squares += np.square(standard[start : start + rows_at_once], dtype=np.float64).sum(0)
    deviation = np.sqrt(squares / len(standard))
    if one_scale:
        deviation = np.full_like(deviation, np.sqrt(np.mean(deviation**2)))
    # Nearly constant features must not be amplified.
    scale = np.maximum(deviation, 1e-2 * deviation.mean() + 1e-8).astype(np.float32)
    standard /= scale
    return standard, mean, scale


def rotated(
    standard: NDArray[np.float32], classes: int
) -> tuple[NDArray[np.float32], NDArray[np.float64], NDArray[np.float32] | None]:
    """Returns coordinates (N, R) in the span of the rows, their lengths (R,) and the basis (F, R).

    An L2 penalty is invariant under rotation, and outside the span the weights are zero. So the
    problem needs only as many columns as there are images or features. In these coordinates they
    are uncorrelated. Where that costs more than it saves, the features stay as they are, without a
    basis.
    """
    rows, features = standard.shape
    if not pays_to_rotate(rows, features, classes):
        squares = np.einsum("nf,nf->f", standard, standard, dtype=np.float64)
        return standard, np.sqrt(squares), None
    if features <= rows:
        values, vectors = np.linalg.eigh(standard.T @ standard)
        kept = values > 1e-6 * values[-1]
        basis = vectors[:, kept]
        columns = large_array((rows, basis.shape[1]))
        np.matmul(standard, basis, out=columns)
        return columns, np.sqrt(values[kept], dtype=np.float64), basis
    values, vectors = np.linalg.eigh(standard @ standard.T)
    kept = values > 1e-6 * values[-1]
    sizes = np.sqrt(values[kept])
    vectors = vectors[:, kept]
    return vectors * sizes, sizes.astype(np.float64), standard.T @ (vectors / sizes)


def pays_to_rotate(rows: int, features: int, classes: int) -> bool:
    """Returns whether making features uncorrelated saves more than it costs.

    Without it the fit has more columns, and stops further from the optimum.
    """
    least = min(rows, features)
    if not _ALWAYS_ROTATED < least <= _MOST_ROTATED:
        return least <= _ALWAYS_ROTATED
    products = 4 * rows * features * least  # of the features with each other and with the basis
    eigenvectors = 9 * least**3
    return products + eigenvectors < _STEPS * 4 * rows * least * classes
