"""Two-dimensional projection of embeddings that preserves neighbourhoods."""

import numpy as np
from numpy.typing import NDArray

from headstart.evaluation.retrieval import unit

FEWEST = 8
"""Smallest number of images for a useful map."""
_DIMENSIONS = 50
"""Number of principal components that t-SNE starts from, as in its paper."""
_ITERATIONS = 500


def project(embeddings: NDArray[np.floating], seed: int = 0) -> NDArray[np.float64]:
    """Returns positions (N, 2) in 0 … 1 by t-SNE (van der Maaten & Hinton, JMLR 2008).

    The distances between groups and the sizes of groups have no meaning.

    Args:
        embeddings: Embeddings (N, E), N at least `FEWEST`.
        seed: Seed for the projection.
    """
    from sklearn.decomposition import PCA  # noqa: PLC0415 - slow to import
    from sklearn.manifold import TSNE  # noqa: PLC0415

    vectors = unit(embeddings)
    if vectors.std(axis=0).max() < 1e-6:  # all embeddings are equal
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
