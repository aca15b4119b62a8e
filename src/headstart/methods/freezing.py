"""Freezing: where the boundary lies between what is frozen and what is trained."""

from typing import Annotated, Literal

from pydantic import Field

from headstart.methods.method import Method, family

_BatchNorm = Annotated[
    Literal["frozen", "trained"],
    Field(description="whether the statistics of trained BatchNorm layers move"),
]


class HeadOnly(Method):
    """Only the head is trained; the backbone is a fixed feature extractor."""

    name: Literal["head_only"] = "head_only"


class LastBlocks(Method):
    """The blocks after the boundary are fine-tuned with the head.

    With `head.init = "probe"` this is LP-FT: linear probing, then fine-tuning
    (Kumar et al., ICLR 2022).
    """

    name: Literal["last_blocks"] = "last_blocks"
    boundary: Annotated[
        str,
        Field(description="a boundary's name, or 'auto': chosen for the time at hand"),
    ] = "auto"
    batchnorm: _BatchNorm = "frozen"


class Full(Method):
    """The whole backbone is fine-tuned with the head."""

    name: Literal["full"] = "full"
    batchnorm: _BatchNorm = "trained"


FreezingUnion = HeadOnly | LastBlocks | Full
Freezing = family(FreezingUnion)
