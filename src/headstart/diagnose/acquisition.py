"""Which unlabelled images are worth a label: uncertain, typical of others, and unlike each other.

Uncertainty herding (Bae, Oliveira and Sutherland, ICLR 2025) is greedy. An image covers those that
are similar to it, by the cosine of what sets both apart from the mean. The next image is the one
that adds most coverage of what is uncertain and not yet covered by labelled or chosen images. So an
outlier counts little, however uncertain it is, and of several images that look alike one is chosen.
"""

import numpy as np
from numpy.typing import NDArray

from headstart.evaluation.retrieval import unit

MOST = 4000
"""Largest number of images that are compared with each other; of more, a part is drawn."""

_BLOCK = 512


def margins(probabilities: NDArray[np.floating]) -> NDArray[np.float64]:
    """Returns the difference (N,) of the two largest probabilities in each row (N, C).

    Example:
        >>> margins(np.array([[0.5, 0.25, 0.25], [1.0, 0.0, 0.0]])).tolist()
        [0.25, 1.0]
    """
    if probabilities.shape[1] < 2:
        return np.ones(len(probabilities))
    top = np.partition(np.asarray(probabilities, np.float64), -2, axis=1)
    return np.asarray(top[:, -1] - top[:, -2])


def set_margins(probabilities: NDArray[np.floating]) -> NDArray[np.float64]:
    """Returns how sure the decisions about the labels of images are (N,), from 0 to 1.

    It is 1 less the mean binary entropy of the labels in bits: 0 where each has a probability of
    50%, and 1 where all are certain.

    Args:
        probabilities: Probability of each label (N, C).

    Example:
        >>> set_margins(np.array([[0.5, 0.5], [1.0, 0.0]])).tolist()
        [0.0, 1.0]
    """
    p = np.asarray(probabilities, np.float64)
    both = np.stack([p, 1 - p])
    bits = -(both * np.log2(np.maximum(both, 1e-300))).sum(0)
    return np.asarray(1 - bits.mean(1))


def rank_to_label(
    embeddings: NDArray[np.floating],
    probabilities: NDArray[np.floating],
    labelled: NDArray[np.floating],
    count: int,
    several: bool = False,
) -> NDArray[np.int64]:
    """Returns the rows of the images to label next, the most useful first.

    Args:
        embeddings: Embeddings (N, E) of the unlabelled images.
        probabilities: Calibrated class probabilities (N, C) of them.
        labelled: Embeddings (M, E) of the labelled images.
        count: Number of images; all if there are fewer.
        several: Whether an image may have several labels, whose probabilities are these.

    Example:
        >>> near = np.array([[1.0, 0.0], [1.0, 0.1], [0.0, 1.0]])
        >>> unsure = np.array([[0.5, 0.5]] * 3)
        >>> rank_to_label(near, unsure, labelled=np.array([[1.0, 0.0]]), count=1).tolist()
        [2]
    """
    weights = 1 - (set_margins(probabilities) if several else margins(probabilities))
    points, known = _centred(embeddings, labelled)
    covered = np.concatenate([_kernel(block, known).max(1) for block in _blocks(points)])
    dice = np.random.default_rng(0)
    seen = np.sort(dice.permutation(len(points))[:MOST])
    candidates = _promising(points, seen, weights, covered)
    kernel = _kernel(points[seen], points[candidates])
    left, weight, chosen = covered[seen], weights[seen, None], list[int]()
    for _ in range(min(count, len(candidates))):
        gain = (weight * np.maximum(kernel - left[:, None], 0)).sum(0)
        gain[chosen] = -1
        chosen.append(int(gain.argmax()))
        left = np.maximum(left, kernel[:, chosen[-1]])
    return np.asarray(candidates[chosen], np.int64)


def _centred(
    embeddings: NDArray[np.floating], labelled: NDArray[np.floating]
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Returns both as directions from their common mean: what all images share tells nothing."""
    both = unit(embeddings), unit(labelled)
    mean = np.concatenate(both).mean(0, dtype=np.float64).astype(np.float32)
    return unit(both[0] - mean), unit(both[1] - mean)


def _promising(
    points: NDArray[np.float32],
    seen: NDArray[np.int64],
    weights: NDArray[np.float64],
    covered: NDArray[np.float32],
) -> NDArray[np.int64]:
    """Returns the rows of at most `MOST` images that would add most coverage as the next one."""
    if len(points) <= MOST:
        return np.arange(len(points))
    weight, left = weights[seen, None], covered[seen, None]
    gains = [
        (weight * np.maximum(_kernel(points[seen], block) - left, 0)).sum(0)
        for block in _blocks(points)
    ]
    return np.sort(np.argsort(-np.concatenate(gains), kind="stable")[:MOST])


def _kernel(one: NDArray[np.float32], other: NDArray[np.float32]) -> NDArray[np.float32]:
    """Returns how far images (N, E) and (M, E) of length 1 cover each other (N, M), 0 to 1."""
    return np.asarray(np.maximum(one @ other.T, 0), np.float32)


def _blocks(points: NDArray[np.float32]) -> list[NDArray[np.float32]]:
    return [points[start : start + _BLOCK] for start in range(0, len(points), _BLOCK)]
