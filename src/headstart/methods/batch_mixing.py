"""Batch mixing: training examples made from two images, with labels in the same shares."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

import numpy as np
from pydantic import Field

from headstart.methods.method import Method, Range, family

if TYPE_CHECKING:
    import torch

_Alpha = Annotated[
    float,
    Field(gt=0, le=10, description="the share of each image is drawn from Beta(alpha, alpha)"),
    Range(0.1, 1.0, log=True),
]
_Probability = Annotated[
    float, Field(gt=0, le=1, description="probability of mixing a batch"), Range(0.2, 1.0)
]


@dataclass(frozen=True)
class Mix:
    """How to mix a batch: each example keeps `share` of itself and takes the rest from a partner.

    Attributes:
        partners: Row of each example's partner (B,).
        share: Share that each example keeps; for a box, before rounding to whole positions.
        box: Top, left, bottom, right of the pasted box as shares of the sides, or None.
    """

    partners: "torch.Tensor"
    share: float
    box: tuple[float, float, float, float] | None = None


class MixingMethod(Method):
    """Base of the batch mixings.

    Attributes:
        needs_maps: Whether it needs activations with height and width.
    """

    needs_maps: ClassVar[bool] = False

    @property
    def mixed_share(self) -> float:
        """Share of the batches that are mixed, in [0, 1]: `probability`, if there is one."""
        return float(getattr(self, "probability", 1.0))


class NoMixing(MixingMethod):
    """No mixing: every example is one image."""

    advice: ClassVar[str] = "The right choice below about 20,000 images, unless you train long."
    absent: ClassVar[bool] = True
    name: Literal["none"] = "none"

    @property
    def mixed_share(self) -> float:
        """Share of the batches that are mixed: none."""
        return 0.0

    def draw(self, rows: int, random: np.random.Generator) -> Mix | None:
        """Returns None: the batch stays as it is."""
        return None


class MixUp(MixingMethod):
    """Weighted means of two examples and of their labels (Zhang et al., ICLR 2018).

    Behind a frozen prefix it mixes activations (manifold mixup, Verma et al., ICML 2019).
    """

    advice: ClassVar[str] = "Improves calibration; on few images it rarely improves accuracy."
    name: Literal["mixup"] = "mixup"
    alpha: _Alpha = 0.2
    probability: _Probability = 1.0

    def draw(self, rows: int, random: np.random.Generator) -> Mix | None:
        """Returns how to mix a batch of `rows` examples, or None to leave it as it is."""
        if random.random() >= self.probability:
            return None
        import torch

        share = float(random.beta(self.alpha, self.alpha))
        return Mix(torch.from_numpy(random.permutation(rows)), share)


class CutMix(MixingMethod):
    """A box of one image pasted into another; labels by area (Yun et al., ICCV 2019).

    Behind a frozen prefix the same box is pasted into the activations, scaled to their size;
    earlier layers have already mixed some information across its border.
    """

    advice: ClassVar[str] = "Needs a long schedule; with few images it often costs accuracy."
    needs_maps: ClassVar[bool] = True
    name: Literal["cutmix"] = "cutmix"
    alpha: _Alpha = 1.0
    probability: _Probability = 0.5

    def draw(self, rows: int, random: np.random.Generator) -> Mix | None:
        """Returns how to mix a batch of `rows` examples, or None to leave it as it is."""
        if random.random() >= self.probability:
            return None
        import torch

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
    batch: "torch.Tensor", targets: "torch.Tensor", mix: Mix, space: tuple[int, ...]
) -> "tuple[torch.Tensor, torch.Tensor, float]":
    """Mixes a batch and its targets.

    Args:
        batch: Images or activations (B, ...).
        targets: Probabilities (B, C).
        mix: How to mix them.
        space: The height and width dimensions of `batch`; only a box needs them.

    Returns:
        The mixed batch (float after weighted means), the mixed targets, and the share that each
        example keeps, computed from the box after rounding to whole positions.

    Example:
        >>> import torch
        >>> mix = Mix(torch.tensor([1, 0]), share=0.75)
        >>> batch, targets, share = apply_mix(torch.tensor([[0.0], [4.0]]), torch.eye(2), mix, ())
        >>> batch.tolist(), targets.tolist(), share
        ([[1.0], [3.0]], [[0.75, 0.25], [0.25, 0.75]], 0.75)
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
        # A view of the copy with height and width first: one index then fits all layouts.
        inside = mixed.movedim(space, (0, 1))
        inside[rows, columns] = batch[partners].movedim(space, (0, 1))[rows, columns]
        area = (rows.stop - rows.start) * (columns.stop - columns.start)
        share = 1 - area / (height * width)
    return mixed, targets * share + targets[partners] * (1 - share), share
