"""Logistic regression on soft labels: a share of each image for each class."""

import numpy as np
from numpy.typing import NDArray


def soft_loss(
    solution: NDArray[np.float64],
    strength: float,
    features: NDArray[np.float32],
    shares: NDArray[np.floating],
    smoothing: float = 0.0,
) -> tuple[float, NDArray[np.float64]]:
    """Returns the penalised mean log loss and its gradient at weight and bias ((F+1)*C,).

    Args:
        solution: Weights and biases.
        strength: L2 penalty.
        features: Features (N, F).
        shares: What each image counts for each class (N, C); a row sums to the weight of the image.
        smoothing: Share of each label that is spread over all classes.
    """
    weight_and_bias = solution.astype(np.float32).reshape(features.shape[1] + 1, -1)
    weight, bias = weight_and_bias[:-1], weight_and_bias[-1]
    counts = shares.sum(1, keepdims=True)
    whole = float(counts.sum(dtype=np.float64))
    wanted = (1 - smoothing) * shares + smoothing * counts / shares.shape[1]
    logits = features @ weight + bias
    logits -= logits.max(1, keepdims=True)
    error = np.exp(logits)
    total = error.sum(1, keepdims=True)
    log_loss = float((counts * np.log(total)).sum(dtype=np.float64))
    log_loss = (log_loss - float((wanted * logits).sum(dtype=np.float64))) / whole
    error = (error / total * counts - wanted) / whole
    gradient = np.empty(weight_and_bias.shape)
    gradient[:-1] = features.T @ error + strength * weight
    gradient[-1] = error.sum(0)
    penalty = float((strength * weight * weight).sum() / 2)
    return log_loss + penalty, gradient.ravel()
