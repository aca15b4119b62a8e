"""Heads: the new layers on top of the backbone's features."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal, TypeAlias

from pydantic import BaseModel, ConfigDict, Field

from headstart.methods.method import Choices, Method, Range, family

if TYPE_CHECKING:
    import torch
    from torch import nn

    from headstart.methods.head_layers import Head

_Features = Annotated[
    Literal["auto", "last", "stages", "last+covariance", "stages+covariance"],
    Field(
        description="the backbone's last features; pooled features of several stages as well; "
        "the root of the covariance of the last map as well; or the best of these in "
        "cross-validation (last if the head starts at random)"
    ),
    Choices(("last", "stages", "last+covariance", "stages+covariance")),
]
_Normalize = Annotated[
    Literal["auto", "none", "unit"],
    Field(
        description="whether each part of the features of an image gets the same length; auto: "
        "the better of both in cross-validation, or only where there is a covariance"
    ),
    Choices(("none", "unit")),
]
_Init = Annotated[
    Literal["probe", "random"],
    Field(description="how it starts: solved on cached features, or at random"),
    Choices(("probe", "random")),
]
_Dropout = Annotated[
    float, Field(ge=0, lt=1, description="dropout before the last layer"), Range(0.0, 0.5)
]
Solve: TypeAlias = "Callable[[torch.Tensor], tuple[torch.Tensor, torch.Tensor]]"
"""Maps embeddings (N, E) to the weight (C, E) and bias (C,) of a logistic regression."""


class HeadMethod(Method):
    """Base of the heads; each has `init`, `features` and `normalize`.

    Attributes:
        has_hidden_layer: Whether a trained layer precedes the last one.
        remembers_images: Whether it compares with stored training images and has no parameters.
        needs_one_label: Whether it knows each class by images that have no other label.
    """

    needs_one_label: ClassVar[bool] = False
    has_hidden_layer: ClassVar[bool] = False
    remembers_images: ClassVar[bool] = False

    @property
    def means_scale(self) -> float:
        """Factor of the cosines to the mean of each class; 0 if it does not start from those."""
        return 0.0

    @property
    def solved_penalty(self) -> float:
        """L2 penalty of the probe that starts the last layer; 0: cross-validated."""
        return float(getattr(self, "penalty", 0.0))

    @property
    def solved_smoothing(self) -> float:
        """Label smoothing of the probe that starts the last layer."""
        return float(getattr(self, "smoothing", 0.0))

    @property
    def solutions(self) -> "tuple[Solution, ...]":
        """The solved heads that it is the mean of; empty if one is solved."""
        return ()

    @property
    def holds_its_mean(self) -> bool:
        """Whether it can be the mean of what it is to be the mean of."""
        return True

    @property
    def open_to_search(self) -> bool:
        """Whether a search may replace the head."""
        return False

    @property
    def has_unit_parts(self) -> bool:
        """Whether each part of the features gets the same length."""
        how, features = getattr(self, "normalize", "none"), getattr(self, "features", "")
        return bool(how == "unit" or (how == "auto" and "covariance" in features))

    def parts(self, widths: Sequence[int]) -> "nn.Module":
        """Returns the first layer, from features (N, F) in parts of these widths to (N, F)."""
        from torch import nn

        from headstart.methods.head_layers import UnitParts

        return UnitParts(widths) if self.has_unit_parts else nn.Identity()


class Solution(BaseModel):
    """One of the solved heads that a linear head is the mean of.

    Attributes:
        features: What it sees: a part of what the whole head sees.
        penalty: L2 penalty.
        smoothing: Label smoothing.
        temperature: Temperature that divides its logits.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    features: Literal["last", "stages", "last+covariance", "stages+covariance"]
    penalty: Annotated[float, Field(gt=0, le=100)]
    smoothing: Annotated[float, Field(ge=0, le=0.5)] = 0.0
    temperature: Annotated[float, Field(gt=0)] = 1.0


