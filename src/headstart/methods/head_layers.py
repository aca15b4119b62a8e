"""The layers of heads in PyTorch; a recipe names and describes a head without them."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

from headstart.inputs.large_arrays import large_array

_ROWS_AT_ONCE = 1024


class Head(nn.Module):
    """Maps features (N, F) to an embedding (N, E) and then to logits (N, C)."""

    def __init__(self, embed: nn.Module, out: nn.Module) -> None:
        super().__init__()
        self.embed = embed
        self.out = out

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """Returns the logits."""
        logits: torch.Tensor = self.out(self.embed(features))
        return logits

    @property
    def remembers_images(self) -> bool:
        """Whether it compares images with stored training images."""
        return isinstance(self.out, Neighbours)

    def remember(self, embeddings: torch.Tensor, labels: torch.Tensor) -> None:
        """Stores the embeddings (N, E) and labels (N,) of the images to compare with."""
        assert isinstance(self.out, Neighbours)
        self.out.remember(embeddings, labels)


def applied(layer: nn.Module, features: torch.Tensor) -> torch.Tensor:
    """Returns the outputs (N, E) of a layer for features (N, F), without gradients.

    What is computed on the way is only held for some images at a time, and `nn.Identity` copies
    nothing.

    Example:
        >>> applied(UnitParts([1]), torch.tensor([[3.0], [-2.0]])).tolist()
        [[1.0], [-1.0]]
    """
    if isinstance(layer, nn.Identity) or not len(features):
        return features
    with torch.no_grad():
        first: torch.Tensor = layer(features[:_ROWS_AT_ONCE])
        found = torch.from_numpy(large_array((len(features), first.shape[1])))
        found[: len(first)] = first
        for start in range(_ROWS_AT_ONCE, len(features), _ROWS_AT_ONCE):
            rows = slice(start, start + _ROWS_AT_ONCE)
            found[rows] = layer(features[rows])
    return found


class UnitParts(nn.Module):
    """Gives each part of a feature vector the same length, and the whole a mean square of 1.

    So a part counts by its direction, whatever its scale and number of features.
    """

    def __init__(self, widths: Sequence[int]) -> None:
        super().__init__()
        self.widths = list(widths)
        self.length = (sum(widths) / len(widths)) ** 0.5

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """Returns features (N, F)."""
        parts = torch.split(features.float(), self.widths, dim=1)
        unit: torch.Tensor = torch.cat([F.normalize(part, dim=1) for part in parts], 1)
        return unit.mul(self.length)


class Neighbours(nn.Module):
    """Maps embeddings (N, E) to the log shares (N, C) of their neighbours' votes."""

    memory: torch.Tensor
    memory_labels: torch.Tensor

    def __init__(self, embedding: int, classes: int, k: int, temperature: float) -> None:
        super().__init__()
        self.k, self.temperature, self.classes = k, temperature, classes
        self.register_buffer("memory", torch.zeros(0, embedding))
        self.register_buffer("memory_labels", torch.zeros(0, classes))

    def remember(self, embeddings: torch.Tensor, labels: torch.Tensor) -> None:
        """Stores the embeddings (N, E) and labels (N,) of the images to compare with."""
        self.memory = F.normalize(embeddings.detach().float(), dim=1)
        self.memory_labels = F.one_hot(labels.to(self.memory.device), self.classes).float()

    def forward(self, embeddings: torch.Tensor) -> torch.Tensor:
        """Returns log vote shares; a class without votes gets a share of 0.001."""
        cosines = F.normalize(embeddings.float(), dim=1) @ self.memory.T
        near, rows = cosines.topk(min(self.k, len(self.memory)), dim=1)
        votes = ((near - 1) / self.temperature).softmax(1).unsqueeze(2) * self.memory_labels[rows]
        return (votes.sum(1) + 1e-3).log()

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *args: Any) -> None:
        """Resizes the memory to the number of images in the state."""
        for name in ("memory", "memory_labels"):
            if prefix + name in state_dict:
                setattr(self, name, torch.empty_like(state_dict[prefix + name]))
        super()._load_from_state_dict(state_dict, prefix, *args)


class Cosines(nn.Module):
    """Maps embeddings (N, E) to scaled cosines with the vectors of the classes (N, C)."""

    def __init__(self, embedding: int, classes: int, scale: float) -> None:
        super().__init__()
        self.scale = scale
        self.weight = nn.Parameter(torch.randn(classes, embedding) / embedding**0.5)

    def forward(self, embeddings: torch.Tensor) -> torch.Tensor:
        """Returns the logits."""
        directions = F.normalize(embeddings.float(), dim=1)
        with torch.autocast(embeddings.device.type, enabled=False):  # the scale amplifies rounding
            return self.scale * F.linear(directions, F.normalize(self.weight.float(), dim=1))
