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
    """Base of the criteria; each has a field `class_weights`.

    Attributes:
        for_sets: Whether each label is a decision of its own, for any number of labels an image.
    """

    for_sets: ClassVar[bool] = False

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


_Smoothing = Annotated[
    float,
    Field(ge=0, lt=1, description="probability taken from each decision; half goes to the other"),
    Range(0.02, 0.2),
]


class BinaryCrossEntropy(CriterionMethod):
    """The log loss of each label as a decision of its own (Nam et al., ECML PKDD 2014)."""

    advice: ClassVar[str] = (
        "For any number of labels an image; its probabilities are close to calibrated."
    )
    for_sets: ClassVar[bool] = True
    shares_trials: ClassVar[bool] = False
    name: Literal["bce"] = "bce"
    smoothing: _Smoothing = 0.1
    class_weights: _Weights = "none"

    def build(self, counts: "torch.Tensor") -> CriterionFunction:
        """Returns the criterion for labels with `counts` (C,) training images."""
        return _decisions(_weights(self.class_weights, counts), self.smoothing)


class Asymmetric(CriterionMethod):
    """Log loss with less weight on easy absent labels (Ridnik et al., ICCV 2021).

    The probability of an absent label is first lowered by `margin`.
    """

    advice: ClassVar[str] = "For many labels of which an image has few; probabilities are off."
    for_sets: ClassVar[bool] = True
    shares_trials: ClassVar[bool] = False
    name: Literal["asymmetric"] = "asymmetric"
    gamma_present: Annotated[
        float, Field(ge=0, le=10, description="focus on hard labels that are there"), Range(0, 1)
    ] = 0.0
    gamma_absent: Annotated[
        float, Field(ge=0, le=10, description="focus on hard labels that are not"), Range(1, 4)
    ] = 4.0
    margin: Annotated[
        float, Field(ge=0, le=0.5, description="probability at which an absent label is ignored")
    ] = 0.05
    smoothing: _Smoothing = 0.0
    class_weights: _Weights = "none"

    def build(self, counts: "torch.Tensor") -> CriterionFunction:
        """Returns the criterion for labels with `counts` (C,) training images."""
        focus = (self.gamma_present, self.gamma_absent, self.margin)
        return _decisions(_weights(self.class_weights, counts), self.smoothing, focus)


CriterionUnion = CrossEntropy | LabelSmoothing | Focal | BinaryCrossEntropy | Asymmetric
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


def _decisions(
    weights: "torch.Tensor", smoothing: float, focus: tuple[float, float, float] = (0.0, 0.0, 0.0)
) -> CriterionFunction:
    """Returns the mean over the images of the summed losses of their labels.

    Args:
        weights: Weight of each label (C,).
        smoothing: Probability taken from each decision.
        focus: Exponents for labels that are there and that are not, and the margin of the latter.
    """
    gamma_present, gamma_absent, margin = focus

    def loss(logits: "torch.Tensor", targets: "torch.Tensor") -> "torch.Tensor":
        z = logits.float()
        wanted = targets * (1 - smoothing) + smoothing / 2
        tail = z.abs().neg().exp().log1p()
        present, absent = z.neg().clamp(min=0) + tail, z.clamp(min=0) + tail
        if gamma_present or gamma_absent or margin:
            p = z.sigmoid()
            lowered = (p - margin).clamp(min=0)
            absent = lowered.clamp(max=1 - 1e-6).neg().log1p().neg() if margin else absent
            # The base is kept above 0, where the gradient of a power below 1 is infinite.
            present = present * (1 - p).clamp(min=1e-6).pow(gamma_present)
            absent = absent * lowered.clamp(min=1e-6).pow(gamma_absent)
        terms = wanted * present + (1 - wanted) * absent
        return (terms * weights).sum() / len(targets)

    return loss
