"""Heads in closed form: what a head sees, and its weights, from cached features."""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from headstart.features.extractor import FeatureExtractor
from headstart.features.layout import LAST, FeatureLayout, FeatureTable
from headstart.features.probe import (
    STRENGTHS,
    LabelledFeatures,
    Validated,
    affordable_strengths,
    cross_validate,
    fit_probe,
)
from headstart.inputs.large_arrays import copied
from headstart.methods.head import HeadUnion
from headstart.methods.head_layers import Head, applied
from headstart.recipes.recipe import Recipe

MUST_GAIN = 0.02
"""Share of the log loss that more features must save to be worth their size."""

CHOICES: tuple[tuple[str, str], ...] = (
    ("last", "none"),
    ("stages", "none"),
    ("last+covariance", "unit"),
    ("stages+covariance", "unit"),
)
"""What heads may see and how it is scaled, from small to large."""


def chosen_head(
    extractor: FeatureExtractor, recipe: Recipe, table: FeatureTable | None, whole: FeatureLayout
) -> tuple[HeadUnion, Validated | None]:
    """Returns the head with what it sees, by cross-validation where that is left open.

    A larger choice must be better than a smaller one by a share of its log loss. Every other
    penalty suffices for that. Where only a few are affordable, they are all tried, and their score
    is returned, too.
    """
    given: HeadUnion = recipe.head
    if given.features != "auto" and (table is None or given.normalize != "auto"):
        return given, None
    if table is None:
        return given.model_copy(update={"features": LAST}), None
    best: HeadUnion = given
    score: Validated | None = None
    least = np.inf
    for features, normalize in CHOICES:
        fits = given.features in {"auto", features} and given.normalize in {"auto", normalize}
        if features not in whole.choices or not fits:
            continue
        method: HeadUnion = given.model_copy(update={"features": features, "normalize": normalize})
        columns = seen_by(method, whole.only(features), table.of(features))
        rows, width = columns.shape
        few = affordable_strengths(rows, width, len(extractor.classes)) != STRENGTHS
        found = _validate(extractor, recipe, method, columns, None if few else STRENGTHS[::2])
        if found.log_loss < (1 - MUST_GAIN) * least:
            best, least = method, found.log_loss
            score = found if few and not method.has_hidden_layer else None
    return best, score


def seen_by(
    method: HeadUnion, layout: FeatureLayout, features: NDArray[np.float32]
) -> NDArray[np.float32]:
    """Returns what the last layer of a head without a hidden one sees (N, F).

    Args:
        method: Head method.
        layout: Layout of the features.
        features: Features (N, F).
    """
    # PyTorch takes no array that is read-only, as those of a file are.
    owned = features if features.flags.writeable else copied(features)
    seen: NDArray[np.float32] = applied(
        method.parts(layout.widths), torch.from_numpy(owned)
    ).numpy()
    return seen


def mean_of_heads(
    method: HeadUnion,
    columns: NDArray[np.float32],
    layout: FeatureLayout,
    labels: NDArray[np.int64],
    classes: int,
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Returns weight (C, F) and bias (C,) of the mean of solved heads that see parts of columns.

    All parts have unit length whatever is beside them, so the mean of the logits is one linear
    layer.

    Args:
        method: Head method with the heads to solve.
        columns: What the last layer sees (N, F).
        layout: Its layout.
        labels: Class numbers (N,).
        classes: Number of classes C.
    """
    numbers = np.arange(columns.shape[1])[None]
    weight, bias = np.zeros((classes, columns.shape[1]), np.float32), np.zeros(classes, np.float32)
    for each in method.solutions:
        part = layout.pick(numbers, layout.only(each.features))[0]
        share = 1 / (each.temperature * len(method.solutions))
        probe = fit_probe(columns[:, part], labels, classes, each.penalty, each.smoothing, True)
        weight[:, part] += np.float32(share) * probe.weight
        bias += np.float32(share) * probe.bias
    return weight, bias


def solve_head(
    extractor: FeatureExtractor,
    recipe: Recipe,
    method: HeadUnion,
    head: Head,
    seen: FeatureTable,
    score: Validated | None = None,
) -> Validated | None:
    """Solves a head on the features of the training images that it sees.

    Args:
        extractor: Feature extractor.
        recipe: Recipe of the head.
        method: Head method, of which it is known what it sees.
        head: Head that gets the weights.
        seen: Features (N, F), with their layout.
        score: Cross-validated score of its last layer, if that is known.

    Returns:
        The cross-validated score of its last layer, if its penalty was not given.
    """
    labels, classes = extractor.labels["train"], len(extractor.classes)
    of_last_layer: list[Validated] = []

    def solve(embeddings: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        columns = embeddings.numpy()
        if method.solutions:
            weight, bias = mean_of_heads(method, columns, seen.layout, labels, classes)
            return torch.from_numpy(weight), torch.from_numpy(bias)
        strength = method.solved_penalty
        if not strength:
            of_last_layer.append(score or _validate(extractor, recipe, method, columns))
            strength = of_last_layer[0].strength
        probe = fit_probe(
            columns, labels, classes, strength, method.solved_smoothing, _one_scale(method)
        )
        return torch.from_numpy(probe.weight), torch.from_numpy(probe.bias)

    features = seen.array
    with torch.no_grad():
        columns = torch.from_numpy(features if features.flags.writeable else copied(features))
        method.start(head.eval(), columns, torch.from_numpy(labels), solve)
    return of_last_layer[0] if of_last_layer else None


def _one_scale(method: HeadUnion) -> bool:
    return method.has_unit_parts and not method.has_hidden_layer


def _validate(
    extractor: FeatureExtractor,
    recipe: Recipe,
    method: HeadUnion,
    columns: NDArray[np.float32],
    strengths: Sequence[float] | None = None,
) -> Validated:
    labels, classes = extractor.labels["train"], len(extractor.classes)
    data = LabelledFeatures(columns, labels, classes, extractor.groups, _one_scale(method))
    smoothing = method.solved_smoothing
    return cross_validate(
        data, strengths, seed=recipe.seed, smoothing=smoothing, progress=extractor.progress
    )
