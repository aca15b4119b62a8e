"""Freezing: where the boundary lies between what is frozen and what is trained, and when."""

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from headstart.methods.method import Choices, Method, Range, family

_BatchNorm = Annotated[
    Literal["frozen", "trained"],
    Field(description="whether the statistics of trained BatchNorm layers move"),
    Choices(("frozen", "trained")),
]
_Boundary = Annotated[
    str,
    Field(min_length=1, description="a boundary's name, or 'auto': chosen for the time at hand"),
]
_Blocks = Annotated[
    int,
    Field(ge=0, le=1000, description="train the last so many blocks; 0: `boundary` says where"),
]
_LayerDecay = Annotated[
    float,
    Field(
        gt=0,
        le=1,
        description="each block's learning rate is that of the block behind it times this "
        "(Howard & Ruder 2018; 1: one rate for all)",
    ),
    Range(0.6, 1.0),
]


class HeadOnly(Method):
    """Only the head is trained; the backbone extracts features (Donahue et al., ICML 2014)."""

    advice: ClassVar[str] = "Right under some 10 images a class, and where time is short."
    name: Literal["head_only"] = "head_only"


class LastBlocks(Method):
    """The blocks after the boundary are fine-tuned with the head (Yosinski et al., NeurIPS 2014).

    With `head.init = "probe"` this is LP-FT with its linear probing done in closed form.
    """

    advice: ClassVar[str] = "The default: early blocks hold what all photographs share."
    name: Literal["last_blocks"] = "last_blocks"
    boundary: _Boundary = "auto"
    blocks: _Blocks = 0
    batchnorm: _BatchNorm = "frozen"
    layer_decay: _LayerDecay = 1.0

    def starts(self, blocks: int) -> list[float]:
        """Returns the progress at which each block begins to train, nearest the input first."""
        return [0.0] * blocks


class LPFT(Method):
    """The head alone first, then what lies after the boundary (LP-FT, Kumar et al., ICLR 2022).

    The linear probing is done by gradient here, over a share of the schedule: for heads that are
    initialised at random or have no closed form.
    """

    advice: ClassVar[str] = "Saves pretrained features from the gradients of a random head."
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
        """Returns the progress at which each block begins to train, nearest the input first."""
        return [self.head_share] * blocks


class Gradual(Method):
    """The head first, then block after block from the end (ULMFiT, Howard & Ruder, ACL 2018)."""

    advice: ClassVar[str] = "Gentle on small sets; needs a schedule long enough for every block."
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
        """Returns the progress at which each block begins to train, nearest the input first."""
        return [self.until * (blocks - index) / blocks for index in range(blocks)]


class Full(Method):
    """The whole backbone is fine-tuned with the head (Girshick et al., CVPR 2014)."""

    advice: ClassVar[str] = "Slowest, and the first to overfit; for data far from photographs."
    name: Literal["full"] = "full"
    batchnorm: _BatchNorm = "trained"
    layer_decay: _LayerDecay = 1.0

    def starts(self, blocks: int) -> list[float]:
        """Returns the progress at which each block begins to train, nearest the input first."""
        return [0.0] * blocks


FreezingUnion = HeadOnly | LastBlocks | LPFT | Gradual | Full
Freezing = family(FreezingUnion)
