"""Metric losses: a term that pulls images of one class together and pushes others apart.

All come from pytorch-metric-learning (Musgrave et al. 2020) and act on the embedding, which is the
input of the head's last layer.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from pydantic import Field

from headstart.methods.method import Choices, Method, Range, family

if TYPE_CHECKING:
    import torch
    from torch import nn

Miner = Literal["all", "semi_hard", "batch_hard"]

_Weight = Annotated[
    float,
    Field(gt=0, le=100, description="weight of the term beside the criterion"),
    Range(0.05, 1.0, log=True),
]
_PerClass = Annotated[
    int,
    Field(ge=2, le=64, description="images of each class in a batch"),
    Choices((2, 4)),
]
_Miner = Annotated[
    Miner,
    Field(
        description="all pairs or triplets; those whose negative is farther than the positive "
        "but within the margin (Schroff et al. 2015); or the hardest of each anchor "
        "(Hermans et al. 2017)"
    ),
    Choices(("all", "semi_hard", "batch_hard")),
]


@dataclass(frozen=True)
class MetricTerm:
    """A metric loss that is ready to use.

    Attributes:
        loss: Maps embeddings (B, E) and labels (B,) to a scalar and the number of ordered pairs of
            one class in the batch (of images, for a loss that compares with classes).
        parameters: Parameters that are trained with the term.
    """

    loss: "Callable[[torch.Tensor, torch.Tensor], tuple[torch.Tensor, int]]"
    parameters: "list[nn.Parameter]" = field(default_factory=list)


class MetricLossMethod(Method):
    """Base of the metric losses; all but `none` have a field `weight`."""

    @property
    def drawn_together(self) -> int:
        """Images of each class in a batch; 0: batches are drawn at random."""
        return int(getattr(self, "per_class", 0))


class NoMetricLoss(MetricLossMethod):
    """No metric loss: the criterion alone."""

    advice: ClassVar[str] = "If classes are few and well separated, a metric term adds little."
    absent: ClassVar[bool] = True
    name: Literal["none"] = "none"

    def build(self, embedding: int, classes: int, device: "torch.device") -> MetricTerm | None:
        """Returns None."""
        return None


class Contrastive(MetricLossMethod):
    """Pairs of one class within a distance, all others beyond one (Hadsell et al., CVPR 2006)."""

    advice: ClassVar[str] = "For similarity search; margins are distances on the unit sphere."
    name: Literal["contrastive"] = "contrastive"
    weight: _Weight = 0.2
    positive_margin: Annotated[float, Field(ge=0, le=2)] = 0.0
    negative_margin: Annotated[float, Field(gt=0, le=2), Range(0.5, 1.5)] = 1.0
    miner: _Miner = "all"
    per_class: _PerClass = 4

    def build(self, embedding: int, classes: int, device: "torch.device") -> MetricTerm:
        """Returns the term for embeddings of width `embedding`."""
        from pytorch_metric_learning.losses import ContrastiveLoss

        loss = ContrastiveLoss(self.positive_margin, self.negative_margin)
        return _pair_term(loss, self.miner, self.negative_margin)


class Triplet(MetricLossMethod):
    """Each positive nearer than each negative by a margin (Schroff et al., CVPR 2015)."""

    advice: ClassVar[str] = (
        "For similarity search and many classes; has no effect once they are well separated."
    )
    name: Literal["triplet"] = "triplet"
    weight: _Weight = 0.2
    margin: Annotated[float, Field(gt=0, le=2), Range(0.05, 0.5)] = 0.2
    miner: _Miner = "all"
    per_class: _PerClass = 4

    def build(self, embedding: int, classes: int, device: "torch.device") -> MetricTerm:
        """Returns the term for embeddings of width `embedding`."""
        from pytorch_metric_learning.losses import TripletMarginLoss

        return _pair_term(TripletMarginLoss(self.margin), self.miner, self.margin)


class SupervisedContrastive(MetricLossMethod):
    """A softmax over similarities, with all images of a class as positives (Khosla et al. 2020)."""

    advice: ClassVar[str] = (
        "Strong beside cross-entropy; batches must hold several images of a class."
    )
    name: Literal["supcon"] = "supcon"
    weight: _Weight = 0.2
    temperature: Annotated[float, Field(gt=0, le=1), Range(0.05, 0.5, log=True)] = 0.1
    per_class: _PerClass = 4

    def build(self, embedding: int, classes: int, device: "torch.device") -> MetricTerm:
        """Returns the term for embeddings of width `embedding`."""
        from pytorch_metric_learning.losses import SupConLoss

        return _pair_term(SupConLoss(self.temperature), "all", 0.0)


class ArcFace(MetricLossMethod):
    """Softmax over angles to class centres, with a margin on the true one (Deng et al., CVPR 2019).

    The centres are trained with the term and are not part of the classifier.
    """

    advice: ClassVar[str] = "For many fine-grained classes; a large margin needs a long schedule."
    name: Literal["arcface"] = "arcface"
    weight: _Weight = 0.2
    margin: Annotated[float, Field(ge=0, lt=90, description="margin in degrees"), Range(5, 30)] = (
        15.0
    )
    scale: Annotated[float, Field(gt=0, le=256), Range(8, 64, log=True)] = 30.0

    def build(self, embedding: int, classes: int, device: "torch.device") -> MetricTerm:
        """Returns the term for embeddings of width `embedding` and `classes` classes."""
        from pytorch_metric_learning.losses import ArcFaceLoss

        arcface = ArcFaceLoss(classes, embedding, margin=self.margin, scale=self.scale).to(device)

        def loss(embeddings: "torch.Tensor", labels: "torch.Tensor") -> "tuple[torch.Tensor, int]":
            return arcface(embeddings, labels), len(labels)

        return MetricTerm(loss, list(arcface.parameters()))


MetricLossUnion = NoMetricLoss | Contrastive | Triplet | SupervisedContrastive | ArcFace
MetricLoss = family(MetricLossUnion)


def _pair_term(pair_loss: Any, miner: Miner, margin: float) -> MetricTerm:
    from pytorch_metric_learning import miners
    from pytorch_metric_learning.utils import loss_and_miner_utils as indices

    mine = {
        "all": None,
        "semi_hard": miners.TripletMarginMiner(margin, "semihard"),
        "batch_hard": miners.BatchHardMiner(),
    }[miner]

    def loss(embeddings: "torch.Tensor", labels: "torch.Tensor") -> "tuple[torch.Tensor, int]":
        pairs = len(indices.get_all_pairs_indices(labels)[0])
        if mine is None:
            return pair_loss(embeddings, labels), pairs
        found = mine(embeddings, labels)
        if not len(found[0]):  # nothing is hard enough: the term and its gradient are 0
            return embeddings.sum() * 0, pairs
        return pair_loss(embeddings, labels, found), pairs

    return MetricTerm(loss)