class Linear(HeadMethod):
    """One linear layer from features to logits; random initialization after He et al. (2015).

    `init = "probe"` starts it from a regularised logistic regression on cached features.
    """

    advice: ClassVar[str] = "Hard to beat; the probe starts fine-tuning close to the optimum."
    name: Literal["linear"] = "linear"
    init: _Init = "probe"
    features: _Features = "auto"
    normalize: _Normalize = "auto"
    dropout: _Dropout = 0.0
    penalty: Annotated[
        float, Field(ge=0, le=100, description="L2 penalty of the probe; 0: cross-validated")
    ] = 0.0
    smoothing: Annotated[float, Field(ge=0, le=0.5, description="label smoothing of the probe")] = (
        0.0
    )
    mean_of: Annotated[
        tuple[Solution, ...],
        Field(
            description="solved heads whose weighted mean the probe is, each a table of "
            "`features`, `penalty`, `smoothing` and `temperature`; none: one head is solved"
        ),
    ] = ()

    @property
    def open_to_search(self) -> bool:
        """Whether a search may replace the head: it is a probe without a given penalty."""
        return self.init == "probe" and not self.penalty and not self.mean_of

    @property
    def solutions(self) -> tuple[Solution, ...]:
        """The solved heads that it is the mean of; empty if one is solved."""
        return self.mean_of

    @property
    def holds_its_mean(self) -> bool:
        """Whether the heads that it is the mean of see parts of what it sees, at unit length."""
        parts = set(self.features.split("+"))
        # The last features are among those of the stages.
        known = parts | ({"last"} if "stages" in parts else set())
        inside = all(set(each.features.split("+")) <= known for each in self.mean_of)
        return not self.mean_of or (inside and self.normalize == "unit")

    def build(self, widths: Sequence[int], classes: int, activation: "nn.Module") -> "Head":
        """Returns the head, initialized from torch's global random generator."""
        from torch import nn

        from headstart.methods.head_layers import Head

        out = nn.Sequential(nn.Dropout(self.dropout), nn.Linear(sum(widths), classes))
        return Head(self.parts(widths), out)

    def start(
        self, head: "Head", features: "torch.Tensor", labels: "torch.Tensor", solve: Solve
    ) -> None:
        """Initializes a built head from the features (N, F) of the training images."""
        from headstart.methods.head_layers import applied

        _load(head.out[1], *solve(applied(head.embed, features)))  # type: ignore[index]


class MLP(HeadMethod):
    """A hidden layer before the last (Rosenblatt 1962); random initialization after He et al. 2015.

    `init = "probe"` keeps the hidden layer random and solves the last layer on its outputs.
    """

    advice: ClassVar[str] = "For frozen features that are not linearly separable; overfits sooner."
    has_hidden_layer: ClassVar[bool] = True
    name: Literal["mlp"] = "mlp"
    init: _Init = "probe"
    features: _Features = "auto"
    normalize: _Normalize = "auto"
    dropout: _Dropout = 0.2
    hidden: Annotated[
        int,
        Field(ge=2, le=8192, description="width of the hidden layer"),
        Choices((256, 512, 1024)),
    ] = 512

    def build(self, widths: Sequence[int], classes: int, activation: "nn.Module") -> "Head":
        """Returns the head, initialized from torch's global random generator."""
        from torch import nn

        from headstart.methods.head_layers import Head

        hidden = nn.Linear(sum(widths), self.hidden)
        nn.init.kaiming_normal_(hidden.weight, nonlinearity="relu")
        nn.init.zeros_(hidden.bias)
        out = nn.Sequential(nn.Dropout(self.dropout), nn.Linear(self.hidden, classes))
        first = [self.parts(widths)] if self.has_unit_parts else []
        return Head(nn.Sequential(*first, hidden, activation), out)

    def start(
        self, head: "Head", features: "torch.Tensor", labels: "torch.Tensor", solve: Solve
    ) -> None:
        """Initializes a built head from the features (N, F) of the training images."""
        from headstart.methods.head_layers import applied

        _load(head.out[1], *solve(applied(head.embed, features)))  # type: ignore[index]


