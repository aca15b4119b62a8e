"""Pooling of a map or of tokens to one vector: the mean, and the root of the covariance.

A tap is the name of a boundary, whose activation is averaged over space or tokens; with the ending
`:covariance` the root of its covariance is taken instead.
"""

import math

import torch
from torch import Tensor

COVARIANCE = ":covariance"

CHANNELS = 64
"""Number of channels that are left after the fixed projection."""

STEPS = 5
"""Newton-Schulz steps towards the root of a matrix."""


def covariance_tap(boundary: str) -> str:
    """Returns the name of the tap that takes the root of the covariance at a boundary.

    Example:
        >>> covariance_tap("blocks.6"), boundary_of_tap("blocks.6:covariance")
        ('blocks.6:covariance', 'blocks.6')
    """
    return boundary + COVARIANCE


def boundary_of_tap(tap: str) -> str:
    """Returns the name of the boundary at which a tap takes its features."""
    return tap.removesuffix(COVARIANCE)


def covariance_width(channels: int) -> int:
    """Returns the number of features of `root_covariance` for a number of channels.

    Example:
        >>> covariance_width(320), covariance_width(24)
        (2080, 300)
    """
    kept = min(channels, CHANNELS)
    return kept * (kept + 1) // 2


def root_covariance(activations: Tensor, dims: tuple[int, ...], channels: int) -> Tensor:
    """Returns the upper triangles of the roots of covariance matrices, (N, K (K + 1) / 2).

    The channels are projected to K = 64 by a fixed random orthogonal matrix. The square root of
    their covariance over space or tokens, which tempers the large directions, takes matrix products
    only (iSQRT-COV: Li et al., CVPR 2018), so that it can be exported. Values beside the diagonal
    count twice, as in the matrix, by a factor of sqrt(2).

    Args:
        activations: Maps (N, C, H, W) or (N, H, W, C), or tokens (N, T, C).
        dims: Dimensions of space or tokens.
        channels: Number of channels C; exporters trace a shape, but not a number.

    Example:
        >>> spread = torch.tensor([[[3.0, 0.0], [-3.0, 0.0], [0.0, 1.0], [0.0, -1.0]]])
        >>> [round(float(value), 2) for value in root_covariance(spread, (1,), channels=2)[0]]
        [2.12, 0.0, 0.71]
    """
    kept = min(channels, CHANNELS)
    with torch.autocast(activations.device.type, enabled=False):  # the steps amplify rounding
        rows = _channels_last(activations.float(), dims)
        if channels > kept:
            rows = rows @ _projection(channels, rows.device).T
        rows = rows - rows.mean(1, keepdim=True)
        root = _root(rows.transpose(1, 2) @ rows / rows.shape[1], kept)
        places, factors = _triangle(kept)
        index = torch.tensor(places, device=root.device)
        return root.flatten(1).index_select(1, index) * torch.tensor(factors, device=root.device)


def _triangle(size: int) -> tuple[list[int], list[float]]:
    """Returns where the upper triangle lies in a flat square matrix, and its factors."""
    pairs = [(one, other) for one in range(size) for other in range(one, size)]
    factors = [1.0 if one == other else math.sqrt(2) for one, other in pairs]
    return [one * size + other for one, other in pairs], factors


def _channels_last(activations: Tensor, dims: tuple[int, ...]) -> Tensor:
    """Returns the values (N, P, C) of all places."""
    if len(dims) == 1:
        return activations if dims == (1,) else activations.transpose(1, 2)
    if dims == (2, 3):
        return activations.flatten(2).transpose(1, 2)
    return activations.flatten(1, 2)


def _root(matrices: Tensor, size: int) -> Tensor:
    """Returns the square roots of symmetric matrices (N, K, K) without negative eigenvalues."""
    one = torch.eye(size, device=matrices.device)
    trace = (matrices * one).sum((1, 2)).reshape(-1, 1, 1) + 1e-12
    root, inverse = matrices / trace, one.expand_as(matrices)
    for _ in range(STEPS):
        step = 1.5 * one - 0.5 * inverse @ root
        root, inverse = root @ step, step @ inverse
    return root * trace.sqrt()


def _projection(channels: int, device: torch.device) -> Tensor:
    """Returns orthonormal rows (64, C): a cosine transform of channels with random signs.

    It is computed, not drawn by a library, so that every version of it gives the same.
    """
    draws = _draws(2 * channels)
    signs = [1.0 if draw < 0.5 else -1.0 for draw in draws[:channels]]
    rows = sorted(range(1, channels), key=draws[channels:].__getitem__)[:CHANNELS]
    frequency = torch.tensor(rows, dtype=torch.float64, device=device).reshape(-1, 1)
    place = torch.arange(channels, dtype=torch.float64, device=device) + 0.5
    waves = torch.cos(frequency * place * (math.pi / channels)) * math.sqrt(2 / channels)
    return (waves * torch.tensor(signs, dtype=torch.float64, device=device)).float()


def _draws(number: int) -> list[float]:
    """Returns pseudo-random numbers from 0 to 1 (the generator of Park & Miller, CACM 1988)."""
    state, found = 20181811, []
    for _ in range(number):
        state = state * 48271 % (2**31 - 1)
        found.append(state / (2**31 - 1))
    return found
