"""Criteria: the classification loss. All accept soft targets, as batch mixing needs."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal, TypeAlias

from pydantic import Field

from headstart.methods.method import Choices, Method, Range, family

if TYPE_CHECKING:
    import torch

CriterionFunction: TypeAlias = "Callable[[torch.Tensor, torch.Tensor], torch.Tensor]"
"""Maps logits (N, C) and target probabilities (N, C) to a scalar."""

_Weights = Annotated[
    Literal["none", "balanced"],
    Field(description="'balanced' weights each class by its inverse frequency"),
    Choices(("none", "balanced")),
]


class CriterionMethod(Method):
    """Base of the criteria; each has a field `class_weights`."""

    @property
    def is_neutral(self) -> bool:
        """Whether it equals plain cross-entropy."""
        return False


class CrossEntropy(CriterionMethod):
    """The negative log-likelihood of the true class (Good 1952)."""

    advice: ClassVar[str] = "Well calibrated at first; with few images it becomes overconfident."
    is_baseline: ClassVar[bool] = True
    name: Literal["cross_entropy"] = "cross_entropy"
    class_weights: _Weights = "none"

    def build(self, counts: "torch.Tensor") -> CriterionFunction:
        """Returns the criterion for classes with `counts` (C,) training images."""
        return _criterion(_weights(self.class_weights, counts))


class LabelSmoothing(CriterionMethod):
    """Cross-entropy with some target probability spread over all classes (Szegedy et al. 2016)."""

    advice: ClassVar[str] = "Helps most with many similar classes and noisy labels."
    name: Literal["label_smoothing"] = "label_smoothing"
    smoothing: Annotated[
        float,
        Field(ge=0, lt=1, description="probability spread over all classes"),
        Range(0.02, 0.2),
    ] = 0.1
    class_weights: _Weights = "none"

    @property
    def is_neutral(self) -> bool:
        """Whether it equals plain cross-entropy: nothing is smoothed."""
        return self.smoothing == 0

    def build(self, counts: "torch.Tensor") -> CriterionFunction:
        """Returns the criterion for classes with `counts` (C,) training images."""
        return _criterion(_weights(self.class_weights, counts), smoothing=self.smoothing)


class Focal(CriterionMethod):
    """Cross-entropy with less weight on easy examples (Lin et al., ICCV 2017)."""

    advice: ClassVar[str] = "For rare classes; gains little on balanced data."
    name: Literal["focal"] = "focal"
    gamma: Annotated[
        float,
        Field(ge=0, le=10, description="focus on hard examples; 0: cross-entropy"),
        Range(0.5, 3.0),
    ] = 2.0
    class_weights: _Weights = "none"

    @property
    def is_neutral(self) -> bool:
        """Whether it equals plain cross-entropy: every example has its full weight."""
        return self.gamma == 0

    def build(self, counts: "torch.Tensor") -> CriterionFunction:
        """Returns the criterion for classes with `counts` (C,) training images."""
        return _criterion(_weights(self.class_weights, counts), gamma=self.gamma)


CriterionUnion = CrossEntropy | LabelSmoothing | Focal
Criterion = family(CriterionUnion)


def _weights(kind: str, counts: "torch.Tensor") -> "torch.Tensor":
    """Returns a weight for each class (C,); their mean over the images is 1."""
    if kind == "none":
        return counts.new_ones(len(counts)).float()
    return counts.sum() / (len(counts) * counts.clamp(min=1).float())


def _criterion(
    weights: "torch.Tensor", smoothing: float = 0.0, gamma: float = 0.0
) -> CriterionFunction:
    def loss(logits: "torch.Tensor", targets: "torch.Tensor") -> "torch.Tensor":
        log_p = logits.float().log_softmax(1)
        spread = targets * (1 - smoothing) + smoothing / targets.shape[1]
        terms = -spread * log_p
        if gamma:
            # For gamma < 1 the gradient at 0 is infinite, so the base is kept above 0.
            terms = terms * (1 - log_p.exp()).clamp(min=1e-6).pow(gamma)
        # Normalised by the weights of the targets, which is the usual mean for hard labels.
        return (terms * weights).sum() / (targets * weights).sum()

    return loss
