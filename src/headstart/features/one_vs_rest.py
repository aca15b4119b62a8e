"""One logistic regression for each label, all solved at once: the loss of a multi-label probe."""

import numpy as np
from numpy.typing import NDArray


def sigmoid_loss(
    solution: NDArray[np.float64],
    strength: float,
    features: NDArray[np.float32],
    marks: NDArray[np.int64],
    smoothing: float = 0.0,
) -> tuple[float, NDArray[np.float64]]:
    """Returns the penalised log loss and its gradient at weight and bias ((F+1)*C,).

    The loss is the mean over the images of the sum over the labels, so each label has its own
    problem, and the penalty weighs as in the loss of one label an image.

    Args:
        solution: Weights and biases.
        strength: L2 penalty.
        features: Features (N, F).
        marks: 1 where an image has a label, (N, C).
        smoothing: Probability that is taken from each decision; half of it goes to the other one.
    """
    weight_and_bias = solution.astype(np.float32).reshape(features.shape[1] + 1, -1)
    weight, bias = weight_and_bias[:-1], weight_and_bias[-1]
    logits = features @ weight + bias
    wanted = np.asarray(marks * (1 - smoothing) + smoothing / 2, np.float32)
    loss = (np.logaddexp(0, logits) - wanted * logits).sum(1, dtype=np.float64).mean()
    small = np.exp(-np.abs(logits))
    error = (np.where(logits >= 0, 1, small) / (1 + small) - wanted) / len(features)
    gradient = np.empty(weight_and_bias.shape)
    gradient[:-1] = features.T @ error + strength * weight
    gradient[-1] = error.sum(0)
    return float(loss + (strength * weight * weight).sum() / 2), gradient.ravel()


def label_sets(marks: NDArray[np.int64]) -> list[tuple[str, ...]]:
    """Returns the labels of each image by number, as a stratified split takes them.

    Example:
        >>> label_sets(np.array([[0, 1], [0, 0]]))
        [('1',), ()]
    """
    return [tuple(map(str, np.flatnonzero(row))) for row in marks]
