"""Criteria: what training makes small."""

from typing import Annotated, Literal

from pydantic import Field
from torch import nn

from headstart.methods.method import Method, Range, family


class CrossEntropy(Method):
    """The negative logarithm of the probability given to the true class."""

    name: Literal["cross_entropy"] = "cross_entropy"

    def build(self) -> nn.Module:
        """Returns the criterion: logits (N, C) and labels (N,) to a scalar."""
        return nn.CrossEntropyLoss()


class LabelSmoothing(Method):
    """Cross-entropy to targets that leave some probability to all classes (Szegedy et al. 2016)."""

    name: Literal["label_smoothing"] = "label_smoothing"
    smoothing: Annotated[float, Field(ge=0, lt=1), Range(0.02, 0.2)] = 0.1

    def build(self) -> nn.Module:
        """Returns the criterion: logits (N, C) and labels (N,) to a scalar."""
        return nn.CrossEntropyLoss(label_smoothing=self.smoothing)


CriterionUnion = CrossEntropy | LabelSmoothing
Criterion = family(CriterionUnion)
