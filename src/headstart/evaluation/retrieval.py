"""Retrieval metrics: how well distances between embeddings separate the classes."""

from typing import Annotated

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from headstart.inputs.large_arrays import copied, large_array
from headstart.inputs.quantities import Share

RANKS = (1, 5, 10)

_QUERIES, _COSINES = 256, 1 << 22
"""Queries that are answered at a time, and the cosines of theirs that are held, at most."""


class Retrieval(BaseModel):
    """The metrics of retrieving training images with test images as queries.

    Attributes:
        recall_at: Share of queries with an image of their class among the k nearest, by k.
        map_at_r: Mean average precision at R, the number of training images of the class of the
            query (Musgrave et al., ECCV 2020); 1 if they all rank first.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    recall_at: dict[Annotated[int, Field(ge=1)], Share]
    map_at_r: Share


def unit(embeddings: NDArray[np.floating]) -> NDArray[np.float32]:
    """Returns embeddings (N, E) scaled to length 1.

    Example:
        >>> unit(np.array([[0.0, 2.0]])).tolist()
        [[0.0, 1.0]]
    """
    rows = embeddings if embeddings.dtype == np.float32 else copied(embeddings)
    # Unlike `np.linalg.norm`, this makes no array of squares.
    lengths = np.sqrt(np.einsum("ne,ne->n", rows, rows))[:, None]
    scaled: NDArray[np.float32] = large_array(rows.shape)
    np.divide(rows, np.maximum(lengths, 1e-12), out=scaled)
    return scaled


def nearest(
    queries: NDArray[np.floating], gallery: NDArray[np.floating], k: int
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Returns the rows (M, k) of the nearest gallery images, nearest first, and their cosines.

    Args:
        queries: Embeddings (M, E).
        gallery: Embeddings (N, E).
        k: Number of images per query.

    Example:
        >>> rows, cosines = nearest(np.array([[1.0, 0.0]]), np.array([[0.0, 1.0], [2.0, 0.0]]), k=1)
        >>> rows.tolist(), cosines.tolist()
        ([[1]], [[1.0]])
    """
    return _nearest(unit(queries), unit(gallery), k)


def _nearest(
    queries: NDArray[np.float32], gallery: NDArray[np.float32], k: int
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Returns the same as `nearest` for embeddings of length 1."""
    cosines = queries @ gallery.T
    order = np.empty((len(cosines), min(k, len(gallery))), np.int64)
    for row, each in enumerate(-cosines):
        order[row] = _lowest(each, k)
    return order, np.take_along_axis(cosines, order, axis=1)


def _lowest(values: NDArray[np.float32], k: int) -> NDArray[np.int64]:
    """Returns the places of the k lowest values (N,), lowest first and equal ones in order."""
    if k >= len(values):
        return np.argsort(values, kind="stable")
    most = np.partition(values, k - 1)[k - 1]
    # All that are as low, of which there may be more than k: only these are sorted.
    found = np.flatnonzero(~(values > most))
    return found[np.argsort(values[found], kind="stable")[:k]]


def retrieval(
    queries: NDArray[np.floating],
    query_labels: NDArray[np.int64],
    gallery: NDArray[np.floating],
    gallery_labels: NDArray[np.int64],
) -> Retrieval:
    """Returns the retrieval metrics of queries in a gallery of other images.

    Args:
        queries: Embeddings (M, E).
        query_labels: Class numbers (M,).
        gallery: Embeddings (N, E).
        gallery_labels: Class numbers (N,), with every class of the queries.

    Example:
        >>> gallery = np.array([[1.0, 0.0], [0.0, 1.0]])
        >>> retrieval(gallery, np.array([0, 1]), gallery, np.array([0, 1])).map_at_r
        1.0
    """
    counts = np.bincount(gallery_labels, minlength=int(query_labels.max()) + 1)
    deepest = max(*RANKS, int(counts.max()))
    hits, precision = np.zeros(len(RANKS)), 0.0
    known = unit(gallery)
    at_once = max(1, min(_QUERIES, _COSINES // len(gallery)))
    for start in range(0, len(queries), at_once):
        labels = query_labels[start : start + at_once]
        rows, _ = _nearest(unit(queries[start : start + at_once]), known, deepest)
        right = gallery_labels[rows] == labels[:, None]
        hits += [right[:, :k].any(1).sum() for k in RANKS]
        ranks = np.arange(1, right.shape[1] + 1)
        relevant = counts[labels]
        within = ranks[None] <= relevant[:, None]
        precisions = right.cumsum(1) / ranks * right * within
        precision += float((precisions.sum(1) / np.maximum(relevant, 1)).sum())
    shares = dict(zip(RANKS, (hits / len(queries)).tolist(), strict=True))
    return Retrieval(recall_at=shares, map_at_r=precision / len(queries))
