"""Freezing: which layers are trained, and from when on."""

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from headstart.methods.method import Choices, Method, Range, family

_BatchNorm = Annotated[
    Literal["frozen", "trained"],
    Field(
        description="whether training updates the statistics of BatchNorm layers after the boundary"
    ),
    Choices(("frozen", "trained")),
]
_Boundary = Annotated[
    str,
    Field(
        min_length=1,
        description="where the trained layers begin; 'auto': chosen to fit the time",
    ),
]
_Blocks = Annotated[
    int,
    Field(ge=0, le=1000, description="number of last blocks to train; 0: `boundary` decides"),
]
_LayerDecay = Annotated[
    float,
    Field(
        gt=0,
        le=1,
        description="each block's learning rate is that of the next block times this "
        "(Howard & Ruder 2018; 1: one rate for all)",
    ),
    Range(0.6, 1.0),
]


class FreezingMethod(Method):
    """Base of the freezings: which layers are trained, from when, and at which rates.

    Attributes:
        head_alone: Whether only the head is trained.
        whole_backbone: Whether the whole backbone is trained.
        begins_with_head: Whether the head is trained alone first.
    """

    head_alone: ClassVar[bool] = False
    whole_backbone: ClassVar[bool] = False
    begins_with_head: ClassVar[bool] = False

    @property
    def leaves_boundary_open(self) -> bool:
        """Whether the boundary is chosen to fit the time."""
        return getattr(self, "boundary", "") == "auto" and not getattr(self, "blocks", 0)

    @property
    def names_boundary_twice(self) -> bool:
        """Whether both `blocks` and `boundary` are set."""
        return getattr(self, "blocks", 0) > 0 and getattr(self, "boundary", "auto") != "auto"

    @property
    def freezes_statistics(self) -> bool:
        """Whether the statistics of trained BatchNorm layers stay fixed."""
        return getattr(self, "batchnorm", "frozen") == "frozen"

    @property
    def decays_by_layer(self) -> bool:
        """Whether early blocks have lower learning rates."""
        return bool(getattr(self, "layer_decay", 1.0) < 1)

    def rate_factors(self, blocks: int) -> list[float]:
        """Returns the factor of each block's learning rate, nearest the input first."""
        decay = getattr(self, "layer_decay", 1.0)
        return [decay ** (blocks - 1 - number) for number in range(blocks)]

    def starts(self, blocks: int) -> list[float]:
        """Returns the progress at which each block starts to train, nearest the input first."""
        return [0.0] * blocks


class HeadOnly(FreezingMethod):
    """Only the head is trained; the backbone extracts features (Donahue et al., ICML 2014)."""

    advice: ClassVar[str] = "The right choice below about 10 images per class, or if time is short."
    head_alone: ClassVar[bool] = True
    # Trials share a boundary, and this has one of its own.
    shares_trials: ClassVar[bool] = False
    name: Literal["head_only"] = "head_only"


class LastBlocks(FreezingMethod):
    """The blocks after the boundary are fine-tuned with the head (Yosinski et al., NeurIPS 2014).

    With `head.init = "probe"` this is LP-FT with the linear probe solved in closed form.
    """

    advice: ClassVar[str] = "The default: early blocks hold features that all photographs share."
    name: Literal["last_blocks"] = "last_blocks"
    boundary: _Boundary = "auto"
    blocks: _Blocks = 0
    batchnorm: _BatchNorm = "frozen"
    layer_decay: _LayerDecay = 1.0


class LPFT(FreezingMethod):
    """The head alone first, then the blocks after the boundary (LP-FT, Kumar et al., ICLR 2022).

    Gradient descent trains the linear probe over a share of the schedule. This suits heads that
    start at random or have no closed form.
    """

    advice: ClassVar[str] = "Protects pretrained features from the gradients of a random head."
    begins_with_head: ClassVar[bool] = True
    # Trials start from a head that is solved: there is nothing left to probe.
    shares_trials: ClassVar[bool] = False
    name: Literal["lp_ft"] = "lp_ft"
    boundary: _Boundary = "auto"
    blocks: _Blocks = 0
    batchnorm: _BatchNorm = "frozen"
    layer_decay: _LayerDecay = 1.0
    head_share: Annotated[
        float,
        Field(gt=0, lt=1, description="share of the schedule in which the head trains alone"),
        Range(0.1, 0.4),
    ] = 0.2

    def starts(self, blocks: int) -> list[float]:
        """Returns the progress at which each block starts to train, nearest the input first."""
        return [self.head_share] * blocks


class Gradual(FreezingMethod):
    """The head first, then one block after another from the end (Howard & Ruder, ACL 2018)."""

    advice: ClassVar[str] = (
        "Gentle on small data; the schedule must be long enough for every block."
    )
    begins_with_head: ClassVar[bool] = True
    name: Literal["gradual"] = "gradual"
    boundary: _Boundary = "auto"
    blocks: _Blocks = 0
    batchnorm: _BatchNorm = "frozen"
    layer_decay: _LayerDecay = 1.0
    until: Annotated[
        float,
        Field(gt=0, lt=1, description="share of the schedule after which every block trains"),
        Range(0.3, 0.7),
    ] = 0.5

    def starts(self, blocks: int) -> list[float]:
        """Returns the progress at which each block starts to train, nearest the input first."""
        return [self.until * (blocks - index) / blocks for index in range(blocks)]


class Full(FreezingMethod):
    """The whole backbone is fine-tuned with the head (Girshick et al., CVPR 2014)."""

    advice: ClassVar[str] = "The slowest, and the first to overfit; for images unlike photographs."
    whole_backbone: ClassVar[bool] = True
    # Trials share a boundary, and this has one of its own.
    shares_trials: ClassVar[bool] = False
    name: Literal["full"] = "full"
    batchnorm: _BatchNorm = "trained"
    layer_decay: _LayerDecay = 1.0


FreezingUnion = HeadOnly | LastBlocks | LPFT | Gradual | Full
Freezing = family(FreezingUnion)
