"""Augmentation: what a view of an image may look like."""

from collections.abc import Callable
from typing import Annotated, ClassVar, Literal

import torch
from PIL import Image
from pydantic import Field
from torchvision.transforms import InterpolationMode, v2

from headstart.methods.method import Method, family

Transform = Callable[[Image.Image], Image.Image]
Colour = tuple[int, int, int]

_Flip = Annotated[
    bool,
    Field(description="mirror images; turn off where left and right differ in meaning"),
]
_VerticalFlip = Annotated[bool, Field(description="turn images upside down, too")]
_MinArea = Annotated[
    float,
    Field(gt=0, le=1, description="smallest share of the image that a crop shows; 1 crops least"),
]
_Stretch = Annotated[float, Field(ge=1, le=4, description="largest change of the aspect ratio")]
_Cutout = Annotated[
    float,
    Field(
        ge=0,
        lt=1,
        description="side of a square that is blanked out, as a share of the view; 0: none "
        "(Cutout, DeVries & Taylor 2017)",
    ),
]
_Strength = Annotated[
    float,
    Field(gt=0, le=1, description="share of the views that the policy touches; 1 as published"),
]


class AugmentationMethod(Method):
    """A policy of views, and what it may do to an image.

    Attributes:
        policy_changes: What it may do to an image besides flips and crops (`rotate_30`: up to 30
            degrees; `rotate_90`: far more; `grey`: no colour).
    """

    policy_changes: ClassVar[frozenset[str]] = frozenset({"rotate_30", "grey"})

    @property
    def changes(self) -> frozenset[str]:
        """What it may do to an image: `policy_changes`, `flip`, `vertical_flip` and `crop`."""
        there = {
            "flip": getattr(self, "flip", False),
            "vertical_flip": getattr(self, "vertical_flip", False),
            "crop": getattr(self, "min_area", 1.0) < 1,
        }
        return self.policy_changes | {change for change, is_there in there.items() if is_there}

    @property
    def allows_mirroring(self) -> bool:
        """Whether an image and its mirror image may mean the same: no flip was turned off."""
        return bool(getattr(self, "flip", True))

    @property
    def is_idle(self) -> bool:
        """Whether all that it could do is turned off."""
        return False

    @property
    def may_spare_views(self) -> bool:
        """Whether it may leave many views as they are."""
        return bool(getattr(self, "strength", 1.0) < 1)


class NoAugmentation(AugmentationMethod):
    """Every view is the image as it is evaluated."""

    advice: ClassVar[str] = "Right for a head alone: it is solved on the images as they are seen."
    absent: ClassVar[bool] = True
    policy_changes: ClassVar[frozenset[str]] = frozenset()
    name: Literal["none"] = "none"

    def build(self, resolution: int, interpolation: str, fill: Colour) -> Transform | None:
        """Returns nothing: the evaluation view is used."""
        return None


class FlipCrop(AugmentationMethod):
    """Random resized crops and mirror images (Szegedy et al. 2015)."""

    advice: ClassVar[str] = "Nearly always helps; turn the flip off where it changes the label."
    policy_changes: ClassVar[frozenset[str]] = frozenset()
    name: Literal["flip_crop"] = "flip_crop"
    flip: _Flip = True
    vertical_flip: _VerticalFlip = False
    min_area: _MinArea = 0.35
    stretch: _Stretch = 4 / 3
    cutout: _Cutout = 0.0

    @property
    def is_idle(self) -> bool:
        """Whether all that it could do is turned off."""
        return not (self.changes or self.cutout) and self.stretch == 1

    def build(self, resolution: int, interpolation: str, fill: Colour) -> Transform:
        """Returns a function from an RGB image to a square view of `resolution` pixels."""
        return _view(self, resolution, interpolation, fill)


class AutoAugment(AugmentationMethod):
    """A policy of pairs of operations that was learned on a large set (Cubuk et al., CVPR 2019)."""

    advice: ClassVar[str] = "Strong; with little data and few epochs a lighter policy often wins."
    name: Literal["auto_augment"] = "auto_augment"
    flip: _Flip = True
    vertical_flip: _VerticalFlip = False
    min_area: _MinArea = 0.35
    stretch: _Stretch = 4 / 3
    cutout: _Cutout = 0.0
    policy: Annotated[
        Literal["imagenet", "cifar10", "svhn"], Field(description="the set it was learned on")
    ] = "imagenet"
    strength: _Strength = 1.0

    def build(self, resolution: int, interpolation: str, fill: Colour) -> Transform:
        """Returns a function from an RGB image to a square view of `resolution` pixels."""
        policy = v2.AutoAugment(
            v2.AutoAugmentPolicy(self.policy),
            interpolation=InterpolationMode.BILINEAR,
            fill=list(fill),
        )
        return _view(self, resolution, interpolation, fill, policy, self.strength)


