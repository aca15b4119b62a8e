"""Augmentation: the random changes that turn an image into a training view."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from PIL import Image
from pydantic import Field

from headstart.methods.method import Method, family

if TYPE_CHECKING:
    from torchvision.transforms import v2

Transform = Callable[[Image.Image], Image.Image]
Colour = tuple[int, int, int]

_Flip = Annotated[
    bool,
    Field(description="mirror images at random; turn off if left and right differ in meaning"),
]
_VerticalFlip = Annotated[bool, Field(description="also turn images upside down")]
_MinArea = Annotated[
    float,
    Field(gt=0, le=1, description="smallest share of the image that a crop shows; 1: crop least"),
]
_Stretch = Annotated[float, Field(ge=1, le=4, description="largest change of the aspect ratio")]
_Cutout = Annotated[
    float,
    Field(
        ge=0,
        lt=1,
        description="side of the blanked-out square, as a share of the view; 0: none "
        "(Cutout, DeVries & Taylor 2017)",
    ),
]
_Strength = Annotated[
    float,
    Field(gt=0, le=1, description="share of the views that the policy changes; 1: as published"),
]


class AugmentationMethod(Method):
    """Base of the augmentations, and what they may do to an image.

    Attributes:
        policy_changes: Changes of an image besides flips and crops (`rotate_30`: by up to 30
            degrees; `rotate_90`: by far more; `grey`: to greyscale).
    """

    policy_changes: ClassVar[frozenset[str]] = frozenset({"rotate_30", "grey"})

    @property
    def changes(self) -> frozenset[str]:
        """Changes that an image may undergo: `policy_changes`, `flip`, `vertical_flip`, `crop`."""
        there = {
            "flip": getattr(self, "flip", False),
            "vertical_flip": getattr(self, "vertical_flip", False),
            "crop": getattr(self, "min_area", 1.0) < 1,
        }
        return self.policy_changes | {change for change, is_there in there.items() if is_there}

    @property
    def allows_mirroring(self) -> bool:
        """Whether an image and its mirror image are of one class: `flip` is not turned off."""
        return bool(getattr(self, "flip", True))

    @property
    def is_idle(self) -> bool:
        """Whether every change is turned off."""
        return False

    @property
    def may_spare_views(self) -> bool:
        """Whether the policy skips a share of the views."""
        return bool(getattr(self, "strength", 1.0) < 1)


class NoAugmentation(AugmentationMethod):
    """No augmentation: training uses the evaluation view of each image."""

    advice: ClassVar[str] = "The right choice if only the head is trained, on frozen features."
    absent: ClassVar[bool] = True
    policy_changes: ClassVar[frozenset[str]] = frozenset()
    name: Literal["none"] = "none"

    def build(self, resolution: int, interpolation: str, fill: Colour) -> Transform | None:
        """Returns None: the evaluation view is used."""
        return None


class FlipCrop(AugmentationMethod):
    """Random resized crops and flips (Szegedy et al. 2015)."""

    advice: ClassVar[str] = "Nearly always helps; turn flips off if they change the label."
    policy_changes: ClassVar[frozenset[str]] = frozenset()
    name: Literal["flip_crop"] = "flip_crop"
    flip: _Flip = True
    vertical_flip: _VerticalFlip = False
    min_area: _MinArea = 0.35
    stretch: _Stretch = 4 / 3
    cutout: _Cutout = 0.0

    @property
    def is_idle(self) -> bool:
        """Whether every change is turned off."""
        return not (self.changes or self.cutout) and self.stretch == 1

    def build(self, resolution: int, interpolation: str, fill: Colour) -> Transform:
        """Returns a function from an RGB image to a square view of `resolution` pixels."""
        return _view(self, resolution, interpolation, fill)


class AutoAugment(AugmentationMethod):
    """A policy of pairs of operations, learned on a large data set (Cubuk et al., CVPR 2019)."""

    advice: ClassVar[str] = "Strong; with few images and epochs, a lighter policy often wins."
    name: Literal["auto_augment"] = "auto_augment"
    flip: _Flip = True
    vertical_flip: _VerticalFlip = False
    min_area: _MinArea = 0.35
    stretch: _Stretch = 4 / 3
    cutout: _Cutout = 0.0
    policy: Annotated[
        Literal["imagenet", "cifar10", "svhn"],
        Field(description="the data set that it was learned on"),
    ] = "imagenet"
    strength: _Strength = 1.0

    def build(self, resolution: int, interpolation: str, fill: Colour) -> Transform:
        """Returns a function from an RGB image to a square view of `resolution` pixels."""
        from torchvision.transforms import InterpolationMode, v2

        policy = v2.AutoAugment(
            v2.AutoAugmentPolicy(self.policy),
            interpolation=InterpolationMode.BILINEAR,
            fill=list(fill),
        )
        return _view(self, resolution, interpolation, fill, policy, self.strength)


class RandAugment(AugmentationMethod):
    """A few random operations of a fixed strength (Cubuk et al., NeurIPS 2020)."""

    advice: ClassVar[str] = (
        "The strength is easy to set by hand; lower it for fine-grained classes."
    )
    name: Literal["rand_augment"] = "rand_augment"
    flip: _Flip = True
    vertical_flip: _VerticalFlip = False
    min_area: _MinArea = 0.35
    stretch: _Stretch = 4 / 3
    cutout: _Cutout = 0.0
    operations: Annotated[int, Field(ge=1, le=8, description="operations per view")] = 2
    strength: Annotated[
        float,
        Field(gt=0, le=1, description="strength of each operation; the paper's 9 of 30 is 0.3"),
    ] = 0.3

    def build(self, resolution: int, interpolation: str, fill: Colour) -> Transform:
        """Returns a function from an RGB image to a square view of `resolution` pixels."""
        from torchvision.transforms import InterpolationMode, v2

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

    advice: ClassVar[str] = "The default: nothing to tune, and strong on small data."
    policy_changes: ClassVar[frozenset[str]] = frozenset({"rotate_30", "rotate_90", "grey"})
    name: Literal["trivial_augment"] = "trivial_augment"
    flip: _Flip = True
    vertical_flip: _VerticalFlip = False
    min_area: _MinArea = 0.35
    stretch: _Stretch = 4 / 3
    cutout: _Cutout = 0.0
    bins: Annotated[int, Field(ge=2, le=101, description="steps from zero to full strength")] = 31
    strength: _Strength = 1.0

    def build(self, resolution: int, interpolation: str, fill: Colour) -> Transform:
        """Returns a function from an RGB image to a square view of `resolution` pixels."""
        from torchvision.transforms import InterpolationMode, v2

        policy = v2.TrivialAugmentWide(
            num_magnitude_bins=self.bins,
            interpolation=InterpolationMode.BILINEAR,
            fill=list(fill),
        )
        return _view(self, resolution, interpolation, fill, policy, self.strength)


AugmentationUnion = NoAugmentation | FlipCrop | AutoAugment | RandAugment | TrivialAugment
Augmentation = family(AugmentationUnion)


def cutout_box(side: int, centre: tuple[int, int], resolution: int) -> tuple[int, int, int, int]:
    """Returns a Cutout square (DeVries & Taylor 2017), clipped to the image.

    Args:
        side: Side of the square in pixels.
        centre: x and y of its centre, anywhere in the image.
        resolution: Side of the image in pixels.

    Returns:
        Left, top, right and bottom in pixels; right and bottom are exclusive.

    Example:
        >>> cutout_box(10, (3, 20), 32)
        (0, 15, 8, 25)
    """
    x, y = centre
    left, top = x - side // 2, y - side // 2
    return max(0, left), max(0, top), min(resolution, left + side), min(resolution, top + side)


def _view(
    method: FlipCrop | AutoAugment | RandAugment | TrivialAugment,
    resolution: int,
    interpolation: str,
    fill: Colour,
    policy: "v2.Transform | None" = None,
    share: float = 1.0,
) -> Transform:
    """Returns the pipeline: crop, flip, the policy on a share of the views, Cutout."""
    from torchvision.transforms import InterpolationMode, v2

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
    import torch

    x, y = torch.randint(image.width, (2,)).tolist()
    image = image.copy()
    image.paste(fill, cutout_box(side, (x, y), image.width))
    return image
