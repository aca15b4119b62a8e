"""Retrieval: how well nearness in the embedding tells the classes apart."""

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

RANKS = (1, 5, 10)


class Retrieval(BaseModel):
    """What a search for the nearest training images finds for the test images.

    Attributes:
        recall_at: Share of queries with an image of their class among the k nearest, by k.
        map_at_r: Mean average precision at R, R being the number of training images of the
            query's class (Musgrave et al., ECCV 2020); 1 where they all come first.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    recall_at: dict[int, float]
    map_at_r: float


def unit(embeddings: NDArray[np.floating]) -> NDArray[np.float32]:
    """Returns embeddings (N, E) scaled to length 1."""
    rows = np.asarray(embeddings, np.float32)
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    return np.asarray(rows / np.maximum(lengths, 1e-12), np.float32)


def nearest(
    queries: NDArray[np.floating], gallery: NDArray[np.floating], k: int
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Returns the rows (M, k) of the nearest gallery images, nearest first, and their cosines."""
    cosines = unit(queries) @ unit(gallery).T
    order = np.argsort(-cosines, axis=1, kind="stable")[:, :k]
    return order, np.take_along_axis(cosines, order, axis=1)


def retrieval(
    queries: NDArray[np.floating],
    query_labels: NDArray[np.int64],
    gallery: NDArray[np.floating],
    gallery_labels: NDArray[np.int64],
) -> Retrieval:
    """Searches for every query (M, E) in a gallery (N, E) of other images.

    Args:
        queries: Embeddings (M, E).
        query_labels: (M,).
        gallery: Embeddings (N, E).
        gallery_labels: (N,); it holds every class of the queries.
    """
    counts = np.bincount(gallery_labels, minlength=int(query_labels.max()) + 1)
    deepest = max(*RANKS, int(counts.max()))
    hits, precision = np.zeros(len(RANKS)), 0.0
    for start in range(0, len(queries), 256):  # a block of queries at a time bounds the memory
        labels = query_labels[start : start + 256]
        rows, _ = nearest(queries[start : start + 256], gallery, deepest)
        right = gallery_labels[rows] == labels[:, None]
        hits += [right[:, :k].any(1).sum() for k in RANKS]
        ranks = np.arange(1, right.shape[1] + 1)
        relevant = counts[labels]
        within = ranks[None] <= relevant[:, None]
        precisions = right.cumsum(1) / ranks * right * within
        precision += float((precisions.sum(1) / np.maximum(relevant, 1)).sum())
    shares = dict(zip(RANKS, (hits / len(queries)).tolist(), strict=True))
    return Retrieval(recall_at=shares, map_at_r=precision / len(queries))