class RandAugment(AugmentationMethod):
    """A few random operations of one fixed strength (Cubuk et al., NeurIPS 2020)."""

    advice: ClassVar[str] = (
        "Its strength is easy to set by hand; lower it for fine-grained classes."
    )
    name: Literal["rand_augment"] = "rand_augment"
    flip: _Flip = True
    vertical_flip: _VerticalFlip = False
    min_area: _MinArea = 0.35
    stretch: _Stretch = 4 / 3
    cutout: _Cutout = 0.0
    operations: Annotated[int, Field(ge=1, le=8, description="operations a view")] = 2
    strength: Annotated[
        float, Field(gt=0, le=1, description="of each operation; the paper's 9 of 30 is 0.3")
    ] = 0.3

    def build(self, resolution: int, interpolation: str, fill: Colour) -> Transform:
        """Returns a function from an RGB image to a square view of `resolution` pixels."""
        bins = 31
        policy = v2.RandAugment(
            self.operations,
            max(1, round(self.strength * (bins - 1))),
            bins,
            interpolation=InterpolationMode.BILINEAR,
            fill=list(fill),
        )
        return _view(self, resolution, interpolation, fill, policy)


class TrivialAugment(AugmentationMethod):
    """One random operation of random strength on top of crops and flips (Müller & Hutter 2021)."""

    advice: ClassVar[str] = "Nothing to tune, and strong on small data: the default."
    policy_changes: ClassVar[frozenset[str]] = frozenset({"rotate_30", "rotate_90", "grey"})
    name: Literal["trivial_augment"] = "trivial_augment"
    flip: _Flip = True
    vertical_flip: _VerticalFlip = False
    min_area: _MinArea = 0.35
    stretch: _Stretch = 4 / 3
    cutout: _Cutout = 0.0
    bins: Annotated[int, Field(ge=2, le=101, description="steps from no to full strength")] = 31
    strength: _Strength = 1.0

    def build(self, resolution: int, interpolation: str, fill: Colour) -> Transform:
        """Returns a function from an RGB image to a square view of `resolution` pixels."""
        policy = v2.TrivialAugmentWide(
            num_magnitude_bins=self.bins,
            interpolation=InterpolationMode.BILINEAR,
            fill=list(fill),
        )
        return _view(self, resolution, interpolation, fill, policy, self.strength)


AugmentationUnion = NoAugmentation | FlipCrop | AutoAugment | RandAugment | TrivialAugment
Augmentation = family(AugmentationUnion)


def cutout_box(side: int, centre: tuple[int, int], resolution: int) -> tuple[int, int, int, int]:
    """Returns left, top, right, bottom (exclusive) of a Cutout square, cut off at the borders.

    The centre is anywhere in the image, so that part of the square may lie outside (DeVries &
    Taylor 2017).
    """
    x, y = centre
    left, top = x - side // 2, y - side // 2
    return max(0, left), max(0, top), min(resolution, left + side), min(resolution, top + side)


def _view(
    method: FlipCrop | AutoAugment | RandAugment | TrivialAugment,
    resolution: int,
    interpolation: str,
    fill: Colour,
    policy: v2.Transform | None = None,
    share: float = 1.0,
) -> Transform:
    """Crops, flips, applies the policy to a share of the views, and cuts out."""
    steps: list[Callable[[Image.Image], Image.Image]] = [
        v2.RandomResizedCrop(
            resolution,
            scale=(method.min_area, 1.0),
            ratio=(1 / method.stretch, method.stretch),
            interpolation=InterpolationMode(interpolation),
        )
    ]
    if method.flip:
        steps.append(v2.RandomHorizontalFlip())
    if method.vertical_flip:
        steps.append(v2.RandomVerticalFlip())
    if policy is not None:
        steps.append(policy if share == 1 else v2.RandomApply([policy], share))
    if method.cutout:
        side = max(1, round(method.cutout * resolution))
        steps.append(lambda image: _cut_out(image, side, fill))
    view: Transform = v2.Compose(steps)
    return view


def _cut_out(image: Image.Image, side: int, fill: Colour) -> Image.Image:
    x, y = torch.randint(image.width, (2,)).tolist()
    image = image.copy()
    image.paste(fill, cutout_box(side, (x, y), image.width))
    return image
