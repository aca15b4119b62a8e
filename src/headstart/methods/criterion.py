"""Criteria: what training makes small. All take soft targets, so that all can be mixed."""

from collections.abc import Callable
from typing import Annotated, ClassVar, Literal

import torch
from pydantic import Field

from headstart.methods.method import Choices, Method, Range, family

CriterionFunction = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
"""Logits (N, C) and target probabilities (N, C) to a scalar."""

_Weights = Annotated[
    Literal["none", "balanced"],
    Field(description="'balanced' weighs each class by the inverse of its frequency"),
    Choices(("none", "balanced")),
]


class CriterionMethod(Method):
    """A criterion; each has a field `class_weights`."""

    @property
    def is_neutral(self) -> bool:
        """Whether its values make it plain cross-entropy."""
        return False


class CrossEntropy(CriterionMethod):
    """Minus the logarithm of the probability given to the true class (Good 1952)."""

    advice: ClassVar[str] = "Honest probabilities; on few images it grows overconfident."
    is_baseline: ClassVar[bool] = True
    name: Literal["cross_entropy"] = "cross_entropy"
    class_weights: _Weights = "none"

    def build(self, counts: torch.Tensor) -> CriterionFunction:
        """Returns the criterion for classes of `counts` (C,) training images."""
        return _criterion(_weights(self.class_weights, counts))


class LabelSmoothing(CriterionMethod):
    """Cross-entropy to targets that leave some probability to all classes (Szegedy et al. 2016)."""

    advice: ClassVar[str] = "Helps most with many similar classes and doubtful labels."
    name: Literal["label_smoothing"] = "label_smoothing"
    smoothing: Annotated[
        float,
        Field(ge=0, lt=1, description="probability that is spread over all classes"),
        Range(0.02, 0.2),
    ] = 0.1
    class_weights: _Weights = "none"

    @property
    def is_neutral(self) -> bool:
        """Whether nothing is smoothed."""
        return self.smoothing == 0

    def build(self, counts: torch.Tensor) -> CriterionFunction:
        """Returns the criterion for classes of `counts` (C,) training images."""
        return _criterion(_weights(self.class_weights, counts), smoothing=self.smoothing)


class Focal(CriterionMethod):
    """Cross-entropy in which what is already right counts less (Lin et al., ICCV 2017)."""

    advice: ClassVar[str] = "For rare classes; on balanced sets it brings little."
    name: Literal["focal"] = "focal"
    gamma: Annotated[
        float, Field(ge=0, le=10, description="0 is cross-entropy"), Range(0.5, 3.0)
    ] = 2.0
    class_weights: _Weights = "none"

    @property
    def is_neutral(self) -> bool:
        """Whether all that is right counts in full."""
        return self.gamma == 0

    def build(self, counts: torch.Tensor) -> CriterionFunction:
        """Returns the criterion for classes of `counts` (C,) training images."""
        return _criterion(_weights(self.class_weights, counts), gamma=self.gamma)


CriterionUnion = CrossEntropy | LabelSmoothing | Focal
Criterion = family(CriterionUnion)


def _weights(kind: str, counts: torch.Tensor) -> torch.Tensor:
    """Returns one weight a class (C,); their mean over the images is 1."""
    if kind == "none":
        return torch.ones_like(counts, dtype=torch.float32)
    return counts.sum() / (len(counts) * counts.clamp(min=1).float())


def _criterion(
    weights: torch.Tensor, smoothing: float = 0.0, gamma: float = 0.0
) -> CriterionFunction:
    def loss(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        log_p = logits.float().log_softmax(1)
        spread = targets * (1 - smoothing) + smoothing / targets.shape[1]
        terms = -spread * log_p
        if gamma:
            # Below 1, the power's slope at 0 is infinite: what is surely right counts as almost so.
            terms = terms * (1 - log_p.exp()).clamp(min=1e-6).pow(gamma)
        # Normalised by the weights of the targets: equal to the usual mean for hard labels.
        return (terms * weights).sum() / (targets * weights).sum()

    return loss
