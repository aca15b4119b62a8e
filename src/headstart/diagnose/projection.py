"""Embeddings on a map: in two dimensions, neighbours stay near each other as far as that goes."""

import numpy as np
from numpy.typing import NDArray

from headstart.retrieval import unit

FEWEST = 8
"""Images below which a map says nothing."""
_DIMENSIONS = 50
"""Principal components that t-SNE starts from, as its paper does."""
_ITERATIONS = 500


def project(embeddings: NDArray[np.floating], seed: int = 0) -> NDArray[np.float64]:
    """Returns places (N, 2) in 0 … 1 by t-SNE (van der Maaten & Hinton, JMLR 2008).

    Distances between far groups say nothing in it, and neither does their size.

    Args:
        embeddings: (N, E), N at least `FEWEST`.
        seed: Of the projection.
    """
    from sklearn.decomposition import PCA  # noqa: PLC0415 - slow to import
    from sklearn.manifold import TSNE  # noqa: PLC0415

    vectors = unit(embeddings)
    if vectors.std(axis=0).max() < 1e-6:  # all alike: there is nothing to tell apart
        return np.full((len(vectors), 2), 0.5)
    parts = min(_DIMENSIONS, *vectors.shape)
    reduced = PCA(parts, svd_solver="randomized", random_state=seed).fit_transform(vectors)
    found = TSNE(
        perplexity=min(30.0, (len(vectors) - 1) / 3),
        init="pca" if parts > 1 else "random",
        learning_rate="auto",
        max_iter=_ITERATIONS,
        random_state=seed,
    ).fit_transform(reduced)
    low, high = found.min(axis=0), found.max(axis=0)
    return np.asarray((found - low) / np.maximum(high - low, 1e-12), np.float64)
