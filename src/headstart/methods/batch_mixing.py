"""Batch mixing: training examples made of two images, with labels in the same shares."""

from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

import numpy as np
import torch
from pydantic import Field

from headstart.methods.method import Method, Range, family

_Alpha = Annotated[
    float,
    Field(gt=0, le=10, description="shares are drawn from Beta(alpha, alpha)"),
    Range(0.1, 1.0, log=True),
]
_Probability = Annotated[float, Field(gt=0, le=1, description="of mixing a batch"), Range(0.2, 1.0)]


@dataclass(frozen=True)
class Mix:
    """How a batch is mixed: each example keeps `share` of itself and gets the rest of a partner.

    Attributes:
        partners: Row of each example's partner (B,).
        share: Of the example itself; where a box is pasted, it is set by the box as rounded.
        box: Top, left, bottom, right of the pasted box as shares of the sides, or None.
    """

    partners: torch.Tensor
    share: float
    box: tuple[float, float, float, float] | None = None


class MixingMethod(Method):
    """A way of mixing the images of a batch.

    Attributes:
        needs_maps: Whether it needs activations with height and width.
    """

    needs_maps: ClassVar[bool] = False

    @property
    def mixed_share(self) -> float:
        """Share of the batches that are mixed, in [0, 1]; a `probability` where there is one."""
        return float(getattr(self, "probability", 1.0))


class NoMixing(MixingMethod):
    """Every example is one image."""

    advice: ClassVar[str] = "Right under some 20,000 images, unless many epochs are trained."
    absent: ClassVar[bool] = True
    name: Literal["none"] = "none"

    @property
    def mixed_share(self) -> float:
        """Share of the batches that are mixed: none."""
        return 0.0

    def draw(self, rows: int, random: np.random.Generator) -> Mix | None:
        """Returns nothing: the batch stays as it is."""
        return None


class MixUp(MixingMethod):
    """Weighted means of two examples and of their labels (Zhang et al., ICLR 2018).

    Inside the network it mixes activations (manifold mixup, Verma et al., ICML 2019).
    """

    advice: ClassVar[str] = "Calibrates; rarely gains accuracy on few images and short schedules."
    name: Literal["mixup"] = "mixup"
    alpha: _Alpha = 0.2
    probability: _Probability = 1.0

    def draw(self, rows: int, random: np.random.Generator) -> Mix | None:
        """Returns how to mix a batch of `rows` examples, or None where it stays as it is."""
        if random.random() >= self.probability:
            return None
        share = float(random.beta(self.alpha, self.alpha))
        return Mix(torch.from_numpy(random.permutation(rows)), share)


class CutMix(MixingMethod):
    """A box of one image pasted into another; labels by area (Yun et al., ICCV 2019).

    Inside the network the same box, scaled, is pasted into the activations; what the layers
    before have already seen across its border stays.
    """

    advice: ClassVar[str] = "Wants long schedules; on few images it often costs accuracy."
    needs_maps: ClassVar[bool] = True
    name: Literal["cutmix"] = "cutmix"
    alpha: _Alpha = 1.0
    probability: _Probability = 0.5

    def draw(self, rows: int, random: np.random.Generator) -> Mix | None:
        """Returns how to mix a batch of `rows` examples, or None where it stays as it is."""
        if random.random() >= self.probability:
            return None
        share = float(random.beta(self.alpha, self.alpha))
        partners = torch.from_numpy(random.permutation(rows))
        side = float(np.sqrt(1 - share))
        y, x = random.random(2)
        box = (y - side / 2, x - side / 2, y + side / 2, x + side / 2)
        top, left, bottom, right = (float(min(max(edge, 0.0), 1.0)) for edge in box)
        return Mix(partners, 1 - (bottom - top) * (right - left), (top, left, bottom, right))


BatchMixingUnion = NoMixing | MixUp | CutMix
BatchMixing = family(BatchMixingUnion)


def apply_mix(
    batch: torch.Tensor, targets: torch.Tensor, mix: Mix, space: tuple[int, ...]
) -> tuple[torch.Tensor, torch.Tensor, float]:
    """Mixes a batch and its targets.

    Args:
        batch: Images or activations (B, ...).
        targets: Probabilities (B, C).
        mix: How.
        space: The two dimensions of `batch` that are height and width; needed for a box only.

    Returns:
        The mixed batch (float where means were taken), the mixed targets, and the share that each
        example keeps: that of the box as it was rounded to whole positions.
    """
    partners = mix.partners.to(batch.device)
    share = mix.share
    if mix.box is None:
        values = batch if batch.is_floating_point() else batch.float()
        mixed = values * share + values[partners] * (1 - share)
    else:
        height, width = (batch.shape[dim] for dim in space)
        top, left, bottom, right = mix.box
        rows = slice(round(top * height), round(bottom * height))
        columns = slice(round(left * width), round(right * width))
        mixed = batch.clone()
        # A view of the copy, with height and width in front, so that one index fits all layouts.
        inside = mixed.movedim(space, (0, 1))
        inside[rows, columns] = batch[partners].movedim(space, (0, 1))[rows, columns]
        area = (rows.stop - rows.start) * (columns.stop - columns.start)
        share = 1 - area / (height * width)
    return mixed, targets * share + targets[partners] * (1 - share), share