class Cosine(HeadMethod):
    """Scaled cosine similarities to class vectors (Gidaris & Komodakis, CVPR 2018).

    `init = "probe"` starts each vector at its class's mean direction (imprinting, Qi et al.,
    CVPR 2018).
    """

    advice: ClassVar[str] = "Strong with a handful of images per class, or with imbalanced classes."
    needs_one_label: ClassVar[bool] = True
    name: Literal["cosine"] = "cosine"
    init: _Init = "probe"
    features: _Features = "auto"
    normalize: _Normalize = "auto"
    dropout: _Dropout = 0.0
    scale: Annotated[
        float,
        Field(gt=0, le=256, description="factor of the cosines"),
        Range(8, 64, log=True),
    ] = 20.0

    @property
    def means_scale(self) -> float:
        """Factor of the cosines to the mean of each class."""
        return self.scale

    def build(self, widths: Sequence[int], classes: int, activation: "nn.Module") -> "Head":
        """Returns the head, initialized from torch's global random generator."""
        from torch import nn

        from headstart.methods.head_layers import Cosines, Head

        out = nn.Sequential(nn.Dropout(self.dropout), Cosines(sum(widths), classes, self.scale))
        return Head(self.parts(widths), out)

    def start(
        self, head: "Head", features: "torch.Tensor", labels: "torch.Tensor", solve: Solve
    ) -> None:
        """Initializes a built head from the features (N, F) of the training images."""
        import torch
        from torch.nn import functional as F

        from headstart.methods.head_layers import Cosines, applied

        directions = F.normalize(applied(head.embed, features).float(), dim=1)
        cosines = head.out[1]  # type: ignore[index]
        assert isinstance(cosines, Cosines)
        with torch.no_grad():
            for number in set(labels.tolist()):  # a class without images stays random
                mean = directions[labels == number].mean(0)
                cosines.weight[number] = F.normalize(mean, dim=0)


class NearestNeighbours(HeadMethod):
    """A weighted vote of the nearest training images (Cover & Hart 1967; Wu et al., CVPR 2018).

    It has no parameters: the backbone learns from a metric loss alone, or stays frozen.
    """

    advice: ClassVar[str] = "For similarity search, and for classes that are added later."
    remembers_images: ClassVar[bool] = True
    needs_one_label: ClassVar[bool] = True
    name: Literal["nearest"] = "nearest"
    features: _Features = "last"
    normalize: _Normalize = "auto"
    k: Annotated[
        int, Field(ge=1, le=1000, description="number of images that vote"), Choices((5, 10, 20))
    ] = 10
    temperature: Annotated[
        float,
        Field(gt=0, le=10, description="a vote has the weight exp(cosine / temperature)"),
        Range(0.03, 0.3, log=True),
    ] = 0.07

    @property
    def init(self) -> str:
        """The start: always from the features of the training images."""
        return "probe"

    def build(self, widths: Sequence[int], classes: int, activation: "nn.Module") -> "Head":
        """Returns the head; it holds no images before `start`."""
        from headstart.methods.head_layers import Head, Neighbours

        return Head(self.parts(widths), Neighbours(sum(widths), classes, self.k, self.temperature))

    def start(
        self, head: "Head", features: "torch.Tensor", labels: "torch.Tensor", solve: Solve
    ) -> None:
        """Initializes a built head from the features (N, F) of the training images."""
        from headstart.methods.head_layers import applied

        head.remember(applied(head.embed, features), labels)


HeadUnion = Linear | MLP | Cosine | NearestNeighbours
HeadChoice = family(HeadUnion)


def _load(layer: "nn.Module", weight: "torch.Tensor", bias: "torch.Tensor") -> None:
    layer.load_state_dict({"weight": weight, "bias": bias})
