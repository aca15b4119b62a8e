"""Heads: the new layers on top of the backbone's features."""

from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import nn

from headstart.methods.method import Method, Range, family


class Linear(Method):
    """One linear layer from features to logits.

    `init = "random"` is the article's way: uniform weights of the size that He et al. (2015)
    derive. `init = "probe"` solves a regularised logistic regression on cached features first.
    """

    name: Literal["linear"] = "linear"
    init: Annotated[
        Literal["probe", "random"], Field(description="solved on cached features, or at random")
    ] = "probe"
    features: Annotated[
        Literal["auto", "last", "stages"],
        Field(
            description="the backbone's last features, pooled features of several stages with "
            "them, or whichever cross-validates better"
        ),
    ] = "auto"
    dropout: Annotated[float, Field(ge=0, lt=1), Range(0.0, 0.5)] = 0.0

    def build(self, features: int, classes: int) -> nn.Module:
        """Returns the head: features (N, F) to logits (N, C), drawn from torch's generator."""
        linear = nn.Linear(features, classes)
        return nn.Sequential(nn.Dropout(self.dropout), linear)

    def load_probe(self, head: nn.Module, weight: torch.Tensor, bias: torch.Tensor) -> None:
        """Copies a probe's weight (C, F) and bias (C,) into a head that `build` made."""
        assert isinstance(head, nn.Sequential)
        head[1].load_state_dict({"weight": weight, "bias": bias})


HeadUnion = Linear
Head = family(HeadUnion)
