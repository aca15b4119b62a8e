"""The trainable network: the trained part and the tensors that must not change."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import nn

from headstart.methods.head_layers import Head


@dataclass(frozen=True)
class TrainableNetwork:
    """The part of a network behind its frozen prefix, trained in place on cached activations.

    Attributes:
        suffix: Activations (N, ...) to features (N, F); every parameter in it is trained.
        head: Features (N, F) to logits (N, C).
        blocks: The suffix's parameters, block by block, nearest the input first; None for a
            single block of all of them.
        frozen: Tensors outside the suffix that must not change, by name.
        device: Device to train on.
    """

    suffix: nn.Module
    head: Head
    blocks: Sequence[Sequence[nn.Parameter]] | None = None
    frozen: Mapping[str, torch.Tensor] = field(default_factory=dict)
    device: torch.device = field(default=torch.device("cpu"))

    @property
    def model(self) -> nn.Sequential:
        """Activations (N, ...) to logits (N, C); it shares the modules of suffix and head."""
        return nn.Sequential(self.suffix, self.head)
