"""Augmentation: what a view of an image may look like."""

from collections.abc import Callable
from typing import Annotated, Literal

from PIL import Image
from pydantic import Field
from torchvision.transforms import InterpolationMode, v2

from headstart.methods.method import Method, family

View = Callable[[Image.Image], Image.Image]

_Flip = Annotated[
    bool,
    Field(description="mirror images; turn off where left and right differ in meaning"),
]
_MinArea = Annotated[
    float, Field(gt=0, le=1, description="smallest share of the image that a crop shows")
]
_Stretch = Annotated[float, Field(ge=1, le=4, description="largest change of the aspect ratio")]


class NoAugmentation(Method):
    """Every view is the image as it is evaluated."""

    name: Literal["none"] = "none"

    def build(self, resolution: int, interpolation: str) -> View | None:
        """Returns nothing: the evaluation view is used."""
        return None


class FlipCrop(Method):
    """Random resized crops and mirror images (Szegedy et al. 2015)."""

    name: Literal["flip_crop"] = "flip_crop"
    flip: _Flip = True
    min_area: _MinArea = 0.35
    stretch: _Stretch = 4 / 3

    def build(self, resolution: int, interpolation: str) -> View:
        """Returns a function from an RGB image to a square view of `resolution` pixels."""
        crop = _flip_crop(self.flip, self.min_area, self.stretch, resolution, interpolation)
        view: View = v2.Compose(crop)
        return view


class TrivialAugment(Method):
    """One random operation of random strength on top of crops and flips (Müller & Hutter 2021)."""

    name: Literal["trivial_augment"] = "trivial_augment"
    flip: _Flip = True
    min_area: _MinArea = 0.35
    stretch: _Stretch = 4 / 3
    bins: Annotated[int, Field(ge=2, le=101, description="steps from no to full strength")] = 31

    def build(self, resolution: int, interpolation: str) -> View:
        """Returns a function from an RGB image to a square view of `resolution` pixels."""
        crop = _flip_crop(self.flip, self.min_area, self.stretch, resolution, interpolation)
        policy = v2.TrivialAugmentWide(
            num_magnitude_bins=self.bins, interpolation=InterpolationMode.BILINEAR
        )
        view: View = v2.Compose([*crop, policy])
        return view


def _flip_crop(
    flip: bool, min_area: float, stretch: float, resolution: int, interpolation: str
) -> list[v2.Transform]:
    crop = v2.RandomResizedCrop(
        resolution,
        scale=(min_area, 1.0),
        ratio=(1 / stretch, stretch),
        interpolation=InterpolationMode(interpolation),
    )
    return [crop, v2.RandomHorizontalFlip()] if flip else [crop]


AugmentationUnion = NoAugmentation | FlipCrop | TrivialAugment
Augmentation = family(AugmentationUnion)
